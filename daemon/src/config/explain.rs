//! Which value a policy has and who says so.

use breakerd_core::{Pattern, PatternPolicy, Policy, Settings};
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Fallback, Name};

use super::breaker::{KEYS, Layer};
use super::{Config, written_duration};

/// One value of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// The key.
    pub(crate) key: &'static str,
    /// The value as a file would have it; `-` for none.
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
                code_may_change: layer.is_none_or(|layer| layer.pattern.is_none()),
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

fn value(policy: &Policy, key: &str) -> String {
    let patch = policy.to_patch();
    let duration = |ms: Option<u64>| ms.map(written_duration);
    let text = match key {
        "mode" => patch.mode.map(|mode| mode.word().to_owned()),
        "trip.consecutive_failures" => patch.consecutive_failures.map(|n| n.to_string()),
        "cooldown.first" => duration(patch.cooldown_first_ms),
        "cooldown.factor" => patch.cooldown_factor.map(|factor| factor.to_string()),
        "cooldown.max" => duration(patch.cooldown_max_ms),
        "cooldown.jitter" => patch.cooldown_jitter.map(|jitter| jitter.to_string()),
        "probe.permits" => patch.probe_permits.map(|n| n.to_string()),
        "probe.successes" => patch.probe_successes.map(|n| n.to_string()),
        "probe.max" => duration(patch.probe_max_ms),
        "slow_after" => duration(patch.slow_after_ms),
        "fallback" => patch.fallback.map(|fallback| fallback_word(fallback).to_owned()),
        _ => None,
    };
    text.unwrap_or_else(|| "-".to_owned())
}

fn fallback_word(fallback: Fallback) -> &'static str {
    match fallback {
        Fallback::Local => "local",
        Fallback::Admit => "admit",
        Fallback::Reject => "reject",
    }
}
