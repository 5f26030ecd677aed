//! A worker in a process of its own: what one process connects is one worker to the daemon, whatever it opens.
//!
//! This program runs itself as one, `figures --worker SOCKET NAME ROLE`. It says `ready` once the daemon answers it, and
//! ends when whoever started it ends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use breakerd_client::{Breaker, Client, Options};
use breakerd_proto::Mono;
use breakerd_tests::Daemon;
use breakerd_tests::wait::{PATIENCE, within};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::calls::works;
use crate::trips::{Watch, fail};
use crate::world::attached;

/// What a worker does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Nothing, after its first call.
    Idle,
    /// Calls as fast as it can.
    Calls,
    /// Calls in a tight loop and tells when it was first rejected and when it is admitted again. After each rejection it
    /// goes on to its next breaker, `NAME/1` after `NAME/0`, if it has several.
    Watches(usize),
    /// Fails so often as fast as it can, once it is told to, and tells how that went.
    Fails(usize),
}

/// A running one. It ends when it is dropped.
pub(crate) struct Worker {
    child: Child,
    hear: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(daemon: &Daemon, name: &str, role: Role) -> Self {
        let role = match role {
            Role::Idle => "idle".to_owned(),
            Role::Calls => "calls".to_owned(),
            Role::Watches(breakers) => format!("watches={breakers}"),
            Role::Fails(times) => format!("fails={times}"),
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--worker").arg(daemon.socket()).arg(name).arg(role);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let hear = BufReader::new(child.stdout.take().unwrap());
        let mut worker = Self { child, hear };
        assert_eq!(worker.line(), "ready");
        worker
    }

    /// Tells it to go on.
    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// What it says next.
    pub(crate) fn line(&mut self) -> String {
        let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap(), tv_nsec: 0 };
        if self.hear.buffer().is_empty() {
            let ready = poll(&mut [PollFd::new(self.hear.get_ref(), PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "waited {PATIENCE:?} in vain for a worker's word");
        }
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whether it was still alive does not matter here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Watch for Worker {
    fn next(&mut self) -> Option<Mono> {
        let line = self.line();
        let at = line.parse().unwrap_or_else(|_| panic!("a watching worker said {line:?}"));
        (at != 0).then_some(Mono(at))
    }
}

/// The process of a worker.
#[allow(clippy::print_stdout, reason = "its parent listens there")]
pub(crate) fn main(args: &[String]) {
    let [socket, name, role] = args else { panic!("--worker SOCKET NAME ROLE") };
    let client = Options::from_env().unwrap().socket(Path::new(socket)).open();
    let (role, number) = role.split_once('=').unwrap_or((role, "1"));
    let number: usize = number.parse().unwrap();
    let breakers = breakers(&client, name, if role == "watches" { number } else { 1 });
    println!("ready");
    let breaker = &breakers[0];
    match role {
        "idle" => wait_for_the_end(),
        "calls" => loop {
            breaker.call(works).ok();
        },
        "watches" => {
            crate::trips::watch(|turn| breakers[turn % breakers.len()].call(works).is_err(), |at| println!("{at}"))
        }
        "fails" => fail_and_tell(breaker, number),
        other => panic!("no worker is {other:?}"),
    }
}

fn breakers(client: &Client, name: &str, number: usize) -> Vec<Breaker> {
    let names = (0..number).map(|turn| if number == 1 { name.to_owned() } else { format!("{name}/{turn}") });
    let breakers: Vec<Breaker> = names.map(|name| client.breaker(&name).unwrap()).collect();
    breakers.iter().for_each(attached);
    breakers
}

fn wait_for_the_end() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// How long after its last message a daemon may take to count it.
const COUNTED_AFTER: Duration = Duration::from_secs(1);

/// When it began, when the daemon had counted what it was told; how many failures it had not been told of then, and how
/// many it does not know of after one more.
#[allow(clippy::print_stdout, reason = "its parent listens there")]
fn fail_and_tell(breaker: &Breaker, times: usize) {
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let began = Mono::now();
    for _ in 0..times {
        fail(breaker);
    }
    let (ended, untold) = counted(breaker, times as u64);
    fail(breaker);
    let (_, lost) = counted(breaker, times as u64 + 1);
    println!("{} {} {untold} {lost}", began.0, ended.0);
    wait_for_the_end();
}

/// When the count last rose, and how many are missing from it.
fn counted(breaker: &Breaker, all: u64) -> (Mono, u64) {
    let (mut last, mut rose) = (breaker.observe().failures, Mono::now());
    within(COUNTED_AFTER, || {
        let seen = breaker.observe().failures;
        if seen > last {
            (last, rose) = (seen, Mono::now());
        }
        (last >= all).then_some(())
    });
    (rose, all.abs_diff(last))
}
