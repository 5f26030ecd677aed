//! A client that says exactly what it is told to: one connection, no cleverness.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use breakerd_proto::frame::{self, Reader};
use breakerd_proto::message::{
    Action, Bye, Command, Forget, Hello, Observe, Observed, Query, Refused, Register, Registered, Report, Welcome,
};
use breakerd_proto::{Code, Counts, Mono, Outcome, ToClient, ToDaemon, Verdict};

use crate::wait::PATIENCE;

static NONCE: AtomicU64 = AtomicU64::new(1);

/// One connection.
#[derive(Debug)]
pub struct Raw {
    stream: UnixStream,
    reader: Reader,
    request: u32,
    counts: BTreeMap<u32, Counts>,
}

impl Raw {
    /// Connects and says nothing.
    pub fn silent(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, reader: Reader::default(), request: 0, counts: BTreeMap::new() }
    }

    /// Connects as a worker of its own and is welcomed.
    pub fn hello(path: &Path, service: &str) -> Self {
        Self::hello_as(path, service, NONCE.fetch_add(1, Ordering::Relaxed)).0
    }

    /// Connects as the worker with this nonce and is welcomed.
    pub fn hello_as(path: &Path, service: &str, nonce: u64) -> (Self, Welcome) {
        let mut raw = Self::silent(path);
        raw.send(Self::greeting(service, nonce));
        match raw.read() {
            ToClient::Welcome(welcome) => (raw, welcome),
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// What a connection says first.
    pub fn greeting(service: &str, nonce: u64) -> Hello {
        use breakerd_proto::limits::{VERSION_MAX, VERSION_MIN};
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: 0,
            pid: std::process::id(),
            nonce,
            alone_ms: 0,
            alone_calls: 0,
            service: service.to_owned(),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: impl Into<ToDaemon>) {
        let mut bytes = Vec::new();
        frame::write(&message.into(), &mut bytes);
        self.bytes(&bytes);
    }

    /// Sends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// Sends bytes as long as the daemon takes them at once; how many it took.
    pub fn bytes_that_fit(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let taken = self.stream.write(bytes).unwrap_or(0);
        self.stream.set_nonblocking(false).unwrap();
        taken
    }

    /// Says that no more will come.
    pub fn shut(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next message.
    ///
    /// # Panics
    /// If none comes, the connection ends, or the bytes are none.
    pub fn read(&mut self) -> ToClient {
        self.try_read().expect("the daemon ended the connection")
    }

    /// The next message; none at the end of the connection.
    pub fn try_read(&mut self) -> Option<ToClient> {
        loop {
            if let Some(message) = self.reader.next_message::<ToClient>().expect("the daemon speaks the protocol") {
                return Some(message);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.reader.finish().expect("the daemon ends between frames");
                    return None;
                }
                Ok(n) => self.reader.feed(&bytes[..n]),
                // The peer closed with bytes of ours unread; what it had sent before was delivered.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("waiting for the daemon: {error}"),
            }
        }
    }

    /// The daemon's last word, after which the connection ends. What came before it is passed over.
    pub fn bye(&mut self) -> Bye {
        loop {
            match self.try_read() {
                Some(ToClient::Bye(bye)) => {
                    assert_eq!(self.try_read(), None, "a bye is the last word");
                    return bye;
                }
                Some(_) => {}
                None => panic!("the connection ended without a word"),
            }
        }
    }

    /// A new request number.
    pub fn request(&mut self) -> u32 {
        self.request += 1;
        self.request
    }

    /// Registers a breaker.
    pub fn register(&mut self, name: &str) -> Registered {
        let request = self.request();
        self.send(Register { request, name: name.to_owned(), policy: None });
        match self.read() {
            ToClient::Registered(registered) => {
                assert_eq!(registered.request, request);
                registered
            }
            other => panic!("not registered but {other:?}"),
        }
    }

    /// Registers a breaker and gives its lane alone.
    pub fn lane(&mut self, name: &str) -> u32 {
        self.register(name).lane
    }

    /// Asks without waiting for the answer; the request's number.
    pub fn ask_without_waiting(&mut self, lane: u32) -> u32 {
        let request = self.request();
        let counts = *self.counts.entry(lane).or_default();
        self.send(Query { request, lane, deadline: Mono::now().after(PATIENCE), counts });
        request
    }

    /// The answer to a query.
    pub fn answer(&mut self, request: u32) -> Verdict {
        match self.read() {
            ToClient::Answer(answer) => {
                assert_eq!(answer.request, request);
                answer.verdict
            }
            other => panic!("no verdict but {other:?}"),
        }
    }

    /// May I call?
    pub fn query(&mut self, lane: u32) -> Verdict {
        let request = self.ask_without_waiting(lane);
        self.answer(request)
    }

    /// Gives a request up.
    pub fn forget(&mut self, request: u32) {
        self.send(Forget { request });
    }

    /// Reports how a call went that this verdict let through.
    pub fn report(&mut self, lane: u32, verdict: &Verdict, outcome: Outcome) {
        let (generation, permit) = match *verdict {
            Verdict::Admit { generation } => (generation, 0),
            Verdict::Probe { generation, permit } => (generation, permit),
            Verdict::Reject { .. } => panic!("a rejected call has no outcome"),
        };
        let counts = self.counts.entry(lane).or_default();
        match &outcome {
            Outcome::Success { .. } => counts.successes += 1,
            Outcome::Failure(_) => counts.failures += 1,
            Outcome::Ignored | Outcome::Abandoned => {}
        }
        let counts = *counts;
        self.send(Report { lane, generation, permit, at: Mono::now(), outcome, counts });
    }

    /// A call that fails, if it is admitted; the verdict.
    pub fn fail(&mut self, lane: u32) -> Verdict {
        let verdict = self.query(lane);
        if !matches!(verdict, Verdict::Reject { .. }) {
            self.report(lane, &verdict, Outcome::failure("http-401"));
        }
        verdict
    }

    /// Calls that are in flight together and all fail: every verdict is given before the first outcome is told.
    pub fn fail_together(&mut self, lane: u32, calls: usize) {
        let verdicts: Vec<Verdict> = (0..calls).map(|_| self.query(lane)).collect();
        for verdict in verdicts {
            self.report(lane, &verdict, Outcome::failure("http-401"));
        }
    }

    /// What this worker sees of a breaker.
    pub fn observe(&mut self, lane: u32) -> Observed {
        let request = self.request();
        self.send(Observe { request, lane });
        match self.read() {
            ToClient::Observed(observed) => {
                assert_eq!(observed.request, request);
                observed
            }
            other => panic!("nothing observed but {other:?}"),
        }
    }

    /// Commands; the answer is the caller's to judge.
    pub fn command(&mut self, name: &str, action: Action) -> ToClient {
        let request = self.request();
        self.send(Command { request, name: name.to_owned(), action, because: "a test".to_owned() });
        self.read()
    }

    /// The next message is this refusal; its sentence.
    pub fn refused(&mut self, code: Code) -> String {
        match self.read() {
            ToClient::Refused(Refused { code: told, sentence, .. }) if told == code => sentence,
            other => panic!("not refused as {code:?} but {other:?}"),
        }
    }
}
