//! Workers and their connections.

use std::sync::Arc;

use breakerd_proto::message::{Hello, PolicyPatch};
use breakerd_proto::{Counts, Mono, Name, limits, outcome};

use crate::account::Charge;
use crate::core::Peer;
use crate::table::BreakerId;

/// One connection, numbered by the core for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One worker process, numbered by the core for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// What makes connections one worker: the kernel's account and pid, and the process's own nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    pub(crate) nonce: u64,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) identity: Identity,
    /// `service[pid]`.
    pub(crate) label: String,
    pub(crate) since: Mono,
    pub(crate) connections: u32,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: WorkerId,
    pub(crate) uid: u32,
    pub(crate) charge: Charge,
    /// By their numbers.
    pub(crate) lanes: Vec<Registration>,
    /// The numbers of the lanes, by their names.
    by_name: Vec<u32>,
    /// Requests that were answered with a probe which may still be out.
    pub(crate) granted: Vec<(u32, BreakerId)>,
}

/// One breaker that a connection has registered.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Which; one that was evicted meanwhile is made anew by the next query.
    pub(crate) breaker: BreakerId,
    pub(crate) name: Name,
    /// What the code said of its policy.
    pub(crate) declared: Option<Arc<PolicyPatch>>,
    /// When it was registered.
    since: Mono,
    /// What the connection has told so far, if anything.
    told: Option<Box<Told>>,
}

/// The totals of a connection's last message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) successes: u64,
    pub(crate) slow: u64,
    pub(crate) failures: u64,
    /// Successes beyond these that a reading of the lane memory has found: a reading overtakes the messages that wait in
    /// the socket.
    pub(crate) ahead: u64,
    /// When the last call ended that it reported.
    pub(crate) at: Mono,
    /// Up to when its successes are known, by messages or by readings.
    pub(crate) known_at: Mono,
}

impl Told {
    fn nothing(since: Mono) -> Self {
        Self { successes: 0, slow: 0, failures: 0, ahead: 0, at: since, known_at: since }
    }

    /// Takes over the counts of a message that came at this time. A count that goes back is a peer's lie or a restart, and
    /// the new baseline.
    pub(crate) fn take(&mut self, now: Mono, counts: Counts) {
        self.ahead = self.ahead.saturating_sub(counts.successes.saturating_sub(self.successes));
        (self.successes, self.slow, self.failures) = (counts.successes, counts.slow, counts.failures);
        self.known_at = now;
    }
}

impl Registration {
    pub(crate) fn new(breaker: BreakerId, name: Name, declared: Option<Arc<PolicyPatch>>, now: Mono) -> Self {
        Self { breaker, name, declared, since: now, told: None }
    }

    pub(crate) fn told(&self) -> Told {
        self.told.as_deref().map_or_else(|| Told::nothing(self.since), |told| *told)
    }

    pub(crate) fn told_mut(&mut self) -> &mut Told {
        let since = self.since;
        self.told.get_or_insert_with(|| Box::new(Told::nothing(since)))
    }
}

// A connection may register names by the ten thousand, and each costs so much beside the name's share of the table.
const _: () = assert!(size_of::<Registration>() <= 48);

impl Connection {
    pub(crate) fn new(worker: WorkerId, uid: u32, charge: Charge) -> Self {
        Self { worker, uid, charge, lanes: Vec::new(), by_name: Vec::new(), granted: Vec::new() }
    }

    /// The lane of a number.
    pub(crate) fn lane(&self, lane: u32) -> Option<&Registration> {
        self.lanes.get(usize::try_from(lane).ok()?)
    }

    /// The lane of a number, to change.
    pub(crate) fn lane_mut(&mut self, lane: u32) -> Option<&mut Registration> {
        self.lanes.get_mut(usize::try_from(lane).ok()?)
    }

    /// The number of the lane of this name.
    pub(crate) fn lane_of(&self, name: &Name) -> Option<u32> {
        self.place_of(name).ok().and_then(|place| self.by_name.get(place)).copied()
    }

    /// A lane for a name that has none: its number.
    pub(crate) fn add_lane(&mut self, registration: Registration) -> u32 {
        let lane = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let (Ok(place) | Err(place)) = self.place_of(&registration.name);
        self.by_name.insert(place, lane);
        self.lanes.push(registration);
        lane
    }

    fn place_of(&self, name: &Name) -> Result<usize, usize> {
        self.by_name.binary_search_by(|lane| self.lane(*lane).map(|lane| &lane.name).cmp(&Some(name)))
    }
}

/// `service[pid]` in characters that are safe in logs, tables and the fleet's events. A pid that only the worker
/// claims, because the kernel cannot name it here, is marked.
pub(crate) fn label(peer: &Peer, hello: &Hello) -> String {
    let service = outcome::cut(&hello.service, limits::SERVICE_BYTES_MAX.min(32));
    let safe = |c: char| if Name::allows(c) && c != '@' { c } else { '_' };
    let service: String = if service.is_empty() { "worker".to_owned() } else { service.chars().map(safe).collect() };
    match peer.pid {
        0 => format!("{service}[{}?]", hello.pid),
        pid => format!("{service}[{pid}]"),
    }
}
