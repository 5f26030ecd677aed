//! What the fleet's script does with one breaker's ops (`daemon/src/fleet/apply.lua`), in the plainest form. The script
//! itself is tested against Redis (`tests/redis/script`).

use super::*;
use crate::fleet::Value;

#[derive(Default)]
pub(super) struct Judge {
    pub(super) value: Value,
}

/// Redis's clock is this one, in milliseconds.
fn ms(at: Mono) -> u64 {
    at.0 / 1_000_000
}

impl Judge {
    pub(super) fn judge(&mut self, now: Mono, kind: &OpKind, because: &Because) -> OpResult {
        let before = self.value.clone();
        let result = self.apply(ms(now), kind);
        if result != OpResult::Ok {
            self.value = before;
            return result;
        }
        self.value.version += 1;
        let lease_only = matches!(kind, OpKind::Probe { .. } | OpKind::Renew { .. } | OpKind::Free { .. });
        let partial = matches!(kind, OpKind::Pok { .. }) && self.value.state != State::Closed;
        if !lease_only && !partial && !matches!(kind, OpKind::Extend { .. }) {
            (self.value.by, self.value.why) = (because.by.clone(), because.why.clone());
        }
        result
    }

    fn apply(&mut self, now: u64, kind: &OpKind) -> OpResult {
        let value = &mut self.value;
        let leased = |value: &Value, id: &str| {
            value.forced.is_none() && value.state == State::HalfOpen && value.lease_id == id && !id.is_empty()
        };
        match kind {
            OpKind::Trip { expected, duration_ms, step } => {
                if value.forced.is_some() || value.state != State::Closed || *expected < value.version {
                    return OpResult::Stale;
                }
                open(value, now, *duration_ms);
                value.step = *step;
            }
            OpKind::Probe { lease_id, holder, lease_ms } => {
                let held = value.state == State::HalfOpen && now < value.lease_until_ms;
                match value.state {
                    _ if value.forced.is_some() => return OpResult::Stale,
                    State::Closed => return OpResult::Stale,
                    State::Open if now < value.until_ms => return OpResult::Wait,
                    _ if held => return OpResult::Wait,
                    State::Open => value.successes = 0,
                    State::HalfOpen => {}
                }
                value.state = State::HalfOpen;
                (value.lease_id, value.holder) = (lease_id.clone(), holder.clone());
                value.lease_until_ms = now + lease_ms;
            }
            OpKind::Renew { lease_id, lease_ms } if leased(value, lease_id) => value.lease_until_ms = now + lease_ms,
            OpKind::Free { lease_id } if leased(value, lease_id) => no_lease(value),
            OpKind::Pok { lease_id, successes, needed } if leased(value, lease_id) => {
                value.successes += successes;
                if value.successes >= *needed {
                    let kept = (value.duration_ms.max(1), value.step);
                    close(value);
                    (value.duration_ms, value.step) = kept;
                }
                no_lease(value);
            }
            OpKind::Pfail { lease_id, duration_ms } if leased(value, lease_id) => {
                open(value, now, *duration_ms);
                value.step += 1;
            }
            OpKind::Extend { expected, duration_ms } => {
                if value.forced.is_some() || value.state != State::Open || *expected != value.version {
                    return OpResult::Stale;
                }
                value.until_ms = value.until_ms.max(now + duration_ms);
                value.duration_ms = value.duration_ms.max(*duration_ms);
            }
            OpKind::Reset { .. } => close(value),
            OpKind::Force { to, duration_ms } => {
                value.forced = Some(*to);
                value.forced_until_ms = duration_ms.map_or(0, |ms| now + ms);
            }
            OpKind::Release { .. } => value.forced = None,
            OpKind::Renew { .. } | OpKind::Free { .. } | OpKind::Pok { .. } | OpKind::Pfail { .. } => {
                return OpResult::Stale;
            }
        }
        OpResult::Ok
    }

    pub(super) fn seen(&self, now: Mono) -> Seen {
        let (value, whole) = (self.value.clone(), self.value.duration_ms);
        let left = |at: u64| at.saturating_sub(ms(now));
        Seen {
            name: Name::parse("openai").unwrap(),
            until: now.after_ms(left(value.until_ms).min(whole)),
            lease_until: now.after_ms(left(value.lease_until_ms)),
            forced_until: (value.forced_until_ms > 0).then(|| now.after_ms(left(value.forced_until_ms))),
            value,
        }
    }
}

fn no_lease(value: &mut Value) {
    value.lease_id.clear();
    value.holder.clear();
    value.lease_until_ms = 0;
}

fn open(value: &mut Value, now: u64, duration_ms: u64) {
    (value.state, value.duration_ms, value.until_ms, value.successes) =
        (State::Open, duration_ms, now + duration_ms, 0);
    no_lease(value);
}

fn close(value: &mut Value) {
    (value.state, value.duration_ms, value.until_ms, value.successes, value.step) = (State::Closed, 0, 0, 0, 0);
    no_lease(value);
}
