//! The link's single steps: deadlines that have not come yet, and replies that say little. The whole of it is in `world/`.

use super::*;

fn now() -> Mono {
    Mono::default().after_ms(1_000_000)
}

fn connecting() -> LinkMachine {
    let mut link = LinkMachine::new(Keys::of("demo").unwrap(), fastrand::Rng::with_seed(1), now());
    assert_eq!(link.not_live_since(), Some(now()));
    link.handle_timeout(now());
    link
}

fn io(code: &str) -> Failed {
    Failed { code: code.to_owned(), message: "test".to_owned() }
}

#[test]
fn the_next_attempt_waits_for_its_time() {
    let mut link = connecting();
    link.handle_lost(now(), io("IO"));
    let again = link.poll_timeout().unwrap();
    link.handle_timeout(again.before(Duration::from_nanos(1)));
    assert_eq!(link.state(), LinkState::Down);
    link.handle_timeout(again);
    assert_eq!((link.state(), link.counters().losses), (LinkState::Connecting, 1));
}

#[test]
fn a_connect_may_take_two_seconds() {
    let mut link = connecting();
    let end = now().after_ms(2000);
    assert_eq!(link.poll_timeout(), Some(end));
    link.handle_timeout(end.before(Duration::from_nanos(1)));
    assert_eq!(link.state(), LinkState::Connecting);
    link.handle_timeout(end);
    assert_eq!(link.state(), LinkState::Down);
}

#[test]
fn who_wakes_more_than_two_seconds_late_stood_still_himself() {
    let late = now().after_ms(4000);
    for (at, state) in [(late, LinkState::Down), (late.after(Duration::from_nanos(1)), LinkState::Connecting)] {
        let mut link = connecting();
        link.handle_timeout(at);
        assert_eq!(link.state(), state, "the server had its time, or nobody knows");
    }
}

#[test]
fn a_poll_is_slow_that_takes_more_than_a_second() {
    for (took, slow) in [(POLL_SLOW, 0), (POLL_SLOW + Duration::from_nanos(1), 1)] {
        let mut link = connecting();
        link.position = Some(Position { epoch: super::super::Epoch(1), seq: 5, tag: super::super::Tag(50) });
        link.go_live(now());
        link.send_poll(now());
        let (id, _) = link.poll.under_way.unwrap();
        link.poll_answered(now().after(took), id, now(), &Datum::Nil);
        assert_eq!(link.poll.slow, slow);
    }
}

#[test]
fn a_server_may_hide_its_role_and_nothing_else() {
    for (place, code, state) in [
        (1, "NOPERM", LinkState::Connecting), // as it stood
        (1, "ERR", LinkState::Down),
        (2, "NOPERM", LinkState::Down),
    ] {
        let mut link = connecting();
        link.handle_connected(now());
        let requests = std::iter::from_fn(|| link.poll_request());
        let sent = |request| if let Request::Send(id, _) = request { Some(id) } else { None };
        let ids: Vec<_> = requests.filter_map(sent).collect();
        link.handle_reply(now(), ids[place], Err(io(code)));
        assert_eq!(link.state(), state, "{code} to the command {place}");
    }
}

#[test]
fn rediss_time_is_told_in_seconds_and_microseconds() {
    let mut link = connecting();
    let text = |text: &str| Datum::Bytes(text.as_bytes().to_vec());
    link.time_answered(now(), &Datum::List(vec![text("1732469613"), text("123999")]));
    assert_eq!(link.time.redis_now(now()), Some(1_732_469_613_123));
}

#[test]
fn polls_stray_to_both_sides_of_a_second() {
    let mut link = connecting();
    let every: Vec<_> = (0..100).map(|_| link.poll_interval_ms()).collect();
    assert!(every.iter().all(|ms| (800..=1200).contains(ms)));
    assert!(every.iter().any(|ms| *ms < 900) && every.iter().any(|ms| *ms > 1100));
}

#[test]
fn a_poll_goes_when_it_is_due_and_sooner_where_something_seems_lost() {
    let mut link = connecting();
    link.position = Some(Position { epoch: super::super::Epoch(1), seq: 5, tag: super::super::Tag(50) });
    link.go_live(now());
    let due = link.poll.next;
    link.handle_timeout(due.before(Duration::from_nanos(1)));
    assert!(link.poll.under_way.is_none());
    link.poll.next = now().after_ms(5000);
    link.poll.last_sent = now();
    link.poll_soon(now().after_ms(10));
    assert_eq!(link.poll.next, now().after_ms(1000), "a second after the last");
    link.poll_soon(now().after_ms(10));
    link.handle_timeout(now().after_ms(1000));
    assert!(link.poll.under_way.is_some());
}
