//! The breaker of one process: what the client runs when there is no daemon.

use breakerd_proto::message::{Action, Command, Hello, LastFailure, PolicyPatch, Query, Register, Report, View};
use breakerd_proto::{Counts, Mono, Name, Outcome, State, Verdict, limits};

use crate::core::{Core, Peer};
use crate::settings::Settings;
use crate::snapshot::{SavedBreaker, SavedForce, Snapshot};
use crate::worker::ConnectionId;
use crate::{Because, Change};

/// The service of the one worker. A process knows neither its host's name nor whom else it could mean, so what it did by
/// itself is shown as [`ALONE`].
const SERVICE: &str = "this-process";
/// Who tripped a breaker that one process keeps for itself.
const ALONE: &str = "this process alone";

/// A [`Core`] with one worker. Every rule is the daemon's own.
#[derive(Debug)]
pub struct Solo {
    core: Core,
    connection: Option<ConnectionId>,
    lanes: std::collections::BTreeMap<Name, u32>,
    next_request: u32,
}

impl Solo {
    /// A process without breakers. The seed decides jitter only.
    #[must_use]
    pub fn new(seed: u64, now: Mono) -> Self {
        let mut core = Core::new(Settings::default(), seed);
        let hello = Hello {
            version_min: limits::VERSION_MIN,
            version_max: limits::VERSION_MAX,
            features: 0,
            pid: 0,
            nonce: 0,
            alone_ms: 0,
            alone_calls: 0,
            service: SERVICE.to_owned(),
        };
        let connection = core.handle_connect(now, Peer { uid: 0, pid: 0 }, &hello).ok();
        Self { core, connection, lanes: std::collections::BTreeMap::new(), next_request: 0 }
    }

    /// Declares the policy to use for a name: the daemon's last word, else the code's. Before its first use.
    ///
    /// `probe.connect` has no part in it: here no daemon connects, and a call must be the probe.
    pub fn set_policy(&mut self, now: Mono, name: &Name, policy: &PolicyPatch) {
        self.lane(now, name, Some(&PolicyPatch { probe_connect: None, ..policy.clone() }));
    }

    /// Starts from the last that this process saw of a breaker: open until its deadline, forced until its end and for
    /// ten minutes at most.
    pub fn start_from(&mut self, now: Mono, name: &Name, view: &View) {
        let ten_minutes_ms = 600_000;
        let left = view.retry_after_ms.unwrap_or(ten_minutes_ms).min(ten_minutes_ms);
        let left = std::time::Duration::from_millis(left);
        let age = std::time::Duration::from_millis(view.age_ms);
        let because = Because::new(&view.by, &view.why);
        let forced = view.forced.map(|to| SavedForce {
            to,
            left: Some(if left.is_zero() { std::time::Duration::from_millis(ten_minutes_ms) } else { left }),
            age,
            because: because.clone(),
        });
        let state = if forced.is_some() { State::Closed } else { view.state };
        let saved = SavedBreaker {
            name: name.clone(),
            generation: view.generation,
            state,
            left,
            step: 0,
            age,
            because,
            fleet: false,
            forced,
            mode: None,
        };
        self.lane(now, name, None);
        self.core.handle_snapshot(now, &Snapshot { breakers: vec![saved] });
    }

    /// May this process call?
    pub fn query(&mut self, now: Mono, name: &Name) -> Verdict {
        let lane = self.lane(now, name, None);
        self.next_request = self.next_request.wrapping_add(1);
        let query = Query { request: self.next_request, lane, deadline: now, counts: Counts::default() };
        let connection = self.connection.unwrap_or(ConnectionId(0));
        self.core.handle_timeout(now);
        // A name that cannot be kept is admitted unguarded: our limits must not become the outage (I7).
        let verdict = self.core.handle_query(now, connection, &query);
        verdict.ok().flatten().unwrap_or(Verdict::Admit { generation: 0 })
    }

    /// A call has ended.
    pub fn report(&mut self, now: Mono, name: &Name, generation: u64, permit: u64, outcome: &Outcome) {
        let lane = self.lane(now, name, None);
        let outcome = outcome.clone();
        let report = Report { lane, generation, permit, at: now, outcome, counts: Counts::default() };
        let connection = self.connection.unwrap_or(ConnectionId(0));
        // An unknown lane is a name that could not be kept: there is nothing to book.
        drop(self.core.handle_report(now, connection, &report));
    }

    /// What the breaker is.
    pub fn view(&mut self, now: Mono, name: &Name) -> View {
        self.lane(now, name, None);
        self.core.handle_timeout(now);
        let asked = self.core.ask(now, 0, name.as_str());
        named(asked.map(|asked| asked.view).unwrap_or_else(|_| crate::read::closed_view()))
    }

    /// This process's failures, as the daemon would count them.
    pub fn failures(&mut self, now: Mono, name: &Name) -> u64 {
        self.observe(now, name).map_or(0, |(failures, _)| failures)
    }

    /// This process's last failure.
    pub fn last_failure(&mut self, now: Mono, name: &Name) -> Option<LastFailure> {
        self.observe(now, name).and_then(|(_, last)| last)
    }

    /// Changes to closed, in this process only.
    pub fn reset(&mut self, now: Mono, name: &Name, because: &str) {
        let command =
            Command { request: 0, name: name.as_str().to_owned(), action: Action::Reset, because: because.to_owned() };
        self.lane(now, name, None);
        // The name was just registered, so the command knows it.
        drop(self.core.command(now, SERVICE, &command));
    }

    /// The next change of any breaker of this process.
    pub fn poll_change(&mut self) -> Option<Change> {
        let change = self.core.poll_change()?;
        Some(Change { view: named(change.view), ..change })
    }

    fn observe(&mut self, now: Mono, name: &Name) -> Option<(u64, Option<LastFailure>)> {
        let lane = self.lane(now, name, None);
        let seen = self.core.observe(now, self.connection?, 0, lane).ok()?;
        Some((seen.failures, seen.last_failure))
    }

    fn lane(&mut self, now: Mono, name: &Name, policy: Option<&PolicyPatch>) -> u32 {
        if let Some(lane) = self.lanes.get(name) {
            return *lane;
        }
        let Some(connection) = self.connection else { return u32::MAX };
        let register = Register { request: 0, name: name.as_str().to_owned(), policy: policy.cloned().map(Box::new) };
        let Ok(registered) = self.core.handle_register(now, connection, &register) else { return u32::MAX };
        self.lanes.insert(name.clone(), registered.lane);
        registered.lane
    }
}

/// A view with the process's own doings under a name that tells people something.
fn named(view: View) -> View {
    if view.by.starts_with(SERVICE) { View { by: ALONE.to_owned(), ..view } } else { view }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "solo_tests.rs"]
mod tests;
