//! Workers and their connections.

use breakerd_proto::message::Hello;
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
    pub(crate) lanes: Vec<Registration>,
    /// Requests that were answered with a probe which may still be out.
    pub(crate) granted: Vec<(u32, BreakerId)>,
}

/// One breaker that a connection has registered.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) breaker: BreakerId,
    pub(crate) name: Name,
    /// What the connection has told so far.
    pub(crate) told: Counts,
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
