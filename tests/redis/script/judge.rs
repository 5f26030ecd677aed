//! How each op is judged, and what it makes of a breaker.

use breakerd_core::fleet::{Event, OpKind, OpResult, Value};
use breakerd_proto::{Override, State};

use super::*;

fn renew(lease_id: &str) -> OpKind {
    OpKind::Renew { lease_id: lease_id.to_owned(), lease_ms: 10_000 }
}

fn free(lease_id: &str) -> OpKind {
    OpKind::Free { lease_id: lease_id.to_owned() }
}

fn reset(expected: Option<u64>) -> OpKind {
    OpKind::Reset { expected }
}

fn release(expected: Option<u64>) -> OpKind {
    OpKind::Release { expected }
}

fn force(to: Override, duration_ms: Option<u64>) -> OpKind {
    OpKind::Force { to, duration_ms }
}

fn extend(expected: u64, duration_ms: u64) -> OpKind {
    OpKind::Extend { expected, duration_ms }
}

/// A trip with no cooldown, at this step of the backoff.
fn trip_at(expected: u64, step: u32) -> OpKind {
    OpKind::Trip { expected, duration_ms: 0, step }
}

/// State, override, lease, successes, steps, and whether a closed one has kept the length of its last cooldown: what a
/// person would say of a value.
fn told(value: &Value) -> String {
    let forced = value.forced.map_or("", Override::word);
    let kept = if value.state == State::Closed && value.duration_ms > 0 { " kept" } else { "" };
    format!("{} {forced}[{}] {}/{}{kept}", value.state, value.lease_id, value.successes, value.step)
}

/// What has happened, then an op, its judgement, and what stands there after it. A cooldown or lease of 0 ms is over at
/// once. The versions count from 2^20 + 1 in each row.
#[test]
fn every_op_in_every_state() {
    const V: u64 = 1 << 20;
    let minute = 60_000;
    let open = || vec![trip_now(minute)];
    let over = || vec![trip_now(0)];
    let probing = || vec![trip_now(0), probe("a", minute)];
    let forced = || vec![trip_now(0), force(Override::ForcedOpen, None)];
    let rows: Vec<(Vec<OpKind>, OpKind, OpResult, &str)> = vec![
        (vec![], trip(V, minute), OpResult::Ok, "open [] 0/0"),
        (vec![], trip(0, minute), OpResult::Ok, "open [] 0/0"),
        (open(), trip_now(minute), OpResult::Stale, "open [] 0/0"),
        (probing(), trip_now(minute), OpResult::Stale, "half-open [a] 0/0"),
        (vec![reset(None)], trip(V, minute), OpResult::Stale, "closed [] 0/0"),
        (vec![reset(None)], trip(V + 1, minute), OpResult::Ok, "open [] 0/0"),
        (vec![], trip_at(V, 3), OpResult::Ok, "open [] 0/3"),
        (vec![], trip_at(V, u32::MAX), OpResult::Ok, "open [] 0/4294967295"),
        (vec![trip_at(V, 3), probe("a", minute)], pfail("a", minute), OpResult::Ok, "open [] 0/4"),
        (vec![trip_at(V, u32::MAX), probe("a", minute)], pfail("a", 9), OpResult::Ok, "open [] 0/4294967295"),
        (vec![trip_at(V, 3), probe("a", minute)], pok("a", 1, 1), OpResult::Ok, "closed [] 0/3 kept"),
        (vec![trip_at(V, 3), probe("a", minute)], reset(None), OpResult::Ok, "closed [] 0/0"),
        (vec![], probe("a", minute), OpResult::Stale, "closed [] 0/0"),
        (open(), probe("a", minute), OpResult::Wait, "open [] 0/0"),
        (over(), probe("a", minute), OpResult::Ok, "half-open [a] 0/0"),
        (probing(), probe("b", minute), OpResult::Wait, "half-open [a] 0/0"),
        (vec![trip_now(0), probe("a", 0)], probe("b", minute), OpResult::Ok, "half-open [b] 0/0"),
        (probing(), renew("a"), OpResult::Ok, "half-open [a] 0/0"),
        (probing(), renew("b"), OpResult::Stale, "half-open [a] 0/0"),
        (open(), renew("a"), OpResult::Stale, "open [] 0/0"),
        (probing(), free("a"), OpResult::Ok, "half-open [] 0/0"),
        (probing(), free("b"), OpResult::Stale, "half-open [a] 0/0"),
        (vec![trip_now(0), probe("a", minute), free("a")], free("a"), OpResult::Stale, "half-open [] 0/0"),
        (vec![trip_now(0), probe("a", minute), free("a")], probe("b", minute), OpResult::Ok, "half-open [b] 0/0"),
        (probing(), pok("a", 1, 2), OpResult::Ok, "half-open [] 1/0"),
        (vec![trip_now(0), probe("a", 0), pok("a", 1, 2)], probe("b", minute), OpResult::Ok, "half-open [b] 1/0"),
        (probing(), pok("a", 2, 2), OpResult::Ok, "closed [] 0/0 kept"),
        (probing(), pok("a", 0, 0), OpResult::Ok, "closed [] 0/0 kept"),
        (probing(), pok("b", 2, 2), OpResult::Stale, "half-open [a] 0/0"),
        (open(), pok("a", 1, 1), OpResult::Stale, "open [] 0/0"),
        (probing(), pfail("a", minute), OpResult::Ok, "open [] 0/1"),
        (probing(), pfail("b", minute), OpResult::Stale, "half-open [a] 0/0"),
        (vec![trip_now(0), probe("a", 0), pfail("a", 0), probe("b", 0)], pfail("b", 9), OpResult::Ok, "open [] 0/2"),
        (vec![trip_now(0), probe("a", 0), pfail("a", 0), reset(None)], trip_now(9), OpResult::Ok, "open [] 0/0"),
        (open(), extend(V + 1, minute * 2), OpResult::Ok, "open [] 0/0"),
        (open(), extend(V + 1, 1), OpResult::Noop, "open [] 0/0"),
        (open(), extend(V, minute * 2), OpResult::Stale, "open [] 0/0"),
        (probing(), extend(V + 2, minute), OpResult::Stale, "half-open [a] 0/0"),
        (vec![], reset(None), OpResult::Ok, "closed [] 0/0"),
        (open(), reset(Some(V + 1)), OpResult::Ok, "closed [] 0/0"),
        (open(), reset(Some(V)), OpResult::Stale, "open [] 0/0"),
        (probing(), reset(None), OpResult::Ok, "closed [] 0/0"),
        (vec![], force(Override::ForcedOpen, None), OpResult::Ok, "closed forced-open[] 0/0"),
        (open(), force(Override::ForcedClosed, Some(minute)), OpResult::Ok, "open forced-closed[] 0/0"),
        (forced(), trip_now(minute), OpResult::Stale, "open forced-open[] 0/0"),
        (forced(), probe("a", minute), OpResult::Stale, "open forced-open[] 0/0"),
        (forced(), extend(V + 2, minute), OpResult::Stale, "open forced-open[] 0/0"),
        (forced(), reset(None), OpResult::Ok, "closed forced-open[] 0/0"),
        (forced(), release(None), OpResult::Ok, "open [] 0/0"),
        (forced(), release(Some(V + 2)), OpResult::Ok, "open [] 0/0"),
        (forced(), release(Some(V + 1)), OpResult::Stale, "open forced-open[] 0/0"),
        (open(), release(None), OpResult::Noop, "open [] 0/0"),
    ];
    let mut fleet = Fleet::empty();
    for (before, kind, result, after) in rows {
        fleet.ask(&["FLUSHALL"]);
        assert_eq!(fleet.init("", 0, EPOCH).code, "OK");
        for kind in &before {
            assert_eq!(fleet.one("openai", kind.clone()).0, OpResult::Ok, "{kind:?} of {before:?}");
        }
        let head = fleet.head();
        let (judged, value) = fleet.one("openai", kind.clone());
        assert_eq!((judged, told(&value).as_str()), (result, after), "{kind:?} after {before:?}");
        let changed = fleet.head() != head;
        assert_eq!(changed, result == OpResult::Ok, "a version for each change and for nothing else: {kind:?}");
        assert_eq!(fleet.stored("openai").is_some(), value.is_held(), "{kind:?} after {before:?}");
        if changed {
            assert_eq!(value.version, V + 1 + u64::try_from(before.len()).unwrap());
        }
    }
}

#[test]
fn a_trip_says_when_it_ends_and_who_made_it_and_a_probe_leaves_that() {
    let mut fleet = Fleet::begun();
    let answer = fleet.apply(&[op("openai", trip_now(0))]);
    let tripped = answer.results[0].1.clone().unwrap();
    assert_eq!((tripped.by.as_str(), tripped.why.as_str()), (BY, WHY));
    assert_eq!((tripped.duration_ms, tripped.until_ms), (0, answer.now_ms));
    let (_, probing) = fleet.one("openai", probe("a", 10_000));
    assert_eq!((probing.by.as_str(), probing.holder.as_str()), (BY, "web-1.0a1b2c3d"));
    assert!(probing.lease_until_ms >= answer.now_ms + 10_000);
}

#[test]
fn a_later_deadline_lengthens_what_other_hosts_believe() {
    let mut fleet = Fleet::begun();
    let (_, open) = fleet.one("openai", trip_now(15_000));
    let (_, longer) = fleet.one("openai", extend(open.version, 60_000));
    assert!(longer.until_ms >= open.until_ms + 44_000);
    assert_eq!(longer.duration_ms, 60_000);
}

#[test]
fn an_override_has_the_end_that_was_asked_for() {
    let mut fleet = Fleet::begun();
    let answer = fleet.apply(&[op("openai", force(Override::ForcedOpen, Some(600_000)))]);
    assert_eq!(answer.results[0].1.as_ref().unwrap().forced_until_ms, answer.now_ms + 600_000);
    let (_, value) = fleet.one("openai", force(Override::ForcedOpen, None));
    assert_eq!(value.forced_until_ms, 0);
}

#[test]
fn a_trip_is_published_as_this_line() {
    let mut fleet = Fleet::begun();
    let mut subscriber = fleet.subscriber();
    let answer = fleet.apply(&[op("openai", trip_now(15_000))]);
    let (now, until) = (answer.now_ms, answer.now_ms + 15_000);
    let expected = format!(
        "B1 {EPOCH} 1048577 1 00000001 00000002 {now}\nopenai\t1048577|O|15000|{until}|||0|0|0|0|-|0|{BY}|{WHY}"
    );
    assert_eq!(message(&mut subscriber), expected);
}

#[test]
fn a_batch_is_one_event_and_one_entry_of_the_log() {
    let mut fleet = Fleet::begun();
    let mut subscriber = fleet.subscriber();
    let before = fleet.head().unwrap();
    let ops = [
        op("openai", trip_now(0)),
        op("stripe", OpKind::Free { lease_id: "x".to_owned() }),
        op("openai", probe("a", 10_000)),
        op("psp", reset(None)),
        op("openai", pok("a", 1, 1)),
    ];
    let answer = fleet.apply(&ops);
    use OpResult::{Ok, Stale};
    assert_eq!(answer.words(), [Ok, Stale, Ok, Ok, Ok]);
    let text = message(&mut subscriber);
    let Event::Batch(batch) = event(&text) else { panic!("{text}") };
    let names: Vec<&str> = batch.changes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["openai", "openai", "psp", "openai"]);
    let states: Vec<State> = batch.changes.iter().map(|(_, value)| value.state).collect();
    assert_eq!(states, [State::Open, State::HalfOpen, State::Closed, State::Closed]);
    assert_eq!((batch.first, batch.tag_before), (before.seq + 1, before.tag));
    assert_eq!(Some(batch.position()), answer.head);
    assert_eq!(fleet.head(), answer.head);
    assert_eq!(fleet.stored("openai"), None);
    let Reply::Many(entries) = fleet.ask(&["XRANGE", LOG, &batch.first.to_string(), "+"]) else { panic!("no log") };
    assert_eq!(entries.len(), 1);
    let Reply::Many(entry) = &entries[0] else { panic!("no entry") };
    assert_eq!(entry[0], Reply::Text(format!("{}-0", batch.first)));
    assert_eq!(entry[1], Reply::Many(vec![Reply::Text("e".to_owned()), Reply::Text(text)]));
}

#[test]
fn what_changes_nothing_is_not_published() {
    let mut fleet = Fleet::begun();
    let mut subscriber = fleet.subscriber();
    fleet.one("openai", probe("a", 10_000));
    fleet.one("openai", release(None));
    fleet.ask(&["PUBLISH", CHANNEL, "the test's own"]);
    assert_eq!(message(&mut subscriber), "the test's own");
}

#[test]
fn a_closed_breaker_leaves_the_table_and_its_version_stays() {
    let mut fleet = Fleet::begun();
    fleet.one("openai", trip_now(0));
    let (_, closed) = fleet.one("openai", reset(None));
    assert_eq!(fleet.stored("openai"), None);
    assert_eq!(fleet.ask(&["ZSCORE", CLOSED, "openai"]), Reply::Text(closed.version.to_string()));
    assert_eq!(fleet.one("openai", trip(closed.version - 1, 9)).0, OpResult::Stale, "evidence from before the reset");
    assert_eq!(fleet.one("openai", trip(closed.version, 9)).0, OpResult::Ok);
    assert_eq!(fleet.ask(&["ZSCORE", CLOSED, "openai"]), Reply::Nil);
}

#[test]
fn an_author_may_write_what_he_likes() {
    let mut fleet = Fleet::begun();
    let mut subscriber = fleet.subscriber();
    let because = Because::new("naïve|user", "100 % |\n\t\u{1b}[31m„why“");
    let op = Op { because, ..op("openai", trip_now(0)) };
    assert_eq!(fleet.apply(&[op]).words(), [OpResult::Ok]);
    let text = message(&mut subscriber);
    let Event::Batch(batch) = event(&text) else { panic!("{text}") };
    assert_eq!(batch.changes[0].1.by, "naïve|user");
    assert_eq!(batch.changes[0].1.why, "100 % |   [31m„why“");
}

#[test]
fn fields_of_a_newer_writer_pass_through() {
    let mut fleet = Fleet::begun();
    let stored = "1048577|O|0|0|||0|0|0|0|-|0|a|b|new|99";
    fleet.ask(&["HSET", TABLE, "openai", stored]);
    let (result, value) = fleet.one("openai", probe("a", 10_000));
    assert_eq!((result, value.extra.as_str()), (OpResult::Ok, "|new|99"));
    assert_eq!(fleet.stored("openai").unwrap().extra, "|new|99");
}

#[test]
fn a_clock_that_was_set_back_sticks_nothing() {
    let mut fleet = Fleet::begun();
    let far = fleet.apply(&[]).now_ms + 3_600_000;
    fleet.ask(&["HSET", TABLE, "openai", &format!("1048577|O|15000|{far}|||0|0|0|0|-|0||")]);
    assert_eq!(fleet.one("openai", probe("a", 10_000)).0, OpResult::Ok);
    fleet.ask(&["HSET", TABLE, "openai", &format!("1048577|H|15000|1|a|web-1|{far}|0|0|0|-|0||")]);
    assert_eq!(fleet.one("openai", probe("b", 10_000)).0, OpResult::Ok);
}
