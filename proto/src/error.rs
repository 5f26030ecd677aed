//! What can be wrong with a peer's bytes, and the codes that tell a peer so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::Kind;

/// What a peer sent that is no message. Each is the peer's fault and ends its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The two bytes after the kind are not zero; most likely not this protocol at all.
    Header([u8; 8]),
    /// No such kind.
    UnknownKind(u16),
    /// A kind that only the other side sends.
    WrongDirection(Kind),
    /// A body longer than its kind allows.
    TooLong {
        /// The kind's number.
        kind: u16,
        /// What the header claims, in bytes.
        claimed: u32,
        /// What the kind allows, in bytes.
        most: usize,
    },
    /// A body that ends too early or holds an impossible value.
    Malformed(Kind),
    /// Bytes left after a whole body.
    Trailing {
        /// The kind.
        kind: Kind,
        /// How many are left.
        bytes: usize,
    },
    /// The connection ended inside a frame.
    Truncated {
        /// Bytes that had come of it.
        bytes: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(bytes) => write!(f, "a frame began with {bytes:02x?}, which is no header of this protocol"),
            Self::UnknownKind(kind) => write!(f, "no message has the kind {kind}"),
            Self::WrongDirection(kind) => write!(f, "{kind:?} is never sent in this direction"),
            Self::TooLong { kind, claimed, most } => {
                write!(f, "a message of kind {kind} claims {claimed} bytes; it may have {most}")
            }
            Self::Malformed(kind) => write!(f, "the body of a {kind:?} ends too early or holds an impossible value"),
            Self::Trailing { kind, bytes } => {
                write!(f, "a {kind:?} was followed by {bytes} bytes that belong to nothing")
            }
            Self::Truncated { bytes } => write!(f, "the connection ended {bytes} bytes into a frame"),
        }
    }
}

impl std::error::Error for WireError {}

/// Why a request is refused or a connection ended: for programs; a sentence for people goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// The peer's bytes are no message of this protocol.
    Protocol,
    /// No common protocol version.
    Version,
    /// The name breaks the rule for names.
    BadName,
    /// Another argument is out of its bounds.
    BadArgument,
    /// No breaker has this name.
    UnknownBreaker,
    /// The lane was never registered on this connection.
    UnknownLane,
    /// The account lacks the right.
    Denied,
    /// A quota is full: what is asked for is not kept, and a call is admitted unguarded.
    Quota,
    /// The peer left its answers unread.
    SlowReader,
    /// The daemon is stopping.
    Stopping,
    /// The fleet knows something newer.
    Conflict,
    /// A quota is full, and the policy of the name says that a call is rejected then.
    QuotaRejects,
}
