//! What the core is told at its start: policies by pattern, quotas, the host's name.

use std::fmt;
use std::time::Duration;

use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Fallback, Mode, Name, limits};

use crate::cooldown::Cooldown;

/// The rule from evidence to trip, and what follows a trip: whole, every field decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Failures in a row that trip, at least 1.
    pub consecutive_failures: u32,
    /// How long open lasts.
    pub cooldown: Cooldown,
    /// How half-open tries.
    pub probe: Probe,
    /// Slower calls are called slow.
    pub slow_after: Option<Duration>,
    /// Whether the breaker acts.
    pub mode: Mode,
    /// What a client does without a daemon.
    pub fallback: Fallback,
}

/// How half-open tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Probes out at a time, at least 1.
    pub permits: u32,
    /// Successes that recover, at least 1.
    pub successes: u32,
    /// How long a worker may keep a probe.
    pub max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            cooldown: Cooldown::default(),
            probe: Probe { permits: 1, successes: 1, max: Duration::from_secs(120) },
            slow_after: None,
            mode: Mode::On,
            fallback: Fallback::Local,
        }
    }
}

impl Policy {
    /// This policy with every field that the patch has.
    #[must_use]
    pub fn patched(&self, patch: &PolicyPatch) -> Self {
        let ms = |ms: Option<u64>, or: Duration| ms.map_or(or, Duration::from_millis);
        Self {
            consecutive_failures: patch.consecutive_failures.unwrap_or(self.consecutive_failures),
            cooldown: Cooldown {
                first: ms(patch.cooldown_first_ms, self.cooldown.first),
                factor: patch.cooldown_factor.unwrap_or(self.cooldown.factor),
                max: ms(patch.cooldown_max_ms, self.cooldown.max),
                jitter: patch.cooldown_jitter.unwrap_or(self.cooldown.jitter),
            },
            probe: Probe {
                permits: patch.probe_permits.unwrap_or(self.probe.permits),
                successes: patch.probe_successes.unwrap_or(self.probe.successes),
                max: ms(patch.probe_max_ms, self.probe.max),
            },
            slow_after: patch.slow_after_ms.map(Duration::from_millis).or(self.slow_after),
            mode: patch.mode.unwrap_or(self.mode),
            fallback: patch.fallback.unwrap_or(self.fallback),
        }
    }

    /// The policy as a patch that decides every field; durations in whole milliseconds.
    #[must_use]
    pub fn to_patch(&self) -> PolicyPatch {
        let ms = |d: Duration| Some(breakerd_proto::clock::ms_up(d));
        PolicyPatch {
            consecutive_failures: Some(self.consecutive_failures),
            cooldown_first_ms: ms(self.cooldown.first),
            cooldown_factor: Some(self.cooldown.factor),
            cooldown_max_ms: ms(self.cooldown.max),
            cooldown_jitter: Some(self.cooldown.jitter),
            probe_permits: Some(self.probe.permits),
            probe_successes: Some(self.probe.successes),
            probe_max_ms: ms(self.probe.max),
            slow_after_ms: self.slow_after.and_then(ms),
            mode: Some(self.mode),
            fallback: Some(self.fallback),
        }
    }
}

/// Checks a patch's values against their bounds.
///
/// # Errors
/// The first value that is out of its bounds, with the bounds.
pub fn check_patch(patch: &PolicyPatch) -> Result<(), BadSettings> {
    let between = |field: &'static str, value: Option<u64>, least: u64, most: u64| match value {
        Some(value) if value < least || value > most => Err(BadSettings::OutOfBounds { field, value, least, most }),
        _ => Ok(()),
    };
    let day_ms = 86_400_000;
    between("trip.consecutive_failures", patch.consecutive_failures.map(u64::from), 1, 1_000_000)?;
    between("cooldown.first (ms)", patch.cooldown_first_ms, 1, day_ms)?;
    between("cooldown.max (ms)", patch.cooldown_max_ms, 1, day_ms)?;
    between("probe.permits", patch.probe_permits.map(u64::from), 1, 1000)?;
    between("probe.successes", patch.probe_successes.map(u64::from), 1, 1000)?;
    between("probe.max (ms)", patch.probe_max_ms, 1, day_ms)?;
    between("slow_after (ms)", patch.slow_after_ms, 1, day_ms)?;
    if patch.cooldown_factor.is_some_and(|factor| !(1.0..=100.0).contains(&factor)) {
        return Err(BadSettings::Factor);
    }
    if patch.cooldown_jitter.is_some_and(|jitter| !(0.0..=0.5).contains(&jitter)) {
        return Err(BadSettings::Jitter);
    }
    Ok(())
}

/// A pattern over names: `*` stands for any run of characters, everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Empty, too long, or with a character that no name can have.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() || text.len() > limits::NAME_BYTES_MAX {
            return Err(BadPattern::Length(text.len()));
        }
        match text.chars().find(|c| *c != '*' && !Name::allows(*c)) {
            Some(c) => Err(BadPattern::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        overlap(self.0.as_bytes(), name.as_bytes())
    }

    /// How specific it is: characters that stand for themselves, then fewer stars, so that a whole name beats all.
    fn rank(&self) -> (usize, std::cmp::Reverse<usize>) {
        let stars = self.0.bytes().filter(|b| *b == b'*').count();
        (self.0.len() - stars, std::cmp::Reverse(stars))
    }
}

/// Whether some name matches both patterns. Names are patterns without stars.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    // `reach[j]`: the read part of `a` and the first `j` bytes of `b` can stand for the same text.
    let mut reach = vec![false; b.len() + 1];
    for (j, slot) in reach.iter_mut().enumerate() {
        *slot = b.iter().take(j).all(|c| *c == b'*');
    }
    for &c in a {
        let mut before = false; // the old value of the place on the left
        let mut left = false; // the new value of the place on the left
        for (j, place) in reach.iter_mut().enumerate() {
            let old = *place;
            let d = j.checked_sub(1).and_then(|j| b.get(j)).copied();
            *place = match (c, d) {
                (b'*', None) => old,
                (_, None) => false,
                (b'*', Some(_)) => old || left || (d == Some(b'*') && before),
                (_, Some(b'*')) => old || left,
                (c, Some(d)) => before && c == d,
            };
            before = old;
            left = *place;
        }
    }
    reach.last().copied().unwrap_or(false)
}

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

/// Everything that the core is told at its start.
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
        let mut matching: Vec<&PatternPolicy> = self.patterns.iter().filter(|p| p.pattern.matches(name)).collect();
        matching.sort_by_key(|p| p.pattern.rank());
        let base = Policy::default().patched(&self.default);
        let declared = declared.map_or_else(|| base.clone(), |patch| base.patched(patch));
        matching.iter().fold(declared, |policy, p| policy.patched(&p.patch))
    }

    /// Checks every bound, and that no name is claimed by two equally specific patterns.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), BadSettings> {
        check_patch(&self.default)?;
        for (i, a) in self.patterns.iter().enumerate() {
            check_patch(&a.patch)?;
            for b in self.patterns.iter().skip(i + 1) {
                let (a, b) = (&a.pattern, &b.pattern);
                if a.rank() == b.rank() && overlap(a.0.as_bytes(), b.0.as_bytes()) {
                    return Err(BadSettings::Tie(a.0.clone(), b.0.clone()));
                }
            }
        }
        Ok(())
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPattern {
    /// Empty or too long; here is its length in bytes.
    Length(usize),
    /// A character that neither stands in names nor is `*`.
    Character(char),
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => write!(f, "a pattern has 1 to {} bytes, not {bytes}", limits::NAME_BYTES_MAX),
            Self::Character(c) => write!(f, "a pattern is made of `*` and of what names are made of, not {c:?}"),
        }
    }
}

impl std::error::Error for BadPattern {}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSettings {
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
    Factor,
    /// `cooldown.jitter` is not within 0 to 0.5.
    Jitter,
    /// Two patterns, equally specific, match a common name.
    Tie(String, String),
}

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { field, value, least, most } => {
                write!(f, "{field} is {value}; it may be {least} to {most}")
            }
            Self::Factor => f.write_str("cooldown.factor may be 1 to 100"),
            Self::Jitter => f.write_str("cooldown.jitter may be 0 to 0.5"),
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

    #[test]
    fn patterns_match_and_overlap() {
        for (pattern, name, expect) in [
            ("*", "a/b", true),
            ("payments/*", "payments/stripe", true),
            ("payments/*", "payments/", true),
            ("payments/*", "payment/x", false),
            ("*/openai/*", "chat/openai/gpt", true),
            ("*/openai/*", "openai/gpt", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("openai", "openai", true),
            ("openai", "openai2", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), expect, "{pattern} ~ {name}");
        }
        assert!(overlap(b"a*", b"*a"));
        assert!(!overlap(b"a*", b"b*"));
        assert!(overlap(b"a*c", b"ab*"));
        assert!(!overlap(b"x*c", b"ab*"));
    }

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
        assert_eq!(settings.policy("pay/stripe", Some(&declared)).consecutive_failures, 3);
        assert_eq!(settings.policy("pay/other", None).consecutive_failures, 2);
        assert_eq!(settings.policy("x", Some(&declared)).consecutive_failures, 9);
        assert_eq!(settings.policy("x", Some(&declared)).probe.permits, 4, "what no pattern decides, the code does");
    }

    #[test]
    fn a_tie_is_an_error_only_where_a_name_could_match_both() {
        assert!(matches!(with(&[("a*", 1), ("*a", 2)]).check(), Err(BadSettings::Tie(..))));
        assert_eq!(with(&[("a*", 1), ("b*", 2)]).check(), Ok(()));
    }
}
