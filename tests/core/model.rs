//! Random histories against the plainest model: lists of what happened, read from the beginning each time.

use breakerd_core::{ConnectionId, Core, Peer, Settings};
use breakerd_proto::message::{Hello, Query, Register, Report};
use breakerd_proto::{Counts, Mono, Outcome, State, Verdict};
use proptest::prelude::*;

use crate::script::policy;

const WORKERS: usize = 3;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// The clock goes on by so many milliseconds.
    Pass(u64),
    /// A worker asks, and keeps what it gets.
    Ask(usize),
    /// A worker settles its oldest permit, if it has one; true for success.
    Settle(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop_oneof![Just(1), Just(999), Just(1000), Just(5000), Just(10_000)].prop_map(Step::Pass),
        5 => (0..WORKERS).prop_map(Step::Ask),
        5 => (0..WORKERS, any::<bool>()).prop_map(|(worker, success)| Step::Settle(worker, success)),
    ]
}

/// What a closed breaker has seen since it last changed, oldest first.
type Evidence = Vec<(usize, bool)>;

/// Whether the last failure completes a run: of three of its worker's calls, or of four of all calls.
fn trips(evidence: &Evidence) -> bool {
    let Some((last, false)) = evidence.last() else { return false };
    let own = evidence.iter().rev().filter(|(worker, _)| worker == last).take_while(|(_, ok)| !ok).count();
    let pooled = evidence.iter().rev().take_while(|(_, ok)| !ok).count();
    own >= 3 || pooled >= 4
}

#[derive(Debug)]
struct Model {
    state: State,
    until: u64,
    step: u32,
    evidence: Evidence,
    generation: u64,
    probe: Option<(u64, u64)>,
}

impl Model {
    fn ask(&mut self, now: u64) -> &'static str {
        if self.probe.is_some_and(|(_, expires)| expires <= now) {
            self.probe = None;
        }
        match self.state {
            State::Closed => "admit",
            State::Open if now < self.until => "reject",
            State::HalfOpen if self.probe.is_some() => "reject",
            _ => {
                if self.state == State::Open {
                    self.change(State::HalfOpen);
                }
                "probe"
            }
        }
    }

    fn change(&mut self, to: State) {
        self.state = to;
        self.evidence.clear();
        self.generation += 1;
    }

    fn settle(&mut self, now: u64, worker: usize, (generation, permit): (u64, u64), success: bool) {
        if permit != 0 {
            if self.probe.take_if(|(id, _)| *id == permit).is_none() {
                return;
            }
            self.step = if success { 0 } else { self.step + 1 };
            self.until = now + [1000, 2000, 4000][self.step.min(2) as usize];
            self.change(if success { State::Closed } else { State::Open });
        } else if self.state == State::Closed && (success || generation == self.generation) {
            // A success from before the last change is no evidence but that it is one: it ends runs.
            self.evidence.push((worker, success));
            if trips(&self.evidence) {
                (self.step, self.until) = (0, now + 1000);
                self.change(State::Open);
            }
        }
    }
}

fn hello(pid: u32) -> Hello {
    let service = "api".to_owned();
    let nonce = u64::from(pid);
    Hello { version_min: 1, version_max: 1, features: 0, pid, nonce, alone_ms: 0, alone_calls: 0, service }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut core = Core::new(Settings { default: policy(), ..Settings::default() }, 1);
        let mut model = Model { state: State::Closed, until: 0, step: 0, evidence: vec![], generation: 1, probe: None };
        let mut now = 0_u64;
        let at = |ms: u64| Mono(ms * 1_000_000);
        let connections: Vec<ConnectionId> = (1_u32..=3)
            .map(|pid| core.handle_connect(at(0), Peer { uid: 1, pid }, &hello(pid)).unwrap())
            .collect();
        for id in &connections {
            core.handle_register(at(0), *id, &Register { request: 0, name: "p".to_owned(), policy: None }).unwrap();
        }
        let mut held: Vec<Vec<(u64, u64)>> = vec![Vec::new(); WORKERS];
        let mut last_generation = 0;
        for (request, step) in (1..).zip(steps) {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Ask(worker) => {
                    let query = Query { request, lane: 0, deadline: at(now + 5), counts: Counts::default() };
                    core.handle_timeout(at(now));
                    let verdict = core.handle_query(at(now), connections[worker], &query).unwrap().unwrap();
                    let expected = model.ask(now);
                    match verdict {
                        Verdict::Admit { generation } => {
                            prop_assert_eq!(expected, "admit");
                            held[worker].push((generation, 0));
                        }
                        Verdict::Probe { generation, permit } => {
                            prop_assert_eq!(expected, "probe");
                            model.probe = Some((permit, now + 10_000));
                            held[worker].push((generation, permit));
                        }
                        Verdict::Reject { .. } => prop_assert_eq!(expected, "reject"),
                    }
                }
                Step::Settle(worker, success) => {
                    if held[worker].is_empty() {
                        continue;
                    }
                    let (generation, permit) = held[worker].remove(0);
                    let outcome = if success { Outcome::SUCCESS } else { Outcome::failure("x") };
                    let counts = Counts::default();
                    core.handle_timeout(at(now));
                    model.probe.take_if(|(_, expires)| *expires <= now);
                    let report = Report { lane: 0, generation, permit, at: at(now), outcome, counts };
                    core.handle_report(at(now), connections[worker], &report).unwrap();
                    model.settle(now, worker, (generation, permit), success);
                }
            }
            let view = core.view(at(now), "p").unwrap();
            prop_assert_eq!(view.state, model.state);
            prop_assert_eq!(view.generation, model.generation);
            prop_assert!(view.generation >= last_generation, "I4: a generation went back");
            last_generation = view.generation;
        }
        for id in connections {
            core.handle_gone(at(now), id);
        }
        prop_assert!(core.is_settled(), "I10: something is still held");
    }
}
