//! A worker whose socket takes no more: what it could not report comes with its next message.

use breakerd_client::{Breaker, Failure, Options, Permit};
use breakerd_tests::{Daemon, Setup, until};

/// More than the socket's buffer and the client's own queue hold, by a good deal less than the thousand that one
/// message's counts may bring as evidence.
const CALLS: u32 = 1200;

#[test]
fn failures_that_a_stopped_daemon_s_socket_does_not_take_are_all_evidence_when_it_goes_on() {
    // A query brings the counts, and so does a look; a call that nobody settles is no evidence.
    check(|breaker| drop(breaker.admit()));
    check(|breaker| drop(breaker.observe()));
}

fn check(bring: impl Fn(&Breaker)) {
    let more = "[breaker.openai]\ntrip.failure_rate = false\n".to_owned();
    let daemon = Daemon::with(&Setup { failures: CALLS, more, ..Setup::default() });
    let client = Options::from_env().unwrap().socket(daemon.socket()).open();
    let breaker = client.breaker("openai").unwrap();
    let admitted = |_| until("the daemon admits", || breaker.admit().ok().filter(|permit| permit.generation() > 0));
    let permits: Vec<Permit> = (0..CALLS).map(admitted).collect();
    daemon.freeze();
    permits.into_iter().for_each(|permit| permit.fail(Failure::new("http-401")));
    daemon.thaw();
    // All of them in a row trip, and one less would not.
    let mut operator = daemon.worker();
    let lane = operator.lane("openai");
    let view = until("it trips", || {
        bring(&breaker);
        Some(operator.observe(lane).view).filter(|view| view.retry_after_ms != Some(0))
    });
    assert_eq!(view.why, format!("{CALLS} consecutive failures, last unreported"));
    assert_eq!(breaker.observe().failures, u64::from(CALLS));
}
