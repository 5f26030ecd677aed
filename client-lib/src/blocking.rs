//! The client for code that blocks: threads, workers, scripts.
//!
//! A call waits for its daemon at most 5 ms, the first of a process at most 250 ms, and never fails by our trouble.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use breakerd_core::check_patch;
use breakerd_proto::clock::ms_up;
use breakerd_proto::limits::{ASYNC_WAIT_MAX, SYNC_WAIT_MAX};
use breakerd_proto::message::{Action, LastFailure, PolicyPatch, View};
use breakerd_proto::{Code, Fallback, Mode, Mono, Name, Outcome, Override, State};

use crate::attachment::Attachment;
use crate::board::Spot;
use crate::breakers::Breakers;
use crate::classify::{Terms, by_type};
use crate::closed::Closed;
use crate::dialogue::{Place, Question, Reply, Standing};
use crate::error::{BadBreaker, CallError, FirstError, OperatorError, ResetError};
use crate::fallback::Alone;
use crate::health::Health;
use crate::judge::{Call, Case, Rule};
use crate::known::Known;
use crate::operator::{Changes, Operator};
use crate::options::{BadVariable, Options};
use crate::permit::{Permit, Rejected};
use crate::session::Settled;

/// How long an operator's act by a worker, a reset, waits. It is no guarded call, and the fleet may have to be asked.
const ACT_WAIT_MAX: Duration = ASYNC_WAIT_MAX;
/// How long a look waits: no call hangs on it, and a worker that shows yesterday's state beside its neighbours' is worse
/// than one that answers late.
const LOOK_WAIT_MAX: Duration = ASYNC_WAIT_MAX;

/// A worker's way to its daemon. Cheap to clone; clones share one connection a process.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    breakers: Breakers,
    process: ArcSwap<Process>,
}

/// What belongs to one process; a forked child makes its own.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) alone: Arc<Alone>,
    pub(crate) main: Arc<Attachment>,
}

/// One breaker, by its name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Breaker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) known: Arc<Known>,
}

/// Who told what a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The daemon, just now.
    Daemon,
    /// The daemon, some time ago: it does not answer at the moment.
    LastSeen,
    /// This process, which is alone.
    Local,
}

/// What this worker sees of a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What it is.
    pub state: State,
    /// An operator's word over the state.
    pub forced: Option<Override>,
    /// Whether it acts.
    pub mode: Mode,
    /// This worker's failures: while closed, the run that it is in; from a trip until the breaker closes again, that run
    /// and every later failure of its calls in flight.
    pub failures: u64,
    /// This worker's last failure.
    pub last_failure: Option<LastFailure>,
    /// When a call may be admitted; none while closed and under a force without end.
    pub retry_after: Option<Duration>,
    /// Who made it so; empty if nobody did.
    pub by: String,
    /// Why it is so.
    pub why: String,
    /// Who tells it.
    pub source: Source,
}

impl Client {
    /// The client of this host's daemon, at `BREAKERD_SOCKET`, else at `/run/breakerd/breakerd.sock`. Fine if nobody
    /// listens there yet.
    ///
    /// # Errors
    /// [`BadVariable`] if a `BREAKERD_…` variable cannot be understood.
    pub fn open() -> Result<Self, BadVariable> {
        Ok(Options::from_env()?.open())
    }

    /// The client of the daemon that listens there.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn at(path: impl AsRef<Path>) -> Result<Self, BadVariable> {
        Ok(Options::from_env()?.socket(path.as_ref()).open())
    }

    pub(crate) fn new(options: Options) -> Self {
        let process = ArcSwap::from_pointee(Process::new(&options));
        Self { shared: Arc::new(Shared { options, breakers: Breakers::new(), process }) }
    }

    /// The breaker of this name, behind the process's prefix.
    ///
    /// # Errors
    /// Only for a name that breaks the rule.
    pub fn breaker(&self, name: &str) -> Result<Breaker, BadBreaker> {
        self.declare(name, None)
    }

    /// The same with a policy in code, which stands below every section of the daemon's configuration that matches the
    /// name, and above `[breaker.default]`. The first declaration in a process stands.
    ///
    /// # Errors
    /// For a name that breaks the rule or a policy out of its bounds.
    pub fn breaker_with(&self, name: &str, policy: PolicyPatch) -> Result<Breaker, BadBreaker> {
        self.declare(name, Some(policy))
    }

    fn declare(&self, name: &str, policy: Option<PolicyPatch>) -> Result<Breaker, BadBreaker> {
        let full = format!("{}{name}", self.shared.options.prefix);
        let name = Name::parse(&full).map_err(|bad| BadBreaker::Name(full, bad))?;
        if let Some(policy) = &policy {
            check_patch(policy).map_err(|bad| BadBreaker::Policy(name.clone(), bad))?;
        }
        let known = self.shared.know(&name, policy.as_ref());
        if let (Some(policy), Some(warn)) = (&policy, &self.shared.options.warn)
            && known.declared.as_ref() != Some(policy)
        {
            warn(&format!("breaker {name} was declared before with another policy; the first declaration stands"));
        }
        Ok(Breaker { shared: Arc::clone(&self.shared), known })
    }

    /// Makes the call under the first of these breakers that admits it.
    ///
    /// # Errors
    /// [`FirstError`]; the failure of the call itself tries no other breaker.
    pub fn first_admitted<'n, T, E>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        call: impl FnOnce(&Breaker) -> Result<T, E>,
    ) -> Result<(Name, T), FirstError<E>> {
        let mut rejected = Vec::new();
        for name in names {
            let breaker = self.breaker(name).map_err(FirstError::Bad)?;
            match breaker.admit() {
                Ok(permit) => return settle_first(permit, call(&breaker)),
                Err(no) => rejected.push(no),
            }
        }
        Err(FirstError::Rejected(rejected))
    }

    /// How the client stands to its daemon, which is asked now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health(LOOK_WAIT_MAX)
    }

    /// Every change of every breaker from here on, over a connection of its own. Blocks while there is none.
    ///
    /// Who reads too slowly is told how many changes were dropped, by [`WatchEvent::Lagged`](crate::WatchEvent), and looks at
    /// what each breaker is anew. When the daemon goes the stream ends with an error: call this again, and take whatever
    /// happened between for missed.
    ///
    /// # Errors
    /// [`OperatorError`]: here, unlike in a guarded call, there is no fallback.
    pub fn changes(&self) -> Result<Changes, OperatorError> {
        Operator::connect(&self.shared.options.socket)?.watch()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    /// What belongs to this process. A forked child leaves its parent's alone.
    pub(crate) fn process(&self) -> Arc<Process> {
        loop {
            let current = self.process.load_full();
            if current.main.is_ours() {
                return current;
            }
            self.process.compare_and_swap(&current, Arc::new(Process::new(&self.options)));
        }
    }

    pub(crate) fn rule(&self) -> Rule {
        Rule { mode: self.options.mode, fallback: self.options.fallback }
    }

    fn know(&self, name: &Name, policy: Option<&PolicyPatch>) -> Arc<Known> {
        self.breakers.get_or_insert(name, || self.unknown(name, policy))
    }

    fn unknown(&self, name: &Name, policy: Option<&PolicyPatch>) -> Known {
        Known::new(name.clone(), policy.cloned(), self.options.warn.clone())
    }

    /// The daemon is given so long to answer.
    pub(crate) fn health(&self, wait: Duration) -> Health {
        if self.options.mode == Mode::Off {
            return Health::Off;
        }
        let (process, now) = (self.process(), Mono::now());
        // Any breaker does: the question is about the daemon.
        let known = self.breakers.any();
        let known = known.or_else(|| Name::parse("health").ok().map(|name| Arc::new(self.unknown(&name, None))));
        if let Some(known) = known {
            // Whatever it answers, the standing tells it.
            drop(process.main.ask(&known, Question::About, now.after(wait)));
        }
        let path = self.options.socket.clone();
        let now = Mono::now();
        match process.main.standing(now) {
            Standing::Attached { welcome, fleet, full } => {
                Health::Attached { release: welcome.release, link: fleet, fleet: welcome.fleet, path, full }
            }
            Standing::Silent(since) => Health::Silent { since: now.since(since), path },
            Standing::Away(since, why) => {
                let fallback = self.options.fallback.unwrap_or(Fallback::Local);
                Health::Alone { since: now.since(since), path, why, fallback }
            }
        }
    }
}

impl Process {
    fn new(options: &Options) -> Self {
        let alone = Arc::new(Alone::new());
        let main = Attachment::new(Place::of(options), Arc::clone(&alone), Mono::now());
        Self { alone, main }
    }
}

impl Place {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            path: options.socket.clone(),
            service: options.service.clone(),
            warn: options.warn.clone(),
            board: options.board,
        }
    }
}

impl Breaker {
    /// Its name, with the process's prefix.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.known.name
    }

    /// What is decided of its policy, as far as this process knows: the whole of it as the daemon last sent it, else what
    /// the code says.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<PolicyPatch>> {
        self.known.policy()
    }

    /// Makes the call if it may be made. `Ok` is a success, `Err` a failure whose kind is the error's type.
    ///
    /// # Errors
    /// [`CallError`].
    #[inline]
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_classified(call, by_type)
    }

    /// The same with your own judge of what the result is evidence of; [`classify`](crate::classify) has some ready.
    ///
    /// # Errors
    /// [`CallError`].
    #[inline]
    pub fn call_classified<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        classify: impl FnOnce(&Result<T, E>, Terms<'_>) -> Outcome,
    ) -> Result<T, CallError<E>> {
        // Closed on the board: no message, no clock, no allocation, no lock, nothing but this thread's own counter.
        if let Some((spot, generation)) = self.admitted_by_board() {
            let result = call();
            match classify(&result, Terms::of(&self.known, false)) {
                // A child that was forked during the call leaves its parent's counters alone.
                Outcome::SUCCESS if spot.is_ours() => spot.succeed(),
                Outcome::SUCCESS => {}
                outcome => self.tell(spot, generation, outcome),
            }
            return result.map_err(CallError::Failed);
        }
        self.call_permitted(call, classify)
    }

    /// The same where a clock, the daemon or the fallback is needed.
    #[cold]
    #[inline(never)]
    fn call_permitted<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        classify: impl FnOnce(&Result<T, E>, Terms<'_>) -> Outcome,
    ) -> Result<T, CallError<E>> {
        let permit = self.admit().map_err(CallError::Rejected)?;
        let result = call();
        let outcome = classify(&result, permit.terms());
        permit.settle(outcome);
        result.map_err(CallError::Failed)
    }

    /// Admits a call if the daemon's board alone can: the breaker is closed, its policy judges no slowness, and this process
    /// is neither `shadow` nor `off`. None tells nothing of the call: ask [`Breaker::admit`].
    #[inline]
    #[must_use]
    pub fn admit_closed(&self) -> Option<Closed> {
        let (spot, generation) = self.admitted_by_board()?;
        Some(Closed::new(spot, generation))
    }

    #[inline]
    fn admitted_by_board(&self) -> Option<(&'static Spot, u64)> {
        if self.shared.options.mode != Mode::On {
            return None;
        }
        let spot = self.known.spot()?;
        Some((spot, spot.admits()?))
    }

    /// A call that the board admitted was no success.
    #[cold]
    fn tell(&self, spot: &Spot, generation: u64, outcome: Outcome) {
        let now = Mono::now();
        spot.report(now, &self.known.name, Settled { generation, permit: 0, at: now, outcome });
    }

    /// May I call?
    ///
    /// # Errors
    /// [`Rejected`] tells when to try again.
    pub fn admit(&self) -> Result<Permit, Rejected> {
        let call = self.want(Mono::now());
        call.at_once().unwrap_or_else(|| self.ask(call))
    }

    fn ask(&self, call: Call<'_>) -> Result<Permit, Rejected> {
        let (process, deadline) = (self.shared.process(), call.asked.after(SYNC_WAIT_MAX));
        let reply = process.main.ask(&self.known, Question::Query(deadline), deadline);
        Case { call, attachment: &process.main, alone: &process.alone }.decide(Mono::now(), reply)
    }

    /// What it is. As [`Breaker::observe`].
    #[must_use]
    pub fn state(&self) -> State {
        self.observe().state
    }

    /// What this worker sees of it.
    #[must_use]
    pub fn observe(&self) -> Observation {
        let (process, now) = (self.shared.process(), Mono::now());
        let reply = match self.shared.options.mode {
            Mode::Off => Reply::Absent,
            Mode::On | Mode::Shadow => process.main.ask(&self.known, Question::Observe, now.after(LOOK_WAIT_MAX)),
        };
        self.observed(&process, reply)
    }

    pub(crate) fn observed(&self, process: &Process, reply: Reply) -> Observation {
        let now = Mono::now();
        match reply {
            Reply::Observed(seen) => Observation::of(&seen.view, (seen.failures, seen.last_failure), Source::Daemon),
            Reply::Silent if self.known.seen().is_some() => self.last_seen(now),
            _ => match process.alone.observe(now, &self.known) {
                Some(sight) => Observation::of(&sight.view, (sight.failures, sight.last_failure), Source::Local),
                None => self.last_seen(now),
            },
        }
    }

    fn last_seen(&self, now: Mono) -> Observation {
        match self.known.seen() {
            Some(seen) => Observation::of(&seen.view(now), (seen.failures, None), Source::LastSeen),
            None => Observation::of(&closed(), (0, None), Source::Local),
        }
    }

    /// Changes the breaker to closed, for everyone: on this host, and in the fleet where the daemon is joined. Without a
    /// daemon, for this process.
    ///
    /// # Errors
    /// [`ResetError`]; `Denied` if this account lacks the right.
    pub fn reset(&self, because: &str) -> Result<(), ResetError> {
        let (process, now) = (self.shared.process(), Mono::now());
        let question = Question::Command(Action::Reset, because);
        let reply = process.main.ask(&self.known, question, now.after(ACT_WAIT_MAX));
        self.reset_by(&process, because, reply)
    }

    pub(crate) fn reset_by(&self, process: &Process, because: &str, reply: Reply) -> Result<(), ResetError> {
        match reply {
            Reply::Refused(Code::Denied, sentence) => Err(ResetError::Denied { sentence }),
            Reply::Refused(code, sentence) => Err(ResetError::Refused { code, sentence }),
            Reply::Silent => Err(ResetError::NoAnswer { waited: ACT_WAIT_MAX }),
            Reply::Absent => {
                process.alone.reset(Mono::now(), &self.known, because);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A call that is asked for now.
    pub(crate) fn want(&self, asked: Mono) -> Call<'_> {
        Call { rule: self.shared.rule(), known: &self.known, asked }
    }
}

impl Observation {
    fn of(view: &View, (failures, last_failure): (u64, Option<LastFailure>), source: Source) -> Self {
        let retry_after = if view.state == State::Closed { None } else { view.retry_after_ms };
        Self {
            state: view.state,
            forced: view.forced,
            mode: view.mode,
            failures,
            last_failure,
            retry_after: retry_after.map(Duration::from_millis),
            by: view.by.clone(),
            why: view.why.clone(),
            source,
        }
    }
}

/// What a breaker is that nobody has told anything of.
fn closed() -> View {
    View {
        state: State::Closed,
        forced: None,
        mode: Mode::On,
        mode_by: String::new(),
        mode_why: String::new(),
        generation: 0,
        retry_after_ms: Some(ms_up(Duration::ZERO)),
        age_ms: 0,
        by: String::new(),
        why: String::new(),
        host_only: false,
    }
}

/// Settles a call under the first breaker that admitted it.
pub(crate) fn settle_first<T, E>(permit: Permit, result: Result<T, E>) -> Result<(Name, T), FirstError<E>> {
    let name = permit.breaker().clone();
    let outcome = by_type(&result, permit.terms());
    permit.settle(outcome);
    match result {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(FirstError::Failed(name, error)),
    }
}

#[cfg(test)]
#[path = "blocking_tests.rs"]
mod tests;
