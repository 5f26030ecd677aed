//! The one loop. All that can wake the daemon is on this screen: [`Event`].
//!
//! Tasks only turn bytes into events; the loop alone touches the core. After each event it drains the core: changes to
//! log, watchers and snapshot, then the next alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use breakerd_core::fleet::Keys;
use breakerd_core::{ActivePermit, Change, ConnectionId, Core, What};
use breakerd_proto::map::{Board, Lanes};
use breakerd_proto::message::{Answer, Bye, Changed, Lagged, ToClient};
use breakerd_proto::{Code, Failure, Link, Mode, Mono};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::active::Connects;
use crate::config::{Config, Faults};
use crate::connection::{End, Heard, Line, Number};
use crate::fleet;
use crate::lanes::Readers;
use crate::listen::{Accepted, Door, ListenError, Listening};
use crate::outbox::Outbox;
use crate::reload;
use crate::snapshot::{Place, Writer};
use crate::timer::Timer;

/// Between two snapshots, so that a storm of changes is a few files. The first change after a quiet time is saved at once.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(20);
/// Events that may wait for the loop; whoever brings the next waits its turn.
const EVENTS_MAX: usize = 1024;

/// Everything that can wake the daemon.
pub(crate) enum Event {
    /// A peer has connected.
    Accepted(Box<Accepted>),
    /// A peer has sent messages.
    Heard(Number, Vec<Heard>),
    /// A peer has read what waited for it.
    Drained(Number),
    /// A connection has ended.
    Gone(Number, End),
    /// The fleet's carrier has something to tell.
    Fleet(breakerd_core::fleet::Heard),
    /// A connect of the daemon's own has ended.
    Active(ActivePermit, Result<(), Failure>),
    /// The configuration was read anew.
    Reload(Box<Result<Config, Faults>>),
    /// An operator or systemd asks to stop.
    Stop,
    /// A deadline may have come.
    Timeout,
}

/// Why the daemon cannot start or go on.
#[derive(Debug)]
pub(crate) enum StartError {
    /// A socket cannot be listened on.
    Listen(ListenError),
    /// The runtime, its timer, its signals or its thread cannot be made.
    Runtime(std::io::Error),
    /// The queue of events has ended: a bug.
    Lost,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "the system refuses what a daemon needs: {error}"),
            Self::Lost => f.write_str("bug: the queue of events has ended while its senders live"),
        }
    }
}

impl std::error::Error for StartError {}

/// One connection as the loop sees it.
pub(crate) struct Peer {
    pub(crate) kernel: breakerd_core::Peer,
    pub(crate) door: Door,
    pub(crate) groups: Vec<u32>,
    pub(crate) outbox: Rc<Outbox>,
    /// Set by hello.
    pub(crate) id: Option<ConnectionId>,
    /// What it counts, if it takes part in the board.
    pub(crate) lanes: Option<Rc<Lanes>>,
    /// Changes are sent; so many were dropped since the last that was.
    pub(crate) watching: Option<u64>,
    /// Heard and not yet served, because the outbox was full.
    waiting: std::collections::VecDeque<Heard>,
    served: Rc<Notify>,
}

/// The loop's whole state.
pub(crate) struct Drive {
    pub(crate) core: Core,
    pub(crate) config: Config,
    pub(crate) instance: u64,
    pub(crate) started: Mono,
    pub(crate) peers: BTreeMap<Number, Peer>,
    /// The connections that have said hello.
    pub(crate) numbers: BTreeMap<ConnectionId, Number>,
    pub(crate) board: Option<&'static Board>,
    pub(crate) readers: Readers,
    /// The accounts that the log has told of finding no room for a name.
    pub(crate) over_quota: BTreeSet<u32>,
    writer: Writer,
    save_at: Option<Mono>,
    saved: Mono,
    carrier: Option<fleet::Requests>,
    connects: Connects,
    link: Link,
    events: mpsc::Sender<Event>,
    next_number: Number,
}

/// Serves until told to stop.
pub(crate) async fn run(config: Config, read: reload::Read) -> Result<(), StartError> {
    let (events, mut queue) = mpsc::channel(EVENTS_MAX);
    // Before the sockets exist: a stop that comes between must find its handler, or they would be left behind.
    watch_signals(&events).map_err(StartError::Runtime)?;
    reload::watch(read, events.clone()).map_err(StartError::Runtime)?;
    let (mut workers, mut control) = listen(&config).map_err(StartError::Listen)?;
    let mut timer = Timer::new().map_err(StartError::Runtime)?;
    let (carrier, mut fleet) = config.fleet.as_ref().map(|fleet| fleet::start(fleet.into())).unzip();
    let mut drive = Drive::new(config, events.clone(), carrier).map_err(StartError::Runtime)?;
    workers.start(Door::Worker, events.clone());
    control.start(Door::Control, events);
    drive.greet();
    loop {
        timer.set(drive.alarm()).map_err(StartError::Runtime)?;
        let event = tokio::select! {
            event = queue.recv() => event.ok_or(StartError::Lost)?,
            heard = fleet_says(&mut fleet) => Event::Fleet(heard.ok_or(StartError::Lost)?),
            expired = timer.expired() => expired.map(|()| Event::Timeout).map_err(StartError::Runtime)?,
        };
        if matches!(event, Event::Stop) {
            break;
        }
        drive.turn(Mono::now(), event);
    }
    drive.stop();
    Ok(())
}

/// The carrier's next word; never comes without a fleet.
async fn fleet_says(fleet: &mut Option<fleet::Events>) -> Option<breakerd_core::fleet::Heard> {
    match fleet {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

fn listen(config: &Config) -> Result<(Listening, Listening), ListenError> {
    let listen = &config.listen;
    // The group may be given to a file only by root or a member; without one the socket is its owner's alone.
    let mode = if listen.group.is_some() { 0o660 } else { 0o600 };
    let workers = Listening::on(&listen.socket, mode, listen.group.as_ref())?;
    let operators = config.rights.operators.as_ref();
    let control = Listening::on(&listen.control, if operators.is_some() { 0o660 } else { 0o600 }, operators)?;
    Ok((workers, control))
}

fn watch_signals(events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, events) = (signal(kind)?, events.clone());
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() && events.send(Event::Stop).await.is_ok() {}
        });
    }
    Ok(())
}

impl Drive {
    fn new(config: Config, events: mpsc::Sender<Event>, carrier: Option<fleet::Requests>) -> std::io::Result<Self> {
        let now = Mono::now();
        // Keys that the standard library draws from the system: unlike in each life of the daemon.
        let draw = |what: &str| RandomState::new().hash_one(what);
        let instance = draw("instance");
        if let Err(error) = std::fs::create_dir_all(&config.state) {
            let path = config.state.display();
            tracing::warn!(%path, %error, "no state directory; a restart will forget open breakers and overrides");
        }
        let place = Place::within(&config.state);
        let mut core = Core::new(config.breakers.clone(), draw("jitter"));
        if let Some(keys) = config.fleet.as_ref().and_then(|fleet| Keys::of(&fleet.name)) {
            core.join(now, keys, &format!("{}.{:08x}", config.breakers.host, instance >> 32), draw("link"));
        }
        core.handle_snapshot(now, &place.load());
        let writer = Writer::start(place, instance)?;
        let board = crate::board::raise(config.breakers.quotas.names, instance);
        if board.is_some() {
            core.post_all();
        }
        Ok(Self {
            core,
            config,
            instance,
            started: now,
            peers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            board,
            readers: Readers::default(),
            over_quota: BTreeSet::new(),
            writer,
            save_at: None,
            saved: Mono::default(),
            carrier,
            connects: Connects::new(events.clone()),
            link: Link::Standalone,
            events,
            next_number: 0,
        })
    }

    fn greet(&self) {
        let (socket, control) = (self.config.listen.socket.display(), self.config.listen.control.display());
        tracing::info!(%socket, %control, link = %self.core.link(), "breakerd {} is listening", env!("CARGO_PKG_VERSION"));
        crate::service::notify("READY=1");
    }

    fn alarm(&self) -> Option<Mono> {
        [self.core.poll_timeout(), self.save_at].into_iter().flatten().min()
    }

    /// One event, contained: a bug in it costs that event and not the service.
    fn turn(&mut self, now: Mono, event: Event) {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.handle(now, event);
            self.drain(now);
        }));
        if done.is_err() {
            tracing::error!("bug: an event was abandoned half-way; please report the panic above");
        }
    }

    fn handle(&mut self, now: Mono, event: Event) {
        match event {
            Event::Accepted(accepted) => self.accept(*accepted),
            Event::Heard(number, batch) => {
                if let Some(peer) = self.peers.get_mut(&number) {
                    peer.waiting.extend(batch);
                }
                self.serve(now, number);
            }
            Event::Drained(number) => {
                self.catch_up(number);
                self.serve(now, number);
            }
            Event::Gone(number, end) => self.part(now, number, &end),
            Event::Timeout => {
                self.core.handle_timeout(now);
                self.save_if_due(now);
            }
            Event::Fleet(heard) => self.core.handle_heard(now, heard),
            Event::Active(permit, ended) => self.core.handle_active(now, permit, ended),
            Event::Reload(read) => self.reload(now, *read),
            Event::Stop => {}
        }
    }

    fn accept(&mut self, accepted: Accepted) {
        self.next_number += 1;
        let number = self.next_number;
        let Accepted { stream, door, peer, groups } = accepted;
        let stream = Rc::new(stream);
        let outbox = Outbox::new(Rc::clone(&stream));
        let line = Line::new(number, self.events.clone());
        let served = Rc::clone(&line.served);
        line.start(stream, peer, Rc::clone(&outbox));
        let waiting = std::collections::VecDeque::new();
        let peer = Peer { kernel: peer, door, groups, outbox, id: None, lanes: None, watching: None, waiting, served };
        self.peers.insert(number, peer);
    }

    /// Serves what the peer has sent while its outbox takes the answers.
    fn serve(&mut self, now: Mono, number: Number) {
        loop {
            let Some(peer) = self.peers.get_mut(&number) else { return };
            if peer.outbox.is_full() {
                return;
            }
            let Some(heard) = peer.waiting.pop_front() else {
                peer.served.notify_one();
                return;
            };
            self.request(now, number, heard);
        }
    }

    fn part(&mut self, now: Mono, number: Number, end: &End) {
        let farewell = match end {
            End::Closed => None,
            End::Wire(error) => Some((Code::Protocol, error.to_string())),
            End::Slow => Some((Code::Protocol, "a frame took longer than 5 s to come".to_owned())),
            End::Unread => Some((Code::SlowReader, "answers were left unread for 5 s".to_owned())),
        };
        match farewell {
            Some((code, sentence)) => self.dismiss(now, number, code, &sentence),
            None => self.forget(now, number),
        }
    }

    /// Ends a connection with a sentence, which is logged too.
    pub(crate) fn dismiss(&mut self, now: Mono, number: Number, code: Code, sentence: &str) {
        if let Some(peer) = self.peers.get(&number) {
            let (uid, pid) = (peer.kernel.uid, peer.kernel.pid);
            let worker = peer.id.and_then(|id| self.core.worker_of(id)).map_or("?", |(_, label)| label);
            tracing::warn!(worker, uid, pid, "connection closed: {sentence}");
            peer.outbox.send(&ToClient::Bye(Bye { code, sentence: sentence.to_owned() }));
        }
        self.forget(now, number);
    }

    fn forget(&mut self, now: Mono, number: Number) {
        self.read_lanes_of(now, number);
        let Some(peer) = self.peers.remove(&number) else { return };
        peer.outbox.close();
        if let Some(id) = peer.id {
            self.numbers.remove(&id);
            self.core.handle_gone(now, id);
        }
        peer.served.notify_one(); // its reader finds the end and ends too
    }

    fn drain(&mut self, now: Mono) {
        self.show_board(now);
        while let Some(change) = self.core.poll_change() {
            if let Some(breaker) = self.core.breaker_of(&change.name) {
                self.read_lanes_at(now, breaker, None);
            }
            log(&change);
            self.save_at = self.save_at.or(Some(now.max(self.saved.after(SNAPSHOT_PAUSE))));
            self.tell(change);
        }
        if let Some(reruled) = self.core.poll_reruled() {
            self.reruled(reruled);
        }
        while let Some((id, request, verdict)) = self.core.poll_answer() {
            if let Some(peer) = self.numbers.get(&id).and_then(|number| self.peers.get(number)) {
                peer.outbox.send(&Answer { request, verdict }.into());
            }
        }
        while let Some(probe) = self.core.poll_active() {
            self.connects.start(probe);
        }
        while let Some(request) = self.core.poll_request() {
            if self.carrier.as_ref().is_some_and(|carrier| !carrier.ask(request)) {
                tracing::error!("bug: the fleet's carrier has not taken what the link asked");
            }
        }
        self.show_link();
    }

    /// Once the board shows a change nobody is admitted by what was before (I8). Before anybody hears of it.
    pub(crate) fn show_board(&mut self, now: Mono) {
        while let Some(posted) = self.core.poll_posted(now) {
            self.readers.keep(posted.breaker);
            if let Some(board) = self.board {
                crate::board::show(board, &posted);
            }
        }
    }

    /// One line when the link changes: an operator looks for these words.
    fn show_link(&mut self) {
        let link = self.core.link();
        if std::mem::replace(&mut self.link, link) == link {
            return;
        }
        let Some(fleet) = &self.config.fleet else { return };
        let (redis, name) = (&fleet.redis, &fleet.name);
        let failure = self.core.link_since().and_then(|(_, failure)| failure).unwrap_or("not reached yet");
        match link {
            Link::Joined => tracing::info!("joined {redis} as \"{name}\", {} breakers", self.core.sizes().1),
            Link::Detached => {
                tracing::warn!("detached from {redis}: {failure}; this host decides alone and goes on trying");
            }
            Link::Standalone => {}
        }
    }

    fn tell(&mut self, change: Change) {
        let changed = Changed {
            name: change.name.as_str().to_owned(),
            from: change.from,
            view: change.view,
            what: change.what.word().to_owned(),
            at: change.at,
        };
        let message = ToClient::Changed(changed);
        for peer in self.peers.values_mut() {
            match &mut peer.watching {
                Some(dropped) if *dropped > 0 || peer.outbox.is_full() => *dropped = dropped.saturating_add(1),
                Some(_) => peer.outbox.send(&message),
                None => {}
            }
        }
    }

    /// A watcher reads again: it is told how much it missed.
    fn catch_up(&mut self, number: Number) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if let Some(dropped) = peer.watching.as_mut().filter(|dropped| **dropped > 0 && !peer.outbox.is_full()) {
            peer.outbox.send(&ToClient::Lagged(Lagged { dropped: std::mem::take(dropped) }));
        }
    }

    fn save_if_due(&mut self, now: Mono) {
        if self.save_at.is_some_and(|at| at <= now) {
            (self.save_at, self.saved) = (None, now);
            self.writer.write(self.core.save(now));
        }
    }

    /// The last turn: everybody is told, the snapshot is on the disk when this returns.
    fn stop(mut self) {
        crate::service::notify("STOPPING=1");
        tracing::info!("stopping");
        let bye = ToClient::Bye(Bye { code: Code::Stopping, sentence: "the daemon is stopping".to_owned() });
        for peer in std::mem::take(&mut self.peers).into_values() {
            peer.outbox.send(&bye);
            peer.outbox.close();
        }
        self.writer.write(self.core.save(Mono::now()));
    }
}

fn log(change: &Change) {
    let (name, view) = (&change.name, &change.view);
    let (what, by, why) = (change.what.word(), view.by.as_str(), view.why.as_str());
    let retry_ms = view.retry_after_ms;
    // A mode has an author of its own: the view's is the state's.
    let (by, why) = match (change.what, view.mode_by.as_str()) {
        (What::Mode, "") => ("breakerd", "the configuration"),
        (What::Mode, by) => (by, view.mode_why.as_str()),
        _ => (by, why),
    };
    let mode = (view.mode != Mode::On || change.what == What::Mode).then(|| view.mode.word());
    let (from, to) = (change.from, view.state);
    tracing::info!(what, %name, %from, %to, mode, generation = view.generation, ?retry_ms, by, why);
}
