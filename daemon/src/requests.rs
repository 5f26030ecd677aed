//! What each message does: one function for a message, one table for all.

use std::os::fd::AsFd;
use std::rc::Rc;

use breakerd_core::{ConnectionId, Refusal};
use breakerd_proto::limits::{FEATURE_BOARD, VERSION_MAX, VERSION_MIN};
use breakerd_proto::map::Lanes;
use breakerd_proto::message::{
    About, Action, Answer, Command, Daemon, Hello, Refused, ToClient, ToDaemon, Watching, Welcome,
};
use breakerd_proto::{Code, Mono, clock};

use crate::config;
use crate::connection::{Heard, Number};
use crate::drive::Drive;
use crate::listen::Door;

impl Drive {
    /// Serves one message of a peer.
    pub(crate) fn request(&mut self, now: Mono, number: Number, heard: Heard) {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::Unknown(kind) => {
                let sentence = format!("this daemon knows no message of the kind {kind}; it was passed over");
                return self.answer(number, refused(0, Refusal::new(Code::Protocol, sentence)));
            }
        };
        let id = self.peers.get(&number).and_then(|peer| peer.id);
        match (message, id) {
            (ToDaemon::Hello(hello), None) => self.hello(now, number, &hello),
            (ToDaemon::Hello(_), Some(_)) => self.dismiss(now, number, Code::Protocol, "a second hello"),
            (_, None) => self.dismiss(now, number, Code::Protocol, "the first message was no hello"),
            (message, Some(id)) => self.serve_message(now, number, id, message),
        }
    }

    fn serve_message(&mut self, now: Mono, number: Number, id: ConnectionId, message: ToDaemon) {
        self.read_lanes_for(now, id, &message);
        let answer = match message {
            ToDaemon::Report(report) => {
                // A report has no answer; one on an unknown lane is the peer's bug and changes nothing.
                if let Err(refusal) = self.core.handle_report(now, id, &report) {
                    tracing::debug!(%refusal, "a report was dropped");
                }
                return;
            }
            ToDaemon::Forget(forget) => return self.core.handle_forget(now, id, forget.request),
            ToDaemon::Query(query) => {
                let request = query.request;
                match self.core.handle_query(now, id, &query) {
                    Ok(Some(verdict)) => Ok(Answer { request, verdict }.into()),
                    Ok(None) => return, // the fleet is asked; the answer comes by itself
                    Err(refusal) => Err((request, refusal)),
                }
            }
            ToDaemon::Register(register) => {
                let request = register.request;
                let registered = self.core.handle_register(now, id, &register);
                if let Ok(registered) = &registered {
                    self.enroll(number, id, registered.lane);
                }
                registered.map(Into::into).map_err(|refusal| (request, refusal))
            }
            ToDaemon::Observe(observe) => {
                let request = observe.request;
                self.core.observe(now, id, request, observe.lane).map(Into::into).map_err(|r| (request, r))
            }
            ToDaemon::Ask(ask) => {
                self.core.ask(now, ask.request, &ask.name).map(Into::into).map_err(|r| (ask.request, r))
            }
            ToDaemon::List(list) => Ok(self.core.page(now, list.request, &list.after).into()),
            ToDaemon::Describe(describe) => {
                let request = describe.request;
                let described = self.core.describe(now, request, &describe.name, describe.after);
                described.map(Into::into).map_err(|refusal| (request, refusal))
            }
            ToDaemon::Workers(workers) => Ok(self.core.workers(now, workers.request, workers.after).into()),
            ToDaemon::Watch(watch) => {
                if let Some(peer) = self.peers.get_mut(&number) {
                    peer.watching = Some(0);
                }
                Ok(Watching { request: watch.request }.into())
            }
            ToDaemon::Command(command) => {
                let request = command.request;
                self.command(now, number, id, &command).map_err(|refusal| (request, refusal))
            }
            ToDaemon::About(about) => Ok(self.about(now, &about).into()),
            ToDaemon::Hello(_) => return,
        };
        self.show_board(now);
        let answer = answer.unwrap_or_else(|(request, refusal)| {
            self.warn_of_quota(number, &refusal);
            refused(request, refusal)
        });
        self.answer(number, answer);
    }

    /// Says once for each account that it finds no room; the count goes on in `status`.
    fn warn_of_quota(&mut self, number: Number, refusal: &Refusal) {
        let Some(uid) = self.peers.get(&number).map(|peer| peer.kernel.uid) else { return };
        let what = match refusal.code {
            Code::Quota => "go unguarded",
            Code::QuotaRejects => "are rejected, as their policy says",
            _ => return,
        };
        if self.over_quota.insert(uid) {
            let user = config::user_name(uid);
            tracing::warn!(user, "calls over quota {what}: {refusal}; said once, `breakerd status` counts them");
        }
    }

    fn answer(&self, number: Number, answer: ToClient) {
        if let Some(peer) = self.peers.get(&number) {
            peer.outbox.send(&answer);
        }
    }

    fn hello(&mut self, now: Mono, number: Number, hello: &Hello) {
        let version = hello.version_max.min(VERSION_MAX);
        if version < hello.version_min.max(VERSION_MIN) {
            let (low, high) = (hello.version_min, hello.version_max);
            let sentence = format!(
                "the client speaks versions {low} to {high}, this daemon {VERSION_MIN} to {VERSION_MAX}; \
                 upgrade whichever is older"
            );
            return self.dismiss(now, number, Code::Version, &sentence);
        }
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let id = match self.core.handle_connect(now, peer.kernel, hello) {
            Ok(id) => id,
            Err(refusal) => return self.dismiss(now, number, refusal.code, &refusal.sentence),
        };
        peer.id = Some(id);
        self.numbers.insert(id, number);
        let (worker, label) = self.core.worker_of(id).map_or((0, "?"), |(worker, label)| (worker.0, label));
        tracing::debug!(worker = label, uid = peer.kernel.uid, "connected");
        if hello.alone_calls > 0 {
            let (calls, ms) = (hello.alone_calls, hello.alone_ms);
            tracing::info!(worker = label, calls, ms, "a worker is back that had judged by itself");
        }
        let welcome = Welcome {
            version,
            features: 0,
            instance: self.instance,
            worker,
            now,
            link: self.core.link(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            fleet: self.config.fleet.as_ref().map(|fleet| fleet.name.clone()).unwrap_or_default(),
        };
        if hello.features & FEATURE_BOARD == 0 || !self.welcome_with_board(number, &welcome) {
            self.answer(number, welcome.into());
        }
    }

    /// Welcomes a worker and passes it the board and its lane memory, if there are any to be had.
    fn welcome_with_board(&mut self, number: Number, welcome: &Welcome) -> bool {
        let (Some(board), Some(peer)) = (self.board, self.peers.get_mut(&number)) else { return false };
        if peer.door != Door::Worker {
            return false;
        }
        let (lanes, fd) = match Lanes::new() {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "no lane memory for a worker; it asks over the socket");
                return false;
            }
        };
        let welcome = Welcome { features: FEATURE_BOARD, ..welcome.clone() };
        let sent = peer.outbox.send_with(&welcome.into(), &[board.fd(), fd.as_fd()]);
        peer.lanes = sent.then(|| Rc::new(lanes));
        sent
    }

    fn command(&mut self, now: Mono, number: Number, id: ConnectionId, command: &Command) -> Result<ToClient, Refusal> {
        let author = self.author(number, id, command.action)?;
        let done = self.core.command(now, &author, command)?;
        if matches!(command.action, Action::Mode { .. }) {
            self.tell_reloaded(); // a mode is a part of the policy that workers go by
        }
        Ok(done.into())
    }

    /// Who asks, if he may: everything through the control socket, a reset through the workers' where the account has
    /// that right.
    fn author(&self, number: Number, id: ConnectionId, action: Action) -> Result<String, Refusal> {
        let denied = |sentence: String| Refusal::new(Code::Denied, sentence);
        let peer = self.peers.get(&number).ok_or_else(|| denied("the connection has ended".to_owned()))?;
        let (uid, user) = (peer.kernel.uid, config::user_name(peer.kernel.uid));
        let host = &self.config.breakers.host;
        match peer.door {
            Door::Control => {
                let group = self.config.rights.operators.as_ref();
                let member = group.is_some_and(|group| peer.groups.contains(&group.gid));
                let own = rustix::process::geteuid().as_raw();
                if uid == 0 || uid == own || member {
                    return Ok(format!("{user}@{host}"));
                }
                Err(denied(format!("user {user} is no operator; [rights] operators names their group")))
            }
            Door::Worker if matches!(action, Action::Reset) => {
                if self.config.rights.may_reset(uid) {
                    let label = self.core.worker_of(id).map_or("?", |(_, label)| label);
                    return Ok(format!("{label}@{host}"));
                }
                Err(denied(format!("user {user} lacks the right to reset; [rights] reset = [\"{user}\"] gives it")))
            }
            Door::Worker => {
                let control = self.config.listen.control.display();
                Err(denied(format!(
                    "force, release and mode are an operator's, through {control}; user {user} asked a worker's socket"
                )))
            }
        }
    }

    fn about(&self, now: Mono, about: &About) -> Daemon {
        let (workers, breakers) = self.core.sizes();
        let fleet = self.config.fleet.as_ref();
        Daemon {
            request: about.request,
            pid: std::process::id(),
            host: self.config.breakers.host.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            up_ms: clock::ms_up(now.since(self.started)),
            link: self.core.link(),
            redis: fleet.map(|fleet| fleet.redis.clone()).unwrap_or_default(),
            fleet: fleet.map(|fleet| fleet.name.clone()).unwrap_or_default(),
            link_ms: clock::ms_up(now.since(self.core.link_since().map_or(self.started, |(since, _)| since))),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            breakers: u32::try_from(breakers).unwrap_or(u32::MAX),
            stale_reports: self.core.stale_reports(),
            over_quota: self.core.over_quota(),
        }
    }
}

fn refused(request: u32, refusal: Refusal) -> ToClient {
    Refused { request, code: refusal.code, sentence: refusal.sentence }.into()
}
