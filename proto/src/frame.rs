//! Frames: a fixed header, then a body that its kind bounds.
//!
//! ```text
//! 0      4      6      8
//! | length | kind | zero | body: `length` bytes
//! ```
//! All little-endian. The length is checked against its kind's maximum before a byte of the body is stored.

use crate::error::WireError;
use crate::limits::{BODY_BYTES_MAX, HEADER_BYTES};
use crate::message::{Kind, ToClient, ToDaemon};

/// A message that goes over the wire in one direction.
pub trait Message: Sized {
    /// Its kind.
    fn kind_of(&self) -> Kind;
    /// Appends its body.
    fn write_body(&self, out: &mut Vec<u8>);
    /// Reads its body.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are not exactly one body of this kind.
    fn read_body(kind: Kind, body: &[u8]) -> Result<Self, WireError>;
}

macro_rules! message {
    ($($side:ident)*) => { $(
        impl Message for $side {
            fn kind_of(&self) -> Kind {
                self.kind()
            }
            fn write_body(&self, out: &mut Vec<u8>) {
                self.encode_body(out);
            }
            fn read_body(kind: Kind, body: &[u8]) -> Result<Self, WireError> {
                Self::decode_body(kind, body)
            }
        }
    )* };
}
message!(ToDaemon ToClient);

/// Appends a message as one frame.
pub fn write<M: Message>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0xff; 4]); // the largest length: a frame read half-written fails loudly
    out.extend_from_slice(&(message.kind_of() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    message.write_body(out);
    let body = out.len() - start - HEADER_BYTES;
    debug_assert!(body <= message.kind_of().body_bytes_max(), "{:?} has {body} bytes", message.kind_of());
    if let (Some(length), Ok(body)) = (out.get_mut(start..start + 4), u32::try_from(body)) {
        length.copy_from_slice(&body.to_le_bytes());
    }
}

/// Takes bytes as they come and gives whole messages.
///
/// Holds at most one frame beyond what it was fed; after an error it gives nothing more.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    start: usize,
    failed: bool,
}

impl Reader {
    /// Adds bytes from the peer.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 64 * 1024 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if its last byte has come.
    ///
    /// # Errors
    /// [`WireError::UnknownKind`] for a whole frame of a kind that this build does not know: it is passed over and reading
    /// goes on. Any other [`WireError`] once, at the first byte that cannot belong to a message of this direction.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, WireError> {
        if self.failed {
            return Ok(None);
        }
        let taken = self.take();
        self.failed = matches!(&taken, Err(error) if !matches!(error, WireError::UnknownKind(_)));
        taken
    }

    /// Bytes of a frame that has begun and not ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Called at the end of the stream.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if it ended inside a frame.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.pending() {
            0 => Ok(()),
            bytes => Err(WireError::Truncated { bytes }),
        }
    }

    fn take<M: Message>(&mut self) -> Result<Option<M>, WireError> {
        let pending = self.bytes.get(self.start..).unwrap_or_default();
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let (kind, length) = parse_header(*header)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let Some(kind) = Kind::from_number(kind) else {
            self.start += HEADER_BYTES + length;
            return Err(WireError::UnknownKind(kind));
        };
        let message = M::read_body(kind, body)?;
        self.start += HEADER_BYTES + length;
        Ok(Some(message))
    }
}

/// Reads a header: the kind's number and the body's length, within the kind's bound.
fn parse_header(header: [u8; HEADER_BYTES]) -> Result<(u16, usize), WireError> {
    let [l0, l1, l2, l3, k0, k1, z0, z1] = header;
    if (z0, z1) != (0, 0) {
        return Err(WireError::Header(header));
    }
    let number = u16::from_le_bytes([k0, k1]);
    let claimed = u32::from_le_bytes([l0, l1, l2, l3]);
    let most = Kind::from_number(number).map_or(BODY_BYTES_MAX, Kind::body_bytes_max);
    match usize::try_from(claimed) {
        Ok(length) if length <= most => Ok((number, length)),
        _ => Err(WireError::TooLong { kind: number, claimed, most }),
    }
}

/// Feeds arbitrary bytes to both directions. For fuzzing; never fails on any input.
pub fn fuzz_frame(bytes: &[u8]) {
    let (mut requests, mut answers) = (Reader::default(), Reader::default());
    requests.feed(bytes);
    answers.feed(bytes);
    drain::<ToDaemon>(&mut requests);
    drain::<ToClient>(&mut answers);
}

fn drain<M: Message>(reader: &mut Reader) {
    loop {
        match reader.next_message::<M>() {
            Ok(Some(message)) => assert_round_trip(&message),
            Err(WireError::UnknownKind(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

fn assert_round_trip<M: Message>(message: &M) {
    let mut bytes = Vec::new();
    write(message, &mut bytes);
    let mut reader = Reader::default();
    reader.feed(&bytes);
    let again = reader.next_message::<M>();
    assert!(
        matches!(again, Ok(Some(_))) && reader.pending() == 0,
        "a decoded message did not survive its own encoding"
    );
}
