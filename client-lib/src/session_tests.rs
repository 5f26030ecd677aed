#![allow(clippy::unwrap_used, clippy::panic)]

use breakerd_proto::frame::{self, Reader};
use breakerd_proto::message::{Answer, Refused, View};
use breakerd_proto::{Failure, Link, Mode, RejectReason, State};

use super::*;
use crate::identity;

const NOW: Mono = Mono(5_000_000_000);

struct Pair {
    session: Session,
    daemon: Reader,
}

impl Pair {
    fn new() -> Self {
        Self { session: Session::new(&identity::hello(Some("test"), (0, 0)), NOW), daemon: Reader::default() }
    }

    fn welcomed() -> Self {
        let mut pair = Self::new();
        assert!(matches!(pair.sent()[..], [ToDaemon::Hello(_)]));
        assert!(matches!(pair.tell(welcome(NOW).into()), Some(Event::Welcomed(_))));
        pair
    }

    /// With a lane for the breaker.
    fn registered() -> Self {
        let mut pair = Self::welcomed();
        pair.session.query(&name(), None, NOW);
        let [ToDaemon::Register(register)] = &pair.sent()[..] else { panic!("nothing was registered") };
        pair.tell(registered(register.request, 4).into());
        let [ToDaemon::Query(query)] = &pair.sent()[..] else { panic!("nothing was asked") };
        pair.tell(admit(query.request).into());
        pair
    }

    /// What the client has sent since the last look.
    fn sent(&mut self) -> Vec<ToDaemon> {
        let bytes = self.session.channel.outgoing().to_vec();
        self.session.channel.handle_sent(bytes.len());
        self.daemon.feed(&bytes);
        std::iter::from_fn(|| self.daemon.next_message().unwrap()).collect()
    }

    fn tell(&mut self, message: ToClient) -> Option<Event> {
        let mut bytes = Vec::new();
        frame::write(&message, &mut bytes);
        // In two pieces, as a socket may.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.session.channel.handle_bytes(first);
        assert_eq!(self.session.next_event(NOW), Ok(None));
        self.session.channel.handle_bytes(second);
        self.session.next_event(NOW).unwrap()
    }

    fn settle(&mut self, permit: u64, outcome: Outcome) {
        self.session.report(&name(), Settled { generation: 1, permit, at: NOW, outcome });
    }
}

fn name() -> Name {
    Name::parse("openai").unwrap()
}

fn welcome(now: Mono) -> Welcome {
    let (release, fleet) = ("0.1.0".to_owned(), String::new());
    Welcome { version: 1, features: 0, instance: 9, worker: 1, now, link: Link::Standalone, release, fleet }
}

fn registered(request: u32, lane: u32) -> Registered {
    let view = View {
        state: State::Closed,
        forced: None,
        mode: Mode::On,
        mode_by: String::new(),
        mode_why: String::new(),
        generation: 1,
        retry_after_ms: Some(0),
        age_ms: 0,
        by: String::new(),
        why: String::new(),
        host_only: false,
    };
    Registered { request, lane, place: None, policy: Box::default(), view }
}

fn admit(request: u32) -> Answer {
    Answer { request, verdict: Verdict::Admit { generation: 1 } }
}

#[test]
fn a_question_before_the_welcome_waits_for_it_and_for_its_lane() {
    let mut pair = Pair::new();
    let policy = PolicyPatch { consecutive_failures: Some(3), ..PolicyPatch::default() };
    let first = pair.session.query(&name(), Some(&policy), NOW.after_ms(5));
    let second = pair.session.observe(&name(), Some(&policy));
    assert!(matches!(pair.sent()[..], [ToDaemon::Hello(_)]), "only the hello may go before the welcome");
    pair.tell(welcome(NOW).into());
    let [ToDaemon::Register(register)] = &pair.sent()[..] else { panic!("one lane, registered once") };
    assert_eq!((register.name.as_str(), register.policy.as_deref()), ("openai", Some(&policy)));
    assert!(matches!(pair.tell(registered(register.request, 4).into()), Some(Event::Registered(..))));
    let [ToDaemon::Query(query), ToDaemon::Observe(observe)] = &pair.sent()[..] else {
        panic!("both go out, in order")
    };
    assert_eq!((query.request, query.lane, query.deadline), (first, 4, NOW.after_ms(5)));
    assert_eq!((observe.request, observe.lane), (second, 4));
    let told = pair.tell(admit(first).into());
    assert_eq!(told, Some(Event::Verdict { request: first, name: name(), verdict: Verdict::Admit { generation: 1 } }));
    assert_eq!(pair.tell(admit(first).into()), None, "a second answer belongs to nobody");
}

#[test]
fn counts_grow_with_each_outcome_and_go_with_the_next_message() {
    let mut pair = Pair::registered();
    pair.settle(0, Outcome::SUCCESS);
    pair.settle(0, Outcome::Success { slow: true });
    pair.settle(0, Outcome::Failure(Failure::new("http-500")));
    pair.settle(0, Outcome::Ignored);
    pair.settle(0, Outcome::Abandoned);
    let reports = pair.sent();
    assert_eq!(reports.len(), 3, "what is no evidence of an ordinary call is not told");
    let Some(ToDaemon::Report(last)) = reports.last() else { panic!("no report") };
    assert_eq!(last.counts, Counts { successes: 2, slow: 1, failures: 1, ..Counts::default() });
    pair.session.query(&name(), None, NOW);
    let [ToDaemon::Query(query)] = &pair.sent()[..] else { panic!("no query") };
    assert_eq!(query.counts, last.counts);
}

#[test]
fn a_full_socket_loses_reports_but_no_counts_and_no_probe() {
    let mut pair = Pair::registered();
    let mut told = 0u64;
    while pair.session.channel.has_room() {
        pair.settle(0, Outcome::SUCCESS);
        told += 1;
    }
    pair.settle(0, Outcome::SUCCESS);
    pair.settle(77, Outcome::Abandoned);
    let reports = pair.sent();
    assert_eq!(u64::try_from(reports.len()).unwrap(), told + 1);
    let Some(ToDaemon::Report(last)) = reports.last() else { panic!("no report") };
    assert_eq!((last.permit, last.counts.successes), (77, told + 1));
}

#[test]
fn forgetting_is_told_only_of_what_was_asked() {
    let mut pair = Pair::registered();
    let asked = pair.session.query(&name(), None, NOW);
    assert!(matches!(pair.sent()[..], [ToDaemon::Query(_)]));
    pair.session.forget(asked);
    assert_eq!(pair.sent(), [Forget { request: asked }.into()]);
    let late = Answer { request: asked, verdict: Verdict::Probe { generation: 2, permit: 3 } };
    assert!(matches!(pair.tell(late.clone().into()), Some(Event::Verdict { .. })), "it still tells the state");
    assert_eq!(pair.tell(late.into()), None);
    let other = Name::parse("anthropic").unwrap();
    let unsent = pair.session.query(&other, None, NOW);
    pair.session.forget(unsent);
    let [ToDaemon::Register(register)] = &pair.sent()[..] else { panic!("the lane is declared all the same") };
    pair.tell(registered(register.request, 5).into());
    assert_eq!(pair.sent(), []);
}

#[test]
fn a_breaker_that_is_refused_refuses_all_who_wait_and_is_declared_again_by_the_next() {
    let mut pair = Pair::welcomed();
    let waiting = [pair.session.query(&name(), None, NOW), pair.session.observe(&name(), None)];
    let [ToDaemon::Register(register)] = &pair.sent()[..] else { panic!("nothing was registered") };
    let no = Refused { request: register.request, code: Code::Quota, sentence: "full".to_owned() };
    let mut told = vec![pair.tell(no.into()).unwrap()];
    told.extend(pair.session.next_event(NOW).unwrap());
    let expect = waiting.map(|request| Event::Refused { request, code: Code::Quota, sentence: "full".to_owned() });
    assert_eq!(told, expect);
    pair.session.query(&name(), None, NOW);
    assert!(matches!(pair.sent()[..], [ToDaemon::Register(_)]));
}

#[test]
fn another_time_namespace_is_bridged() {
    let mut pair = Pair::new();
    pair.sent();
    pair.tell(welcome(Mono(NOW.0 + 1_000)).into());
    pair.session.query(&name(), None, NOW.after_ms(5));
    let [ToDaemon::Register(register)] = &pair.sent()[..] else { panic!("nothing was registered") };
    pair.tell(registered(register.request, 0).into());
    let [ToDaemon::Query(query)] = &pair.sent()[..] else { panic!("nothing was asked") };
    assert_eq!(query.deadline, Mono(NOW.after_ms(5).0 + 1_000));
    assert_eq!(Skew::between(Mono(10), Mono(15), Mono(20)).theirs(Mono(100)), Mono(100), "one clock");
    assert_eq!(Skew::between(Mono(10), Mono(5), Mono(20)).theirs(Mono(100)), Mono(85));
}

#[test]
fn the_end_is_told_behind_the_last_message_and_with_the_daemons_words() {
    let mut pair = Pair::registered();
    let request = pair.session.query(&name(), None, NOW);
    let mut bytes = Vec::new();
    frame::write::<ToClient>(&admit(request).into(), &mut bytes);
    let (code, sentence) = (Code::Stopping, "the daemon stops".to_owned());
    frame::write::<ToClient>(&breakerd_proto::message::Bye { code, sentence: sentence.clone() }.into(), &mut bytes);
    pair.session.channel.handle_bytes(&bytes);
    pair.session.channel.handle_end(End::Closed);
    assert!(matches!(pair.session.next_event(NOW), Ok(Some(Event::Verdict { .. }))));
    assert_eq!(pair.session.next_event(NOW), Err(End::Bye { code, sentence: sentence.clone() }));
    assert_eq!(pair.session.next_event(NOW), Err(End::Bye { code, sentence }));
}

#[test]
fn garbage_and_a_missing_welcome_end_the_session() {
    let mut pair = Pair::new();
    pair.session.channel.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(matches!(pair.session.next_event(NOW), Err(End::Wire(_))));
    let mut pair = Pair::new();
    let mut bytes = Vec::new();
    let reject =
        Verdict::Reject { generation: 1, state: State::Open, reason: RejectReason::Open, retry_after_ms: Some(1) };
    frame::write::<ToClient>(&Answer { request: 1, verdict: reject }.into(), &mut bytes);
    pair.session.channel.handle_bytes(&bytes);
    assert_eq!(pair.session.next_event(NOW), Err(End::Unexpected(breakerd_proto::Kind::Answer)));
}
