//! The two bounded queues between the driver and the carrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use breakerd_core::fleet::{ConnectionNumber, Heard, Request, Said};
use tokio::sync::mpsc;

/// Requests that may wait. The machine has at most a dozen out; more means that the carrier stands still.
const REQUESTS_MAX: usize = 256;
/// Events that may wait, and the bytes of their messages.
const EVENTS_MAX: usize = 4096;
const EVENT_BYTES_MAX: usize = 16 << 20;

/// The driver's end of the queue of requests.
pub(crate) struct Requests(mpsc::Sender<Request>);

impl Requests {
    /// Passes a request on. False if the carrier is gone or has not taken the last 256: a bug.
    #[must_use]
    pub(crate) fn ask(&self, request: Request) -> bool {
        self.0.try_send(request).is_ok()
    }
}

pub(super) fn requests() -> (Requests, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (Requests(sender), receiver)
}

/// The driver's end of the queue of events.
pub(crate) struct Events {
    queue: mpsc::Receiver<Heard>,
    bytes: Arc<AtomicUsize>,
}

impl Events {
    /// The next event, in the order in which it came off the wire; none if the carrier has ended. Safe in `select!`.
    pub(crate) async fn recv(&mut self) -> Option<Heard> {
        let heard = self.queue.recv().await?;
        if let Said::Push(event) = &heard.said {
            self.bytes.fetch_sub(event.len(), Ordering::Relaxed);
        }
        Some(heard)
    }
}

/// The carrier's end of the queue of events. Replies wait for room; messages that find none are dropped and told as one
/// overflow, since a daemon that stands still must not make the queue grow.
#[derive(Clone)]
pub(super) struct Tell {
    queue: mpsc::Sender<Heard>,
    bytes: Arc<AtomicUsize>,
    overflow: Arc<AtomicBool>,
}

impl Tell {
    /// Waits for room. False if the driver is gone.
    pub(super) async fn say(&self, connection: ConnectionNumber, said: Said) -> bool {
        self.queue.send(Heard { connection, said }).await.is_ok()
    }

    /// Never waits.
    pub(super) fn push(&self, connection: ConnectionNumber, event: Vec<u8>) {
        let bytes = event.len();
        let room = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= EVENT_BYTES_MAX;
        let queued = room && self.queue.try_send(Heard { connection, said: Said::Push(event) }).is_ok();
        if !queued {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.overflow.store(true, Ordering::Relaxed);
        }
    }

    /// Whether messages were dropped since this was last asked.
    pub(super) fn overflowed(&self) -> bool {
        self.overflow.swap(false, Ordering::Relaxed)
    }
}

pub(super) fn events() -> (Tell, Events) {
    let (queue, receiver) = mpsc::channel(EVENTS_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let tell = Tell { queue, bytes: Arc::clone(&bytes), overflow: Arc::new(AtomicBool::new(false)) };
    (tell, Events { queue: receiver, bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const CONNECTION: ConnectionNumber = ConnectionNumber(1);

    #[tokio::test]
    async fn a_flood_is_dropped_told_once_and_then_flows_again() {
        let (tell, mut events) = events();
        for _ in 0..EVENTS_MAX + 10 {
            tell.push(CONNECTION, vec![0; 10]);
        }
        assert!(tell.overflowed());
        assert!(!tell.overflowed());
        for _ in 0..EVENTS_MAX {
            assert_eq!(events.recv().await.unwrap().said, Said::Push(vec![0; 10]));
        }
        tell.push(CONNECTION, vec![1]);
        assert!(!tell.overflowed());
        assert_eq!(events.recv().await.unwrap().said, Said::Push(vec![1]));
    }

    #[tokio::test]
    async fn large_messages_are_bounded_by_their_bytes() {
        let (tell, mut events) = events();
        let mib = 1 << 20;
        for _ in 0..17 {
            tell.push(CONNECTION, vec![0; mib]);
        }
        assert!(tell.overflowed());
        for _ in 0..16 {
            events.recv().await.unwrap();
        }
        tell.push(CONNECTION, vec![0; mib]);
        assert!(!tell.overflowed());
    }
}
