//! A policy in code, from what the Python side has checked and put into the wire's units.

use breakerd_client::{AuthErrors, CallsRule, Fallback, Mode, OnQuota, PolicyPatch, ProbeRate, Rules, TimeRule};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// (at least, of calls, min calls).
type Calls = (f64, u32, u32);
/// (at least, min calls, within milliseconds).
type Time = (f64, u32, u64);

/// The patch that this dictionary spells, by the names of its fields.
pub(crate) fn patch(policy: &Bound<'_, PyDict>) -> PyResult<PolicyPatch> {
    let mut patch = PolicyPatch::default();
    for (field, value) in policy {
        match field.extract::<String>()?.as_str() {
            "consecutive_failures" => patch.consecutive_failures = Some(value.extract()?),
            "failure_rate" => patch.failure_rate = Some(rules(&value)?),
            "failure_count" => patch.failure_count = Some(rules(&value)?),
            "slow_rate" => patch.slow_rate = Some(rules(&value)?),
            "slow_count" => patch.slow_count = Some(rules(&value)?),
            "cooldown_first_ms" => patch.cooldown_first_ms = Some(value.extract()?),
            "cooldown_factor" => patch.cooldown_factor = Some(value.extract()?),
            "cooldown_max_ms" => patch.cooldown_max_ms = Some(value.extract()?),
            "cooldown_jitter" => patch.cooldown_jitter = Some(value.extract()?),
            "cooldown_forget_ms" => patch.cooldown_forget_ms = Some(value.extract()?),
            "probe_permits" => patch.probe_permits = Some(value.extract()?),
            "probe_successes" => patch.probe_successes = Some(value.extract()?),
            "probe_rate" => patch.probe_rate = Some(probe_rate(&value)?),
            "probe_max_ms" => patch.probe_max_ms = Some(value.extract()?),
            "probe_period_ms" => patch.probe_period_ms = Some(value.extract()?),
            "slow_after_ms" => patch.slow_after_ms = Some(value.extract()?),
            "hung_after_ms" => patch.hung_after_ms = Some(value.extract()?),
            "auth_errors" => patch.auth_errors = Some(word(&value, AuthErrors::parse)?),
            "on_quota" => patch.on_quota = Some(word(&value, OnQuota::parse)?),
            "mode" => patch.mode = Some(word(&value, Mode::parse)?),
            "fallback" => patch.fallback = Some(word(&value, Fallback::parse)?),
            other => return Err(PyValueError::new_err(format!("a policy has no {other:?}"))),
        }
    }
    Ok(patch)
}

fn rules(value: &Bound<'_, PyAny>) -> PyResult<Rules> {
    let (calls, time): (Option<Calls>, Option<Time>) = value.extract()?;
    Ok(Rules {
        calls: calls.map(|(at_least, of_calls, min_calls)| CallsRule { at_least, of_calls, min_calls }),
        time: time.map(|(at_least, min_calls, within_ms)| TimeRule { at_least, min_calls, within_ms }),
    })
}

fn probe_rate(value: &Bound<'_, PyAny>) -> PyResult<ProbeRate> {
    let (at_least, of_probes) = value.extract()?;
    Ok(ProbeRate { at_least, of_probes })
}

fn word<T>(value: &Bound<'_, PyAny>, parse: impl Fn(&str) -> Option<T>) -> PyResult<T> {
    let text: String = value.extract()?;
    parse(&text).ok_or_else(|| PyValueError::new_err(format!("{text:?} is not allowed here")))
}
