//! One connection's two tasks: bytes into events, and what the loop could not send at once.
//!
//! Neither knows what a message means. A worker ends with its process or its socket, whichever is first: a forked child
//! may hold the socket open long after the worker has died, so the process is watched too (pidfd_open(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use breakerd_core::Peer;
use breakerd_proto::WireError;
use breakerd_proto::frame::Reader;
use breakerd_proto::limits::{FRAME_TIME_MAX, HELLO_TIME_MAX, OUT_QUEUE_TIME_MAX};
use breakerd_proto::message::ToDaemon;
use interprocess::local_socket::tokio::Stream;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::drive::Event;
use crate::outbox::Outbox;

/// Frames handed over at a time; the next are read when the loop has served these.
const BATCH_FRAMES_MAX: usize = 64;

/// Bytes read at a time from a peer that says little: a thousand idle workers are to be small.
const READ_IDLE: usize = 512;
/// Bytes read at a time from one that says much.
const READ_BUSY: usize = 8192;

/// A connection's number, from accept to its end.
pub(crate) type Number = u64;

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed it, or died.
    Closed,
    /// The peer's bytes are no messages.
    Wire(WireError),
    /// A frame, or the hello, took too long.
    Slow,
    /// Its answers stayed unread.
    Unread,
}

/// What the loop gets of a connection's bytes.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(ToDaemon),
    /// A whole frame of a kind that this build does not know.
    Unknown(u16),
}

/// The socket and the process behind it, ready to be read.
pub(crate) struct Line {
    number: Number,
    events: mpsc::Sender<Event>,
    /// The loop has served the last batch.
    pub(crate) served: Rc<Notify>,
}

impl Line {
    pub(crate) fn new(number: Number, events: mpsc::Sender<Event>) -> Self {
        Self { number, events, served: Rc::new(Notify::new()) }
    }

    /// Starts both tasks on the current thread.
    pub(crate) fn start(self, stream: Rc<Stream>, peer: Peer, outbox: Rc<Outbox>) {
        let process = watch_process(peer.pid);
        tokio::task::spawn_local(write(self.number, self.events.clone(), Rc::clone(&stream), outbox));
        tokio::task::spawn_local(async move {
            let end = self.read(&stream, process).await;
            // The loop has ended if nobody takes it.
            drop(self.events.send(Event::Gone(self.number, end)).await);
        });
    }

    async fn read(&self, socket: &Stream, process: Option<AsyncFd<OwnedFd>>) -> End {
        let mut reader = Reader::default();
        let mut bytes = vec![0_u8; READ_IDLE];
        let mut patience = Some(HELLO_TIME_MAX);
        let mut dead = false;
        loop {
            let taken = tokio::select! {
                biased;
                taken = read_within(socket, &mut bytes, patience, dead) => taken,
                () = ended(process.as_ref()), if !dead => {
                    dead = true; // what it wrote before it died still counts
                    continue;
                }
            };
            let taken = match taken {
                Ok(0) => return reader.finish().map_or_else(End::Wire, |()| End::Closed),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !dead => return End::Slow,
                Err(_) => return End::Closed,
            };
            reader.feed(bytes.get(..taken).unwrap_or_default());
            if let Err(end) = self.hand_over(&mut reader).await {
                return end;
            }
            let next = match taken {
                filled if filled == bytes.len() => READ_BUSY,
                ..=READ_IDLE => READ_IDLE,
                _ => bytes.len(),
            };
            if next != bytes.len() {
                bytes = vec![0_u8; next];
            }
            patience = (reader.pending() > 0).then_some(FRAME_TIME_MAX);
        }
    }

    /// Gives all whole frames to the loop, a batch at a time, and waits until it has served them.
    async fn hand_over(&self, reader: &mut Reader) -> Result<(), End> {
        loop {
            let mut batch = Vec::new();
            let mut wrong = None;
            while batch.len() < BATCH_FRAMES_MAX && wrong.is_none() {
                match reader.next_message() {
                    Ok(Some(message)) => batch.push(Heard::Message(message)),
                    Ok(None) => break,
                    Err(WireError::UnknownKind(kind)) => batch.push(Heard::Unknown(kind)),
                    Err(error) => wrong = Some(error),
                }
            }
            if !batch.is_empty() {
                self.events.send(Event::Heard(self.number, batch)).await.map_err(|_| End::Closed)?;
                self.served.notified().await;
            } else if wrong.is_none() {
                return Ok(());
            }
            if let Some(error) = wrong {
                return Err(End::Wire(error));
            }
        }
    }
}

async fn read_within(
    mut socket: &Stream,
    bytes: &mut [u8],
    patience: Option<Duration>,
    dead: bool,
) -> io::Result<usize> {
    let patience = if dead { Some(Duration::ZERO) } else { patience };
    match patience {
        None => socket.read(bytes).await,
        Some(patience) => match timeout(patience, socket.read(bytes)).await {
            Ok(taken) => taken,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    }
}

/// Returns when the process has ended; never without one.
async fn ended(process: Option<&AsyncFd<OwnedFd>>) {
    match process {
        Some(process) => drop(process.readable().await),
        None => std::future::pending().await,
    }
}

/// A descriptor that becomes readable when the process ends. None where the kernel does not name it, or it has ended
/// already: then its socket tells.
fn watch_process(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()?;
    crate::timer::watch(fd).ok()
}

async fn write(number: Number, events: mpsc::Sender<Event>, stream: Rc<Stream>, outbox: Rc<Outbox>) {
    let mut socket = &*stream;
    loop {
        let bytes = outbox.next().await;
        let end = match timeout(OUT_QUEUE_TIME_MAX, socket.write_all(&bytes)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::Closed),
            Err(_) => Some(End::Unread),
        };
        let event = end.map_or(Event::Drained(number), |end| Event::Gone(number, end));
        let over = matches!(event, Event::Gone(..));
        if events.send(event).await.is_err() || over {
            return;
        }
    }
}
