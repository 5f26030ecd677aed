//! Which value a policy has and who says so.

use breakerd_core::{Pattern, PatternPolicy, Policy, Settings};
use breakerd_proto::Name;
use breakerd_proto::message::PolicyPatch;

use super::breaker::{KEYS, Layer};
use super::rules::{RULES, written_probe_rate};
use super::words::Word;
use super::{Config, written_duration};

/// One value of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// The key.
    pub(crate) key: &'static str,
    /// The value as a file would have it; `-` for none, which a file says by leaving the key out.
    pub(crate) value: String,
    /// `FILE:LINE [SECTION]`, or `built-in`.
    pub(crate) from: String,
    /// Whether a policy in a worker's code may change it.
    pub(crate) code_may_change: bool,
}

/// Every value of the policy of a name.
pub(crate) fn explain(config: &Config, name: &Name) -> Vec<Explained> {
    let policy = config.breakers.policy(name.as_str(), None);
    let source = |key: &'static str| {
        let matching: Vec<(&Layer, Pattern)> = config
            .layers
            .iter()
            .filter(|layer| layer.places.contains_key(key))
            .filter_map(|layer| Some((layer, Pattern::parse(layer.pattern.as_deref()?).ok()?)))
            .filter(|(_, pattern)| pattern.matches(name.as_str()))
            .collect();
        let default = || config.layers.iter().find(|layer| layer.pattern.is_none() && layer.places.contains_key(key));
        winner(&matching, name).or_else(default)
    };
    KEYS.iter()
        .map(|key| {
            let layer = source(key);
            let from = layer.and_then(|layer| Some(format!("{} {}", layer.places.get(key)?, layer.header())));
            Explained {
                key,
                value: value(&policy, key),
                from: from.unwrap_or_else(|| "built-in".to_owned()),
                // Where the daemon connects to is for its own configuration alone to say.
                code_may_change: *key != "probe.connect" && layer.is_none_or(|layer| layer.pattern.is_none()),
            }
        })
        .collect()
}

/// The most specific of the layers. The rule is core's: each layer gets its number as its policy, and core says whose
/// policy the name has.
fn winner<'a>(matching: &[(&'a Layer, Pattern)], name: &Name) -> Option<&'a Layer> {
    let numbered = matching.iter().zip(1_u32..).map(|((_, pattern), number)| PatternPolicy {
        pattern: pattern.clone(),
        patch: PolicyPatch { consecutive_failures: Some(number), ..PolicyPatch::default() },
    });
    let settings = Settings { patterns: numbered.collect(), ..Settings::default() };
    let number = usize::try_from(settings.policy(name.as_str(), None).trip.consecutive_failures).ok()?;
    matching.get(number.checked_sub(1)?).map(|(layer, _)| *layer)
}

/// A key's value as a file would have it; `-` for none.
fn value(policy: &Policy, key: &str) -> String {
    let patch = policy.to_patch();
    let duration = |ms: Option<u64>| ms.map(|ms| format!("\"{}\"", written_duration(ms)));
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    let fraction = |x: Option<f64>| x.map(|x| x.to_string());
    let text = match key {
        "mode" => patch.mode.map(word),
        "trip.consecutive_failures" if policy.trip.consecutive_failures == 0 => Some("false".to_owned()),
        "trip.consecutive_failures" => number(patch.consecutive_failures),
        "slow_after" => duration(patch.slow_after_ms),
        "hung_after" => duration(patch.hung_after_ms),
        "auth_errors" => patch.auth_errors.map(word),
        "cooldown.first" => duration(patch.cooldown_first_ms),
        "cooldown.factor" => fraction(patch.cooldown_factor),
        "cooldown.max" => duration(patch.cooldown_max_ms),
        "cooldown.jitter" => fraction(patch.cooldown_jitter),
        "cooldown.forget" => duration(patch.cooldown_forget_ms),
        "probe.permits" => number(patch.probe_permits),
        "probe.successes" => number(patch.probe_successes),
        "probe.rate" => Some(written_probe_rate(patch.probe_rate)),
        "probe.max" => duration(patch.probe_max_ms),
        "probe.period" => duration(patch.probe_period_ms),
        "probe.connect" => Some(patch.probe_connect.map_or_else(|| "false".to_owned(), |target| format!("{target:?}"))),
        "fallback" => patch.fallback.map(word),
        "on_quota" => patch.on_quota.map(word),
        rule => RULES.iter().find(|of| of.full == rule).and_then(|of| Some(of.written((of.get)(&patch)?))),
    };
    text.unwrap_or_else(|| "-".to_owned())
}

fn word(value: impl Word) -> String {
    format!("{:?}", value.written())
}
