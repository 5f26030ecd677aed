//! What waits to be written to one peer.
//!
//! The loop writes straight to the socket while it takes everything, which is always unless the peer does not read. What
//! it does not take waits here, bounded, for the connection's writer task. The loop stops handling a peer's requests
//! while its outbox is over the bound, so a peer that does not read can only fill its own.

use std::cell::RefCell;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use breakerd_proto::frame;
use breakerd_proto::limits::OUT_QUEUE_BYTES_MAX;
use breakerd_proto::message::ToClient;
use interprocess::local_socket::tokio::Stream;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The writer task has bytes of its own in hand; whoever wrote past it would mix frames.
    writing: bool,
    gone: bool,
}

/// The loop's and the writer's shared end of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    stream: Rc<Stream>,
    waiting: RefCell<Waiting>,
    filled: Notify,
}

impl Outbox {
    /// An empty outbox for this connection.
    pub(crate) fn new(stream: Rc<Stream>) -> Rc<Self> {
        Rc::new(Self { stream, waiting: RefCell::default(), filled: Notify::new() })
    }

    fn socket(&self) -> BorrowedFd<'_> {
        let Stream::UdSocket(stream) = &*self.stream;
        stream.as_fd()
    }

    /// Sends a message now or as soon as the peer reads.
    pub(crate) fn send(&self, message: &ToClient) {
        let waiting = &mut *self.waiting.borrow_mut();
        if waiting.gone {
            return;
        }
        let straight = waiting.bytes.is_empty() && !waiting.writing;
        frame::write(message, &mut waiting.bytes);
        if straight {
            match send(self.socket(), &waiting.bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) => drop(waiting.bytes.drain(..taken.min(waiting.bytes.len()))),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // The reader finds the end of the connection by itself and tells the loop.
                Err(_) => (waiting.gone, waiting.bytes) = (true, Vec::new()),
            }
        }
        if !waiting.bytes.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Sends a connection's first message together with descriptors. False if the socket did not take both at once; then
    /// nothing was sent.
    pub(crate) fn send_with(&self, message: &ToClient, fds: &[BorrowedFd<'_>]) -> bool {
        let waiting = &mut *self.waiting.borrow_mut();
        if waiting.gone || waiting.writing || !waiting.bytes.is_empty() {
            return false;
        }
        let mut bytes = Vec::new();
        frame::write(message, &mut bytes);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return false;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(self.socket(), &[IoSlice::new(&bytes)], &mut control, flags) {
            Ok(taken) => waiting.bytes.extend(bytes.drain(taken.min(bytes.len())..)),
            Err(_) => return false,
        }
        if !waiting.bytes.is_empty() {
            self.filled.notify_one();
        }
        true
    }

    /// Whether the peer must read before more of its requests are served.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.borrow().bytes.len() >= OUT_QUEUE_BYTES_MAX / 2
    }

    /// Bytes for the writer, when there are any.
    pub(crate) async fn next(&self) -> Vec<u8> {
        loop {
            let bytes = {
                let mut waiting = self.waiting.borrow_mut();
                waiting.writing = !waiting.bytes.is_empty();
                std::mem::take(&mut waiting.bytes)
            };
            if !bytes.is_empty() {
                return bytes;
            }
            self.filled.notified().await;
        }
    }

    /// Nothing more is sent.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.borrow_mut();
        (waiting.gone, waiting.bytes) = (true, Vec::new());
        // The peer sees the end at once, whatever descriptors of the socket are still about.
        if let Err(error) = rustix::net::shutdown(self.socket(), rustix::net::Shutdown::Both) {
            tracing::trace!(%error, "the peer was gone first");
        }
    }
}
