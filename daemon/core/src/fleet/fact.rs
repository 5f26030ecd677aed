//! What the fleet tells the table.

use breakerd_proto::{Mono, Name};

use super::op::{OpResult, Token};
use super::value::Value;

/// How the link stands. Workers and operators see these as joined and detached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// No connection; another attempt comes.
    #[default]
    Down,
    /// A connection is being made.
    Connecting,
    /// Connected and subscribed; what was missed is being read.
    Syncing,
    /// The table agrees with the fleet's.
    Live,
}

/// A value of the fleet's table, with its times on this host's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which breaker.
    pub name: Name,
    /// The value as the fleet stores it.
    pub value: Value,
    /// The end of the cooldown; means nothing where the state is closed.
    pub until: Mono,
    /// The end of the lease; means nothing where nobody holds it.
    pub lease_until: Mono,
    /// The end of the override; none without one, and for until released.
    pub forced_until: Option<Mono>,
}

/// What the table must take in, in this order.
///
/// All facts of one turn belong together: the table shows nothing of a full read before its [`Fact::TableEnds`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The link stands otherwise now. [`LinkState::Live`] comes after the facts that made it so.
    State(LinkState),
    /// A breaker's new value. An equal or lower version than the fleet cell's is no news within one epoch.
    Value(Seen),
    /// A full read begins: values follow, one for each breaker that is not closed or is forced.
    TableBegins {
        /// The data began a new life, so that these values hold whatever versions the table has.
        new_epoch: bool,
    },
    /// The full read ends: every fleet cell that it did not name is closed, and not forced, with this version.
    TableEnds {
        /// The version.
        version: u64,
    },
    /// The fleet has judged an op.
    Answered {
        /// Which.
        token: Token,
        /// When it was sent: a lease counts from then.
        sent: Mono,
        /// The judgement.
        result: OpResult,
        /// What the fleet holds now; may be taken at once if its version is greater than the fleet cell's.
        seen: Option<Seen>,
    },
    /// An op was not judged, and nothing of it was written: the link is down, Redis refused the call, or the data's life
    /// began anew. It may be decided again once the link is live.
    Refused {
        /// Which.
        token: Token,
    },
    /// Nobody knows whether an op was written. It must not be repeated, but decided again from the table once the link is
    /// live. A probe is owned only if the table then shows its lease, counted from `sent`.
    Unknown {
        /// Which.
        token: Token,
        /// When it was sent.
        sent: Mono,
    },
}

/// What the link has met since the daemon's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were made.
    pub connections: u64,
    /// Connections that were lost or given up, and attempts that failed.
    pub losses: u64,
    /// Events that did not chain onto the last.
    pub gaps: u64,
    /// Histories found to have forked.
    pub forks: u64,
    /// New epochs that this host began.
    pub rotations: u64,
    /// Whole tables read.
    pub full_reads: u64,
    /// Gaps filled from the log.
    pub log_reads: u64,
    /// Messages that break the format, and values in the table that do.
    pub bad_events: u64,
    /// Events of the past: already applied, or of an epoch that was left.
    pub stale_events: u64,
    /// Times that too many events waited.
    pub overflows: u64,
    /// Replies that came after they were given up.
    pub late_replies: u64,
    /// Script calls that were sent.
    pub calls: u64,
    /// Ops that were sent.
    pub ops: u64,
    /// Ops that the table had overtaken before they were sent.
    pub overtaken: u64,
    /// Ops of unknown outcome.
    pub unknown: u64,
}
