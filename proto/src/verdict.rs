//! The answer to "may I call?".

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::state::State;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Call. The outcome is evidence for this generation only.
    Admit {
        /// The breaker's generation at the moment of admission.
        generation: u64,
    },
    /// Call: this call is the probe.
    Probe {
        /// The breaker's generation at the moment of admission.
        generation: u64,
        /// This probe's own number, never zero.
        permit: u64,
    },
    /// Do not call.
    Reject {
        /// The breaker's generation.
        generation: u64,
        /// What the breaker is.
        state: State,
        /// Why this call is refused.
        reason: RejectReason,
        /// When to ask again, in milliseconds; none under a force without end.
        retry_after_ms: Option<u64>,
    },
}

impl Verdict {
    /// The generation that the verdict was given in.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match self {
            Self::Admit { generation } | Self::Probe { generation, .. } | Self::Reject { generation, .. } => {
                *generation
            }
        }
    }
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RejectReason {
    /// The breaker is open and its cooldown runs.
    Open,
    /// The cooldown is over and all probes are out.
    Probing,
    /// An operator forced it open.
    Forced,
    /// The daemon did not answer a request for a probe in time.
    NoAnswer,
    /// There is no daemon and the fallback is `reject`.
    NoDaemon,
    /// A quota is full and the policy says to reject then.
    Quota,
}

impl RejectReason {
    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Forced => "forced",
            Self::NoAnswer => "no-answer",
            Self::NoDaemon => "no-daemon",
            Self::Quota => "quota",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
