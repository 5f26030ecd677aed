//! One host: the core that ships, joined to its fleet, and sixteen workers that call one provider.

use breakerd_core::fleet::Keys;
use breakerd_core::{ConnectionId, Core, Peer, Settings, What};
use breakerd_proto::message::{Action, Command, Hello, PolicyPatch, Query, Register, Report};
use breakerd_proto::{Counts, Link, Mono, Outcome, Verdict};

use crate::redis::Redis;

pub(crate) const WORKERS: usize = 16;

/// Changes from closed to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Openings {
    /// The host's own.
    pub(crate) host: u64,
    /// Those that the fleet was asked for.
    pub(crate) fleet: u64,
}

pub(crate) struct Host {
    core: Core,
    redis: Redis,
    connections: Vec<ConnectionId>,
    generation: u64,
    pub(crate) openings: Openings,
}

impl Host {
    /// A host that is joined, at one hour after boot.
    pub(crate) fn new(policy: PolicyPatch, seed: u64) -> Self {
        let now = Self::start();
        let mut core = Core::new(Settings { default: policy, ..Settings::default() }, seed);
        core.join(now, Keys::of("sim").unwrap(), "h.1", seed);
        let attach = |pid: u32| {
            let service = "api".to_owned();
            let nonce = u64::from(pid);
            let hello =
                Hello { version_min: 1, version_max: 1, features: 0, pid, nonce, alone_ms: 0, alone_calls: 0, service };
            let id = core.handle_connect(now, Peer { uid: 1, pid }, &hello).unwrap();
            core.handle_register(now, id, &Register { request: 0, name: "p".to_owned(), policy: None }).unwrap();
            id
        };
        let connections = (1..).take(WORKERS).map(attach).collect();
        let mut host =
            Self { core, redis: Redis::default(), connections, generation: 0, openings: Openings::default() };
        host.redis.serve(now, &mut host.core);
        while host.core.link() != Link::Joined {
            let due = host.core.poll_timeout().expect("a link that is not joined wants something");
            host.core.handle_timeout(due);
            host.redis.serve(due, &mut host.core);
        }
        host.admit(now);
        host
    }

    /// The first moment at which it may be called.
    pub(crate) fn start() -> Mono {
        Mono::default().after_ms(3_600_000)
    }

    fn admit(&mut self, now: Mono) {
        let query = Query { request: 1, lane: 0, deadline: Mono::NEVER, counts: Counts::default() };
        match self.core.handle_query(now, self.connections[0], &query) {
            Ok(Some(Verdict::Admit { generation })) => self.generation = generation,
            other => panic!("{other:?}"),
        }
    }

    /// A call of this worker ends. Tells whether the fleet was asked to open by it.
    pub(crate) fn call(&mut self, now: Mono, worker: usize, failed: bool) -> bool {
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
            self.redis.serve(now, &mut self.core);
        }
        let outcome = if failed { Outcome::failure("http-500") } else { Outcome::SUCCESS };
        let (generation, counts) = (self.generation, Counts::default());
        let report = Report { lane: 0, generation, permit: 0, at: now, outcome, counts };
        self.core.handle_report(now, self.connections[worker], &report).unwrap();
        let Some(change) = self.core.poll_change() else { return false };
        assert_eq!(change.what, What::Trip);
        self.opened(now)
    }

    /// It is open. The provider is well and the probe would succeed, so that it is closed again at once: a little more often
    /// open than it would be, since a breaker that is open gathers no evidence.
    fn opened(&mut self, now: Mono) -> bool {
        let before = self.redis.trips;
        self.redis.serve(now, &mut self.core);
        let fleet = self.redis.trips > before;
        if fleet {
            self.openings.fleet += 1;
        } else {
            self.openings.host += 1;
            let reset = Command { request: 0, name: "p".to_owned(), action: Action::Reset, because: String::new() };
            self.core.command(now, "sim", &reset).unwrap();
            self.redis.serve(now, &mut self.core);
        }
        while self.core.poll_change().is_some() {}
        self.admit(now);
        fleet
    }
}
