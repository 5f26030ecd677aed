//! The sync's single judgements: what is a fork, what is missed, what comes too soon. The whole of it is in `world/`.

use breakerd_proto::{Mono, State};

use super::*;
use crate::fleet::{Keys, Request, Value};

fn now() -> Mono {
    Mono::default().after_ms(1_000_000)
}

fn at(seq: u64, tag: u32) -> Position {
    Position { epoch: Epoch(1), seq, tag: Tag(tag) }
}

/// One change, to the position `to`, from the tag before.
fn batch(to: Position, tag_before: u32) -> Batch {
    let value = Value { version: to.seq, state: State::Open, ..Value::default() };
    let changes = vec![(Name::parse("openai").unwrap(), value)];
    Batch { epoch: to.epoch, first: to.seq, tag_before: Tag(tag_before), tag: to.tag, now_ms: 5, changes }
}

/// A link at (5, tag 50), in a sync; `answered` is where an answer said that the server stood.
fn link(answered: Option<Position>) -> LinkMachine {
    let mut link = LinkMachine::new(Keys::of("demo").unwrap(), fastrand::Rng::with_seed(1), now());
    link.position = Some(at(5, 50));
    link.answered = answered;
    step(&mut link, Step::Head);
    link
}

fn step(link: &mut LinkMachine, step: Step) {
    link.phase = Phase::Syncing(Sync { round: 1, step, request: None, by_chain: false });
}

/// The first words of what it sends.
fn sent(link: &mut LinkMachine) -> Vec<String> {
    let requests = std::iter::from_fn(|| link.poll_request());
    let command = |request| if let Request::Send(_, command) = request { Some(command) } else { None };
    requests.filter_map(command).map(|command| command.words[0].clone()).collect()
}

fn text(text: impl ToString) -> Datum {
    Datum::Bytes(text.to_string().into_bytes())
}

fn head_reply(head: Position) -> Datum {
    Datum::List(vec![text(head.epoch), text(head.seq), text(head.tag)])
}

fn log(batches: impl IntoIterator<Item = Batch>) -> Datum {
    let entry = |batch| Datum::List(vec![text("1-0"), Datum::List(vec![text("e"), text(Event::Batch(batch))])]);
    Datum::List(batches.into_iter().map(entry).collect())
}

#[test]
fn a_batch_follows_by_epoch_number_and_tag() {
    let mine = at(5, 50);
    assert!(follows(&batch(at(6, 60), 50), mine));
    let elsewhere = Position { epoch: Epoch(2), ..at(6, 60) };
    for other in [batch(at(6, 60), 51), batch(at(7, 60), 50), batch(elsewhere, 50)] {
        assert!(!follows(&other, mine), "{other:?}");
    }
}

#[test]
fn what_an_answer_told_is_contradicted_by_another_mark() {
    for (answered, to, contradicts) in [
        (None, at(7, 71), false),
        (Some(at(7, 70)), at(6, 60), false), // not there yet
        (Some(at(7, 70)), at(7, 70), false),
        (Some(at(7, 70)), at(7, 71), true),
        (Some(at(7, 70)), at(8, 80), true), // past it, and never at it
    ] {
        assert_eq!(link(answered).contradicts_answer(&batch(to, 0)), contradicts, "{answered:?}, {to}");
    }
}

#[test]
fn an_answer_is_remembered_until_its_event_has_come() {
    for (to, remembered) in [(at(6, 60), true), (at(7, 70), false), (at(8, 80), false)] {
        let mut link = link(Some(at(7, 70)));
        link.apply_batch(now(), batch(to, 50));
        assert_eq!((link.position, link.answered.is_some()), (Some(to), remembered));
    }
}

#[test]
fn the_server_was_where_we_are_or_where_it_said_it_was() {
    assert_eq!([None, Some(at(3, 30)), Some(at(7, 70))].map(|answered| link(answered).known_seq()), [5, 5, 7]);
    let mut fresh = link(None);
    fresh.position = None;
    assert_eq!(fresh.known_seq(), 0);
}

#[test]
fn a_head_behind_us_or_under_another_mark_is_a_fork() {
    for (answered, head, forks, asks) in [
        (None, at(4, 40), 1, "{bk1:demo}h"),
        (None, at(5, 51), 1, "{bk1:demo}h"),
        (None, at(6, 60), 0, "XREVRANGE"),
        (Some(at(7, 70)), at(6, 60), 1, "{bk1:demo}h"), // it had been further
        (Some(at(7, 70)), at(7, 71), 1, "{bk1:demo}h"),
        (Some(at(7, 70)), at(7, 70), 0, "XREVRANGE"),
        (Some(at(7, 70)), at(8, 80), 0, "XREVRANGE"),
        (None, Position { epoch: Epoch(2), ..at(9, 90) }, 0, "HGETALL"),
    ] {
        let mut link = link(answered);
        link.head_came(now(), &head_reply(head));
        assert_eq!((link.counters.forks, sent(&mut link)), (forks, vec![asks.to_owned()]), "{answered:?}, {head}");
    }
    let mut same = link(None);
    same.head_came(now(), &head_reply(at(5, 50)));
    assert!(matches!(same.phase, Phase::Live), "nothing was missed");
}

#[test]
fn the_log_is_read_on_from_our_last_batch_and_the_table_where_it_is_not_there() {
    let elsewhere = Position { epoch: Epoch(2), ..at(5, 50) };
    for (end, forks, asks) in
        [(at(5, 50), 0, "XRANGE"), (at(5, 51), 1, "{bk1:demo}h"), (at(4, 50), 0, "HGETALL"), (elsewhere, 0, "HGETALL")]
    {
        let mut link = link(None);
        link.log_before_came(now(), &log([batch(end, 0)]));
        assert_eq!((link.counters.forks, sent(&mut link)), (forks, vec![asks.to_owned()]), "{end}");
    }
}

#[test]
fn the_log_after_our_last_batch_must_chain_and_agree_with_what_was_answered() {
    let mut chained = link(None);
    chained.log_after_came(now(), &log([batch(at(6, 60), 50), batch(at(7, 70), 60)]));
    assert_eq!((chained.position, matches!(chained.phase, Phase::Live)), (Some(at(7, 70)), true));
    let mut broken = link(None);
    broken.log_after_came(now(), &log([batch(at(6, 60), 50), batch(at(8, 80), 70)]));
    assert_eq!((broken.position, sent(&mut broken)), (Some(at(6, 60)), vec!["HGETALL".to_owned()]));
    let mut forked = link(Some(at(6, 61)));
    forked.log_after_came(now(), &log([batch(at(6, 60), 50)]));
    assert_eq!((forked.position, forked.counters.forks), (Some(at(5, 50)), 1));
}

#[test]
fn a_table_is_behind_us_by_its_head_or_by_one_of_its_values() {
    let values = |version| {
        let name = Name::parse("openai").unwrap();
        Table { values: vec![(name, Value { version, ..Value::default() })], ..Table::default() }
    };
    let mut link = link(Some(at(7, 70)));
    link.held.insert(Name::parse("openai").unwrap(), 4);
    for (seq, version, behind) in [(7, 4, false), (6, 4, true), (7, 3, true), (8, 5, false)] {
        assert_eq!(link.is_behind_us(at(seq, 1), &values(version)), behind, "head {seq}, value {version}");
    }
    let unknown = Table { values: vec![(Name::parse("psp").unwrap(), Value::default())], ..Table::default() };
    assert!(!link.is_behind_us(at(7, 70), &unknown), "one that we do not hold is no older");
}

#[test]
fn what_in_a_table_breaks_the_format_is_counted_and_left_out() {
    let good = [("!e", "0000000000000001"), ("!s", "9"), ("!t", "00000009"), ("!v", "1"), ("!new", "x")];
    let words = good.iter().flat_map(|(field, value)| [text(field), text(value)]);
    let bad = [text("op enai"), text("x"), text("stripe"), text("x"), text("psp"), Datum::Nil];
    let reply = Datum::List(words.chain(bad).collect());
    assert_eq!((Table::read(&reply).bad, Table::read(&reply).values.len()), (3, 0));
    let mut link = link(None);
    link.table_came(now(), &reply);
    assert_eq!((link.counters.bad_events, link.position), (3, Some(at(9, 9))));
}

#[test]
fn hosts_with_a_large_table_spread_their_reads_and_others_read_at_once() {
    let waits = |held: usize, known: bool, rotated: bool| {
        let mut link = link(None);
        link.position = link.position.filter(|_| known);
        link.held = (0..held).map(|n| (Name::parse(&n.to_string()).unwrap(), 1)).collect();
        let mut wait_ms = || {
            link.sync_memory.rotated = rotated;
            step(&mut link, Step::Head);
            link.read_table(now());
            match &link.phase {
                Phase::Syncing(Sync { step: Step::TableAt(at), .. }) => at.since(now()).as_millis(),
                _ => 0,
            }
        };
        (0..50).map(|_| wait_ms()).max()
    };
    assert_eq!(waits(10_000, true, false), Some(0), "less than a megabyte");
    assert!((10..=20).contains(&waits(90_000, true, false).unwrap()), "what the server takes to send it");
    assert_eq!((waits(90_000, false, false), waits(90_000, true, true)), (Some(0), Some(0)), "its first, or its own");
}

#[test]
fn a_pause_lasts_until_its_end() {
    let end = now().after_ms(10);
    for (pause, asks) in [(Step::TableAt(end), "HGETALL"), (Step::InitAt(end), "{bk1:demo}h")] {
        let mut link = link(None);
        step(&mut link, pause);
        link.sync_due(now().after_ms(9));
        assert_eq!(sent(&mut link), [""; 0]);
        link.sync_due(end);
        assert_eq!(sent(&mut link), [asks]);
    }
}

#[test]
fn six_rounds_are_tried_and_no_seventh() {
    let mut link = link(None);
    for round in 2..=6 {
        link.next_round(now());
        assert!(matches!(link.phase, Phase::Syncing(_)), "round {round}");
    }
    link.next_round(now());
    assert_eq!(link.last_failure().unwrap().code, "UNSETTLED");
}

#[test]
fn an_event_of_the_past_is_no_fork_and_a_false_gap_is_not_believed_twice() {
    let mut link = link(None);
    let chain = |link: &mut LinkMachine, to, before, at| {
        matches!(link.chain(at, Event::Batch(batch(to, before)).to_string().as_bytes()), Chained::Taken)
    };
    assert!(chain(&mut link, at(4, 40), 30, now()));
    assert_eq!((link.counters.stale_events, link.counters.gaps), (1, 0));
    assert!(!chain(&mut link, at(5, 51), 40, now()), "our number under another mark");
    link.sync_memory.disbelieve_until = now().after_ms(10);
    assert!(chain(&mut link, at(9, 90), 80, now().after_ms(9)));
    assert!(!chain(&mut link, at(9, 90), 80, now().after_ms(10)));
}

#[test]
fn the_last_eight_epochs_that_were_left_are_known() {
    let mut memory = Memory::default();
    (1..=10).for_each(|epoch| memory.leave(Epoch(epoch)));
    assert_eq!(memory.left_epochs, (3..=10).map(Epoch).collect::<Vec<_>>());
}

#[test]
fn events_wait_in_their_order_up_to_their_number() {
    let mut inbox = Inbox::default();
    let event = |number: usize| number.to_string().into_bytes();
    assert!((0..INBOX_MAX).all(|number| inbox.push(event(number))));
    assert!(!inbox.push(event(INBOX_MAX)), "no room");
    assert_eq!(inbox.pop(), Some(event(0)));
    inbox.put_back(event(0));
    assert!(!inbox.push(event(INBOX_MAX)));
    assert!((0..INBOX_MAX).all(|number| inbox.pop() == Some(event(number))));
    assert_eq!(inbox.pop(), None);
}

#[test]
fn and_up_to_their_bytes() {
    let mut inbox = Inbox::default();
    let half = || vec![b'B'; INBOX_BYTES_MAX / 2];
    assert!(inbox.push(half()) && inbox.push(half()) && !inbox.push(vec![b'B']));
    let event = inbox.pop().unwrap();
    assert!(inbox.push(vec![b'B']), "what was taken out has left its room");
    assert!(!inbox.push(half()));
    inbox.put_back(event);
    assert!(!inbox.push(vec![b'B']));
    inbox.clear();
    assert!(inbox.pop().is_none() && inbox.push(half()) && inbox.push(half()));
}
