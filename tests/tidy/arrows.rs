//! Which crate may depend on which, and which file may name what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use breakerd_tests::daemon::workspace;

use crate::files::{assert_none, sources};

/// The arrows: a crate and the crates of the project that it may depend on.
const ARROWS: [(&str, &[&str]); 5] = [
    ("proto", &[]),
    ("daemon/core", &["breakerd-proto"]),
    ("daemon", &["breakerd-proto", "breakerd-core", "breakerd-client"]),
    ("client-lib", &["breakerd-proto", "breakerd-core"]),
    ("tests", &["breakerd-proto", "breakerd-core", "breakerd-client"]),
];

/// Everything that the crate at the bottom and the pure one may depend on at all.
const FEW: [(&str, &[&str]); 2] =
    [("proto", &["bincode", "rustix", "serde"]), ("daemon/core", &["breakerd-proto", "fastrand"])];

/// What a word in shipped code means, and the only places that may have it.
const PLACES: [(&str, &[&str], &str); 8] = [
    ("bincode", &["proto/src/codec.rs"], "the encoding is one file's business"),
    ("redis::", &["daemon/src/fleet/"], "only the fleet's folder knows Redis"),
    ("clock_gettime", &["proto/src/clock.rs"], "one file reads clocks"),
    ("SystemTime", &["proto/src/clock.rs"], "one file reads clocks"),
    ("Instant", &["proto/src/clock.rs"], "one file reads clocks; an instant is a `Mono`"),
    ("interprocess", &["daemon/src/", "client-lib/src/"], "core and proto do no I/O"),
    ("tokio", &["daemon/src/", "client-lib/src/"], "core and proto know no runtime"),
    ("std::thread", &["daemon/src/", "client-lib/src/"], "core and proto start nothing"),
];

fn manifest(of: &str) -> toml::Table {
    let path = workspace().join(of).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).parse().unwrap()
}

fn dependencies(of: &str) -> BTreeSet<String> {
    manifest(of)
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::keys)
        .cloned()
        .collect()
}

#[test]
fn arrows_point_inward() {
    let mut wrong = Vec::new();
    for (of, may) in ARROWS {
        let ours = dependencies(of).into_iter().filter(|name| name.starts_with("breakerd"));
        wrong.extend(ours.filter(|name| !may.contains(&name.as_str())).map(|name| format!("{of} depends on {name}")));
    }
    assert_none(&wrong);
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_here() {
    let root = manifest(".");
    let members = root["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<&str> = members.iter().map(|member| member.as_str().unwrap()).collect();
    assert_eq!(members, ARROWS.iter().map(|(of, _)| *of).collect());
}

#[test]
fn proto_and_core_depend_on_little() {
    let mut wrong = Vec::new();
    for (of, may) in FEW {
        let more = dependencies(of).into_iter().filter(|name| !may.contains(&name.as_str()));
        wrong.extend(more.map(|name| format!("{of} depends on {name}; it may depend on {may:?}")));
    }
    assert_none(&wrong);
}

#[test]
fn every_crate_keeps_the_workspace_s_lints_and_licence() {
    for (of, _) in ARROWS {
        let manifest = manifest(of);
        let inherits = |table: &toml::Value| table.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        assert!(manifest.get("lints").is_some_and(inherits), "{of}: no `[lints] workspace = true`");
        assert!(manifest["package"].get("license").is_some_and(inherits), "{of}: no `license.workspace = true`");
    }
}

#[test]
fn every_word_is_where_it_may_be() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).into_iter().filter(|source| !source.is_test()) {
        for (at, line) in source.shipped() {
            for (word, places, why) in PLACES {
                let allowed = places.iter().any(|place| source.path.starts_with(place));
                if !allowed && has_word(line, word) {
                    wrong.push(format!("{}:{at}: {word}: {why}", source.path));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// Whether the word stands in the line by itself and not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part) && !word.ends_with(':');
        !before && !after
    })
}

#[test]
fn a_word_is_no_part_of_another() {
    assert!(has_word("use redis::Client;", "redis::"));
    assert!(has_word("let at = Instant::now();", "Instant"));
    assert!(!has_word("let redis_url = fleet.redis;", "redis::"));
    assert!(!has_word("struct Instantly;", "Instant"));
}

#[test]
fn core_has_no_unordered_map_and_no_async() {
    let banned = BTreeMap::from([
        ("HashMap", "its order differs from run to run (I2): BTreeMap"),
        ("HashSet", "its order differs from run to run (I2): BTreeSet"),
        ("async", "core is called, it never waits"),
        ("Mutex", "core has one owner"),
        ("std::fs", "core does no I/O"),
        ("std::net", "core does no I/O"),
        ("std::env", "core is told everything by its settings"),
    ]);
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).into_iter().filter(|source| source.path.starts_with("daemon/core/src/")) {
        for (at, line) in source.shipped() {
            for (word, why) in banned.iter().filter(|(word, _)| has_word(line, word)) {
                wrong.push(format!("{}:{at}: {word}: {why}", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn core_s_clippy_bans_are_the_root_s_and_more() {
    let bans = |path: &str| -> BTreeSet<String> {
        let table: toml::Table = fs::read_to_string(workspace().join(path)).unwrap().parse().unwrap();
        table["disallowed-methods"].as_array().unwrap().iter().map(|ban| format!("{ban:?}")).collect()
    };
    let (root, core) = (bans("clippy.toml"), bans("daemon/core/clippy.toml"));
    assert_eq!(root.difference(&core).collect::<Vec<_>>(), Vec::<&String>::new(), "clippy reads the nearest file only");
}
