//! `[breaker.…]`: policies, with the place that each value comes from.

use std::collections::BTreeMap;

use breakerd_core::{BadPolicy, check_patch};
use breakerd_proto::message::PolicyPatch;

use super::fault::{Place, Problem};
use super::rules::{RULES, read_probe_rate};
use super::section::{At, Section};

/// Every key of a policy, in the order in which `check --explain` shows them.
pub(super) const KEYS: [&str; 22] = [
    "mode",
    "trip.consecutive_failures",
    "trip.failure_rate",
    "trip.failure_count",
    "trip.slow_rate",
    "trip.slow_count",
    "slow_after",
    "hung_after",
    "auth_errors",
    "cooldown.first",
    "cooldown.factor",
    "cooldown.max",
    "cooldown.jitter",
    "cooldown.forget",
    "probe.permits",
    "probe.successes",
    "probe.rate",
    "probe.max",
    "probe.period",
    "probe.connect",
    "fallback",
    "on_quota",
];

/// One section: what it decides and where each value stands.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The pattern; none for `[breaker.default]`.
    pub(super) pattern: Option<String>,
    /// Where the section first stands.
    pub(super) place: Place,
    pub(super) patch: PolicyPatch,
    pub(super) places: BTreeMap<&'static str, Place>,
}

impl Layer {
    pub(super) fn new(pattern: Option<String>, place: Place) -> Self {
        Self { pattern, place, patch: PolicyPatch::default(), places: BTreeMap::new() }
    }

    /// The header as the file has it.
    pub(super) fn header(&self) -> String {
        match &self.pattern {
            Some(pattern) => format!("[breaker.{pattern:?}]"),
            None => "[breaker.default]".to_owned(),
        }
    }

    /// Takes a value if it is within its bounds.
    fn set<T>(
        &mut self,
        section: &mut Section<'_, '_>,
        key: &'static str,
        given: Option<At<T>>,
        put: impl Fn(&mut PolicyPatch, T),
    ) {
        let Some(At { value, place }) = given else { return };
        let mut alone = PolicyPatch::default();
        put(&mut alone, value);
        // The bounds are core's. Each value is held against them by itself, so that each bad one is told with its line.
        match check_patch(&alone) {
            Ok(()) => {
                merge(&mut self.patch, alone);
                self.places.insert(key, place);
            }
            Err(bad) => section.fault(Problem::Bounds(bad), place),
        }
    }
}

/// Lays the fields that `over` has on `patch`.
fn merge(patch: &mut PolicyPatch, over: PolicyPatch) {
    macro_rules! fields {
        ($($field:ident),*) => {
            // Without `..`: a field that is forgotten here does not compile.
            let PolicyPatch { $($field),* } = over;
            $( if $field.is_some() { patch.$field = $field; } )*
        };
    }
    fields!(
        consecutive_failures,
        failure_rate,
        failure_count,
        slow_rate,
        slow_count,
        cooldown_first_ms,
        cooldown_factor,
        cooldown_max_ms,
        cooldown_jitter,
        cooldown_forget_ms,
        probe_permits,
        probe_successes,
        probe_rate,
        probe_max_ms,
        probe_period_ms,
        probe_connect,
        slow_after_ms,
        hung_after_ms,
        auth_errors,
        on_quota,
        mode,
        fallback
    );
}

/// Reads a section over what an earlier file said under the same header.
pub(super) fn read(layer: &mut Layer, section: &mut Section<'_, '_>) {
    let mode = section.word("mode");
    layer.set(section, "mode", mode, |patch, mode| patch.mode = Some(mode));
    section.inner("trip", |trip| read_trip(layer, trip));
    let slow_after = section.duration_ms("slow_after");
    layer.set(section, "slow_after", slow_after, |patch, ms| patch.slow_after_ms = Some(ms));
    let hung_after = section.duration_ms("hung_after");
    layer.set(section, "hung_after", hung_after, |patch, ms| patch.hung_after_ms = Some(ms));
    let auth_errors = section.word("auth_errors");
    layer.set(section, "auth_errors", auth_errors, |patch, what| patch.auth_errors = Some(what));
    section.inner("cooldown", |cooldown| read_cooldown(layer, cooldown));
    section.inner("probe", |probe| read_probe(layer, probe));
    let fallback = section.word("fallback");
    layer.set(section, "fallback", fallback, |patch, fallback| patch.fallback = Some(fallback));
    let on_quota = section.word("on_quota");
    layer.set(section, "on_quota", on_quota, |patch, what| patch.on_quota = Some(what));
    read_scope(section);
    section.finish(&KEYS);
}

fn read_trip(layer: &mut Layer, trip: &mut Section<'_, '_>) {
    let run = trip.or_false("consecutive_failures", 0, |trip| {
        let run = trip.number("consecutive_failures")?;
        if run.value == 0 {
            trip.fault(Problem::NoFailures, run.place);
            return None;
        }
        Some(run)
    });
    layer.set(trip, "trip.consecutive_failures", run, |patch, n| patch.consecutive_failures = Some(n));
    for rule in &RULES {
        let rules = rule.read(trip);
        layer.set(trip, rule.full, rules, rule.put);
    }
    trip.finish(&KEYS);
}

fn read_cooldown(layer: &mut Layer, cooldown: &mut Section<'_, '_>) {
    let first = cooldown.duration_ms("first");
    layer.set(cooldown, "cooldown.first", first, |patch, ms| patch.cooldown_first_ms = Some(ms));
    let factor = cooldown.fraction("factor");
    layer.set(cooldown, "cooldown.factor", factor, |patch, factor| patch.cooldown_factor = Some(factor));
    let max = cooldown.duration_ms("max");
    layer.set(cooldown, "cooldown.max", max, |patch, ms| patch.cooldown_max_ms = Some(ms));
    let jitter = cooldown.fraction("jitter");
    layer.set(cooldown, "cooldown.jitter", jitter, |patch, jitter| patch.cooldown_jitter = Some(jitter));
    let forget = cooldown.duration_ms("forget");
    layer.set(cooldown, "cooldown.forget", forget, |patch, ms| patch.cooldown_forget_ms = Some(ms));
    cooldown.finish(&KEYS);
}

fn read_probe(layer: &mut Layer, probe: &mut Section<'_, '_>) {
    let permits = probe.number("permits");
    layer.set(probe, "probe.permits", permits, |patch, n| patch.probe_permits = Some(n));
    let successes = probe.number("successes");
    layer.set(probe, "probe.successes", successes, |patch, n| patch.probe_successes = Some(n));
    let rate = read_probe_rate(probe);
    layer.set(probe, "probe.rate", rate, |patch, rate| patch.probe_rate = Some(rate));
    let max = probe.duration_ms("max");
    layer.set(probe, "probe.max", max, |patch, ms| patch.probe_max_ms = Some(ms));
    let period = probe.duration_ms("period");
    layer.set(probe, "probe.period", period, |patch, ms| patch.probe_period_ms = Some(ms));
    let connect = probe.or_false("connect", String::new(), |probe| {
        let target = probe.text("connect")?;
        // To core an empty target means none, which in a file is `false`.
        if target.value.is_empty() {
            probe.fault(Problem::Bounds(BadPolicy::Connect(String::new())), target.place);
            return None;
        }
        Some(target)
    });
    layer.set(probe, "probe.connect", connect, |patch, target| patch.probe_connect = Some(target));
    probe.finish(&KEYS);
}

/// One scope is built, which is the default; to write it down is no fault, to wish for another is one.
fn read_scope(section: &mut Section<'_, '_>) {
    if section.is_text("scope", "any") {
        section.pass("scope");
    } else {
        section.not_built("scope", "a trip opens the whole fleet, as scope = \"any\" does; leave the key out");
    }
}
