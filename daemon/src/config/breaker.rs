//! `[breaker.…]`: policies, with the place that each value comes from.

use std::collections::BTreeMap;

use breakerd_core::{BadPolicy, BadSettings, Pattern, PatternPolicy, Settings, check_patch};
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Fallback, Mode};

use super::duration::written;
use super::fault::{Fault, Place, Problem};
use super::section::{At, Section};

/// Every key of a policy, in the order in which `check --explain` shows them.
pub(super) const KEYS: [&str; 11] = [
    "mode",
    "trip.consecutive_failures",
    "cooldown.first",
    "cooldown.factor",
    "cooldown.max",
    "cooldown.jitter",
    "probe.permits",
    "probe.successes",
    "probe.max",
    "slow_after",
    "fallback",
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
        ($($field:ident),*) => { $( if over.$field.is_some() { patch.$field = over.$field; } )* };
    }
    fields!(
        consecutive_failures,
        cooldown_first_ms,
        cooldown_factor,
        cooldown_max_ms,
        cooldown_jitter,
        probe_permits,
        probe_successes,
        probe_max_ms,
        slow_after_ms,
        mode,
        fallback
    );
}

/// Reads a section over what an earlier file said under the same header.
pub(super) fn read(layer: &mut Layer, section: &mut Section<'_, '_>) {
    let mode = section.word("mode", &["on", "shadow", "off"], &[Mode::On, Mode::Shadow, Mode::Off]);
    layer.set(section, "mode", mode, |patch, mode| patch.mode = Some(mode));
    section.inner("trip", |trip| {
        let run = trip.number("consecutive_failures");
        let run = run.filter(|At { value, place }| {
            if *value == 0 {
                let field = "trip.consecutive_failures";
                let bad = BadPolicy::OutOfBounds { field, value: 0, least: 1, most: 1_000_000 };
                trip.fault(Problem::Bounds(bad), place.clone());
            }
            *value > 0
        });
        layer.set(trip, "trip.consecutive_failures", run, |patch, n| patch.consecutive_failures = Some(n));
        for key in ["failure_rate", "failure_count", "slow_rate", "slow_count"] {
            trip.not_built(key, "use trip.consecutive_failures");
        }
        trip.finish(&KEYS);
    });
    section.inner("cooldown", |cooldown| {
        let first = cooldown.duration_ms("first");
        layer.set(cooldown, "cooldown.first", first, |patch, ms| patch.cooldown_first_ms = Some(ms));
        let factor = cooldown.fraction("factor");
        layer.set(cooldown, "cooldown.factor", factor, |patch, factor| patch.cooldown_factor = Some(factor));
        let max = cooldown.duration_ms("max");
        layer.set(cooldown, "cooldown.max", max, |patch, ms| patch.cooldown_max_ms = Some(ms));
        let jitter = cooldown.fraction("jitter");
        layer.set(cooldown, "cooldown.jitter", jitter, |patch, jitter| patch.cooldown_jitter = Some(jitter));
        cooldown.finish(&KEYS);
    });
    section.inner("probe", |probe| {
        let permits = probe.number("permits");
        layer.set(probe, "probe.permits", permits, |patch, n| patch.probe_permits = Some(n));
        let successes = probe.number("successes");
        layer.set(probe, "probe.successes", successes, |patch, n| patch.probe_successes = Some(n));
        let max = probe.duration_ms("max");
        layer.set(probe, "probe.max", max, |patch, ms| patch.probe_max_ms = Some(ms));
        probe.finish(&KEYS);
    });
    let slow_after = section.duration_ms("slow_after");
    layer.set(section, "slow_after", slow_after, |patch, ms| patch.slow_after_ms = Some(ms));
    let words = [Fallback::Local, Fallback::Admit, Fallback::Reject];
    let fallback = section.word("fallback", &["local", "admit", "reject"], &words);
    layer.set(section, "fallback", fallback, |patch, fallback| patch.fallback = Some(fallback));
    read_scope(section);
    for key in ["hung_after", "auth_errors", "on_quota"] {
        section.not_built(key, "leave the key out");
    }
    section.finish(&KEYS);
}

/// One scope is built, which is the default; to write it down is no fault, to wish for another is one.
fn read_scope(section: &mut Section<'_, '_>) {
    if section.is_text("scope", "any") {
        section.pass("scope");
    } else {
        section.not_built("scope", "a trip opens the whole fleet, as scope = \"any\" does; leave the key out");
    }
}

/// The settings of all sections, with the faults that show only in company.
pub(super) fn settings(layers: &[Layer], faults: &mut Vec<Fault>) -> Settings {
    let mut settings = Settings::default();
    let mut placed: Vec<&Layer> = Vec::new();
    for layer in layers {
        faults.extend(first_over_max(layer));
        let Some(text) = &layer.pattern else {
            settings.default = layer.patch.clone();
            continue;
        };
        match Pattern::parse(text) {
            Ok(pattern) => {
                settings.patterns.push(PatternPolicy { pattern, patch: layer.patch.clone() });
                placed.push(layer);
            }
            Err(bad) => faults.push(Problem::Pattern(text.clone(), bad).at(layer.place.clone())),
        }
    }
    for (i, (one, layer)) in settings.patterns.iter().zip(&placed).enumerate() {
        for (other, earlier) in settings.patterns.iter().zip(&placed).take(i) {
            faults.extend(tie(one, other).then(|| {
                let (pattern, other) = (one.pattern.as_str().to_owned(), other.pattern.as_str().to_owned());
                Problem::Tie { pattern, other, place: earlier.place.clone() }.at(layer.place.clone())
            }));
        }
    }
    settings
}

/// Whether core refuses these two beside each other.
fn tie(one: &PatternPolicy, other: &PatternPolicy) -> bool {
    let bare = |of: &PatternPolicy| PatternPolicy { pattern: of.pattern.clone(), patch: PolicyPatch::default() };
    let pair = Settings { patterns: vec![bare(one), bare(other)], ..Settings::default() };
    matches!(pair.check(), Err(BadSettings::Tie(..)))
}

fn first_over_max(layer: &Layer) -> Option<Fault> {
    let (first, max) = (layer.patch.cooldown_first_ms?, layer.patch.cooldown_max_ms?);
    let place = layer.places.get("cooldown.first").unwrap_or(&layer.place).clone();
    (first > max).then(|| Problem::FirstOverMax { first: written(first), max: written(max) }.at(place))
}
