//! What all sections come to together, with the faults that show only in company.

use breakerd_core::{BadPolicy, BadSettings, Pattern, PatternPolicy, Policy, Settings};
use breakerd_proto::clock::ms_up;
use breakerd_proto::message::PolicyPatch;

use super::breaker::Layer;
use super::duration::written;
use super::fault::{Fault, Problem};

/// The settings of all sections.
pub(super) fn settings(layers: &[Layer], faults: &mut Vec<Fault>) -> Settings {
    let mut settings = Settings::default();
    let mut placed: Vec<&Layer> = Vec::new();
    if let Some(layer) = layers.iter().find(|layer| layer.pattern.is_none()) {
        settings.default = layer.patch.clone();
    }
    let default = Policy::default().patched(&settings.default);
    for layer in layers {
        faults.extend(impossible(layer, &default));
        let Some(text) = &layer.pattern else { continue };
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

/// What is wrong with the policy that this section makes of the default, told at the section's own key. What it only
/// inherits is told at the default's.
fn impossible(layer: &Layer, default: &Policy) -> Vec<Fault> {
    let policy = default.patched(&layer.patch);
    let mut faults = Vec::new();
    if let Err(bad) = policy.check()
        && let Some(place) = bad_key(&bad).and_then(|key| layer.places.get(key))
    {
        faults.push(Problem::Bounds(bad).at(place.clone()));
    }
    let (first, max) = (policy.cooldown.first, policy.cooldown.max);
    let own = ["cooldown.first", "cooldown.max"].into_iter().find_map(|key| layer.places.get(key));
    if let (true, Some(place)) = (first > max, own) {
        let (first, max) = (written(ms_up(first)), written(ms_up(max)));
        faults.push(Problem::FirstOverMax { first, max }.at(place.clone()));
    }
    faults
}

/// The key that a fault in company is told at.
fn bad_key(bad: &BadPolicy) -> Option<&'static str> {
    match bad {
        BadPolicy::SlowWithoutBound { field } => Some(field),
        _ => None,
    }
}
