//! What a worker reports of an admitted call.

use serde::{Deserialize, Serialize};

use crate::limits::{FAILURE_DETAIL_BYTES_MAX, FAILURE_KIND_BYTES_MAX};

/// What settles a permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It worked; `slow` says that it took longer than the policy's bound.
    Success {
        /// Slower than the policy allows.
        slow: bool,
    },
    /// It failed by the provider's fault.
    Failure(Failure),
    /// No evidence: the caller's own fault (a bad request, a bug).
    Ignored,
    /// Dropped without a word; frees a probe and says nothing else.
    Abandoned,
}

impl Outcome {
    /// A success in ordinary time.
    pub const SUCCESS: Self = Self::Success { slow: false };

    /// A failure of this kind, without detail.
    #[must_use]
    pub fn failure(kind: &str) -> Self {
        Self::Failure(Failure::new(kind))
    }

    /// The word that every log line, metric, table and API uses.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Failure(_) => "failure",
            Self::Ignored => "ignored",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One failure as its worker classified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, in at most 48 bytes: `http-401`, `connect`, a class name.
    pub kind: String,
    /// A status and an error code, in at most 80 bytes; empty if there is nothing to say.
    pub detail: String,
    /// The provider's own wish, in milliseconds from the failure.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure of this kind; text beyond the bound is cut at a character's edge.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self { kind: cut(kind, FAILURE_KIND_BYTES_MAX).to_owned(), detail: String::new(), retry_after_ms: None }
    }

    /// The same with a detail; text beyond the bound is cut at a character's edge.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        cut(detail, FAILURE_DETAIL_BYTES_MAX).clone_into(&mut self.detail);
        self
    }

    /// The same with the provider's wish, in milliseconds.
    #[must_use]
    pub fn with_retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

/// The longest prefix of `text` that has at most `bytes` bytes and ends between two characters.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// What one worker has seen of one breaker since it registered: totals that only grow.
///
/// Sent with every query and report, so that a report which did not fit the socket is made good by the next message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Successes, slow ones among them.
    pub successes: u64,
    /// Slow successes.
    pub slow: u64,
    /// Failures.
    pub failures: u64,
    /// The failures among them that no report told.
    pub untold: Untold,
}

/// Failures since the last message of this lane that no report told, of the newest generation that had any.
///
/// A total has no order and names no generation; a run needs the one and evidence the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// The generation that their calls were admitted in.
    pub generation: u64,
    /// How many.
    pub failures: u32,
    /// How many of them came after the last success.
    pub run: u32,
}

impl Counts {
    /// Counts an outcome of a call that was admitted in this generation; `told` says whether a report goes out with it.
    pub fn count(&mut self, generation: u64, outcome: &Outcome, told: bool) {
        match outcome {
            Outcome::Success { slow } => {
                self.successes = self.successes.saturating_add(1);
                self.slow = self.slow.saturating_add(u64::from(*slow));
                // Where it goes out, what was untold came before it and is told in the same message.
                if !told {
                    self.untold.run = 0;
                }
            }
            Outcome::Failure(_) => {
                self.failures = self.failures.saturating_add(1);
                if !told {
                    self.untold.fail(generation);
                }
            }
            Outcome::Ignored | Outcome::Abandoned => {}
        }
    }

    /// Whether failures have been counted that no message has told.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.untold.failures > 0
    }

    /// The counts for a message that goes out: what was untold is told with it.
    pub fn tell(&mut self) -> Self {
        let told = *self;
        self.untold = Untold::default();
        told
    }
}

impl Untold {
    fn fail(&mut self, generation: u64) {
        if generation < self.generation {
            return; // a straggler is in the total and is no evidence
        }
        if generation > self.generation {
            *self = Self { generation, failures: 0, run: 0 };
        }
        self.failures = self.failures.saturating_add(1);
        self.run = self.run.saturating_add(1);
    }
}
