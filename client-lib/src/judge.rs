//! From what a daemon answered, or did not, to what the caller may do.

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::limits::RETRY_AFTER_MAX;
use breakerd_proto::{Code, Fallback, Mode, Mono, RejectReason, State, Verdict};

use crate::attachment::Attachment;
use crate::board::{Says, Spot};
use crate::dialogue::Reply;
use crate::fallback::Alone;
use crate::known::{self, Known};
use crate::permit::{From, Permit, Rejected};

/// When to ask again after an answer that did not come.
const NO_ANSWER_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer on a name that no quota has room for, where its policy says so.
const NO_ROOM: Verdict =
    Verdict::Reject { generation: 0, state: State::Closed, reason: RejectReason::Quota, retry_after_ms: Some(1000) };

/// What decides beside the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Whether this process's breakers act.
    pub(crate) mode: Mode,
    /// What the process was told to do without a daemon, whatever the policies say.
    pub(crate) fallback: Option<Fallback>,
}

/// One call that wants to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) rule: Rule,
    pub(crate) known: &'a Arc<Known>,
    /// When the caller asked.
    pub(crate) asked: Mono,
}

/// The same with those who can judge it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) attachment: &'a Arc<Attachment>,
    pub(crate) alone: &'a Arc<Alone>,
}

impl Call<'_> {
    /// The answer, if nobody need be asked: the process is switched off, or the board has it.
    pub(crate) fn at_once(&self) -> Option<Result<Permit, Rejected>> {
        if self.rule.mode == Mode::Off {
            return Some(Ok(self.unguarded()));
        }
        self.by_board(self.asked, self.known.spot()?)
    }

    fn by_board(&self, now: Mono, spot: &'static Spot) -> Option<Result<Permit, Rejected>> {
        let Says::Verdict(verdict, timed) = spot.says(now) else { return None };
        // The words are read once for each change.
        if let Verdict::Reject { generation, state, .. } = verdict
            && !self.known.is_told((spot.ticket().instance, generation, state))
            && let Some(sight) = spot.sight()
        {
            self.known.handle_sight(spot.ticket().instance, &sight);
        }
        Some(self.obey(now, &verdict, From::Board(spot, timed)))
    }

    /// A call that nobody judges.
    pub(crate) fn unguarded(&self) -> Permit {
        self.permit(self.asked, From::Nobody, (0, 0))
    }

    fn obey(&self, now: Mono, verdict: &Verdict, from: From) -> Result<Permit, Rejected> {
        let shadow = self.rule.mode == Mode::Shadow;
        match *verdict {
            // A shadow sends nothing: its outcomes stay out of everyone's books.
            Verdict::Admit { generation } if shadow => Ok(self.permit(now, From::Nobody, (generation, 0))),
            Verdict::Admit { generation } => Ok(self.permit(now, from, (generation, 0))),
            Verdict::Probe { generation, permit } => Ok(self.permit(now, from, (generation, permit))),
            Verdict::Reject { reason, .. } if shadow && reason != RejectReason::Forced => Ok(self.unguarded()),
            Verdict::Reject { state, reason, retry_after_ms, .. } => {
                Err(self.rejected((state, reason), retry_after_ms.map(Duration::from_millis)))
            }
        }
    }

    /// A call begins when it is admitted: what it waited for the daemon is none of its provider's slowness.
    fn permit(&self, began: Mono, from: From, of: (u64, u64)) -> Permit {
        Permit::new(Arc::clone(self.known), from, of, began)
    }

    fn rejected(&self, why: (State, RejectReason), after: Option<Duration>) -> Rejected {
        let why_so = self.known.why(why.0).unwrap_or_default();
        let after = after.map(|after| after.min(RETRY_AFTER_MAX));
        let after = if why.1 == RejectReason::Forced { after } else { after.or(Some(NO_ANSWER_RETRY_AFTER)) };
        Rejected::new(self.known.name.clone(), why, after, why_so)
    }
}

impl Case<'_> {
    /// The caller's answer. `now` is the moment of the reply.
    pub(crate) fn decide(&self, now: Mono, reply: Reply) -> Result<Permit, Rejected> {
        match reply {
            Reply::Verdict(verdict, ticket) => {
                self.call.obey(now, &verdict, From::Daemon(Arc::clone(self.attachment), ticket))
            }
            Reply::Silent => self.as_last_seen(now),
            Reply::Absent => self.alone(now),
            Reply::Refused(Code::QuotaRejects, _) => self.call.obey(now, &NO_ROOM, From::Nobody),
            // The daemon's books are full, and our limits must not become the outage (I7).
            _ => Ok(self.call.unguarded()),
        }
    }

    /// The daemon is slow. Asking the fallback would let a probe of every process through, so what its board shows stands,
    /// or what was last seen: closed admits, a running cooldown rejects, and what only the daemon can grant is not granted.
    fn as_last_seen(&self, now: Mono) -> Result<Permit, Rejected> {
        let spot = self.call.known.withdrawn();
        if let Some(judged) = spot.and_then(|spot| self.call.by_board(now, spot)) {
            return judged;
        }
        let (Some(seen), Some(ticket)) = (self.call.known.seen(), self.attachment.ticket()) else {
            return self.alone(now);
        };
        if seen.state == State::Closed {
            let verdict = Verdict::Admit { generation: seen.generation };
            return self.call.obey(now, &verdict, From::Daemon(Arc::clone(self.attachment), ticket));
        }
        let (reason, after) = match seen.rejects(now) {
            Some(reason) => (reason, seen.left(now)),
            None => (RejectReason::NoAnswer, Some(NO_ANSWER_RETRY_AFTER)),
        };
        let verdict = Verdict::Reject {
            generation: seen.generation,
            state: seen.state,
            reason,
            retry_after_ms: after.map(breakerd_proto::clock::ms_up),
        };
        self.call.obey(now, &verdict, From::Nobody)
    }

    fn alone(&self, now: Mono) -> Result<Permit, Rejected> {
        let (verdict, spell) = self.alone.query(now, self.call.known, self.fallback());
        let judged = self.call.obey(now, &verdict, From::Alone(Arc::clone(self.alone), spell));
        judged.map_err(|no| {
            let sight = self.alone.observe(now, self.call.known).filter(|sight| sight.view.state == no.state);
            let why = sight.map(|sight| known::sentence(&sight.view.by, &sight.view.why)).unwrap_or_default();
            Rejected { why, ..no }
        })
    }

    /// What to do without a daemon: as the process was told, else by the breaker's policy.
    pub(crate) fn fallback(&self) -> Fallback {
        let by_policy = || self.call.known.policy().and_then(|policy| policy.fallback);
        self.call.rule.fallback.or_else(by_policy).unwrap_or_default()
    }
}
