//! One connection's conversation without its socket: frames out, frames in, hello first.

use breakerd_proto::frame::{self, Reader};
use breakerd_proto::limits::FRAME_BYTES_MAX;
use breakerd_proto::message::{Hello, Welcome};
use breakerd_proto::{ToClient, ToDaemon, WireError};

use crate::error::End;

/// Bytes that may wait for the socket before messages that can be made good later are left out.
pub(crate) const OUT_BYTES_SOFT: usize = 2 * FRAME_BYTES_MAX;

/// Queues messages as bytes and gives messages from bytes.
#[derive(Debug)]
pub(crate) struct Channel {
    reader: Reader,
    out: Vec<u8>,
    sent: usize,
    welcome: Option<Welcome>,
    end: Option<End>,
    requests: u32,
}

impl Channel {
    /// A conversation that begins with this hello.
    pub(crate) fn new(hello: &Hello) -> Self {
        let mut channel =
            Self { reader: Reader::default(), out: Vec::new(), sent: 0, welcome: None, end: None, requests: 0 };
        channel.queue(&hello.clone().into());
        channel
    }

    /// What the daemon answered to the hello, once it has.
    pub(crate) fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// A request number that no other request of this connection's recent past has.
    pub(crate) fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    pub(crate) fn queue(&mut self, message: &ToDaemon) {
        frame::write(message, &mut self.out);
    }

    /// Whether there is room for messages that can be made good later.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.sent < OUT_BYTES_SOFT
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Bytes for the socket.
    pub(crate) fn outgoing(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// The socket has taken so many of them.
    pub(crate) fn handle_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes).min(self.out.len());
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent >= OUT_BYTES_SOFT {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Bytes from the socket.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
    }

    /// The socket has ended; what came before it is still given out.
    pub(crate) fn handle_end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// The next message. `Welcome` is among them and is kept.
    ///
    /// # Errors
    /// How the conversation ended, again and again.
    pub(crate) fn next_message(&mut self) -> Result<Option<ToClient>, End> {
        loop {
            let message = match self.reader.next_message::<ToClient>() {
                // A newer daemon may tell what this build does not know.
                Err(WireError::UnknownKind(_)) => continue,
                Err(error) => return Err(self.over(End::Wire(error))),
                Ok(None) => return self.end.clone().map_or(Ok(None), Err),
                Ok(Some(message)) => message,
            };
            match message {
                ToClient::Bye(bye) => return Err(self.over(End::Bye { code: bye.code, sentence: bye.sentence })),
                ToClient::Refused(no) if self.welcome.is_none() => {
                    return Err(self.over(End::Bye { code: no.code, sentence: no.sentence }));
                }
                ToClient::Welcome(welcome) if self.welcome.is_none() => {
                    self.welcome = Some(welcome.clone());
                    return Ok(Some(welcome.into()));
                }
                other if self.welcome.is_none() => return Err(self.over(End::Unexpected(other.kind()))),
                other => return Ok(Some(other)),
            }
        }
    }

    /// A word from the daemon explains more than the closed socket behind it.
    fn over(&mut self, end: End) -> End {
        self.end = Some(end.clone());
        end
    }
}
