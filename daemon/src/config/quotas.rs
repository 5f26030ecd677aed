//! `[quotas]`: how much one user's workers, and all together, may hold.

use std::collections::BTreeMap;

use breakerd_core::Quotas;

use super::explain::Explained;
use super::fault::{Fault, Place, Problem};
use super::section::{At, Section};

/// The largest quota: more than any host has use for, and far from where a number could overflow.
const MOST: u32 = 1_000_000;

/// One key.
struct Key {
    name: &'static str,
    full: &'static str,
    of: fn(&mut Quotas) -> &mut u32,
}

macro_rules! key {
    ($name:literal, $field:ident) => {
        Key { name: $name, full: concat!("quotas.", $name), of: |quotas| &mut quotas.$field }
    };
}

const KEYS: [Key; 6] = [
    key!("connections", connections),
    key!("connections_per_user", connections_per_account),
    key!("names", names),
    key!("names_per_user", names_per_account),
    key!("names_per_connection", lanes_per_connection),
    key!("probes_per_user", permits_per_account),
];

/// The whole keys, so that one that stands at the wrong place is pointed to the right one.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.full)
}

/// What the files have said so far.
#[derive(Default)]
pub(super) struct Draft(BTreeMap<&'static str, At<u32>>);

impl Draft {
    pub(super) fn read(&mut self, section: &mut Section<'_, '_>) {
        for key in &KEYS {
            self.0.extend(section.number(key.name).map(|number| (key.full, number)));
        }
        section.finish(&[]);
    }

    /// The quotas, and where those stand that a file says.
    pub(super) fn finish(self, faults: &mut Vec<Fault>) -> (Quotas, BTreeMap<&'static str, Place>) {
        let mut quotas = Quotas::default();
        for key in &KEYS {
            let (Some(At { value, place }), quota) = (self.0.get(key.full), (key.of)(&mut quotas)) else { continue };
            if (1..=MOST).contains(value) {
                *quota = *value;
            } else {
                let problem = Problem::Quota { key: key.full, given: *value, most: MOST, default: *quota };
                faults.push(problem.at(place.clone()));
            }
        }
        (quotas, self.0.into_iter().map(|(key, at)| (key, at.place)).collect())
    }
}

/// Every quota, its value and who says so.
pub(super) fn explain(mut quotas: Quotas, places: &BTreeMap<&'static str, Place>) -> Vec<Explained> {
    let mut explained = |key: &Key| Explained {
        key: key.full,
        value: (key.of)(&mut quotas).to_string(),
        from: places.get(key.full).map_or_else(|| "built-in".to_owned(), |place| format!("{place} [quotas]")),
        code_may_change: false,
    };
    KEYS.iter().map(&mut explained).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::tests::complaints;
    use super::super::{explain_quotas, load_text};
    use super::*;

    #[test]
    fn each_key_sets_its_quota_and_no_other() {
        for (number, key) in KEYS.iter().enumerate() {
            let text = format!("[quotas]\n{} = 7\n", key.name);
            let config = load_text("b.toml", &text).unwrap();
            let mut expected = Quotas::default();
            *(key.of)(&mut expected) = 7;
            assert_eq!(config.breakers.quotas, expected, "{text}");
            let told = &explain_quotas(&config)[number];
            assert_eq!((told.key, told.value.as_str(), told.from.as_str()), (key.full, "7", "b.toml:2 [quotas]"));
        }
        let told = explain_quotas(&load_text("b.toml", "").unwrap());
        assert!(told.iter().all(|quota| quota.from == "built-in"), "{told:?}");
        assert_eq!((told[2].key, told[2].value.as_str()), ("quotas.names", "100000"));
    }

    #[test]
    fn each_key_is_bounded_at_its_edges() {
        for key in &KEYS {
            let with = |number: u32| complaints(&format!("[quotas]\n{} = {number}\n", key.name));
            assert_eq!((with(1), with(MOST)), (vec![], vec![]));
            let default = *(key.of)(&mut Quotas::default());
            for wrong in [0, MOST + 1] {
                let told = format!(
                    "breakerd.toml:2: {} is {wrong}; give 1 to 1000000, or leave it out for {default}",
                    key.full
                );
                assert_eq!(with(wrong), [told]);
            }
        }
    }

    #[test]
    fn what_is_no_quota_is_told_with_the_next_step() {
        for (text, told) in [
            ("[quotas]\nname = 3", "breakerd.toml:2: unknown key name in [quotas]; did you mean names?"),
            ("[quotas]\nnames = \"3\"", "breakerd.toml:2: names takes a whole number, not a text"),
            ("[quotas]\nnames = -1", "breakerd.toml:2: names is -1; it takes a whole number up to 4294967295"),
            ("names_per_user = 3", "breakerd.toml:1: unknown key names_per_user; did you mean quotas.names_per_user?"),
            ("quotas = 3", "breakerd.toml:1: quotas takes a table, not a number"),
        ] {
            assert_eq!(complaints(text), [told], "{text}");
        }
    }
}
