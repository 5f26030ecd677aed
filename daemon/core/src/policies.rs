//! The policies in use, each distinct one once, whatever number of names follow it.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakerd_proto::message::PolicyPatch;

use crate::policy::Policy;
use crate::settings::Settings;

/// Policies without a follower are looked for when so many are kept, and again when their number has doubled.
const SWEPT_FROM: usize = 64;

/// A name's policy, and what the code that uses the name said of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruled {
    pub(crate) policy: Arc<Policy>,
    /// Kept because a reload decides anew from it.
    pub(crate) declared: Option<Arc<PolicyPatch>>,
}

/// What a policy comes of, under one set of settings: the patterns that match, by number, and the declared patch as
/// text. A patch has rates, which are floats and have no order of their own.
type Source = (Vec<usize>, Option<String>);

/// All policies that some name follows.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    kept: BTreeMap<Source, Ruled>,
    sweep_at: usize,
}

impl Policies {
    /// The policy of this name; shared with every other name of the same source.
    pub(crate) fn of(&mut self, settings: &Settings, name: &str, declared: Option<&PolicyPatch>) -> Ruled {
        let matching = settings.matching(name);
        let source = (matching, declared.map(|patch| format!("{patch:?}")));
        if let Some(ruled) = self.kept.get(&source) {
            return ruled.clone();
        }
        self.sweep();
        let policy = Arc::new(settings.compose(&source.0, declared));
        let ruled = Ruled { policy, declared: declared.cloned().map(Arc::new) };
        self.kept.insert(source, ruled.clone());
        ruled
    }

    /// Forgets everything: the settings have changed. Whoever follows a policy keeps it until it is given another.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops what nobody follows any more, once it could be half of all.
    fn sweep(&mut self) {
        if self.kept.len() >= self.sweep_at.max(SWEPT_FROM) {
            self.kept.retain(|_, ruled| Arc::strong_count(&ruled.policy) > 1);
            self.sweep_at = 2 * self.kept.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(failures: u32) -> PolicyPatch {
        PolicyPatch { consecutive_failures: Some(failures), ..PolicyPatch::default() }
    }

    #[test]
    fn names_of_one_source_share_one_policy() {
        let (mut policies, settings) = (Policies::default(), Settings::default());
        let plain = policies.of(&settings, "a", None);
        assert!(Arc::ptr_eq(&plain.policy, &policies.of(&settings, "b", None).policy));
        let own = policies.of(&settings, "a", Some(&declared(7)));
        assert!(Arc::ptr_eq(&own.policy, &policies.of(&settings, "b", Some(&declared(7))).policy));
        assert_eq!((plain.policy.trip.consecutive_failures, own.policy.trip.consecutive_failures), (5, 7));
    }

    #[test]
    fn what_nobody_follows_is_dropped() {
        let (mut policies, settings) = (Policies::default(), Settings::default());
        let kept = policies.of(&settings, "kept", Some(&declared(1_000_000)));
        for failures in 1..10_000 {
            policies.of(&settings, "a", Some(&declared(failures)));
        }
        assert!(policies.kept.len() <= 2 * SWEPT_FROM, "{} policies are kept", policies.kept.len());
        let again = policies.of(&settings, "kept", Some(&declared(1_000_000)));
        assert!(Arc::ptr_eq(&kept.policy, &again.policy), "one that is followed stays");
    }
}
