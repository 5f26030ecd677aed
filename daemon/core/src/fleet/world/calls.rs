//! What becomes of ops: batches, pace, and every way in which an answer can fail to come.

use super::*;

#[test]
fn an_op_goes_at_once_and_those_behind_it_together() {
    let mut world = World::live(1);
    world.held_back = Some(VecDeque::new());
    let version = world.link.position().unwrap().seq;
    for token in 0..100 {
        world.propose(token, &format!("b{token}"), trip(version));
    }
    assert_eq!(world.applies(), [1]);
    world.let_go();
    assert_eq!(world.applies(), [1, 64, 35]);
    (0..100).for_each(|token| assert_eq!(world.result(token), OpResult::Ok));
    world.assert_agrees();
}

#[test]
fn an_answer_comes_before_its_event_and_the_position_waits_for_that() {
    let mut world = World::live(1);
    let before = world.link.position().unwrap();
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(before.seq));
    let held = world.held_back.take().unwrap();
    let (events, replies): (Vec<_>, Vec<_>) = held.into_iter().partition(|h| matches!(h.said, Said::Push(_)));
    for heard in replies {
        world.link.handle_heard(world.now, heard);
    }
    world.settle();
    assert_eq!(world.result(1), OpResult::Ok);
    assert_eq!(world.table().len(), 1);
    assert_eq!(world.link.position(), Some(before));
    for heard in events {
        world.link.handle_heard(world.now, heard);
    }
    world.settle();
    world.assert_agrees();
}

#[test]
fn calls_are_paced() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    let mut token = 0;
    let mut burst = |world: &mut World, times: u64| {
        for _ in 0..times {
            token += 1;
            world.propose(token, &format!("b{token}"), trip(version));
            world.pass(1);
        }
    };
    burst(&mut world, 100);
    assert!((20..=23).contains(&world.applies().len()), "{:?}", world.applies());
    world.pass(100);
    world.assert_agrees();
    let before = world.applies().len();
    burst(&mut world, 2_000);
    let calls = world.applies().len() - before;
    assert!((38..=43).contains(&calls), "{calls}");
}

#[test]
fn an_op_that_waits_is_answered_by_the_event_that_overtakes_it() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(version));
    world.propose(2, "stripe", trip(version));
    let held = world.held_back.as_mut().unwrap();
    let reply = held.pop_back().unwrap();
    world.other("stripe O");
    world.held_back.as_mut().unwrap().push_back(reply);
    world.let_go();
    assert_eq!(world.result(2), OpResult::Stale);
    assert_eq!(world.applies(), [1]);
    assert_eq!(world.link.counters().overtaken, 1);
}

#[test]
fn a_call_without_reply_is_unknown_and_its_late_reply_changes_nothing() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(version));
    let sent = world.now;
    world.pass(1_000);
    assert_eq!(*world.outcome(1), Fact::Unknown { token: Token(1), sent });
    assert_eq!(world.link.state(), LinkState::Syncing);
    world.let_go();
    world.pass(0);
    world.assert_agrees();
    assert_eq!(world.table().len(), 1, "it was executed, and the sync shows it");
    assert_eq!(world.server.applied, 1, "and is not repeated");
    assert!(world.link.counters().late_replies > 0);
}

#[test]
fn a_lost_connection_makes_what_was_sent_unknown_and_what_was_not_refused() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(version));
    world.propose(2, "stripe", trip(version));
    world.held_back = None;
    world.cut();
    assert!(matches!(world.outcome(1), Fact::Unknown { .. }));
    assert!(matches!(world.outcome(2), Fact::Refused { .. }));
    let op = Op { name: Name::parse("x").unwrap(), because: Because::default(), kind: trip(1) };
    assert_eq!(world.link.propose(world.now, Token(3), op), Err(NotTaken::Down));
    world.pass(500);
    world.assert_agrees();
}

#[test]
fn a_call_under_another_epoch_is_refused_and_the_new_one_read() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    let mut other = World::new(9);
    other.pass(500);
    world.server = other.server;
    world.propose(1, "openai", trip(version));
    assert!(matches!(world.outcome(1), Fact::Refused { .. }));
    world.pass(0);
    world.assert_agrees();
}

#[test]
fn a_server_without_memory_refuses_and_is_asked_once_a_second() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.refusal = Some("OOM");
    world.propose(1, "openai", trip(version));
    assert!(matches!(world.outcome(1), Fact::Refused { .. }));
    world.propose(2, "openai", trip(version));
    world.pass(900);
    assert_eq!(world.applies().len(), 1);
    world.server.refusal = None;
    world.pass(200);
    assert_eq!(world.result(2), OpResult::Ok);
    world.assert_agrees();
}

#[test]
fn a_script_that_failed_half_way_leads_to_a_read() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.refusal = Some("ERR");
    world.propose(1, "openai", trip(version));
    assert!(matches!(world.outcome(1), Fact::Unknown { .. }));
    world.server.change("openai O");
    world.pass(1_300);
    world.assert_agrees();
}

#[test]
fn an_answer_ahead_of_us_by_more_than_its_own_changes_is_a_loss() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.change("openai O");
    world.propose(1, "openai", trip(version));
    assert_eq!(world.result(1), OpResult::Stale);
    world.assert_agrees();
    assert_eq!(world.link.counters().log_reads, 1);
    world.server.change("stripe O");
    world.propose(2, "psp", trip(version));
    assert_eq!(world.result(2), OpResult::Ok);
    world.assert_agrees();
}

#[test]
fn an_answer_whose_event_never_came_is_seen_as_a_fork_once_the_server_forgot_it() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    let old = world.server.clone();
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(version));
    let mut held = world.held_back.take().unwrap();
    let reply = held.pop_back().unwrap();
    world.link.handle_heard(world.now, reply);
    world.settle();
    assert_eq!(world.table().len(), 1);
    world.server.restore(old);
    world.server.change("stripe O");
    world.cut();
    world.pass(1_000);
    world.assert_agrees();
    assert_eq!(world.link.counters().forks, 1);
}

#[test]
fn twenty_calls_go_at_once() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    (0..30).for_each(|token| world.propose(token, &format!("b{token}"), trip(version)));
    assert_eq!(world.applies(), [1; 20]);
    assert_eq!((world.link.counters().calls, world.link.counters().ops), (20, 20));
    world.pass(100);
    assert_eq!(world.applies().iter().sum::<usize>(), 30);
}

#[test]
fn in_a_storm_names_go_in_random_order_and_else_as_they_came() {
    for (waiting, as_they_came) in [(64, true), (65, false)] {
        let mut world = World::live(1);
        let version = world.link.position().unwrap().seq;
        world.held_back = Some(VecDeque::new());
        let names: Vec<_> = (0..=waiting).map(|token| format!("b{token:02}")).collect();
        (0..).zip(&names).for_each(|(token, name)| world.propose(token, name, trip(version)));
        world.let_go();
        let call = world.sent.iter().filter(|command| command.kind == CommandKind::Apply).nth(1).unwrap();
        let sent: Vec<_> = call.words[command::APPLY_HEAD_WORDS..].chunks(op::OP_WORDS).map(|op| &op[1]).collect();
        assert_eq!(sent.iter().zip(&names[1..]).all(|(sent, name)| *sent == name), as_they_came, "{waiting} wait");
        world.assert_agrees();
    }
}

#[test]
fn a_call_that_came_too_late_was_not_executed() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.now_ms += 1200;
    world.propose(1, "openai", trip(version));
    assert_eq!(world.result(1), OpResult::Ok, "at its deadline");
    world.server.now_ms += 1201;
    world.propose(2, "stripe", trip(version));
    assert_eq!(*world.outcome(2), Fact::Refused { token: Token(2) });
    assert_eq!((world.link.state(), world.server.applied), (LinkState::Live, 1));
}

#[test]
fn a_server_that_takes_no_writes_is_left() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.server.refusal = Some("READONLY");
    world.propose(1, "openai", trip(version));
    assert_eq!(*world.outcome(1), Fact::Refused { token: Token(1) });
    assert_eq!((world.link.state(), world.link.counters().unknown), (LinkState::Down, 0));
}

#[test]
fn what_became_of_no_call_is_counted() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.held_back = Some(VecDeque::new());
    world.propose(1, "openai", trip(version));
    world.cut();
    assert_eq!((world.link.counters().unknown, world.link.counters().losses), (1, 1));
}

#[test]
fn what_was_asked_for_after_a_standstill_goes_once_a_poll_has_found_nothing_lost() {
    let mut world = World::live(1);
    let version = world.link.position().unwrap().seq;
    world.stand_still(60_000);
    world.link.handle_timeout(world.now);
    world.propose(1, "openai", trip(version));
    assert_eq!((world.result(1), world.link.counters().log_reads), (OpResult::Ok, 0));
    world.assert_agrees();
}
