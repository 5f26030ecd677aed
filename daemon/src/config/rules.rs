//! The tables of a policy: trip rules, and the rate that decides half-open.

use breakerd_core::{BadPolicy, check_patch};
use breakerd_proto::message::{CallsRule, PolicyPatch, ProbeRate, Rules, TimeRule};

use super::duration;
use super::fault::{Place, Problem};
use super::section::{At, Section};

/// One trip rule's key.
pub(super) struct RuleKey {
    /// Under `trip`.
    key: &'static str,
    /// In full.
    pub(super) full: &'static str,
    /// Whether it is a part of the calls, else their number.
    is_rate: bool,
    pub(super) get: fn(&PolicyPatch) -> Option<Rules>,
    pub(super) put: fn(&mut PolicyPatch, Rules),
}

/// Every trip rule that is a table.
pub(super) const RULES: [RuleKey; 4] = [
    RuleKey {
        key: "failure_rate",
        full: "trip.failure_rate",
        is_rate: true,
        get: |patch| patch.failure_rate,
        put: |patch, rules| patch.failure_rate = Some(rules),
    },
    RuleKey {
        key: "failure_count",
        full: "trip.failure_count",
        is_rate: false,
        get: |patch| patch.failure_count,
        put: |patch, rules| patch.failure_count = Some(rules),
    },
    RuleKey {
        key: "slow_rate",
        full: "trip.slow_rate",
        is_rate: true,
        get: |patch| patch.slow_rate,
        put: |patch, rules| patch.slow_rate = Some(rules),
    },
    RuleKey {
        key: "slow_count",
        full: "trip.slow_count",
        is_rate: false,
        get: |patch| patch.slow_count,
        put: |patch, rules| patch.slow_count = Some(rules),
    },
];

/// The minimum of calls of a count within a time that gives none.
const ANY_CALLS: u32 = 1;

impl RuleKey {
    fn example(&self) -> &'static str {
        if self.is_rate {
            "{ at_least = 0.5, of_calls = 20, within = \"30s\" }"
        } else {
            "{ at_least = 5, of_calls = 100 }"
        }
    }

    /// Reads the key: a table, a list of at most one for each span, or `false`.
    pub(super) fn read(&self, trip: &mut Section<'_, '_>) -> Option<At<Rules>> {
        trip.or_false(self.key, Rules::default(), |trip| {
            let mut rules = Rules::default();
            let takes = "a table, a list of tables, or false";
            let place = trip.tables(self.key, takes, |table| self.read_one(table, &mut rules))?;
            Some(At { value: rules, place })
        })
    }

    fn read_one(&self, table: &mut Section<'_, '_>, rules: &mut Rules) {
        table.require("at_least", self.example());
        // A number of calls within a time needs no minimum; a part of them means little without one.
        if self.is_rate || !table.has("within") {
            table.require("of_calls", self.example());
        }
        let over_time = table.has("within");
        let given = Given {
            at_least: table.fraction("at_least"),
            of_calls: table.number("of_calls"),
            min_calls: table.number("min_calls"),
            within: table.duration_ms("within"),
        };
        table.finish(&[]);
        let one = if over_time { given.over_time() } else { given.over_calls() };
        if let Some(one) = one
            && let Err((key, problem)) = self.add(rules, one, &given)
        {
            table.fault(problem, given.place(key).unwrap_or_else(|| table.own_place()));
        }
    }

    /// Takes a rule that keeps its bounds and is the first over its span; else says which key is wrong.
    fn add(&self, rules: &mut Rules, one: Rules, given: &Given) -> Result<(), (&'static str, Problem)> {
        if one.time.is_some() && given.min_calls.is_some() {
            return Err(("min_calls", Problem::MinCallsWithin(self.full)));
        }
        let mut alone = PolicyPatch::default();
        (self.put)(&mut alone, one);
        check_patch(&alone).map_err(|bad| (key_of(&bad), Problem::Bounds(bad)))?;
        let twice = |over| Err(("at_least", Problem::TwoOfOneSpan { key: self.full, over }));
        match (one.calls, one.time) {
            (Some(_), _) if rules.calls.is_some() => return twice("the last calls"),
            (_, Some(_)) if rules.time.is_some() => return twice("a time"),
            _ => *rules = Rules { calls: rules.calls.or(one.calls), time: rules.time.or(one.time) },
        }
        Ok(())
    }

    /// The rules as a file has them.
    pub(super) fn written(&self, rules: Rules) -> String {
        let calls = rules.calls.map(|CallsRule { at_least, of_calls, min_calls }| {
            let min = if min_calls == of_calls { String::new() } else { format!(", min_calls = {min_calls}") };
            format!("{{ at_least = {at_least}, of_calls = {of_calls}{min} }}")
        });
        let time = rules.time.map(|TimeRule { at_least, min_calls, within_ms }| {
            let any = min_calls == ANY_CALLS && !self.is_rate;
            let of = if any { String::new() } else { format!(", of_calls = {min_calls}") };
            format!("{{ at_least = {at_least}{of}, within = \"{}\" }}", duration::written(within_ms))
        });
        match (calls, time) {
            (Some(calls), Some(time)) => format!("[{calls}, {time}]"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "false".to_owned(),
        }
    }
}

/// The keys of one rule's table.
struct Given {
    at_least: Option<At<f64>>,
    of_calls: Option<At<u32>>,
    min_calls: Option<At<u32>>,
    within: Option<At<u64>>,
}

impl Given {
    fn over_time(&self) -> Option<Rules> {
        let (at_least, within_ms) = (self.at_least.as_ref()?.value, self.within.as_ref()?.value);
        let min_calls = self.of_calls.as_ref().map_or(ANY_CALLS, |at| at.value);
        Some(Rules { calls: None, time: Some(TimeRule { at_least, min_calls, within_ms }) })
    }

    fn over_calls(&self) -> Option<Rules> {
        let (at_least, of_calls) = (self.at_least.as_ref()?.value, self.of_calls.as_ref()?.value);
        let min_calls = self.min_calls.as_ref().map_or(of_calls, |at| at.value);
        Some(Rules { calls: Some(CallsRule { at_least, of_calls, min_calls }), time: None })
    }

    fn place(&self, key: &str) -> Option<Place> {
        match key {
            "at_least" => self.at_least.as_ref().map(|at| at.place.clone()),
            "of_calls" => self.of_calls.as_ref().map(|at| at.place.clone()),
            "min_calls" => self.min_calls.as_ref().map(|at| at.place.clone()),
            _ => self.within.as_ref().map(|at| at.place.clone()),
        }
    }
}

/// The key inside a rule's table that a complaint is about.
fn key_of(bad: &BadPolicy) -> &'static str {
    match bad {
        BadPolicy::MinCalls { .. } => "min_calls",
        BadPolicy::OutOfBounds { field, .. } if field.contains(".within") => "within",
        BadPolicy::OutOfBounds { .. } => "of_calls",
        _ => "at_least",
    }
}

/// Reads `probe.rate`: a table, or `false` for `probe.successes` in its place.
pub(super) fn read_probe_rate(probe: &mut Section<'_, '_>) -> Option<At<ProbeRate>> {
    let example = "{ at_least = 0.5, of_probes = 10 }";
    probe.or_false("rate", ProbeRate { at_least: 0.0, of_probes: 0 }, |probe| {
        let rate = probe.inner("rate", |table| {
            table.require("at_least", example);
            table.require("of_probes", example);
            let (at_least, of_probes) = (table.fraction("at_least"), table.number("of_probes"));
            table.finish(&[]);
            let of_probes = of_probes.filter(|At { value, place }| {
                if *value == 0 {
                    table.fault(Problem::NoProbes, place.clone());
                }
                *value > 0
            });
            let (at_least, of_probes) = (at_least?, of_probes?.value);
            Some(At { value: ProbeRate { at_least: at_least.value, of_probes }, place: at_least.place })
        });
        rate.flatten()
    })
}

/// `probe.rate` as a file has it.
pub(super) fn written_probe_rate(rate: Option<ProbeRate>) -> String {
    match rate {
        Some(ProbeRate { at_least, of_probes }) if of_probes > 0 => {
            format!("{{ at_least = {at_least}, of_probes = {of_probes} }}")
        }
        _ => "false".to_owned(),
    }
}
