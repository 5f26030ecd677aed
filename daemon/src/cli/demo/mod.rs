//! `demo`: what breakerd does, shown with real processes and real calls, each claim checked as it is made.

mod claims;
mod contrast;
mod crew;
mod orders;
mod provider;
mod stage;
mod story;
mod worker;

use std::fmt;
use std::io;
use std::process::ExitCode;

use breakerd_client::{BadBreaker, BadName, BadVariable};

use super::args::{DemoArgs, DemoWorkerArgs};
use super::failure::{Failure, NO};

/// Why the demo or one of its workers cannot go on.
#[derive(Debug)]
pub(super) enum Stuck {
    /// A worker cannot be started.
    Start(io::Error),
    /// A worker is gone, silent (no error), or says what it was not asked.
    Worker {
        /// Which.
        pid: u32,
        /// What the pipe said.
        error: Option<io::Error>,
    },
    /// The provider cannot be started.
    Provider(io::Error),
    /// The daemons have not joined each other.
    NotJoined {
        /// Where they should meet.
        redis: String,
    },
    /// In a worker: the orders cannot be read or answered.
    Orders(io::Error),
    /// In a worker: the environment is wrong.
    Environment(BadVariable),
    /// In a worker: the breaker's name or policy is wrong.
    Breaker(BadBreaker),
    /// The breaker's name is none.
    Name(BadName),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the demo cannot start a worker: {error}"),
            Self::Worker { pid, error: Some(error) } => {
                write!(f, "the demo's worker {pid} cannot be talked to: {error}; run the demo again")
            }
            Self::Worker { pid, error: None } => {
                write!(f, "the demo's worker {pid} does not answer; the machine may be too loaded, run the demo again")
            }
            Self::Provider(error) => write!(f, "the demo cannot listen on 127.0.0.1: {error}"),
            Self::NotJoined { redis } => {
                write!(f, "the demo's daemons cannot join each other through {redis}; look whether Redis answers there")
            }
            Self::Orders(error) => write!(f, "a worker of the demo lost the demo: {error}"),
            Self::Environment(error) => write!(f, "{error}"),
            Self::Breaker(error) => write!(f, "{error}"),
            Self::Name(error) => write!(f, "{error}"),
        }
    }
}

/// Shows everything; the code is 1 if a claim did not hold.
pub(super) fn demo(demo: &DemoArgs) -> Result<ExitCode, Failure> {
    let all_hold = story::tell(demo.redis.as_deref(), demo.hosts.unwrap_or(1))?;
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// One of the demo's workers.
pub(super) fn work(work: &DemoWorkerArgs) -> Result<ExitCode, Failure> {
    worker::work(work.provider)?;
    Ok(ExitCode::SUCCESS)
}
