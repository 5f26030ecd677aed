//! Whoever waits for the fleet's lease, seen from one host's breaker. Several hosts are in `hosts/lease.rs`.

use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::{Mono, Name, RejectReason, State, Verdict};

use super::Waiting;
use crate::account::{Accounts, Held};
use crate::breaker::{Asker, Breaker, Effects, Stand, Turn};
use crate::change::Because;
use crate::fleet::OpKind;
use crate::policy::Policy;
use crate::probe::Probes;
use crate::{ConnectionId, WorkerId};

const ASKER: Asker = Asker { connection: ConnectionId(7), request: 3 };

struct Host {
    now: Mono,
    breaker: Breaker,
    out: Effects,
    rng: fastrand::Rng,
}

impl Host {
    /// Half-open in the fleet, under a lease of this host's that ends in ten seconds.
    fn leased() -> Self {
        let now = Mono::default().after_ms(1_000_000);
        let mut breaker = Breaker::new(Name::parse("openai").unwrap(), Arc::new(Policy::default()), now);
        breaker.joint.cell.state = State::HalfOpen;
        breaker.joint.cell.since = now;
        breaker.joint.lease = Some("h.1".to_owned());
        breaker.joint.lease_until = now.after_ms(10_000);
        Self { now, breaker, out: Effects::default(), rng: fastrand::Rng::with_seed(1) }
    }

    /// The same, with a query that waits so long.
    fn asked(ms: u64) -> Self {
        let mut host = Self::leased();
        let (deadline, charge) = (host.now.after_ms(ms), Accounts::default().charge(1000, Held::Permit, 1));
        host.breaker.joint.waiting = Some(Waiting { asker: ASKER, deadline, charge });
        host
    }

    fn turn(&mut self, act: impl FnOnce(&mut Breaker, &mut Turn<'_>)) {
        let (now, rng, out, forget_after) = (self.now, &mut self.rng, &mut self.out, Duration::from_secs(3600));
        act(&mut self.breaker, &mut Turn { now, rng, host: "h", forget_after, stand: Stand::Joined, out });
    }

    /// The verdict that it was answered, and how many receipts came back.
    fn answer(&mut self) -> (Option<Verdict>, usize) {
        let answer = self.out.answers.pop_front();
        assert!(answer.as_ref().is_none_or(|(connection, request, _)| (*connection, *request) == (ConnectionId(7), 3)));
        (answer.map(|(_, _, verdict)| verdict), self.out.released.drain(..).count())
    }
}

#[test]
fn one_lease_is_asked_for_at_a_time_and_none_while_a_result_is_being_told() {
    let (mut host, asked) = (Host::leased(), Host::asked(5));
    assert_eq!(host.breaker.leased_probes(host.now, true), Probes::Free);
    assert_eq!(host.breaker.leased_probes(host.now, false), Probes::Out);
    assert_eq!(asked.breaker.leased_probes(asked.now, true), Probes::Out);
    assert_eq!(host.breaker.leased_probes(host.now.after_ms(9999), true), Probes::Free);
    assert_eq!(host.breaker.leased_probes(host.now.after_ms(10_000), true), Probes::ByLease, "it has just ended");
    host.breaker.joint.result = Some((OpKind::Free { lease_id: "h.1".to_owned() }, Because::default()));
    assert_eq!(host.breaker.leased_probes(host.now, true), Probes::Out);
}

#[test]
fn a_lease_that_comes_after_the_deadline_is_no_probe() {
    for (late_ms, probe) in [(5, true), (6, false)] {
        let mut host = Host::asked(5);
        host.now = host.now.after_ms(late_ms);
        host.turn(Breaker::answer_waiting);
        match host.answer() {
            (Some(Verdict::Probe { .. }), 0) => assert!(probe),
            (Some(Verdict::Reject { reason: RejectReason::NoAnswer, .. }), 1) => assert!(!probe),
            other => panic!("{other:?}"),
        }
        assert_eq!(host.breaker.permits.len(), usize::from(probe));
        assert!(host.breaker.joint.waiting.is_none());
    }
}

#[test]
fn who_waited_in_vain_is_answered_once_the_deadline_has_passed() {
    let mut host = Host::asked(5);
    host.breaker.joint.lease = None;
    assert_eq!(host.breaker.lease_wake(), Some(host.now.after_ms(6)));
    host.now = host.now.after_ms(5);
    host.turn(Breaker::tend_lease);
    assert_eq!(host.answer(), (None, 0), "its time is not over");
    host.now = host.now.after_ms(1);
    host.turn(Breaker::tend_lease);
    let (verdict, back) = host.answer();
    assert!(matches!(verdict, Some(Verdict::Reject { reason: RejectReason::NoAnswer, .. })), "{verdict:?}");
    assert_eq!((back, host.breaker.lease_wake()), (1, None));
}

#[test]
fn only_the_one_who_waits_ends_the_wait() {
    let mut host = Host::asked(5);
    let other = ConnectionId(8);
    host.turn(|breaker, turn| breaker.leave(turn, other, WorkerId(1)));
    host.turn(|breaker, turn| breaker.take_back(turn, other, ASKER.request));
    host.turn(|breaker, turn| breaker.take_back(turn, ASKER.connection, ASKER.request + 1));
    assert!(host.breaker.holds(ASKER.connection, ASKER.request));
    assert!(!host.breaker.holds(ASKER.connection, ASKER.request + 1) && !host.breaker.holds(other, ASKER.request));
    assert_eq!(host.out.released.len(), 0);
    host.turn(|breaker, turn| breaker.take_back(turn, ASKER.connection, ASKER.request));
    assert!(!host.breaker.holds(ASKER.connection, ASKER.request));
    assert_eq!(host.answer(), (None, 1), "the receipt comes back, and no answer goes out");

    let mut host = Host::asked(5);
    host.turn(|breaker, turn| breaker.leave(turn, ASKER.connection, WorkerId(1)));
    assert!(host.breaker.joint.waiting.is_none());
    assert_eq!(host.answer(), (None, 1));
}

#[test]
fn a_result_is_told_again_only_where_the_link_did_not_take_it() {
    for (untold, told) in [(false, 0), (true, 1)] {
        let mut host = Host::leased();
        host.breaker.joint.result = Some((OpKind::Free { lease_id: "h.1".to_owned() }, Because::default()));
        host.breaker.joint.untold = untold;
        host.now = host.now.after_ms(5000);
        host.turn(Breaker::tend_lease);
        host.turn(Breaker::tend_lease);
        assert_eq!(host.out.wishes.len(), told);
    }
}
