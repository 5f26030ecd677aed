//! What the core is told at its start and at each reload: policies by pattern, quotas, the host's name.

use std::fmt;
use std::time::Duration;

use breakerd_proto::message::PolicyPatch;

use crate::pattern::Pattern;
use crate::policy::{BadPolicy, Policy, check_patch};

/// A pattern and what it decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternPolicy {
    /// Which names.
    pub pattern: Pattern,
    /// What of their policy.
    pub patch: PolicyPatch,
}

/// How much one account, and all together, may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Connections of all accounts.
    pub connections: u32,
    /// Connections of one account.
    pub connections_per_account: u32,
    /// Names in the table.
    pub names: u32,
    /// Names that one account was the first to use.
    pub names_per_account: u32,
    /// Lanes that one connection may register.
    pub lanes_per_connection: u32,
    /// Probes that one account may have out.
    pub permits_per_account: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_account: 2048,
            names: 100_000,
            names_per_account: 10_000,
            lanes_per_connection: 10_000,
            permits_per_account: 1024,
        }
    }
}

/// Everything that the core is told at its start and at each reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What `[breaker.default]` decides.
    pub default: PolicyPatch,
    /// What the patterns decide, in any order.
    pub patterns: Vec<PatternPolicy>,
    /// The bounds on what accounts hold.
    pub quotas: Quotas,
    /// An open breaker that nobody has asked about for so long after its deadline closes.
    pub forget_after: Duration,
    /// The host's name, as the fleet's changes show it.
    pub host: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default: PolicyPatch::default(),
            patterns: Vec::new(),
            quotas: Quotas::default(),
            forget_after: Duration::from_secs(3600),
            host: "localhost".to_owned(),
        }
    }
}

impl Settings {
    /// The policy of a name: built-in, then the default section, then what the code declared, then every matching
    /// pattern from the least to the most specific, field by field.
    #[must_use]
    pub fn policy(&self, name: &str, declared: Option<&PolicyPatch>) -> Policy {
        self.compose(&self.matching(name), declared)
    }

    /// The numbers of the patterns that match a name, from the least to the most specific.
    pub(crate) fn matching(&self, name: &str) -> Vec<usize> {
        let patterns = self.patterns.iter().map(|p| &p.pattern).enumerate();
        let mut matching: Vec<(usize, &Pattern)> = patterns.filter(|(_, pattern)| pattern.matches(name)).collect();
        matching.sort_by_key(|(_, pattern)| pattern.rank());
        matching.into_iter().map(|(number, _)| number).collect()
    }

    /// The policy that these patterns and this declaration come to.
    pub(crate) fn compose(&self, matching: &[usize], declared: Option<&PolicyPatch>) -> Policy {
        let base = Policy::default().patched(&self.default);
        let declared = declared.map_or_else(|| base.clone(), |patch| base.patched(patch));
        let patterns = matching.iter().filter_map(|number| self.patterns.get(*number));
        patterns.fold(declared, |policy, p| policy.patched(&p.patch))
    }

    /// Checks every bound, and that no name is claimed by two equally specific patterns.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), BadSettings> {
        check_patch(&self.default)?;
        let default = Policy::default().patched(&self.default);
        default.check()?;
        for (i, a) in self.patterns.iter().enumerate() {
            check_patch(&a.patch)?;
            default.patched(&a.patch).check()?;
            let tie = |b: &&PatternPolicy| a.pattern.rank() == b.pattern.rank() && a.pattern.overlaps(&b.pattern);
            if let Some(b) = self.patterns.iter().skip(i + 1).find(tie) {
                return Err(BadSettings::Tie(a.pattern.as_str().to_owned(), b.pattern.as_str().to_owned()));
            }
        }
        Ok(())
    }
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum BadSettings {
    /// A policy breaks its rules.
    Policy(BadPolicy),
    /// Two patterns, equally specific, match a common name.
    Tie(String, String),
}

impl From<BadPolicy> for BadSettings {
    fn from(bad: BadPolicy) -> Self {
        Self::Policy(bad)
    }
}

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(bad) => bad.fmt(f),
            Self::Tie(a, b) => {
                write!(
                    f,
                    "patterns {a:?} and {b:?} match common names and neither is more specific; change one of them"
                )
            }
        }
    }
}

impl std::error::Error for BadSettings {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(patterns: &[(&str, u32)]) -> Settings {
        let one = |(pattern, n): &(&str, u32)| PatternPolicy {
            pattern: Pattern::parse(pattern).unwrap(),
            patch: PolicyPatch { consecutive_failures: Some(*n), ..PolicyPatch::default() },
        };
        Settings { patterns: patterns.iter().map(one).collect(), ..Settings::default() }
    }

    #[test]
    fn the_most_specific_pattern_wins_and_stands_above_code() {
        let settings = with(&[("pay/*", 2), ("*", 9), ("pay/stripe", 3)]);
        let declared = PolicyPatch { consecutive_failures: Some(7), probe_permits: Some(4), ..PolicyPatch::default() };
        assert_eq!(settings.policy("pay/stripe", Some(&declared)).trip.consecutive_failures, 3);
        assert_eq!(settings.policy("pay/other", None).trip.consecutive_failures, 2);
        assert_eq!(settings.policy("x", Some(&declared)).trip.consecutive_failures, 9);
        assert_eq!(settings.policy("x", Some(&declared)).probe.permits, 4, "what no pattern decides, the code does");
    }

    #[test]
    fn a_tie_is_an_error_only_where_a_name_could_match_both() {
        assert!(matches!(with(&[("a*", 1), ("*a", 2)]).check(), Err(BadSettings::Tie(..))));
        assert_eq!(with(&[("a*", 1), ("b*", 2)]).check(), Ok(()));
    }
}
