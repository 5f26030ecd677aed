//! What an admitted call holds, and what a refused one gets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::limits::PROBING_RETRY_AFTER_MIN;
use breakerd_proto::{Failure, Mono, Name, Outcome, RejectReason, State};

use crate::attachment::Attachment;
use crate::board::Spot;
use crate::classify::{HUNG, Terms};
use crate::dialogue::Ticket;
use crate::fallback::Alone;
use crate::fork;
use crate::known::Known;
use crate::session::Settled;

/// Held by one admitted call and settled once: by [`Permit::settle`], or when it is dropped, as abandoned.
///
/// What the tokio client admitted is dropped with a future that is cancelled, by an outer time-out for example. If the call
/// was out for longer than the policy's `hung_after` by then, it has failed: its kind is `hung`. Else a provider that takes
/// every call and answers none would never trip.
///
/// It belongs to the process that got it. In a child that was forked meanwhile it settles nothing; the parent's own copy
/// does.
#[must_use = "a permit that is dropped at once tells the daemon that the call was abandoned"]
#[derive(Debug)]
pub struct Permit {
    known: Arc<Known>,
    from: From,
    generation: u64,
    probe: u64,
    began: Mono,
    /// When a stream's first item came, where the policy judges slowness.
    answered: Option<Mono>,
    life: u64,
    /// Whether its caller can be cancelled, so that a late drop is a hung call.
    cancellable: bool,
    settled: bool,
}

/// Who admitted a call, and so who is told how it went.
#[derive(Clone, Debug)]
pub(crate) enum From {
    /// The daemon, over this connection.
    Daemon(Arc<Attachment>, Ticket),
    /// The daemon's board, and whether the policy judges slowness.
    Board(&'static Spot, bool),
    /// This process, in this spell without a daemon.
    Alone(Arc<Alone>, u64),
    /// Nobody judged: the breaker is off here, or the daemon's books are full.
    Nobody,
}

/// Why a call may not be made, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The breaker, with the process's prefix.
    pub breaker: Name,
    /// What it is.
    pub state: State,
    /// Why this call is refused.
    pub reason: RejectReason,
    /// When to try again. None only under a force without end; at least 1 s while a probe is out.
    pub retry_after: Option<Duration>,
    /// Why it is so and who made it so, for people; empty where nobody has told yet.
    pub why: String,
}

impl Permit {
    pub(crate) fn new(known: Arc<Known>, from: From, (generation, probe): (u64, u64), began: Mono) -> Self {
        let life = fork::life();
        Self { known, from, generation, probe, began, answered: None, life, cancellable: false, settled: false }
    }

    /// The same for a caller that can be cancelled.
    #[cfg(feature = "tokio")]
    pub(crate) fn cancellable(mut self) -> Self {
        self.cancellable = true;
        self
    }

    /// The breaker, with the process's prefix.
    #[must_use]
    pub fn breaker(&self) -> &Name {
        &self.known.name
    }

    /// Whether this call is the probe that decides about recovery.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe != 0
    }

    /// The breaker's generation when the call was admitted. Closed-state permits of one generation are alike.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How long the call has been out.
    #[must_use]
    pub fn out_for(&self) -> Duration {
        Mono::now().since(self.began)
    }

    /// A cancelled call that was out for longer is to be reported as a failure `hung`, by the policy that the daemon last
    /// sent, else the one in code, else the built-in one.
    #[must_use]
    pub fn hung_after(&self) -> Duration {
        self.known.hung_after()
    }

    /// A stream's first item has come: whether the call was slow is decided by now, however long the rest is read.
    pub fn answer(&mut self) {
        if self.answered.is_none() && self.known.slow_after().is_some() {
            self.answered = Some(Mono::now());
        }
    }

    /// On what terms the call is classified.
    #[must_use]
    pub fn terms(&self) -> Terms<'_> {
        Terms::of(&self.known, self.is_probe())
    }

    /// Tells how the call went. A success that took longer than the policy's bound is a slow one whatever is said here.
    pub fn settle(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    /// It worked.
    pub fn succeed(self) {
        self.settle(Outcome::SUCCESS);
    }

    /// It failed by the provider's fault.
    pub fn fail(self, failure: Failure) {
        self.settle(Outcome::Failure(failure));
    }

    /// What a cancelled call is evidence of.
    fn cancelled(&self) -> Outcome {
        if self.out_for() > self.hung_after() { Outcome::failure(HUNG) } else { Outcome::Abandoned }
    }

    fn tell(&mut self, outcome: Outcome) {
        self.settled = true;
        if self.life != fork::life() {
            return;
        }
        if let (From::Board(spot, false), &Outcome::SUCCESS) = (&self.from, &outcome) {
            return spot.succeed(); // no clock is read
        }
        let now = Mono::now();
        let outcome = match (outcome, self.known.slow_after()) {
            (Outcome::SUCCESS, Some(bound)) => {
                Outcome::Success { slow: self.answered.unwrap_or(now).since(self.began) > bound }
            }
            (outcome, _) => outcome,
        };
        match &self.from {
            From::Daemon(attachment, ticket) => {
                let settled = Settled { generation: self.generation, permit: self.probe, at: now, outcome };
                attachment.report(now, &self.known.name, *ticket, settled);
            }
            From::Board(spot, _) if outcome == Outcome::SUCCESS => spot.succeed(),
            From::Board(spot, _) => {
                let settled = Settled { generation: self.generation, permit: 0, at: now, outcome };
                spot.report(now, &self.known.name, settled);
            }
            From::Alone(alone, spell) => {
                alone.report(now, &self.known, *spell, (self.generation, self.probe), &outcome);
            }
            From::Nobody => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.tell(if self.cancellable { self.cancelled() } else { Outcome::Abandoned });
        }
    }
}

impl Rejected {
    pub(crate) fn new(
        breaker: Name,
        (state, reason): (State, RejectReason),
        retry_after: Option<Duration>,
        why: String,
    ) -> Self {
        let least = if state == State::HalfOpen { PROBING_RETRY_AFTER_MIN } else { Duration::ZERO };
        Self { breaker, state, reason, retry_after: retry_after.map(|after| after.max(least)), why }
    }

    /// When to try again. None only under a force without end; at least 1 s while a probe is out.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What a service's own 503 should carry: `Retry-After` in whole seconds, rounded up and spread by a tenth, so that
    /// those who were refused together do not come back together. Empty under a force without end.
    #[must_use]
    pub fn http_headers(&self) -> Vec<(&'static str, String)> {
        let Some(after) = self.retry_after else { return Vec::new() };
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1);
        let spread = seconds.div_ceil(10).saturating_add(1);
        vec![("Retry-After", seconds.saturating_add(crate::identity::random() % spread).to_string())]
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.breaker, self.state)?;
        match self.reason {
            RejectReason::Open => {}
            RejectReason::Probing => f.write_str(", and its probe is out")?,
            RejectReason::Forced => f.write_str(", forced by an operator")?,
            RejectReason::NoAnswer => f.write_str(", and the daemon did not answer in time")?,
            RejectReason::NoDaemon => {
                f.write_str(" as last seen, but there is no daemon and the fallback is `reject`")?
            }
            RejectReason::Quota => f.write_str(", and the daemon's quota is full")?,
        }
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        match self.retry_after {
            Some(after) => write!(f, "; try again in {:.1} s", after.as_secs_f64()),
            None => f.write_str("; until it is released"),
        }
    }
}

impl std::error::Error for Rejected {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rejected(state: State, reason: RejectReason, after_ms: Option<u64>) -> Rejected {
        let name = Name::parse("openai").unwrap();
        Rejected::new(name, (state, reason), after_ms.map(Duration::from_millis), "3 consecutive failures".to_owned())
    }

    #[test]
    fn a_rejection_reads_as_a_sentence() {
        assert_eq!(
            rejected(State::Open, RejectReason::Open, Some(12_340)).to_string(),
            "openai is open: 3 consecutive failures; try again in 12.3 s"
        );
        assert_eq!(
            rejected(State::Open, RejectReason::Forced, None).to_string(),
            "openai is open, forced by an operator: 3 consecutive failures; until it is released"
        );
    }

    #[test]
    fn half_open_asks_for_a_second_at_least() {
        let no = rejected(State::HalfOpen, RejectReason::Probing, Some(3));
        assert_eq!(no.retry_after(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_header_is_rounded_up_and_spread_by_a_tenth() {
        for (ms, least, most) in [(1, 1, 2), (12_001, 13, 15), (100_000, 100, 110)] {
            let headers = rejected(State::Open, RejectReason::Open, Some(ms)).http_headers();
            let seconds: u64 = headers.first().unwrap().1.parse().unwrap();
            assert!((least..=most).contains(&seconds), "{seconds}");
        }
        assert_eq!(rejected(State::Open, RejectReason::Forced, None).http_headers(), Vec::new());
    }
}
