//! The parts that several messages share: what a breaker is, rows of pages, policies, commands.

use serde::{Deserialize, Serialize};

use crate::state::{AuthErrors, Fallback, Mode, OnQuota, Override, State};

/// What a breaker is, to whoever may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// What is shown: an override's state, else the fleet's or the host's.
    pub state: State,
    /// An operator's word over the state.
    pub forced: Option<Override>,
    /// Whether it acts.
    pub mode: Mode,
    /// The operator who set this host's mode; empty where the configuration says it.
    pub mode_by: String,
    /// Why the operator did.
    pub mode_why: String,
    /// The daemon's count of its changes.
    pub generation: u64,
    /// When it will let a probe through, in milliseconds from now; zero when it would now or is closed.
    pub retry_after_ms: Option<u64>,
    /// Since when it is so, in milliseconds before now.
    pub age_ms: u64,
    /// Who made it so: `chat-api[4211]@web-1`.
    pub by: String,
    /// Why: `3 consecutive failures, last http-401`.
    pub why: String,
    /// True when only this host holds it so.
    pub host_only: bool,
}

/// Where a breaker stands on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The slot's number.
    pub slot: u32,
    /// Which of the slot's tenants it is; while another has the slot, the word there says so.
    pub incarnation: u16,
}

/// One breaker in a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerRow {
    /// The name.
    pub name: String,
    /// What it is.
    pub view: View,
    /// The host's run of failures, or the largest of a worker, whichever is more.
    pub failures: u64,
    /// Failures since the daemon started.
    pub failures_total: u64,
    /// Workers that have registered it.
    pub workers: u32,
    /// Probes out.
    pub permits_out: u32,
    /// Probes that succeeded in this half-open.
    pub successes: u32,
    /// How long the cooldown is, or was that half-open follows, in milliseconds; zero when closed. Beneath an override
    /// too.
    pub cooldown_ms: u64,
    /// The backoff's step: how often it has reopened, or tripped again too soon, since it was last well.
    pub step: u32,
}

/// One worker's lane in a description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneRow {
    /// The worker's number.
    pub worker: u64,
    /// `service[pid]`.
    pub label: String,
    /// This lane's failures, as in [`Observed`](crate::message::Observed).
    pub failures: u64,
    /// Successes since it registered.
    pub successes_total: u64,
    /// Failures since it registered.
    pub failures_total: u64,
    /// The last failure.
    pub last_failure: Option<LastFailure>,
}

/// One worker in a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// The worker's number.
    pub worker: u64,
    /// `service[pid]`.
    pub label: String,
    /// Its user id.
    pub uid: u32,
    /// Since when it is connected, in milliseconds.
    pub age_ms: u64,
    /// Its connections.
    pub connections: u32,
    /// Breakers that it has registered.
    pub breakers: u32,
    /// Probes that it holds.
    pub permits_out: u32,
}

/// The last failure of a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Its kind.
    pub kind: String,
    /// Its detail.
    pub detail: String,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// A policy or a part of one: what is absent is decided elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyPatch {
    /// Failures in a row of one worker that trip, one more of all together; 0 for never.
    pub consecutive_failures: Option<u32>,
    /// The part of calls that failed, 0 to 1, at which it trips.
    pub failure_rate: Option<Rules>,
    /// The number of calls that failed at which it trips.
    pub failure_count: Option<Rules>,
    /// The part of calls that were slow, 0 to 1, at which it trips.
    pub slow_rate: Option<Rules>,
    /// The number of calls that were slow at which it trips.
    pub slow_count: Option<Rules>,
    /// The first cooldown, in milliseconds.
    pub cooldown_first_ms: Option<u64>,
    /// By what each further cooldown grows.
    pub cooldown_factor: Option<f64>,
    /// The longest cooldown, in milliseconds.
    pub cooldown_max_ms: Option<u64>,
    /// The part of a cooldown that chance may add or take, 0 to 0.5.
    pub cooldown_jitter: Option<f64>,
    /// How long after a recovery the backoff is forgotten, in milliseconds.
    pub cooldown_forget_ms: Option<u64>,
    /// Probes out at a time.
    pub probe_permits: Option<u32>,
    /// Successful probes that recover.
    pub probe_successes: Option<u32>,
    /// In place of `probe_successes`: so many probes are made, and their successes decide.
    pub probe_rate: Option<ProbeRate>,
    /// How long a worker may keep a probe, in milliseconds.
    pub probe_max_ms: Option<u64>,
    /// How long half-open may last undecided, in milliseconds.
    pub probe_period_ms: Option<u64>,
    /// `HOST:PORT` that the daemon itself connects to as a probe, so that no call need pay; empty for none. Only a
    /// daemon's own configuration may say it.
    pub probe_connect: Option<String>,
    /// What slower calls are called slow, in milliseconds.
    pub slow_after_ms: Option<u64>,
    /// A cancelled call that was out for longer is a failure, in milliseconds.
    pub hung_after_ms: Option<u64>,
    /// What 401 and 403 count as.
    pub auth_errors: Option<AuthErrors>,
    /// What becomes of a call on a name that no quota has room for.
    pub on_quota: Option<OnQuota>,
    /// Whether it acts.
    pub mode: Option<Mode>,
    /// What a client does without a daemon.
    pub fallback: Option<Fallback>,
}

/// A trip rule over the last calls, over a time, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Over the last calls.
    pub calls: Option<CallsRule>,
    /// Over a time that ends now.
    pub time: Option<TimeRule>,
}

/// A trip rule over the last so many calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallsRule {
    /// The part of the calls, 0 to 1, or their number.
    pub at_least: f64,
    /// How many calls are looked at.
    pub of_calls: u32,
    /// Before so many it never trips.
    pub min_calls: u32,
}

/// A trip rule over the calls of so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeRule {
    /// The part of the calls, 0 to 1, or their number.
    pub at_least: f64,
    /// Before so many calls within the time it never trips.
    pub min_calls: u32,
    /// The time, in milliseconds.
    pub within_ms: u64,
}

/// Half-open that is decided by a number of probes together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRate {
    /// The part of the probes that must succeed, 0 to 1.
    pub at_least: f64,
    /// How many probes are made; 0 for `probe_successes` in its place.
    pub of_probes: u32,
}

/// What an operator can do to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Change to closed, everywhere; evidence is cleared.
    Reset,
    /// Lay an override over the state.
    Force {
        /// Which.
        to: Override,
        /// For how long, in milliseconds; none until released.
        for_ms: Option<u64>,
    },
    /// Take the override away.
    Release,
    /// Set this host's mode.
    Mode {
        /// Which; none for what the configuration says.
        to: Option<Mode>,
    },
}
