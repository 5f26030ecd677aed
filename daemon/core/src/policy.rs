//! The rule from evidence to trip, and what follows a trip.

use std::fmt;
use std::time::Duration;

use breakerd_proto::message::{CallsRule, PolicyPatch, ProbeRate, Rules, TimeRule};
use breakerd_proto::{AuthErrors, Fallback, Mode, OnQuota, clock, limits};

use crate::cooldown::Cooldown;

/// The rule from evidence to trip, and what follows a trip: whole, every field decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What trips.
    pub trip: Trip,
    /// How long open lasts.
    pub cooldown: Cooldown,
    /// How half-open tries.
    pub probe: Probe,
    /// Slower calls are called slow.
    pub slow_after: Option<Duration>,
    /// A cancelled call that was out for longer is a failure.
    pub hung_after: Duration,
    /// Whether the breaker acts.
    pub mode: Mode,
    /// What a client does without a daemon.
    pub fallback: Fallback,
    /// What 401 and 403 count as.
    pub auth_errors: AuthErrors,
    /// What becomes of a call on a name that no quota has room for.
    pub on_quota: OnQuota,
}

/// Trip rules: any of them trips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    /// Failures in a row of one worker; of the host's workers together it takes one more ([`Trip::by_pooled_run`]).
    /// 0 for never.
    pub consecutive_failures: u32,
    /// The part of the calls that failed.
    pub failure_rate: Rules,
    /// The number of calls that failed.
    pub failure_count: Rules,
    /// The part of the calls that were slow.
    pub slow_rate: Rules,
    /// The number of calls that were slow.
    pub slow_count: Rules,
}

/// How half-open tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Probes out at a time, at least 1.
    pub permits: u32,
    /// Successes that recover, at least 1.
    pub successes: u32,
    /// In place of `successes`: so many probes decide together.
    pub rate: Option<ProbeRate>,
    /// How long a worker may keep a probe.
    pub max: Duration,
    /// How long half-open may last undecided before it reopens.
    pub period: Duration,
    /// `HOST:PORT` that the daemon itself connects to as a probe.
    pub connect: Option<String>,
}

impl Default for Policy {
    /// Five of one worker in a row, or half of at least twenty calls within 30 s.
    fn default() -> Self {
        let half = TimeRule { at_least: 0.5, min_calls: 20, within_ms: 30_000 };
        Self {
            trip: Trip {
                consecutive_failures: 5,
                failure_rate: Rules { calls: None, time: Some(half) },
                failure_count: Rules::default(),
                slow_rate: Rules::default(),
                slow_count: Rules::default(),
            },
            cooldown: Cooldown::default(),
            probe: Probe {
                permits: 1,
                successes: 1,
                rate: None,
                max: Duration::from_secs(120),
                period: Duration::from_secs(600),
                connect: None,
            },
            slow_after: None,
            hung_after: Duration::from_secs(10),
            mode: Mode::On,
            fallback: Fallback::Local,
            auth_errors: AuthErrors::Ignored,
            on_quota: OnQuota::Admit,
        }
    }
}

impl Policy {
    /// This policy with every field that the patch has.
    #[must_use]
    pub fn patched(&self, patch: &PolicyPatch) -> Self {
        let ms = |ms: Option<u64>, or: Duration| ms.map_or(or, Duration::from_millis);
        Self {
            trip: self.trip.patched(patch),
            cooldown: Cooldown {
                first: ms(patch.cooldown_first_ms, self.cooldown.first),
                factor: patch.cooldown_factor.unwrap_or(self.cooldown.factor),
                max: ms(patch.cooldown_max_ms, self.cooldown.max),
                jitter: patch.cooldown_jitter.unwrap_or(self.cooldown.jitter),
                forget: ms(patch.cooldown_forget_ms, self.cooldown.forget),
            },
            probe: self.probe.patched(patch),
            slow_after: patch.slow_after_ms.map(Duration::from_millis).or(self.slow_after),
            hung_after: ms(patch.hung_after_ms, self.hung_after),
            mode: patch.mode.unwrap_or(self.mode),
            fallback: patch.fallback.unwrap_or(self.fallback),
            auth_errors: patch.auth_errors.unwrap_or(self.auth_errors),
            on_quota: patch.on_quota.unwrap_or(self.on_quota),
        }
    }

    /// The policy as a patch that decides every field; durations in whole milliseconds.
    #[must_use]
    pub fn to_patch(&self) -> PolicyPatch {
        let ms = |d: Duration| Some(clock::ms_up(d));
        PolicyPatch {
            consecutive_failures: Some(self.trip.consecutive_failures),
            failure_rate: Some(self.trip.failure_rate),
            failure_count: Some(self.trip.failure_count),
            slow_rate: Some(self.trip.slow_rate),
            slow_count: Some(self.trip.slow_count),
            cooldown_first_ms: ms(self.cooldown.first),
            cooldown_factor: Some(self.cooldown.factor),
            cooldown_max_ms: ms(self.cooldown.max),
            cooldown_jitter: Some(self.cooldown.jitter),
            cooldown_forget_ms: ms(self.cooldown.forget),
            probe_permits: Some(self.probe.permits),
            probe_successes: Some(self.probe.successes),
            probe_rate: self.probe.rate,
            probe_max_ms: ms(self.probe.max),
            probe_period_ms: ms(self.probe.period),
            probe_connect: self.probe.connect.clone(),
            slow_after_ms: self.slow_after.and_then(ms),
            hung_after_ms: ms(self.hung_after),
            mode: Some(self.mode),
            fallback: Some(self.fallback),
            auth_errors: Some(self.auth_errors),
            on_quota: Some(self.on_quota),
        }
    }

    /// Checks what no field can tell by itself.
    ///
    /// # Errors
    /// A rule about slow calls where nothing says what is slow.
    pub fn check(&self) -> Result<(), BadPolicy> {
        let slow = [("trip.slow_rate", self.trip.slow_rate), ("trip.slow_count", self.trip.slow_count)];
        match slow.iter().find(|(_, rules)| *rules != Rules::default()) {
            Some((field, _)) if self.slow_after.is_none() => Err(BadPolicy::SlowWithoutBound { field }),
            _ => Ok(()),
        }
    }
}

impl Trip {
    /// Whether a run of one worker's failures trips.
    pub(crate) fn by_own_run(&self, failures: u32) -> bool {
        self.consecutive_failures > 0 && failures >= self.consecutive_failures
    }

    /// Whether a run of the host's workers together trips, whoever of them failed.
    ///
    /// It takes one failure more than one worker's own. The pooled run mixes independent calls, so chance strings failures
    /// together as often as there are calls: with 2 % of errors one more makes such a coincidence fifty times rarer, and it
    /// costs an outage one call. A run that is all one worker's has tripped by then.
    pub(crate) fn by_pooled_run(&self, failures: u32) -> bool {
        self.consecutive_failures > 0 && failures > self.consecutive_failures
    }

    fn patched(&self, patch: &PolicyPatch) -> Self {
        Self {
            consecutive_failures: patch.consecutive_failures.unwrap_or(self.consecutive_failures),
            failure_rate: patch.failure_rate.unwrap_or(self.failure_rate),
            failure_count: patch.failure_count.unwrap_or(self.failure_count),
            slow_rate: patch.slow_rate.unwrap_or(self.slow_rate),
            slow_count: patch.slow_count.unwrap_or(self.slow_count),
        }
    }
}

impl Probe {
    fn patched(&self, patch: &PolicyPatch) -> Self {
        let ms = |ms: Option<u64>, or: Duration| ms.map_or(or, Duration::from_millis);
        let connect = match patch.probe_connect.as_deref() {
            None => self.connect.clone(),
            Some("") => None,
            Some(target) => Some(target.to_owned()),
        };
        Self {
            permits: patch.probe_permits.unwrap_or(self.permits),
            successes: patch.probe_successes.unwrap_or(self.successes),
            rate: patch.probe_rate.map_or(self.rate, |rate| (rate.of_probes > 0).then_some(rate)),
            max: ms(patch.probe_max_ms, self.max),
            period: ms(patch.probe_period_ms, self.period),
            connect,
        }
    }
}

/// The longest duration of a policy, in milliseconds: a day.
const DAY_MS: u64 = 86_400_000;
/// The shortest time that a trip rule may look at, in milliseconds.
const WITHIN_MS_MIN: u64 = 100;
/// The largest count of a policy.
const COUNT_MAX: u64 = 1_000_000;
/// The most probes of a policy.
const PROBES_MAX: u64 = 1000;

/// A trip rule's keys as complaints name them, and whether it is a rate.
struct RuleKeys {
    rule: &'static str,
    of_calls: &'static str,
    within: &'static str,
    is_rate: bool,
}

macro_rules! rule_keys {
    ($rule:literal, $is_rate:literal) => {
        RuleKeys {
            rule: $rule,
            of_calls: concat!($rule, ".of_calls"),
            within: concat!($rule, ".within (ms)"),
            is_rate: $is_rate,
        }
    };
}

/// Checks a patch's values against their bounds.
///
/// # Errors
/// The first value that is out of its bounds, with the bounds.
pub fn check_patch(patch: &PolicyPatch) -> Result<(), BadPolicy> {
    let ms = |field: &'static str, value: Option<u64>| between(field, value, 1, DAY_MS);
    between("trip.consecutive_failures", patch.consecutive_failures.map(u64::from), 0, COUNT_MAX)?;
    check_rules(&rule_keys!("trip.failure_rate", true), patch.failure_rate)?;
    check_rules(&rule_keys!("trip.failure_count", false), patch.failure_count)?;
    check_rules(&rule_keys!("trip.slow_rate", true), patch.slow_rate)?;
    check_rules(&rule_keys!("trip.slow_count", false), patch.slow_count)?;
    ms("cooldown.first (ms)", patch.cooldown_first_ms)?;
    ms("cooldown.max (ms)", patch.cooldown_max_ms)?;
    between("cooldown.forget (ms)", patch.cooldown_forget_ms, 0, DAY_MS)?;
    between("probe.permits", patch.probe_permits.map(u64::from), 1, PROBES_MAX)?;
    between("probe.successes", patch.probe_successes.map(u64::from), 1, PROBES_MAX)?;
    if let Some(rate) = patch.probe_rate.filter(|rate| rate.of_probes > 0) {
        between("probe.rate.of_probes", Some(rate.of_probes.into()), 1, PROBES_MAX)?;
        check_rate("probe.rate", rate.at_least)?;
    }
    ms("probe.max (ms)", patch.probe_max_ms)?;
    ms("probe.period (ms)", patch.probe_period_ms)?;
    ms("slow_after (ms)", patch.slow_after_ms)?;
    ms("hung_after (ms)", patch.hung_after_ms)?;
    if let Some(target) = patch.probe_connect.as_ref().filter(|target| !target.is_empty() && !is_target(target)) {
        return Err(BadPolicy::Connect(target.clone()));
    }
    match (patch.cooldown_factor, patch.cooldown_jitter) {
        (Some(factor), _) if !(1.0..=100.0).contains(&factor) => Err(BadPolicy::Factor(factor)),
        (_, Some(jitter)) if !(0.0..=0.5).contains(&jitter) => Err(BadPolicy::Jitter(jitter)),
        _ => Ok(()),
    }
}

fn between(field: &'static str, value: Option<u64>, least: u64, most: u64) -> Result<(), BadPolicy> {
    match value {
        Some(value) if value < least || value > most => Err(BadPolicy::OutOfBounds { field, value, least, most }),
        _ => Ok(()),
    }
}

fn check_rules(keys: &RuleKeys, rules: Option<Rules>) -> Result<(), BadPolicy> {
    let Some(rules) = rules else { return Ok(()) };
    let (field, is_rate) = (keys.rule, keys.is_rate);
    if let Some(CallsRule { at_least, of_calls, min_calls }) = rules.calls {
        between(keys.of_calls, Some(of_calls.into()), 1, limits::WINDOW_CALLS_MAX.into())?;
        if min_calls == 0 || min_calls > of_calls {
            return Err(BadPolicy::MinCalls { field, min_calls, of_calls });
        }
        check_threshold(field, is_rate, at_least)?;
        if !is_rate && at_least > f64::from(of_calls) {
            return Err(BadPolicy::CountOverCalls { field, at_least, of_calls });
        }
    }
    if let Some(TimeRule { at_least, min_calls, within_ms }) = rules.time {
        between(keys.within, Some(within_ms), WITHIN_MS_MIN, DAY_MS)?;
        between(keys.of_calls, Some(min_calls.into()), 1, COUNT_MAX)?;
        check_threshold(field, is_rate, at_least)?;
    }
    Ok(())
}

fn check_threshold(field: &'static str, is_rate: bool, at_least: f64) -> Result<(), BadPolicy> {
    if is_rate {
        return check_rate(field, at_least);
    }
    #[allow(clippy::cast_precision_loss, reason = "a constant that a double holds exactly")]
    let most = COUNT_MAX as f64;
    let whole = at_least.fract() == 0.0 && (1.0..=most).contains(&at_least);
    if whole { Ok(()) } else { Err(BadPolicy::Count { field, value: at_least }) }
}

fn check_rate(field: &'static str, value: f64) -> Result<(), BadPolicy> {
    if value > 0.0 && value <= 1.0 { Ok(()) } else { Err(BadPolicy::Rate { field, value }) }
}

/// `HOST:PORT`, with brackets around a numeric IPv6 host (RFC 3986, 3.2.2).
fn is_target(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_');
    let numeric = |host: &str| host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
    let host_is_one = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => !inner.is_empty() && numeric(inner),
        None => !host.is_empty() && named(host),
    };
    text.len() <= limits::PROBE_CONNECT_BYTES_MAX && host_is_one && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum BadPolicy {
    /// A number out of its bounds.
    OutOfBounds {
        /// The key.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What is allowed at least.
        least: u64,
        /// What is allowed at most.
        most: u64,
    },
    /// `cooldown.factor` is not within 1 to 100.
    Factor(f64),
    /// `cooldown.jitter` is not within 0 to 0.5.
    Jitter(f64),
    /// A rate that is no part of a whole.
    Rate {
        /// The key.
        field: &'static str,
        /// What was given.
        value: f64,
    },
    /// A count that is no whole number, or too large.
    Count {
        /// The key.
        field: &'static str,
        /// What was given.
        value: f64,
    },
    /// A minimum of calls that the window can never hold, or none.
    MinCalls {
        /// The key.
        field: &'static str,
        /// What was given.
        min_calls: u32,
        /// The calls of the window.
        of_calls: u32,
    },
    /// A count that the window can never hold.
    CountOverCalls {
        /// The key.
        field: &'static str,
        /// What was given.
        at_least: f64,
        /// The calls of the window.
        of_calls: u32,
    },
    /// A rule about slow calls where nothing says what is slow.
    SlowWithoutBound {
        /// The key.
        field: &'static str,
    },
    /// `probe.connect` is no `HOST:PORT`.
    Connect(String),
}

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { field, value, least, most } => {
                write!(f, "{field} is {value}; it may be {least} to {most}")
            }
            Self::Factor(value) => write!(f, "cooldown.factor is {value}; it may be 1 to 100"),
            Self::Jitter(value) => write!(f, "cooldown.jitter is {value}; it may be 0 to 0.5"),
            Self::Rate { field, value } => {
                write!(f, "{field}.at_least is {value}; a rate is above 0 and at most 1, as 0.5 for half of the calls")
            }
            Self::Count { field, value } => {
                write!(f, "{field}.at_least is {value}; a count is a whole number, 1 to {COUNT_MAX}")
            }
            Self::MinCalls { field, min_calls, of_calls } => {
                write!(f, "{field}.min_calls is {min_calls} of {of_calls} calls; it may be 1 to {of_calls}")
            }
            Self::CountOverCalls { field, at_least, of_calls } => {
                write!(f, "{field} needs {at_least} of {of_calls} calls and would never trip; raise of_calls")
            }
            Self::SlowWithoutBound { field } => {
                write!(f, "{field} needs slow_after, which says what is slow: slow_after = \"2s\"")
            }
            Self::Connect(given) => {
                write!(f, "probe.connect is {given:?}; it takes HOST:PORT, as \"api.openai.com:443\"")
            }
        }
    }
}

impl std::error::Error for BadPolicy {}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "policy_tests.rs"]
mod tests;
