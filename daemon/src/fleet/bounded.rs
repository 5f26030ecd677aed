//! A stream that follows Redis's protocol by its lengths alone and fails before it would have to hold too much.
//!
//! The client library sets no bound of its own: a message that announces 512 MB is read to its end into memory before
//! anyone is asked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest message that comes unasked, in bytes: an event and its frame.
const PUSH_BYTES_MAX: u64 = (1 << 20) + 4096;
/// Longest reply, in bytes: a whole table.
const REPLY_BYTES_MAX: u64 = 64 << 20;
/// Most items of one list or map.
const ITEMS_MAX: u64 = 1 << 18;
/// Deepest nesting.
const DEPTH_MAX: usize = 8;
/// Longest line that announces a length.
const LENGTH_LINE_MAX: usize = 24;

/// A stream with bounds.
pub(super) struct Bounded<S> {
    inner: S,
    gauge: Gauge,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, gauge: Gauge::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.gauge.pass(fresh).map_err(|over| io::Error::new(io::ErrorKind::InvalidData, over)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where in the protocol the stream is.
#[derive(Default)]
struct Gauge {
    /// Items still to come, of each list that is open.
    open: Vec<u64>,
    /// The line under way, as far as it can announce a length.
    line: Vec<u8>,
    /// Bytes of a text still to come, with its line's end.
    text_left: u64,
    /// Bytes of the message under way, and its bound.
    message: u64,
    most: u64,
}

impl Gauge {
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some(first) = bytes.first() {
            if self.message == 0 {
                self.most = if *first == b'>' { PUSH_BYTES_MAX } else { REPLY_BYTES_MAX };
            }
            let taken = self.step(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes the rest of a text, or of a line, as far as it is there.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.text_left > 0 {
            let taken = self.text_left.min(here);
            self.text_left -= taken;
            self.count(taken)?;
            if self.text_left == 0 {
                self.item_done();
            }
            return Ok(usize::try_from(taken).unwrap_or(bytes.len()));
        }
        let end = bytes.iter().position(|b| *b == b'\n');
        let taken = end.map_or(bytes.len(), |at| at + 1);
        let room = LENGTH_LINE_MAX.saturating_sub(self.line.len());
        self.line.extend(bytes.iter().take(taken.min(room)));
        self.count(u64::try_from(taken).unwrap_or(u64::MAX))?;
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.line_done(&line)?;
        }
        Ok(taken)
    }

    fn count(&mut self, bytes: u64) -> Result<(), &'static str> {
        self.message = self.message.saturating_add(bytes);
        if self.message > self.most { Err("a message of Redis is longer than it may be") } else { Ok(()) }
    }

    fn line_done(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let Some((kind, rest)) = line.split_first() else { return Err("Redis sent an empty line") };
        match kind {
            b'$' | b'=' | b'!' => match length(rest)? {
                None => self.item_done(),
                Some(text) if text > self.most => return Err("Redis announces a text that is longer than it may be"),
                Some(text) => self.text_left = text + 2,
            },
            b'*' | b'~' | b'>' => self.open_list(length(rest)?.unwrap_or(0))?,
            b'%' => self.open_list(length(rest)?.unwrap_or(0).saturating_mul(2))?,
            // An attribute is its pairs and the value that they belong to.
            b'|' => self.open_list(length(rest)?.unwrap_or(0).saturating_mul(2).saturating_add(1))?,
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.item_done(),
            _ => return Err("what Redis sent is not its protocol"),
        }
        Ok(())
    }

    fn open_list(&mut self, items: u64) -> Result<(), &'static str> {
        if items == 0 {
            self.item_done();
            return Ok(());
        }
        if items > ITEMS_MAX || self.open.len() >= DEPTH_MAX {
            return Err("Redis announces a list that is longer or deeper than it may be");
        }
        self.open.push(items);
        Ok(())
    }

    fn item_done(&mut self) {
        while let Some(items) = self.open.last_mut() {
            *items -= 1;
            if *items > 0 {
                return;
            }
            self.open.pop();
        }
        self.message = 0;
    }
}

/// A length line's number; none for the -1 of nothing there.
fn length(line: &[u8]) -> Result<Option<u64>, &'static str> {
    let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
    if text == "-1" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "Redis announces a length that is none")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn passes(bytes: &[u8], chunk: usize) -> Result<Gauge, &'static str> {
        let mut gauge = Gauge::default();
        bytes.chunks(chunk).try_for_each(|part| gauge.pass(part))?;
        Ok(gauge)
    }

    #[test]
    fn whole_messages_end_where_they_end_however_they_are_cut() {
        let messages = [
            "+OK\r\n",
            "-NOPERM this user has no permissions\r\n",
            ":12\r\n",
            "_\r\n",
            "$-1\r\n",
            "$5\r\na\r\nbc\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*3\r\n$2\r\nab\r\n_\r\n*1\r\n:1\r\n",
            "%1\r\n+a\r\n$1\r\nb\r\n",
            ">3\r\n$7\r\nmessage\r\n$2\r\nev\r\n$3\r\nE1 \r\n",
        ];
        let all = messages.concat();
        for chunk in 1..=all.len() {
            let gauge = passes(all.as_bytes(), chunk).unwrap();
            assert!(gauge.open.is_empty() && gauge.message == 0 && gauge.text_left == 0, "{chunk}");
        }
    }

    #[test]
    fn what_is_announced_too_large_fails_before_it_comes() {
        let rows = [
            "$536870912\r\n",
            ">3\r\n$7\r\nmessage\r\n$2\r\nev\r\n$2000000\r\n",
            "*1000000\r\n",
            "%9223372036854775807\r\n",
            "$-2\r\n",
            "$?\r\n",
            "\n",
        ];
        for text in rows {
            assert!(passes(text.as_bytes(), 7).is_err(), "{text:?}");
        }
        assert!(passes("*1\r\n".repeat(DEPTH_MAX + 1).as_bytes(), 64).is_err());
        let endless = vec![b'a'; 3 << 20];
        assert!(passes(&[b">1\r\n+".as_slice(), &endless].concat(), 8192).is_err());
    }
}
