//! A real redis-server on a port of its own that keeps nothing on disk, and a plain connection to look into it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::{PATIENCE, until};

/// A Redis server. Dropping it kills the process.
#[derive(Debug)]
pub struct Redis {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("breakerd-redis-").tempdir().unwrap();
        let mut redis = Self { dir, port: port_of_its_own(), child: None };
        redis.run();
        redis
    }

    /// Starts the process again, empty, on the same port.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it already runs");
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.dir.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("redis-server is installed"));
        until("redis-server answers", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("redis-server ended at its start with {status}:\n{log}");
            }
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            (Session::over(stream).ask(&["PING"]) == Reply::Text("PONG".to_owned())).then_some(())
        });
        let info = self.session().ask(&["INFO", "server"]).text();
        let ours = format!("process_id:{}\r\n", self.child.as_ref().unwrap().id());
        assert!(info.contains(&ours), "another server listens on port {}", self.port);
    }

    /// Where it is: `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new connection.
    pub fn session(&self) -> Session {
        Session::over(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it does not run")), signal).unwrap();
    }

    /// Kills it and waits for its end: connections break at once.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        let mut child = self.child.take().expect("it does not run");
        until("redis-server has ended", || child.try_wait().unwrap());
    }

    /// Freezes it: connections stay and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

/// A port that this process gives to nobody else, also while its server is down, and that the kernel gives to no outgoing
/// connection: one below the ephemeral range (ip(7), `ip_local_port_range`).
fn port_of_its_own() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Runs side by side begin apart from each other; whoever meets all the same makes `run` fail loudly.
    let begin = u16::try_from(std::process::id() % 180).unwrap() * 64;
    until("there is a free port", || {
        let port = 20_000 + (begin + GIVEN.fetch_add(1, Ordering::Relaxed)) % 11_520;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Whether it was still alive does not matter here.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A plain connection that speaks RESP2.
#[derive(Debug)]
pub struct Session(BufReader<TcpStream>);

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status or a string.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    Many(Vec<Reply>),
    /// An error.
    Error(String),
}

impl Reply {
    /// The text of a status or a string.
    pub fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            other => panic!("no text but {other:?}"),
        }
    }
}

impl Session {
    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a command and reads its reply.
    pub fn ask(&mut self, command: &[&str]) -> Reply {
        self.send(command);
        self.read()
    }

    /// Sends a command.
    pub fn send(&mut self, command: &[&str]) {
        let mut bytes = format!("*{}\r\n", command.len());
        for part in command {
            bytes.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Reads one reply, or one message of a subscription.
    pub fn read(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("Redis answers");
        let line = line.strip_suffix("\r\n").expect("a whole line");
        let (mark, rest) = line.split_at(1);
        let count = || rest.parse::<i64>().unwrap();
        match mark {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(count()),
            "$" if count() < 0 => Reply::Nil,
            "$" => self.bulk(usize::try_from(count()).unwrap()),
            "*" if count() < 0 => Reply::Nil,
            "*" => Reply::Many((0..count()).map(|_| self.read()).collect()),
            _ => panic!("not RESP: {line:?}"),
        }
    }

    fn bulk(&mut self, bytes: usize) -> Reply {
        let mut text = vec![0; bytes + 2];
        self.0.read_exact(&mut text).unwrap();
        text.truncate(bytes);
        Reply::Text(String::from_utf8_lossy(&text).into_owned())
    }
}
