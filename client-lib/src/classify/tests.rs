#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use breakerd_proto::message::PolicyPatch;

use super::http::Answer;
use super::*;

const PLAIN: Terms<'static> = Terms { is_probe: false, source: Source::Test(AuthErrors::Ignored) };
const STRICT: Terms<'static> = Terms { source: Source::Test(AuthErrors::Failure), ..PLAIN };
const PROBE: Terms<'static> = Terms { is_probe: true, ..PLAIN };

#[track_caller]
fn check(terms: Terms<'_>, statuses: impl IntoIterator<Item = u16>, word: &str) {
    for status in statuses {
        let outcome = terms.outcome(&Answer::new(status));
        assert_eq!(outcome.word(), word, "{status}");
        if let Outcome::Failure(failure) = outcome {
            assert_eq!((failure.kind, failure.detail), (format!("http-{status}"), String::new()));
        }
    }
}

#[test]
fn each_status_by_the_table() {
    check(PLAIN, 100..400, "success");
    check(PLAIN, [408, 429], "failure");
    check(PLAIN, 500..600, "failure");
    check(PLAIN, [401, 403], "ignored");
    check(STRICT, [401, 403], "failure");
    for terms in [PLAIN, STRICT, PROBE] {
        check(terms, (400..500).filter(|status| ![401, 403, 408, 429].contains(status)), "ignored");
    }
}

#[test]
fn a_failure_carries_the_providers_code_and_its_wish() {
    let answer = Answer::new(429).with_code("insufficient_quota").with_headers([("Retry-After", &b"2"[..])]);
    let Outcome::Failure(failure) = PLAIN.outcome(&answer) else { unreachable!() };
    assert_eq!((failure.kind.as_str(), failure.detail.as_str()), ("http-429", "429 insufficient_quota"));
    assert_eq!(failure.retry_after_ms, Some(2000));
    let later = answer.with_headers([("retry-after-ms", &b"500"[..])]);
    assert_eq!(later.failure().retry_after_ms, Some(2000), "the latest stands");
}

#[test]
fn ones_own_word_stands_but_a_429_fails_a_probe() {
    let ignored = || Some(Outcome::Ignored);
    let words = |terms: Terms<'_>, own: &dyn Fn() -> Option<Outcome>| {
        [200, 429, 503].map(|status| terms.outcome_or(own(), &Answer::new(status)).word())
    };
    assert_eq!(words(PLAIN, &ignored), ["ignored", "ignored", "ignored"]);
    assert_eq!(words(PROBE, &ignored), ["ignored", "failure", "ignored"]);
    assert_eq!(words(PROBE, &|| Some(Outcome::SUCCESS)), ["success", "failure", "success"]);
    assert_eq!(words(PROBE, &|| None), ["success", "failure", "failure"]);
    let own = PROBE.outcome_or(Some(Outcome::failure("busy")), &Answer::new(429));
    assert_eq!(own, Outcome::failure("busy"), "a failure is told in one's own words");
}

#[test]
fn refused_credentials_are_warned_of_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let warn: Warn = Arc::new(move |said: &str| keep.lock().unwrap().push(said.to_owned()));
    for auth_errors in [AuthErrors::Failure, AuthErrors::Ignored] {
        let declared = PolicyPatch { auth_errors: Some(auth_errors), ..PolicyPatch::default() };
        let breaker = Known::new(Name::parse("openai").unwrap(), Some(declared), Some(Arc::clone(&warn)));
        for status in [200, 404, 401, 403, 401] {
            drop(Terms::of(&breaker, false).outcome(&Answer::new(status)));
        }
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.first().unwrap().starts_with("openai: the provider answered 401, which is not counted"), "{told:?}");
}

#[test]
fn any_other_error_is_known_by_its_type() {
    for (name, expect) in [
        ("reqwest::error::Error", "reqwest::Error"),
        ("alloc::boxed::Box<dyn core::error::Error>", "Box"),
        ("std::io::error::Error", "Error"),
        ("MyError", "MyError"),
        ("&str", "&str"),
    ] {
        assert_eq!(type_word(name), expect);
    }
    assert_eq!(by_type(&Ok::<_, String>(1), PLAIN), Outcome::SUCCESS);
    assert_eq!(by_type(&Err::<(), _>("secret".to_owned()), PLAIN), Outcome::failure("String"));
}
