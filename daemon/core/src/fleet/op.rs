//! What a daemon asks of the fleet, and what the fleet's script answers.

use breakerd_proto::limits::{AUTHOR_BYTES_MAX, REASON_BYTES_MAX};
use breakerd_proto::{Name, Override, State};

use super::value::{Value, force_letter, scrub};
use crate::change::Because;

/// How many strings an op is to the script.
pub const OP_WORDS: usize = 8;

/// The proposer's own number of an op; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One wish for one breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Which breaker.
    pub name: Name,
    /// Who wishes it and why; kept with the change where it is one of state.
    pub because: Because,
    /// What.
    pub kind: OpKind,
}

/// The kinds of ops. `expected` is the version that the proposer saw: the script refuses what has been overtaken.
/// All durations are in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Closed to open.
    Trip {
        /// The version that the evidence is newer than.
        expected: u64,
        /// How long.
        duration_ms: u64,
        /// The step of the backoff that it begins at: above 0 where the breaker had recovered only just before.
        step: u32,
    },
    /// Lease the probe of a breaker whose cooldown is over.
    Probe {
        /// The lease's own id: a result under another changes nothing.
        lease_id: String,
        /// The host.
        holder: String,
        /// How long the lease holds unless renewed.
        lease_ms: u64,
    },
    /// Hold the lease for longer.
    Renew {
        /// The lease.
        lease_id: String,
        /// How long from now.
        lease_ms: u64,
    },
    /// Give the lease back without a result.
    Free {
        /// The lease.
        lease_id: String,
    },
    /// Probes under the lease succeeded.
    Pok {
        /// The lease.
        lease_id: String,
        /// How many.
        successes: u64,
        /// How many make a recovery.
        needed: u64,
    },
    /// A probe under the lease failed.
    Pfail {
        /// The lease.
        lease_id: String,
        /// How long open now lasts.
        duration_ms: u64,
    },
    /// Move the deadline of an open breaker, later only.
    Extend {
        /// The version that was seen.
        expected: u64,
        /// How long from now.
        duration_ms: u64,
    },
    /// An operator's change to closed.
    Reset {
        /// The version that the operator saw; none for whatever there is.
        expected: Option<u64>,
    },
    /// An operator's override.
    Force {
        /// Which.
        to: Override,
        /// How long; none until released.
        duration_ms: Option<u64>,
    },
    /// The end of an override.
    Release {
        /// The version that was seen; none for whatever there is.
        expected: Option<u64>,
    },
}

/// How an op ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// Done: a new version.
    Ok,
    /// Something newer stands there.
    Stale,
    /// Still open, or another host holds the lease.
    Wait,
    /// Nothing to do.
    Noop,
    /// The fleet's table is full.
    Full,
    /// The script does not know such an op, or its arguments break a rule.
    BadOp,
}

impl Op {
    /// The op as the script takes it: kind, name, up to four arguments, author, reason.
    #[must_use]
    pub fn words(&self) -> [String; OP_WORDS] {
        let (word, [a, b, c]) = self.kind.words();
        let by = scrub(&self.because.by, AUTHOR_BYTES_MAX);
        let why = scrub(&self.because.why, REASON_BYTES_MAX);
        let (by, why) = (super::value::encode(&by), super::value::encode(&why));
        [word.to_owned(), self.name.to_string(), a, b, c, String::new(), by, why]
    }

    /// What the script would answer now that the fleet holds this value, where that is certain and no success: such an
    /// op need not be sent.
    #[must_use]
    pub fn overtaken_by(&self, value: &Value) -> Option<OpResult> {
        let newer = |expected: u64| (expected < value.version).then_some(OpResult::Stale);
        match &self.kind {
            OpKind::Trip { expected, .. } => newer(*expected),
            OpKind::Extend { expected, .. } => newer(*expected),
            OpKind::Reset { expected } | OpKind::Release { expected } => expected.and_then(newer),
            OpKind::Force { .. } => None,
            OpKind::Probe { .. } => match (value.state, value.forced) {
                (State::Closed, _) | (_, Some(_)) => Some(OpResult::Stale),
                (State::HalfOpen, None) if !value.lease_id.is_empty() => Some(OpResult::Wait),
                _ => None,
            },
            OpKind::Renew { lease_id, .. }
            | OpKind::Free { lease_id }
            | OpKind::Pok { lease_id, .. }
            | OpKind::Pfail { lease_id, .. } => {
                let ours = value.state == State::HalfOpen && value.forced.is_none() && value.lease_id == *lease_id;
                (!ours).then_some(OpResult::Stale)
            }
        }
    }
}

impl OpKind {
    /// The script's word for it.
    #[cfg(test)]
    pub(crate) fn word(&self) -> &'static str {
        self.words().0
    }

    /// The script's word for it, and its arguments.
    fn words(&self) -> (&'static str, [String; 3]) {
        let none = String::new;
        let expected_or_any = |expected: &Option<u64>| expected.map_or_else(|| "-1".to_owned(), |v| v.to_string());
        match self {
            Self::Trip { expected, duration_ms, step } => {
                ("trip", [expected.to_string(), duration_ms.to_string(), step.to_string()])
            }
            Self::Probe { lease_id, holder, lease_ms } => {
                ("probe", [lease_id.clone(), holder.clone(), lease_ms.to_string()])
            }
            Self::Renew { lease_id, lease_ms } => ("renew", [lease_id.clone(), lease_ms.to_string(), none()]),
            Self::Free { lease_id } => ("free", [lease_id.clone(), none(), none()]),
            Self::Pok { lease_id, successes, needed } => {
                ("pok", [lease_id.clone(), successes.to_string(), needed.to_string()])
            }
            Self::Pfail { lease_id, duration_ms } => ("pfail", [lease_id.clone(), duration_ms.to_string(), none()]),
            Self::Extend { expected, duration_ms } => {
                ("extend", [expected.to_string(), duration_ms.to_string(), none()])
            }
            Self::Reset { expected } => ("reset", [expected_or_any(expected), none(), none()]),
            Self::Force { to, duration_ms } => {
                let letter = force_letter(Some(*to)).to_owned();
                ("force", [letter, duration_ms.unwrap_or(0).to_string(), none()])
            }
            Self::Release { expected } => ("release", [expected_or_any(expected), none(), none()]),
        }
    }
}

impl OpResult {
    /// Parses one result of the script, `OK|value`. The value is none where the text holds no valid one.
    #[must_use]
    pub fn parse(text: &str) -> Option<(Self, Option<Value>)> {
        let (word, value) = text.split_once('|').unwrap_or((text, ""));
        let result = match word {
            "OK" => Self::Ok,
            "STALE" => Self::Stale,
            "WAIT" => Self::Wait,
            "NOOP" => Self::Noop,
            "FULL" => Self::Full,
            "BADOP" => Self::BadOp,
            _ => return None,
        };
        Some((result, Value::parse(value).ok()))
    }

    /// The script's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Stale => "STALE",
            Self::Wait => "WAIT",
            Self::Noop => "NOOP",
            Self::Full => "FULL",
            Self::BadOp => "BADOP",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn op(kind: OpKind) -> Op {
        Op { name: Name::parse("openai").unwrap(), because: Because::new("root@web-1", "100% | sure"), kind }
    }

    fn lease() -> String {
        "web-1.0a1b2c3d/1".to_owned()
    }

    #[test]
    fn every_kind_has_its_words() {
        let rows = [
            (OpKind::Trip { expected: 6, duration_ms: 15_000, step: 2 }, ["trip", "6", "15000", "2"]),
            (
                OpKind::Probe { lease_id: lease(), holder: "web-1".to_owned(), lease_ms: 10_000 },
                ["probe", "web-1.0a1b2c3d/1", "web-1", "10000"],
            ),
            (OpKind::Renew { lease_id: lease(), lease_ms: 10_000 }, ["renew", "web-1.0a1b2c3d/1", "10000", ""]),
            (OpKind::Free { lease_id: lease() }, ["free", "web-1.0a1b2c3d/1", "", ""]),
            (OpKind::Pok { lease_id: lease(), successes: 1, needed: 2 }, ["pok", "web-1.0a1b2c3d/1", "1", "2"]),
            (OpKind::Pfail { lease_id: lease(), duration_ms: 30_000 }, ["pfail", "web-1.0a1b2c3d/1", "30000", ""]),
            (OpKind::Extend { expected: 7, duration_ms: 9 }, ["extend", "7", "9", ""]),
            (OpKind::Reset { expected: None }, ["reset", "-1", "", ""]),
            (OpKind::Reset { expected: Some(7) }, ["reset", "7", "", ""]),
            (OpKind::Force { to: Override::ForcedOpen, duration_ms: None }, ["force", "F", "0", ""]),
            (OpKind::Force { to: Override::ForcedClosed, duration_ms: Some(5) }, ["force", "K", "5", ""]),
            (OpKind::Release { expected: Some(7) }, ["release", "7", "", ""]),
        ];
        for (kind, [word, a, b, c]) in rows {
            let words = op(kind).words();
            assert_eq!(words, [word, "openai", a, b, c, "", "root@web-1", "100%25 %7C sure"]);
        }
    }

    #[test]
    fn results_are_read() {
        for result in [OpResult::Ok, OpResult::Stale, OpResult::Wait, OpResult::Noop, OpResult::Full, OpResult::BadOp] {
            assert_eq!(OpResult::parse(result.word()), Some((result, None)));
            let text = format!("{}|7|C|0|0|||0|0|0|0|-|0||", result.word());
            assert_eq!(OpResult::parse(&text).unwrap().1.unwrap().version, 7);
        }
        assert_eq!(OpResult::parse("PERHAPS|1"), None);
    }

    #[test]
    fn an_overtaken_op_is_known_before_it_is_sent() {
        let value =
            |state, lease_id: &str| Value { version: 7, state, lease_id: lease_id.to_owned(), ..Value::default() };
        let (closed, leased) = (value(State::Closed, ""), value(State::HalfOpen, "web-1.0a1b2c3d/1"));
        let trip = |expected| op(OpKind::Trip { expected, duration_ms: 1, step: 0 });
        assert_eq!(trip(6).overtaken_by(&closed), Some(OpResult::Stale));
        assert_eq!(trip(7).overtaken_by(&closed), None);
        let probe = op(OpKind::Probe { lease_id: "x".to_owned(), holder: "web-2".to_owned(), lease_ms: 1 });
        assert_eq!(probe.overtaken_by(&closed), Some(OpResult::Stale));
        assert_eq!(probe.overtaken_by(&leased), Some(OpResult::Wait));
        assert_eq!(probe.overtaken_by(&value(State::HalfOpen, "")), None);
        let free = op(OpKind::Free { lease_id: lease() });
        assert_eq!(free.overtaken_by(&leased), None);
        assert_eq!(free.overtaken_by(&closed), Some(OpResult::Stale));
        let forced = Value { forced: Some(Override::ForcedOpen), ..leased.clone() };
        for other in [forced, value(State::HalfOpen, "web-2/1"), value(State::Open, &lease())] {
            assert_eq!(free.overtaken_by(&other), Some(OpResult::Stale), "{other}");
        }
        assert_eq!(op(OpKind::Reset { expected: None }).overtaken_by(&closed), None);
    }
}
