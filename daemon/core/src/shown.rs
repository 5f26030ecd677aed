//! What a breaker shows: views and rows.

use breakerd_proto::clock::ms_up;
use breakerd_proto::message::{BreakerRow, LaneRow, PolicyPatch, View};
use breakerd_proto::{Mono, Override, State, limits};

use crate::WorkerId;
use crate::breaker::Breaker;

impl Breaker {
    /// When to ask again, in milliseconds; none under a force without end.
    pub(crate) fn retry_after_ms(&self, now: Mono) -> Option<u64> {
        if let Some(forced) = &self.forced {
            return match forced.to {
                Override::ForcedClosed => Some(0),
                Override::ForcedOpen => forced.end.map(|end| ms_up(end.left(now))),
            };
        }
        let cell = self.ruling();
        let wait = limits::PROBING_RETRY_AFTER_MIN;
        Some(match cell.state {
            State::Closed => 0,
            State::Open if self.is_active() => ms_up(cell.until.left(now).max(wait)),
            State::Open => ms_up(cell.until.left(now)),
            State::HalfOpen if self.joint.foreign_lease(now) => ms_up(self.joint.lease_until.left(now).max(wait)),
            State::HalfOpen if !self.is_active() && self.has_room() => 0,
            State::HalfOpen => ms_up(wait),
        })
    }

    /// What it is, for whoever may see it.
    pub(crate) fn view(&self, now: Mono) -> View {
        let (since, because) = match &self.forced {
            Some(forced) => (forced.since, &forced.because),
            None => (self.ruling().since, &self.ruling().because),
        };
        let ordered = self.ordered.as_ref().map(|ordered| ordered.because.clone()).unwrap_or_default();
        View {
            state: self.state(),
            forced: self.forced.as_ref().map(|forced| forced.to),
            mode: self.mode(),
            mode_by: ordered.by,
            mode_why: ordered.why,
            generation: self.generation,
            retry_after_ms: self.retry_after_ms(now),
            age_ms: ms_up(now.since(since)),
            by: because.by.clone(),
            why: because.why.clone(),
            host_only: !self.fleet_rules() && self.host.state != State::Closed,
        }
    }

    /// The policy by which it goes, an operator's mode included.
    pub(crate) fn policy_in_force(&self) -> PolicyPatch {
        PolicyPatch { mode: Some(self.mode()), ..self.policy.to_patch() }
    }

    pub(crate) fn row(&self, now: Mono) -> BreakerRow {
        let largest = self.lanes.values().map(|lane| lane.failures).max().unwrap_or(0);
        BreakerRow {
            name: self.name.as_str().to_owned(),
            view: self.view(now),
            failures: largest.max(u64::from(self.window.run())),
            failures_total: self.failures_total,
            workers: u32::try_from(self.lanes.len()).unwrap_or(u32::MAX),
            permits_out: self.permits_out(),
            successes: self.tally().successes,
            cooldown_ms: ms_up(self.ruling().cooldown()),
            step: self.ruling().step,
        }
    }

    pub(crate) fn lane_row(&self, worker: WorkerId, label: &str, now: Mono) -> Option<LaneRow> {
        let lane = self.lanes.get(&worker)?;
        Some(LaneRow {
            worker: worker.0,
            label: label.to_owned(),
            failures: lane.failures,
            successes_total: lane.successes_total,
            failures_total: lane.failures_total,
            last_failure: lane.last_failure(now),
        })
    }
}
