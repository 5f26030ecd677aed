//! Ways of writing that the compiler lets pass.

use crate::files::{assert_none, sources};

/// What must not stand in shipped Rust, and what to write instead.
const BANS: [(&str, &str); 9] = [
    ("anyhow", "one error enum per crate, its variants are facts"),
    ("Box<dyn Error", "one error enum per crate, its variants are facts"),
    ("Box<dyn std::error::Error", "one error enum per crate, its variants are facts"),
    ("Other(String)", "a variant for each fact"),
    ("unbounded", "every queue has a bound and a rule for it"),
    ("unimplemented!", "finish it or leave it out"),
    ("TODO", "an issue, not a comment"),
    ("FIXME", "an issue, not a comment"),
    ("#[ignore", "a test that does not run is no test"),
];

/// The same for tests.
const TEST_BANS: [(&str, &str); 3] = [
    ("thread::sleep", "wait for a condition"),
    ("#[ignore", "a test that does not run is no test"),
    ("should_panic", "say which value or error you expect"),
];

#[test]
fn shipped_code_keeps_the_rules() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).into_iter().filter(|source| !source.is_test()) {
        for (at, line) in source.text.lines().enumerate() {
            for (what, instead) in BANS.iter().filter(|(what, _)| line.contains(what)) {
                wrong.push(format!("{}:{}: {what}: {instead}", source.path, at + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn tests_keep_the_rules() {
    let mut wrong = Vec::new();
    let this = "tests/tidy/rules.rs";
    for source in sources(&["rs"]).into_iter().filter(|source| source.is_test() && source.path != this) {
        for (at, line) in source.text.lines().enumerate() {
            for (what, instead) in TEST_BANS.iter().filter(|(what, _)| line.contains(what)) {
                wrong.push(format!("{}:{}: {what}: {instead}", source.path, at + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn whoever_allows_a_banned_method_says_why() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]) {
        for (at, line) in source.text.lines().enumerate() {
            let allows = line.contains("allow(") && line.contains("clippy::disallowed");
            if allows && !line.contains("reason = ") && source.path != "tests/tidy/rules.rs" {
                wrong.push(format!("{}:{}: no reason = \"…\"", source.path, at + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).into_iter().filter(|source| source.path != "tests/tidy/rules.rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let said = lines[at.saturating_sub(8)..at].iter().any(|line| line.contains("SAFETY:"));
            if !said {
                wrong.push(format!("{}:{}: no `// SAFETY:` above", source.path, at + 1));
            }
        }
    }
    assert_none(&wrong);
}
