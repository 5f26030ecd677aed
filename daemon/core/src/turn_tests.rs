//! How much work a turn of the loop does when all names want something at once.

use breakerd_proto::message::{Hello, PolicyPatch, Query, Register, Rules};
use breakerd_proto::{Counts, Mode, Mono, Verdict};

use super::*;
use crate::pattern::Pattern;
use crate::reload::{NAMES_A_TURN, Reruled};
use crate::resting::IDLE_AFTER;
use crate::settings::PatternPolicy;

const NAMES: u32 = 2300;

struct World {
    core: Core,
    now: Mono,
    worker: ConnectionId,
}

impl World {
    /// So many names, all in use.
    fn new() -> Self {
        let mut core = Core::new(settings(5), 1);
        let now = Mono::default().after_ms(1);
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            features: 0,
            pid: 1,
            nonce: 1,
            alone_ms: 0,
            alone_calls: 0,
            service: "api".to_owned(),
        };
        let worker = core.handle_connect(now, Peer { uid: 1, pid: 1 }, &hello).unwrap();
        let mut world = Self { core, now, worker };
        for number in 0..NAMES {
            let lane = world.register(&format!("n/{number:05}"));
            assert_eq!(lane, number);
            assert!(world.is_admitted(lane));
        }
        world
    }

    fn register(&mut self, name: &str) -> u32 {
        let register = Register { request: 0, name: name.to_owned(), policy: None };
        self.core.handle_register(self.now, self.worker, &register).unwrap().lane
    }

    fn is_admitted(&mut self, lane: u32) -> bool {
        let query = Query { request: 1, lane, deadline: Mono::NEVER, counts: Counts::default() };
        let verdict = self.core.handle_query(self.now, self.worker, &query);
        matches!(verdict, Ok(Some(Verdict::Admit { .. })))
    }

    fn failures_of(&self, name: &str) -> u32 {
        let id = self.core.table.find(name).unwrap();
        self.core.table.get(id).unwrap().policy.trip.consecutive_failures
    }

    /// How many names go by a policy of so many failures.
    fn of(&self, failures: u32) -> usize {
        (0..NAMES).filter(|number| self.failures_of(&format!("n/{number:05}")) == failures).count()
    }

    fn awake(&self) -> usize {
        self.core.table.each_awake().count()
    }

    /// Whether there is more to do at once.
    fn is_due(&self) -> bool {
        self.core.poll_timeout().is_some_and(|at| at <= self.now)
    }
}

fn settings(failures: u32) -> Settings {
    let default = PolicyPatch {
        consecutive_failures: Some(failures),
        failure_rate: Some(Rules::default()),
        ..PolicyPatch::default()
    };
    Settings { default, ..Settings::default() }
}

#[test]
fn new_settings_reach_many_names_a_part_a_turn_and_a_query_between_is_answered() {
    let mut world = World::new();
    world.core.handle_settings(world.now, settings(3));
    let mut reached = vec![world.of(3)];
    while world.core.poll_reruled().is_none() {
        assert!(world.is_due(), "the rest waits for nothing");
        for lane in [0, NAMES / 2, NAMES - 1] {
            assert!(world.is_admitted(lane), "by one policy or the other");
        }
        world.core.handle_timeout(world.now);
        reached.push(world.of(3));
    }
    assert_eq!(reached, [500, 1000, 1500, 2000, 2300]);
    assert!(!world.is_due());
}

#[test]
fn settings_that_come_between_hold_in_the_end_and_a_new_name_at_once() {
    let mut world = World::new();
    world.core.handle_settings(world.now, settings(3));
    world.register("m/new");
    world.register("z/new");
    assert_eq!((world.failures_of("m/new"), world.failures_of("z/new")), (3, 3));
    world.core.handle_settings(world.now, settings(4));
    while world.is_due() {
        world.core.handle_timeout(world.now);
    }
    assert_eq!((world.of(4), world.failures_of("m/new"), world.failures_of("z/new")), (2300, 4, 4));
    assert_eq!(world.core.poll_reruled(), Some(Reruled { rules: true, changed: 2302 }));
    assert_eq!(world.core.poll_reruled(), None, "told once");
}

#[test]
fn only_names_whose_policy_is_another_are_touched() {
    let mut world = World::new();
    world.now = world.now.after(IDLE_AFTER);
    while world.is_due() {
        world.core.handle_timeout(world.now);
    }
    assert_eq!(world.awake(), 0, "all rest");
    let patch = PolicyPatch { mode: Some(Mode::Shadow), ..PolicyPatch::default() };
    let pattern = Pattern::parse("n/0000*").unwrap();
    let shadow = Settings { patterns: vec![PatternPolicy { pattern, patch }], ..settings(5) };
    world.core.handle_settings(world.now, shadow.clone());
    assert_eq!(world.awake(), 10, "a mode must be told, and nobody else is woken");
    while world.is_due() {
        world.core.handle_timeout(world.now);
    }
    assert_eq!(world.core.poll_reruled(), Some(Reruled { rules: true, changed: 10 }));
    let told = std::iter::from_fn(|| world.core.poll_change()).count();
    assert_eq!((world.awake(), told), (0, 10), "and those rest again");
    // What says nothing else of policies looks at no name.
    let quotas = crate::settings::Quotas { names: 5, ..shadow.quotas };
    world.core.handle_settings(world.now, Settings { quotas, ..shadow });
    assert_eq!(world.core.poll_reruled(), Some(Reruled { rules: false, changed: 0 }));
    assert!(!world.is_due());
}

#[test]
fn names_that_were_left_alone_together_come_to_rest_a_part_a_turn() {
    let mut world = World::new();
    assert_eq!(world.awake(), 2300);
    world.now = world.now.after(IDLE_AFTER);
    let mut awake = Vec::new();
    while world.is_due() {
        world.core.handle_timeout(world.now);
        awake.push(world.awake());
        assert_eq!(awake.last().is_some_and(|left| *left > 0), world.is_due());
    }
    assert_eq!(awake, [1800, 1300, 800, 300, 0]);
    assert_eq!(NAMES_A_TURN, 500);
}
