//! A connected socket. Nothing here blocks but [`Link::wait`], and that never past its deadline.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use breakerd_proto::Mono;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send};

use crate::channel::Channel;
use crate::error::End;
use crate::fork::Owned;

/// A socket that belongs to the process that connected it.
#[derive(Debug)]
pub(crate) struct Link(Owned, Mutex<Vec<OwnedFd>>);

/// What to wait for beside bytes to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    /// Room to write as well.
    pub(crate) write: bool,
}

impl Link {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(Owned::new(fd), Mutex::default())
    }

    /// The descriptor's number, for a caller's own loop.
    pub(crate) fn number(&self) -> Option<RawFd> {
        self.0.fd().map(|fd| fd.as_raw_fd())
    }

    /// Sends what is queued, as far as the socket takes it now.
    pub(crate) fn flush(&self, channel: &mut Channel) -> Result<(), End> {
        while channel.wants_write() {
            let fd = self.0.fd().ok_or(End::Forked)?;
            match send(fd, channel.outgoing(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(bytes) => channel.handle_sent(bytes),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => {
                    // The daemon may have said why before it went.
                    self.fill(channel);
                    channel.handle_end(broken(errno));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads what has come. How the socket ended, if it has, comes out of the channel behind the last message.
    pub(crate) fn fill(&self, channel: &mut Channel) {
        let mut buffer = [0u8; 4096];
        loop {
            let Some(fd) = self.0.fd() else { return channel.handle_end(End::Forked) };
            match self.receive(fd, &mut buffer, channel) {
                Ok(0) => return channel.handle_end(End::Closed),
                Ok(bytes) => {
                    channel.handle_bytes(buffer.get(..bytes).unwrap_or_default());
                    // A short read has emptied the socket; another call would only learn that it is empty.
                    if bytes < buffer.len() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => return channel.handle_end(broken(errno)),
            }
        }
    }

    /// Reads once. Until the daemon has answered to the hello its descriptors may come along, which a plain read would
    /// drop without a word (unix(7), `SCM_RIGHTS`).
    fn receive(&self, fd: BorrowedFd<'_>, buffer: &mut [u8], channel: &Channel) -> Result<usize, Errno> {
        if channel.welcome().is_some() {
            return recv(fd, buffer, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(fd, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
        let mut passed = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed.extend(fds);
            }
        }
        Ok(received.bytes)
    }

    /// The descriptors that came with the welcome: a board and a lane memory, in this order.
    pub(crate) fn take_memory(&self) -> Option<[OwnedFd; 2]> {
        let passed = std::mem::take(&mut *self.1.lock().unwrap_or_else(PoisonError::into_inner));
        passed.try_into().ok()
    }

    /// Waits until there is something to read or, if asked for, room to write. False if the deadline came first.
    pub(crate) fn wait(&self, interest: Interest, deadline: Mono) -> Result<bool, End> {
        let write = if interest.write { PollFlags::OUT } else { PollFlags::empty() };
        loop {
            let fd = self.0.fd().ok_or(End::Forked)?;
            let left = (deadline != Mono::NEVER).then(|| deadline.left(Mono::now()));
            // A while too long for the type is as good as no end.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN | write)], left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(End::System(errno)),
            }
        }
    }
}

fn broken(errno: Errno) -> End {
    match errno {
        Errno::PIPE | Errno::CONNRESET => End::Closed,
        other => End::System(other),
    }
}
