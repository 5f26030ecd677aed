//! A core with workers of several accounts, for tests about many names.

use breakerd_core::{ConnectionId, Core, Peer, Refusal, Settings};
use breakerd_proto::message::{Action, Command, Done, Hello, PolicyPatch, Query, Register, Registered, Report, View};
use breakerd_proto::{Counts, Mono, Outcome, Verdict};

pub(crate) struct Host {
    pub(crate) core: Core,
    now_ms: u64,
    requests: u32,
}

/// One connection's use of one breaker.
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) connection: ConnectionId,
    pub(crate) number: u32,
}

impl Host {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { core: Core::new(settings, 1), now_ms: 1, requests: 0 }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono::default().after_ms(self.now_ms)
    }

    /// Lets time pass, with every alarm on the way.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now().after_ms(ms);
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.core.handle_timeout(at.max(self.now()));
        }
        self.now_ms += ms;
    }

    pub(crate) fn worker(&mut self, uid: u32) -> ConnectionId {
        self.requests += 1;
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            features: 0,
            pid: self.requests,
            nonce: 0,
            alone_ms: 0,
            alone_calls: 0,
            service: "api".to_owned(),
        };
        self.core.handle_connect(self.now(), Peer { uid, pid: self.requests }, &hello).unwrap()
    }

    pub(crate) fn gone(&mut self, connection: ConnectionId) {
        self.core.handle_gone(self.now(), connection);
    }

    pub(crate) fn register_as(
        &mut self,
        connection: ConnectionId,
        name: &str,
        policy: Option<PolicyPatch>,
    ) -> Result<Registered, Refusal> {
        let register = Register { request: 0, name: name.to_owned(), policy: policy.map(Box::new) };
        self.core.handle_register(self.now(), connection, &register)
    }

    pub(crate) fn lane(&mut self, connection: ConnectionId, name: &str) -> Lane {
        Lane { connection, number: self.register_as(connection, name, None).unwrap().lane }
    }

    pub(crate) fn ask_with(&mut self, lane: Lane, counts: Counts) -> Result<Verdict, Refusal> {
        self.requests += 1;
        let query = Query { request: self.requests, lane: lane.number, deadline: self.now().after_ms(5), counts };
        self.core.handle_query(self.now(), lane.connection, &query).map(Option::unwrap)
    }

    pub(crate) fn ask(&mut self, lane: Lane) -> Verdict {
        self.ask_with(lane, Counts::default()).unwrap()
    }

    /// The number of the last query.
    pub(crate) fn newest_request(&self) -> u32 {
        self.requests
    }

    /// The end of a probe.
    pub(crate) fn settle_probe(&mut self, lane: Lane, (generation, permit): (u64, u64), outcome: Outcome) {
        let (lane, connection, counts) = (lane.number, lane.connection, Counts::default());
        let report = Report { lane, generation, permit, at: self.now(), outcome, counts };
        self.core.handle_report(self.now(), connection, &report).unwrap();
    }

    pub(crate) fn report_with(&mut self, lane: Lane, generation: u64, outcome: Outcome, counts: Counts) {
        let (lane, connection) = (lane.number, lane.connection);
        let report = Report { lane, generation, permit: 0, at: self.now(), outcome, counts };
        self.core.handle_report(self.now(), connection, &report).unwrap();
    }

    /// Reports a failure of a call that was admitted in this generation.
    pub(crate) fn report_failure(&mut self, lane: Lane, generation: u64) {
        self.report_with(lane, generation, Outcome::failure("http-500"), Counts::default());
    }

    /// So many calls, each admitted and failed.
    pub(crate) fn fail(&mut self, lane: Lane, calls: usize) {
        for _ in 0..calls {
            let verdict = self.ask(lane);
            assert!(matches!(verdict, Verdict::Admit { .. }), "{verdict:?}");
            self.report_failure(lane, verdict.generation());
        }
    }

    pub(crate) fn succeed(&mut self, lane: Lane) {
        let generation = self.ask(lane).generation();
        self.report_with(lane, generation, Outcome::SUCCESS, Counts::default());
    }

    pub(crate) fn command(&mut self, name: &str, action: Action) -> Done {
        let command = Command { request: 0, name: name.to_owned(), action, because: "drill".to_owned() };
        self.core.command(self.now(), "root@web-1", &command).unwrap()
    }

    pub(crate) fn view(&self, name: &str) -> View {
        self.core.view(self.now(), name).unwrap()
    }

    /// The words of all changes since they were last asked for.
    pub(crate) fn changes(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.core.poll_change()).map(|change| change.what.word()).collect()
    }
}
