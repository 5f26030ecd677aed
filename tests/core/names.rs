//! Names by the hundred thousand: who makes room, who finds none, and that nobody else notices.

use breakerd_core::{Pattern, PatternPolicy, Quotas, Settings};
use breakerd_proto::message::{Action, PolicyPatch};
use breakerd_proto::{Code, Mode, OnQuota, Override, State, Verdict};

use crate::host::Host;
use crate::script::policy;

const MINUTE: u64 = 60_000;

fn host_with(quotas: Quotas) -> Host {
    Host::new(Settings { default: policy(), quotas, ..Settings::default() })
}

fn small(names: u32, names_per_account: u32) -> Host {
    host_with(Quotas { names, names_per_account, ..Quotas::default() })
}

#[test]
fn a_million_names_one_for_each_request() {
    let mut host = host_with(Quotas::default());
    let other = host.worker(2);
    let openai = host.lane(other, "openai");
    host.fail(openai, 2);
    let mut refused = 0_u64;
    for thousand in 0..1000 {
        // A worker lives for so many requests.
        let flood = host.worker(1);
        for number in 0..1000 {
            let name = format!("user/{thousand}/{number}");
            match host.register_as(flood, &name, None) {
                Ok(registered) => assert_eq!(registered.view.state, State::Closed),
                Err(refusal) => {
                    assert_eq!(refusal.code, Code::Quota, "{refusal}");
                    refused += 1;
                }
            }
        }
        host.pass(1000);
        host.gone(flood);
        let names = host.core.sizes().1;
        assert!(names <= 10_001, "{names} names are kept");
    }
    assert_eq!(host.core.over_quota(), refused, "each call that found no room is counted");
    assert!(refused > 800_000, "10,000 names a minute find room, not {}", 1_000_000 - refused);
    assert_eq!(host.view("openai").state, State::Closed);
    host.fail(openai, 1);
    assert_eq!(host.view("openai").state, State::Open, "the other account's third failure in a row trips");
}

#[test]
fn a_breaker_that_is_idle_makes_room_though_its_worker_lives() {
    [1, 1000].into_iter().for_each(idle_makes_room);
}

fn idle_makes_room(uid: u32) {
    let mut host = small(100, 2);
    let worker = host.worker(uid);
    let (a, b) = (host.lane(worker, "a"), host.lane(worker, "b"));
    assert_eq!(host.register_as(worker, "c", None).unwrap_err().code, Code::Quota, "both were used just now");
    host.pass(MINUTE / 2);
    host.ask(b);
    host.pass(MINUTE / 2);
    host.lane(worker, "c");
    assert!(host.core.view(host.now(), "a").is_err(), "the one that was left alone has gone");
    assert_eq!(host.register_as(worker, "d", None).unwrap_err().code, Code::Quota, "the other was asked about since");
    assert_eq!(host.view("b").state, State::Closed);
    host.pass(MINUTE);
    assert!(matches!(host.ask(a), Verdict::Admit { .. }), "its lane is as good as before");
    assert_eq!(host.lane(worker, "a").number, a.number);
}

#[test]
fn who_holds_a_place_by_right() {
    let mut host = small(100, 6);
    let worker = host.worker(1);
    for name in ["open", "forced", "failing", "closed", "half-open", "shadowed"] {
        host.lane(worker, name);
    }
    let (open, half_open) = (host.lane(worker, "open"), host.lane(worker, "half-open"));
    host.fail(half_open, 3);
    host.pass(MINUTE);
    assert!(matches!(host.ask(half_open), Verdict::Probe { .. }));
    host.fail(open, 3);
    let failing = host.lane(worker, "failing");
    host.fail(failing, 2);
    host.command("forced", Action::Force { to: Override::ForcedClosed, for_ms: None });
    host.command("shadowed", Action::Mode { to: Some(Mode::Shadow) });
    host.pass(2 * MINUTE);
    for room in ["first", "second"] {
        host.lane(worker, room);
    }
    let refusal = host.register_as(worker, "third", None).unwrap_err();
    assert!(refusal.sentence.contains("none is idle"), "{refusal}");
    for (name, kept) in [
        ("open", true),
        ("forced", true),
        ("half-open", true),
        ("shadowed", true),
        ("failing", false),
        ("closed", false),
        ("first", true),
    ] {
        assert_eq!(host.core.view(host.now(), name).is_ok(), kept, "{name}");
    }
}

#[test]
fn a_full_table_takes_the_eldest_of_all_accounts() {
    let mut host = small(3, 10);
    let (one, two) = (host.worker(1), host.worker(2));
    host.lane(one, "one/a");
    host.pass(1);
    host.lane(two, "two/a");
    host.pass(1);
    host.lane(one, "one/b");
    host.pass(MINUTE);
    host.lane(two, "two/b");
    assert!(host.core.view(host.now(), "one/a").is_err());
    host.lane(one, "one/c");
    assert!(host.core.view(host.now(), "two/a").is_err());
    for name in ["one/b", "one/c", "two/b"] {
        host.view(name);
    }
}

#[test]
fn what_was_admitted_before_an_eviction_is_no_evidence_after_it() {
    let mut host = small(100, 1);
    let worker = host.worker(1);
    let a = host.lane(worker, "a");
    host.fail(a, 2);
    let before = host.ask(a).generation();
    host.pass(MINUTE);
    let b = host.lane(worker, "b");
    assert!(matches!(host.ask_with(a, Default::default()), Err(refusal) if refusal.code == Code::Quota), "b is in use");
    host.pass(MINUTE);
    let after = host.ask(a).generation();
    assert!(after > before, "I4: a generation never falls, by an eviction either");
    host.report_failure(a, before);
    host.fail(a, 2);
    assert_eq!(host.view("a").state, State::Closed, "two in a row since it was made anew");
    assert_eq!(host.core.stale_reports(), 1);
    host.fail(a, 1);
    assert_eq!(host.view("a").state, State::Open);
    assert!(host.core.view(host.now(), "b").is_err() && b.number != a.number);
}

#[test]
fn a_policy_that_code_declared_survives_an_eviction() {
    let mut host = small(100, 1);
    let worker = host.worker(1);
    let declared = PolicyPatch { consecutive_failures: Some(1), ..PolicyPatch::default() };
    let number = host.register_as(worker, "a", Some(declared)).unwrap().lane;
    host.pass(MINUTE);
    host.lane(worker, "b");
    host.pass(MINUTE);
    host.fail(crate::host::Lane { connection: worker, number }, 1);
    assert_eq!(host.view("a").state, State::Open, "one failure trips");
}

#[test]
fn a_name_without_room_is_rejected_where_its_policy_says_so() {
    let strict = PatternPolicy {
        pattern: Pattern::parse("strict/*").unwrap(),
        patch: PolicyPatch { on_quota: Some(OnQuota::Reject), ..PolicyPatch::default() },
    };
    let quotas = Quotas { names_per_account: 1, ..Quotas::default() };
    let mut host = Host::new(Settings { quotas, patterns: vec![strict], ..Settings::default() });
    let worker = host.worker(1);
    host.lane(worker, "a");
    for (name, code) in [("b", Code::Quota), ("strict/b", Code::QuotaRejects)] {
        assert_eq!(host.register_as(worker, name, None).unwrap_err().code, code, "{name}");
    }
    let declared = PolicyPatch { on_quota: Some(OnQuota::Reject), ..PolicyPatch::default() };
    assert_eq!(host.register_as(worker, "c", Some(declared)).unwrap_err().code, Code::QuotaRejects);
    assert_eq!(host.core.over_quota(), 3);
    host.lane(worker, "a");
}

#[test]
fn a_connection_that_has_all_its_lanes_keeps_those() {
    let mut host = host_with(Quotas { lanes_per_connection: 2, ..Quotas::default() });
    let worker = host.worker(1);
    let (a, b) = (host.lane(worker, "b"), host.lane(worker, "a"));
    assert_eq!(host.register_as(worker, "c", None).unwrap_err().code, Code::Quota);
    assert_eq!((host.lane(worker, "b").number, host.lane(worker, "a").number), (a.number, b.number));
}

#[test]
fn rest_is_not_to_be_seen() {
    let mut host = host_with(Quotas::default());
    let (one, two) = (host.worker(1), host.worker(2));
    let lane = host.lane(one, "a");
    host.lane(two, "a");
    host.succeed(lane);
    let seen = |host: &Host| {
        let mut row = host.core.describe(host.now(), 0, "a", 0).unwrap();
        row.row.view.age_ms = 0;
        row
    };
    let before = seen(&host);
    host.pass(10 * MINUTE);
    assert_eq!(host.core.poll_timeout(), None, "nobody need wake for it");
    assert_eq!(seen(&host), before);
    assert_eq!(host.core.page(host.now(), 0, "").rows.len(), 1);
    host.gone(two);
    host.fail(lane, 2);
    host.pass(10 * MINUTE);
    host.fail(lane, 1);
    assert_eq!(host.view("a").state, State::Open, "what it must remember it remembers");
    host.gone(one);
    assert!(host.core.is_settled());
}

#[test]
fn only_the_daemons_configuration_says_where_to_connect() {
    let mut host = host_with(Quotas::default());
    let worker = host.worker(1);
    let declared = PolicyPatch { probe_connect: Some("10.0.0.1:22".to_owned()), ..PolicyPatch::default() };
    let refusal = host.register_as(worker, "a", Some(declared)).unwrap_err();
    assert_eq!(refusal.code, Code::BadArgument);
    assert!(refusal.sentence.contains("probe.connect") && refusal.sentence.contains("configuration"), "{refusal}");
    assert_eq!(host.core.sizes().1, 0, "nothing was kept of it");
}
