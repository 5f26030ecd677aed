//! What the link does when things break.

use proptest::prelude::*;

use super::*;

/// The kinds of commands, in the order in which they were sent since `from`.
fn words(world: &World, from: usize) -> Vec<&str> {
    let word = |command: &Command| match command.kind {
        CommandKind::Plain => match command.words[0].as_str() {
            "HMGET" => "head",
            "HGETALL" => "table",
            "XREVRANGE" => "log-before",
            "XRANGE" => "log-after",
            "ROLE" => "role",
            "TIME" => "time",
            _ => "?",
        },
        CommandKind::Subscribe => "subscribe",
        CommandKind::Init => "init",
        CommandKind::Apply => "apply",
    };
    world.sent[from..].iter().map(word).collect()
}

#[test]
fn the_first_host_of_a_fleet_begins_its_epoch() {
    let world = World::live(1);
    let expected = ["subscribe", "role", "time", "head", "init", "head", "table"];
    assert_eq!(words(&world, 0), expected);
    world.assert_agrees();
    let states: Vec<_> = world.facts.iter().filter(|fact| matches!(fact, Fact::State(_))).collect();
    let expected = [LinkState::Connecting, LinkState::Syncing, LinkState::Live].map(Fact::State);
    assert_eq!(states, expected.iter().collect::<Vec<_>>());
    assert_eq!(world.link.counters().rotations, 1);
}

#[test]
fn a_late_host_reads_the_table_and_sees_who_and_why() {
    let mut world = World::new(2);
    world.server = World::live(1).server;
    world.server.change("openai O, stripe O");
    world.pass(500);
    world.assert_agrees();
    let value = &world.cells[&Name::parse("openai").unwrap()];
    assert_eq!(value.by, "w[9]@other");
    assert_eq!(world.link.counters().rotations, 0);
}

#[test]
fn events_that_chain_are_applied_and_those_of_the_past_dropped() {
    let mut world = World::live(1);
    world.other("openai O");
    let again = world.server.change("stripe O");
    world.say(again.clone());
    let before = world.link.counters().stale_events;
    world.say(again);
    world.assert_agrees();
    assert_eq!(world.link.counters().stale_events, before + 1);
    let ends = world.facts.iter().find_map(|fact| match fact {
        Fact::Value(seen) => Some(seen.until.since(world.now)),
        _ => None,
    });
    assert_eq!(ends.unwrap().as_millis(), 15_000);
}

#[test]
fn a_gap_is_filled_from_the_log() {
    let mut world = World::live(1);
    world.other("openai O");
    let from = world.sent.len();
    world.server.change("stripe O");
    world.other("openai C");
    assert_eq!(words(&world, from), ["head", "log-before", "log-after"]);
    world.assert_agrees();
    assert_eq!(world.link.counters().gaps, 1);
}

#[test]
fn a_gap_older_than_the_log_is_filled_from_the_table() {
    let mut world = World::live(1);
    world.other("openai O");
    world.server.change("stripe O, openai C");
    world.server.trim_log();
    world.other("psp O");
    world.assert_agrees();
    assert_eq!(world.link.counters().full_reads, 2);
}

#[test]
fn a_poll_ahead_of_us_is_a_loss() {
    let mut world = World::live(1);
    world.other("openai O");
    world.server.change("stripe O");
    world.pass(1_300);
    world.assert_agrees();
    assert_eq!(world.link.counters().gaps, 0);
    assert_eq!(world.link.counters().log_reads, 1);
}

#[test]
fn a_poll_that_an_event_overtook_is_none() {
    let mut world = World::live(1);
    world.other("openai O");
    world.held_back = Some(VecDeque::new());
    world.pass(1_201);
    let event = world.server.change("stripe O");
    world.say_ahead(event);
    world.let_go();
    world.assert_agrees();
    assert_eq!((world.link.counters().log_reads, world.link.counters().full_reads), (0, 1));
}

#[test]
fn a_fork_is_seen_by_its_tag_though_its_number_is_ours() {
    let mut world = World::live(1);
    world.other("openai O");
    let fork = world.server.clone();
    world.other("stripe O");
    let mine = world.link.position().unwrap();
    world.server.restore(fork);
    world.server.change("psp O");
    assert_eq!(world.server.position().unwrap().seq, mine.seq);
    world.pass(1_700);
    world.assert_agrees();
    assert!(world.link.position().unwrap().seq > mine.seq);
    assert_eq!((world.link.counters().forks, world.link.counters().rotations), (1, 2));
}

#[test]
fn a_fork_is_seen_by_its_tag_though_its_number_is_higher() {
    let mut world = World::live(1);
    let fork = world.server.clone();
    world.other("stripe O");
    world.server.restore(fork);
    world.server.change("psp O");
    world.other("psp C");
    world.pass(300);
    world.assert_agrees();
    assert_eq!(world.link.counters().forks, 1);
}

#[test]
fn a_history_that_went_back_under_a_live_connection_is_seen() {
    let mut world = World::live(1);
    let old = world.server.clone();
    world.other("stripe O");
    world.server.restore(old);
    world.pass(1_700);
    world.assert_agrees();
    assert_eq!(world.link.counters().forks, 1);
}

#[test]
fn a_flushed_server_begins_a_new_epoch_with_higher_versions() {
    let mut world = World::live(1);
    world.other("stripe O");
    let before = world.link.position().unwrap();
    world.server.flush();
    world.pass(1_700);
    world.assert_agrees();
    let after = world.link.position().unwrap();
    assert!(after.epoch != before.epoch && after.seq > before.seq);
    assert!(world.facts.contains(&Fact::TableBegins { new_epoch: true }));
}

#[test]
fn events_of_an_epoch_that_was_left_are_dropped() {
    let mut world = World::live(1);
    world.other("stripe O");
    let old = world.server.clone().change("psp O");
    world.server.flush();
    world.pass(1_700);
    let stale = world.link.counters().stale_events;
    world.say(old);
    world.assert_agrees();
    assert_eq!(world.link.counters().stale_events, stale + 1);
}

#[test]
fn another_hosts_new_epoch_is_followed_at_once() {
    let mut world = World::live(1);
    let mut other = World::new(9);
    other.server.flush();
    other.pass(500);
    world.server = other.server.clone();
    let head = world.server.position().unwrap();
    let event = format!("E1 {} {} {} 1732469613123 -", head.epoch, head.seq, head.tag);
    world.say(event.into_bytes());
    world.assert_agrees();
}

#[test]
fn what_waits_during_a_sync_is_chained_on_after_it() {
    let mut world = World::live(1);
    world.cut();
    world.server.change("openai O");
    world.held_back = Some(VecDeque::new());
    world.pass(100);
    assert_eq!(world.link.state(), LinkState::Connecting);
    let event = world.server.change("stripe O");
    let number = world.connection.unwrap();
    world.deliver(number, Said::Push(event));
    world.let_go();
    world.pass(10);
    world.assert_agrees();
    assert_eq!(world.link.counters().full_reads, 1);
}

#[test]
fn two_slow_polls_end_the_connection_and_one_does_not() {
    let mut world = World::live(1);
    let slow_poll = |world: &mut World| {
        let polls = |world: &World| world.count(|command| command.words[0] == "HMGET");
        let before = polls(world);
        world.held_back = Some(VecDeque::new());
        while polls(world) == before {
            world.pass(10);
        }
        world.pass(1_100);
        world.let_go();
    };
    slow_poll(&mut world);
    world.pass(0);
    world.assert_agrees();
    slow_poll(&mut world);
    assert_eq!(world.link.state(), LinkState::Down);
    assert_eq!(world.link.last_failure().unwrap().code, "SLOW");
    world.pass(500);
    world.assert_agrees();
}

#[test]
fn a_silent_server_is_left_after_2200_ms() {
    let mut world = World::live(1);
    world.held_back = Some(VecDeque::new());
    let began = world.now;
    while world.link.state() == LinkState::Live {
        world.pass(10);
    }
    assert!(world.now.since(began).as_millis() <= 2_200 + 1_200);
    assert_eq!(world.link.last_failure().unwrap().code, "SILENT");
}

#[test]
fn an_overflow_drops_everything_and_reads_anew() {
    let mut world = World::live(1);
    world.server.change("openai O, stripe O");
    let number = world.connection.unwrap();
    world.hear(number, Said::Overflow);
    world.settle();
    world.assert_agrees();
    assert_eq!(world.link.counters().overflows, 1);
}

#[test]
fn a_server_down_is_tried_again_with_growing_gaps_for_ever() {
    let mut world = World::live(1);
    world.refuses = true;
    world.cut();
    world.pass(60_000);
    let early = world.connects.len();
    world.pass(60_000);
    let late = world.connects.len() - early;
    assert!((100..=800).contains(&early), "{early}");
    assert!((30..=120).contains(&late), "{late}");
    world.refuses = false;
    world.pass(2_000);
    world.assert_agrees();
    assert_eq!(world.link.not_live_since(), None);
}

#[test]
fn a_replica_is_left() {
    let mut world = World::new(1);
    world.server.role = "slave";
    world.pass(100);
    assert_ne!(world.link.state(), LinkState::Live);
    assert_eq!(world.link.last_failure().unwrap().code, "READONLY");
    world.server.role = "master";
    world.pass(1_000);
    world.assert_agrees();
}

#[test]
fn a_refused_account_is_tried_rarely() {
    let mut world = World::live(1);
    world.server.refusal = Some("NOPERM");
    world.server.flush();
    world.connects.clear();
    world.pass(120_000);
    assert!((20..=120).contains(&world.connects.len()), "{}", world.connects.len());
    assert_eq!(world.link.last_failure().unwrap().code, "NOPERM");
}

#[test]
fn bad_messages_cost_one_poll_a_second() {
    let mut world = World::live(1);
    world.pass(5_000);
    let from = world.sent.len();
    for _ in 0..1000 {
        world.say(b"B2 who knows".to_vec());
        world.pass(5);
    }
    assert_eq!(world.link.counters().bad_events, 1000);
    assert!(words(&world, from).len() <= 7, "{:?}", words(&world, from));
    world.assert_agrees();
}

#[test]
fn forged_gaps_cost_a_few_reads_a_second_and_never_the_connection() {
    let mut world = World::live(1);
    let epoch = world.link.position().unwrap().epoch;
    let forged = format!("B1 {epoch} 9000000 1 00000001 00000002 1\nopenai\t9000000|O|0|0|||0|0|0|0|-|0||");
    let from = world.sent.len();
    for _ in 0..500 {
        world.say(forged.clone().into_bytes());
        world.pass(10);
    }
    world.pass(1_500);
    world.assert_agrees();
    assert!(world.table().is_empty());
    assert_eq!(world.link.counters().losses, 0);
    assert!(words(&world, from).len() <= 24, "{}", words(&world, from).len());
}

#[test]
fn after_a_standstill_nothing_is_written_before_a_poll() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.change("openai O");
    world.stand_still(60_000);
    let from = world.sent.len();
    world.link.handle_timeout(world.now);
    world.propose(1, "openai", trip(version));
    assert_eq!(words(&world, from), ["head", "head", "log-before", "log-after"]);
    assert_eq!(world.result(1), OpResult::Stale);
    world.assert_agrees();
    assert_eq!(world.link.counters().losses, 0, "a suspended host does not blame the server");
}

#[test]
fn what_an_earlier_connection_still_says_is_not_listened_to() {
    let mut world = World::live(1);
    let old = world.connection.unwrap();
    world.cut();
    world.pass(500);
    world.assert_agrees();
    world.hear(old, Said::Lost(Failed { code: "IO".to_owned(), message: String::new() }));
    world.hear(old, Said::Push(b"B2".to_vec()));
    world.assert_agrees();
    assert_eq!(world.link.counters().bad_events, 0);
}

#[test]
fn a_connection_cut_at_any_reply_heals() {
    for cut_at in 0..8 {
        let mut world = World::new(1);
        world.server = World::live(9).server;
        world.server.change("openai O, stripe O");
        world.held_back = Some(VecDeque::new());
        world.pass(0);
        world.link.handle_timeout(world.now);
        for _ in 0..cut_at {
            world.settle();
            let Some(heard) = world.held_back.as_mut().unwrap().pop_front() else { break };
            world.link.handle_heard(world.now, heard);
            world.settle();
            if world.link.state() == LinkState::Live {
                break;
            }
        }
        let whole = world.link.state() == LinkState::Live;
        assert_eq!(world.table().len(), if whole { 2 } else { 0 }, "never half a table");
        world.held_back = None;
        if world.connection.is_some() {
            world.cut();
        }
        world.pass(1_000);
        world.assert_agrees();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is lost, held, cut, flushed or restored, and in whatever order: when it stops, the link agrees again, no
    /// op has two outcomes, and within an epoch no version went back.
    #[test]
    fn whatever_happens_it_agrees_in_the_end(seed in any::<u64>(), steps in prop::collection::vec((0u8..14, 0u64..2_500), 1..60)) {
        let mut world = World::live(seed);
        let mut saved = world.server.clone();
        let mut token = 0;
        for (step, ms) in steps {
            let line = format!("b{} {}", ms % 7, ["O", "C", "H"][usize::try_from(ms % 3).unwrap()]);
            let (connected, epoch) = (world.connection.is_some(), world.server.position().is_some());
            match step {
                0..=2 if connected && epoch => world.other(&line),
                3 if epoch => drop(world.server.change(&line)),
                4 if connected => world.cut(),
                5 => world.held_back = world.held_back.take().or_else(|| Some(VecDeque::new())),
                6 => world.let_go(),
                7 => world.server.flush(),
                8 => saved = world.server.clone(),
                9 => world.server.restore(saved.clone()),
                10 => world.stand_still(ms),
                11 => world.server.trim_log(),
                12 => {
                    token += 1;
                    let op = Op { name: Name::parse(&format!("b{}", ms % 7)).unwrap(), because: Because::default(), kind: trip(1 << 40) };
                    let taken = world.link.propose(world.now, Token(token), op).is_ok();
                    assert_eq!(taken, matches!(world.link.state(), LinkState::Syncing | LinkState::Live));
                    world.settle();
                }
                _ => world.pass(ms),
            }
        }
        world.let_go();
        world.pass(6_000);
        world.assert_agrees();
        (1..=token).for_each(|token| {
            let of = |fact: &&Fact| matches!(fact, Fact::Answered { token: t, .. } | Fact::Refused { token: t } | Fact::Unknown { token: t, .. } if *t == Token(token));
            assert!(world.facts.iter().filter(of).count() <= 1);
        });
    }
}
