//! What the scripts refuse, what they bound, and what they leave behind when something fails.

use breakerd_core::fleet::{Event, OpKind, OpResult};
use breakerd_proto::Override;

use super::*;

const OTHER: &str = "00000000000000bb";

fn words(op: &Op) -> Vec<String> {
    op.words().to_vec()
}

#[test]
fn whole_calls_are_refused_before_anything_is_written() {
    let mut fleet = Fleet::empty();
    let trip = words(&op("openai", trip_now(9)));
    assert_eq!(fleet.apply_as(EPOCH, "0", trip.clone()).code, "NOEPOCH");
    fleet.init("", 0, EPOCH);
    let head = fleet.head();
    assert_eq!(fleet.apply_as(OTHER, "0", trip.clone()).code, "EPOCH");
    assert_eq!(fleet.apply_as("", "0", trip.clone()).code, "EPOCH");
    let now_ms = fleet.apply(&[]).now_ms;
    for deadline in ["1", "soon", &(now_ms - 1).to_string()] {
        let answer = fleet.apply_as(EPOCH, deadline, trip.clone());
        assert_eq!((answer.code.as_str(), answer.head), ("EXPIRED", head));
    }
    assert_eq!(fleet.head(), head);
    assert_eq!(fleet.apply_as(EPOCH, &(now_ms + 60_000).to_string(), trip).code, "OK");
}

#[test]
fn the_second_to_begin_an_epoch_is_told_of_the_first() {
    let mut fleet = Fleet::empty();
    let mut subscriber = fleet.subscriber();
    let first = fleet.init("", 0, EPOCH);
    assert_eq!(fleet.init("", 0, OTHER).code, "EPOCH");
    let Event::Epoch(new) = event(&message(&mut subscriber)) else { panic!("no new epoch") };
    assert_eq!((Some(new.position), new.old), (first.head, None));
    let again = fleet.init(EPOCH, 0, OTHER);
    assert_eq!(again.code, "OK");
    let Event::Epoch(new) = event(&message(&mut subscriber)) else { panic!("no new epoch") };
    assert_eq!(new.old.unwrap().to_string(), EPOCH);
    assert_eq!(fleet.init(EPOCH, 0, "00000000000000cc").code, "EPOCH", "another host was first");
    assert_eq!(fleet.head(), again.head);
}

#[test]
fn a_new_epoch_keeps_the_table_and_numbers_above_all_that_anybody_knew() {
    let mut fleet = Fleet::begun();
    let (_, open) = fleet.one("openai", trip_now(60_000));
    let knew = open.version + 500;
    let rotated = fleet.init(EPOCH, knew, OTHER).head.unwrap();
    assert_eq!(rotated.seq, knew + (1 << 20));
    assert_eq!(fleet.stored("openai"), Some(open));
    let Reply::Many(entries) = fleet.ask(&["XRANGE", LOG, "-", "+"]) else { panic!("no log") };
    assert_eq!(entries.len(), 1, "the log begins with the epoch");
    fleet.ask(&["DEL", TABLE]);
    let after = fleet.init(OTHER, rotated.seq, EPOCH).head.unwrap();
    assert_eq!(after.seq, rotated.seq + (1 << 20));
}

#[test]
fn a_head_that_cannot_be_read_is_begun_anew() {
    for (field, text) in [("!s", "many"), ("!t", ""), ("!e", "short")] {
        let mut fleet = Fleet::begun();
        fleet.ask(&["HSET", TABLE, field, text]);
        assert_eq!(fleet.init("", 0, OTHER).code, "OK", "{field}");
        assert_eq!(fleet.head().unwrap().epoch.to_string(), OTHER);
    }
}

#[test]
fn large_versions_are_exact() {
    let mut fleet = Fleet::empty();
    let seq = (1 << 53) - (1 << 21);
    fleet.init("", seq, EPOCH);
    let (_, value) = fleet.one("openai", trip_now(60_000));
    assert_eq!(value.version, seq + (1 << 20) + 1);
    let (_, closed) = fleet.one("openai", OpKind::Reset { expected: Some(value.version) });
    assert_eq!(fleet.one("openai", trip(closed.version - 1, 9)).0, OpResult::Stale);
    assert_eq!(fleet.one("openai", trip(closed.version, 9)).0, OpResult::Ok);
}

#[test]
fn bad_ops_are_named_and_leave_the_others_alone() {
    let mut fleet = Fleet::begun();
    let good = words(&op("openai", trip_now(9)));
    let bad = |at: usize, text: &str| {
        let mut op = good.clone();
        op[at] = text.to_owned();
        op
    };
    let ops = [
        bad(0, "open"),
        bad(0, "__index"),
        bad(1, "!e"),
        bad(1, "a b"),
        bad(1, ""),
        bad(1, &"a".repeat(129)),
        bad(2, "-1"),
        bad(2, "1e3"),
        bad(3, "99999999999999999"),
        bad(3, "9007199254740992"),
        bad(4, ""),
        bad(4, "-1"),
        bad(4, "4294967296"),
        bad(6, "a\nb"),
        bad(7, "a|b"),
        bad(7, &"a".repeat(481)),
        good.clone(),
        good[..7].to_vec(),
    ];
    let answer = fleet.apply_as(EPOCH, "0", ops.concat());
    let mut expected = vec![OpResult::BadOp; 18];
    expected[16] = OpResult::Ok;
    assert_eq!(answer.words(), expected);
}

#[test]
fn the_table_takes_20000_names_and_every_override() {
    let mut fleet = Fleet::begun();
    for thousand in 0..20 {
        let names: Vec<String> = (0..1000).map(|n| format!("b{thousand}-{n}")).collect();
        let mut command = vec!["HSET", TABLE];
        names.iter().for_each(|name| command.extend([name.as_str(), "1|O|0|0|||0|0|0|0|-|0||"]));
        fleet.ask(&command);
    }
    assert_eq!(fleet.one("openai", trip_now(9)).0, OpResult::Full);
    assert_eq!(fleet.one("b0-0", probe("a", 9)).0, OpResult::Ok, "what is in it goes on");
    let force = OpKind::Force { to: Override::ForcedOpen, duration_ms: None };
    assert_eq!(fleet.one("openai", force).0, OpResult::Ok);
    let ops = [
        op("b0-1", OpKind::Reset { expected: None }),
        op("b0-2", OpKind::Reset { expected: None }),
        op("stripe", trip_now(9)),
        op("psp", trip_now(9)),
    ];
    use OpResult::{Full, Ok};
    assert_eq!(fleet.apply(&ops).words(), [Ok, Ok, Ok, Full]);
}

#[test]
fn the_oldest_of_20000_closed_names_give_way_to_the_floor() {
    let mut fleet = Fleet::begun();
    for thousand in 0..20 {
        let pairs: Vec<[String; 2]> =
            (0..1000).map(|n| [(thousand * 1000 + n).to_string(), format!("b{thousand}-{n}")]).collect();
        let mut command = vec!["ZADD", CLOSED];
        pairs.iter().flatten().for_each(|word| command.push(word));
        fleet.ask(&command);
    }
    let (result, _) = fleet.one("openai", OpKind::Reset { expected: None });
    assert_eq!(result, OpResult::Ok);
    assert_eq!(fleet.ask(&["ZCARD", CLOSED]), Reply::Number(20_000));
    assert_eq!(fleet.ask(&["HGET", TABLE, "!f"]), Reply::Text("0".to_owned()));
    fleet.one("stripe", OpKind::Reset { expected: None });
    assert_eq!(fleet.ask(&["HGET", TABLE, "!f"]), Reply::Text("1".to_owned()));
    let (result, value) = fleet.one("b0-0", trip(0, 9));
    assert_eq!((result, value.version), (OpResult::Stale, 1), "an absent breaker is closed since the floor");
    assert_eq!(fleet.one("b0-0", trip(1, 9)).0, OpResult::Ok);
}

#[test]
fn the_log_is_bounded() {
    let mut fleet = Fleet::begun();
    let reset = [op("openai", OpKind::Reset { expected: None })];
    for _ in 0..4_400 {
        fleet.apply(&reset);
    }
    let Reply::Number(length) = fleet.ask(&["XLEN", LOG]) else { panic!("no log") };
    assert!((4_096..4_096 + 128).contains(&length), "{length}");
}

#[test]
fn a_log_that_is_in_the_way_is_begun_anew() {
    let mut fleet = Fleet::begun();
    fleet.ask(&["XADD", LOG, "9007199254740992-0", "e", "by hand"]);
    assert_eq!(fleet.one("openai", trip_now(9)).0, OpResult::Ok);
    fleet.ask(&["SET", LOG, "by hand"]);
    assert_eq!(fleet.one("stripe", trip_now(9)).0, OpResult::Ok);
    assert_eq!(fleet.ask(&["XLEN", LOG]), Reply::Number(1));
}

#[test]
fn without_memory_nothing_is_written_by_half() {
    let mut fleet = Fleet::begun();
    fleet.one("openai", trip_now(60_000));
    let before = fleet.ask(&["HGETALL", TABLE]);
    fleet.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for kind in [trip_now(9), OpKind::Reset { expected: None }] {
        let mut arguments = [CHANNEL, EPOCH, "0", "00000009", "PUBLISH", "4096"].map(str::to_owned).to_vec();
        arguments.extend(words(&op("openai", OpKind::Reset { expected: None })));
        arguments.extend(words(&op("stripe", kind)));
        let Reply::Error(error) = fleet.try_call(APPLY, &arguments) else { panic!("written without memory") };
        assert!(error.starts_with("OOM"), "{error}");
    }
    fleet.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(fleet.ask(&["HGETALL", TABLE]), before);
    assert_eq!(fleet.ask(&["ZCARD", CLOSED]), Reply::Number(0));
}

/// The rights that daemon/src/fleet/script.rs lists, word for word.
fn rights() -> Vec<String> {
    let source = include_str!("../../../daemon/src/fleet/script.rs");
    let listed = source.split('`').filter(|part| part.starts_with("+hello"));
    let text = listed.collect::<String>().replace("//!", " ");
    let rights: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

#[test]
fn the_rights_that_are_documented_are_enough_and_each_is_needed_by_somebody() {
    let mut fleet = Fleet::empty();
    let mut command = vec!["ACL", "SETUSER", "breakerd", "on", ">secret", "~{bk1:demo}*", "resetchannels"];
    let rights = rights();
    command.extend(["&{bk1:demo}ev", "-@all"]);
    command.extend(rights.iter().map(String::as_str));
    // The tests call by text, the daemon by digest.
    command.push("+eval");
    assert_eq!(fleet.ask(&command), Reply::Text("OK".to_owned()));
    assert_eq!(fleet.ask(&["AUTH", "breakerd", "secret"]), Reply::Text("OK".to_owned()));
    assert_eq!(fleet.init("", 0, EPOCH).code, "OK");
    let mut ops = vec![op("stripe", trip_now(9)), op("openai", trip_now(0)), op("openai", probe("a", 9))];
    ops.push(op("openai", pok("a", 1, 1)));
    assert_eq!(fleet.apply(&ops).words(), [OpResult::Ok; 4]);
    assert_eq!(fleet.one("stripe", OpKind::Reset { expected: None }).0, OpResult::Ok);
    assert_eq!(fleet.one("stripe", trip_now(9)).0, OpResult::Ok);
    for command in [
        vec!["ROLE"],
        vec!["TIME"],
        vec!["HMGET", TABLE, "!e"],
        vec!["HGETALL", TABLE],
        vec!["XRANGE", LOG, "-", "+"],
        vec!["XREVRANGE", LOG, "+", "-"],
        vec!["SCRIPT", "LOAD", APPLY],
        vec!["CLIENT", "SETNAME", "breakerd"],
        vec!["SUBSCRIBE", CHANNEL],
    ] {
        let reply = fleet.ask(&command);
        assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
    }
}

#[test]
fn what_an_account_may_not_is_refused() {
    let mut fleet = Fleet::begun();
    let mut command = vec!["ACL", "SETUSER", "breakerd", "on", ">secret", "~{bk1:demo}*", "resetchannels", "-@all"];
    let rights = rights();
    command.extend(rights.iter().map(String::as_str));
    fleet.ask(&command);
    fleet.ask(&["AUTH", "breakerd", "secret"]);
    for command in [
        vec!["FLUSHALL"],
        vec!["KEYS", "*"],
        vec!["GET", "x"],
        vec!["PUBLISH", "other", "x"],
        vec!["EVAL", "return 1", "0"],
    ] {
        assert!(matches!(fleet.ask(&command), Reply::Error(_)), "{command:?}");
    }
}

#[test]
fn without_the_right_to_publish_the_state_is_there_and_the_log_tells_it() {
    let mut fleet = Fleet::begun();
    let head = fleet.head().unwrap();
    fleet.ask(&["ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "-publish", "&*"]);
    fleet.ask(&["AUTH", "mute", "secret"]);
    let mut arguments = [CHANNEL, EPOCH, "0", "00000009", "PUBLISH", "4096"].map(str::to_owned).to_vec();
    arguments.extend(words(&op("openai", trip_now(60_000))));
    assert!(matches!(fleet.try_call(APPLY, &arguments), Reply::Error(_)));
    assert_eq!(fleet.head().unwrap().seq, head.seq + 1);
    let Reply::Many(entries) = fleet.ask(&["XRANGE", LOG, &(head.seq + 1).to_string(), "+"]) else { panic!("no log") };
    assert_eq!(entries.len(), 1);
}
