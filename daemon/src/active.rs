//! The daemon's own probes: a TCP connect beside the loop, in place of a user's call.
//!
//! Core says when (`Core::poll_active`), one at a time for a breaker and one in the fleet, and takes the end as it takes
//! a worker's report. A connect that is refused, or times out, or whose name has no address, fails in the words that
//! clients use: `connect`, `timeout`, `dns`.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakerd_core::ActiveProbe;
use breakerd_proto::{Failure, Mono};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::drive::Event;

/// How long a name may take to resolve and its addresses to answer, together.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Connects that may be out at once, whatever opens at once. The rest wait their turn, and whoever waits past core's
/// deadline has given its probe back.
const CONNECTS_MAX: usize = 32;
/// Addresses of one name that are tried, each for its share of the time.
const ADDRESSES_MAX: usize = 4;

/// The connects that are out. Dropping it ends them.
pub(crate) struct Connects {
    tasks: JoinSet<()>,
    turns: Rc<Semaphore>,
    events: mpsc::Sender<Event>,
}

impl Connects {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { tasks: JoinSet::new(), turns: Rc::new(Semaphore::new(CONNECTS_MAX)), events }
    }

    /// Begins a connect; its end comes as [`Event::Active`].
    pub(crate) fn start(&mut self, probe: ActiveProbe) {
        // Those that have ended are forgotten here, so that no more are kept than have begun since the last.
        while self.tasks.try_join_next().is_some() {}
        let (turns, events) = (Rc::clone(&self.turns), self.events.clone());
        self.tasks.spawn_local(async move {
            // Neither the semaphore nor the queue ends before this task does.
            let Ok(_turn) = turns.acquire().await else { return };
            let left = probe.deadline.left(Mono::now());
            if left.is_zero() {
                return;
            }
            let ended = reach(&probe.target, CONNECT_MAX.min(left)).await;
            drop(events.send(Event::Active(probe.permit, ended)).await);
        });
    }
}

/// Connects to `HOST:PORT` and hangs up.
async fn reach(target: &str, within: Duration) -> Result<(), Failure> {
    let ended = timeout(within, async {
        // A name is resolved on a thread of the runtime, a numeric address at once.
        let addresses = lookup_host(target).await.map_err(|error| unresolved(&error.to_string()))?;
        let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
        let share = within / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut ended = Err(unresolved("no address"));
        for address in addresses {
            ended = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(_hung_up)) => return Ok(()),
                Ok(Err(error)) => Err(refused(&error)),
                Err(_) => Err(timed_out(share)),
            };
        }
        ended
    });
    ended.await.unwrap_or_else(|_| Err(timed_out(within)))
}

fn unresolved(detail: &str) -> Failure {
    Failure::new("dns").with_detail(detail)
}

/// The kernel gives up by itself where its own patience is shorter than ours (tcp(7), `tcp_syn_retries`).
fn refused(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::new("timeout"),
        kind => Failure::new("connect").with_detail(&kind.to_string()),
    }
}

fn timed_out(after: Duration) -> Failure {
    Failure::new("timeout").with_detail(&format!("no answer within {after:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// Runs a connect as the daemon does, and says how it failed.
    fn kind_of(target: &str, within: Duration) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reach(target, within)).err().map(|failure| failure.kind)
    }

    #[test]
    fn each_end_has_its_word() {
        let closed = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&closed, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&closed).unwrap()).unwrap();
        assert_eq!(kind_of(&address.to_string(), CONNECT_MAX).as_deref(), Some("connect"), "bound, nobody listens");

        listen(&closed, 0).unwrap();
        assert_eq!(kind_of(&address.to_string(), CONNECT_MAX), None);
        // Linux drops further connects while the queue of a listener that accepts nobody is full (listen(2)).
        let hung = kind_of(&address.to_string(), Duration::from_millis(100));
        assert_eq!(hung.as_deref(), Some("timeout"));

        // A label of more than 63 bytes is no name (RFC 1035, 2.3.4), so no server is asked.
        let label = "a".repeat(64);
        assert_eq!(kind_of(&format!("{label}.test:1"), CONNECT_MAX).as_deref(), Some("dns"));
    }
}
