//! The demo's workers, as the demo sees them: real processes of this same program.

use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Stuck;
use super::orders::{self, Order, Reply, SERVICE, Sight, Tally};

/// Far longer than anything that a worker is told to do.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(8);

/// One worker. Dropped, it is ended.
pub(super) struct Worker {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// Which host it works on, from 0.
    pub(super) host: usize,
}

impl Worker {
    /// Starts one beside the daemon that listens here.
    pub(super) fn start(socket: &Path, provider: SocketAddr, host: usize) -> Result<Self, Stuck> {
        let mut child = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .arg("demo-worker")
                    .arg(provider.to_string())
                    .env("BREAKERD_SOCKET", socket)
                    .env("BREAKERD_SERVICE", SERVICE)
                    .env_remove("BREAKERD_FALLBACK")
                    .env_remove("BREAKERD_PREFIX")
                    .env_remove("BREAKERD_MODE")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
            })
            .map_err(Stuck::Start)?;
        let (Some(orders), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Stuck::Start(io::ErrorKind::BrokenPipe.into()));
        };
        Ok(Self { child, orders, replies: BufReader::new(replies), host })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order without waiting for the reply.
    pub(super) fn order(&mut self, order: Order) -> Result<(), Stuck> {
        orders::write(&mut self.orders, &order).map_err(|error| self.stuck(Some(error)))
    }

    fn reply(&mut self) -> Result<Reply, Stuck> {
        if self.replies.buffer().is_empty() && !self.readable()? {
            return Err(self.stuck(None));
        }
        match orders::read(&mut self.replies) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.stuck(Some(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => Err(self.stuck(Some(error))),
        }
    }

    fn readable(&self) -> Result<bool, Stuck> {
        let ready = poll(&mut [PollFd::new(self.replies.get_ref(), PollFlags::IN)], Some(&reply_wait_max()));
        ready.map(|count| count > 0).map_err(|error| self.stuck(Some(error.into())))
    }

    fn stuck(&self, error: Option<io::Error>) -> Stuck {
        Stuck::Worker { pid: self.pid(), error }
    }

    fn out_of_turn(&self) -> Stuck {
        self.stuck(Some(io::ErrorKind::InvalidData.into()))
    }

    pub(super) fn look(&mut self) -> Result<Sight, Stuck> {
        self.order(Order::Look)?;
        match self.reply()? {
            Reply::Sight(sight) => Ok(sight),
            _ => Err(self.out_of_turn()),
        }
    }

    /// Makes it watch for open; returns when it is looking.
    pub(super) fn watch_for_open(&mut self) -> Result<(), Stuck> {
        self.order(Order::AwaitOpen)?;
        match self.reply()? {
            Reply::Watching => Ok(()),
            _ => Err(self.out_of_turn()),
        }
    }

    /// When it saw the breaker open, in nanoseconds of the machine's clock; none if it stayed closed for long.
    pub(super) fn seen_open(&mut self) -> Result<Option<u64>, Stuck> {
        match self.reply()? {
            Reply::Seen(at_ns) => Ok(at_ns),
            _ => Err(self.out_of_turn()),
        }
    }

    /// Calls in flight together: how many failed, and when each failure was reported.
    pub(super) fn burst(&mut self, calls: u32) -> Result<(u32, Vec<u64>), Stuck> {
        self.order(Order::Burst { calls })?;
        match self.reply()? {
            Reply::Burst { failed, reported_ns } => Ok((failed, reported_ns)),
            _ => Err(self.out_of_turn()),
        }
    }

    /// The reply to [`Order::Calls`].
    pub(super) fn tally(&mut self) -> Result<Tally, Stuck> {
        match self.reply()? {
            Reply::Tally(tally) => Ok(tally),
            _ => Err(self.out_of_turn()),
        }
    }

    /// Calls one after another.
    pub(super) fn calls(&mut self, calls: u32) -> Result<Tally, Stuck> {
        self.order(Order::Calls { calls })?;
        self.tally()
    }
}

/// The first of these workers to say something.
pub(super) fn first_to_speak(workers: &[Worker], waiting: &[usize]) -> Result<usize, Stuck> {
    let listened: Vec<(usize, &Worker)> = waiting.iter().filter_map(|at| Some((*at, workers.get(*at)?))).collect();
    if let Some((at, _)) = listened.iter().find(|(_, worker)| !worker.replies.buffer().is_empty()) {
        return Ok(*at);
    }
    let mut pipes: Vec<PollFd<'_>> =
        listened.iter().map(|(_, worker)| PollFd::new(worker.replies.get_ref(), PollFlags::IN)).collect();
    let silent = |error| Stuck::Worker { pid: listened.first().map_or(0, |(_, worker)| worker.pid()), error };
    poll(&mut pipes, Some(&reply_wait_max())).map_err(|error| silent(Some(error.into())))?;
    let spoke = pipes.iter().position(|pipe| !pipe.revents().is_empty());
    spoke.and_then(|position| listened.get(position)).map(|(at, _)| *at).ok_or_else(|| silent(None))
}

fn reply_wait_max() -> Timespec {
    Timespec { tv_sec: i64::try_from(REPLY_WAIT_MAX.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It keeps nothing that an orderly end would save. One that has ended already is none the worse for it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
