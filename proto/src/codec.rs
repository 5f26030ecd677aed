//! Bodies to bytes and back: the only file that names bincode.
//!
//! bincode 2 with fixed-size little-endian integers, as fast as a layout by hand. Its upstream has ended, which is
//! why nothing else may depend on it: whoever replaces it replaces this file and keeps `WIRE.md`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::WireError;
use crate::limits::BODY_BYTES_MAX;
use crate::message::Kind;

fn config() -> Configuration<LittleEndian, Fixint, Limit<BODY_BYTES_MAX>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<BODY_BYTES_MAX>()
}

/// Appends a body. Encoding to memory cannot fail: every type here is plain data of known shape.
pub(crate) fn encode<T: Serialize>(body: &T, out: &mut Vec<u8>) {
    let written = bincode::serde::encode_into_std_write(body, out, config());
    debug_assert!(written.is_ok(), "a message type that bincode cannot encode");
}

/// Reads one body and nothing else.
///
/// The limit bounds what a claimed length can make us allocate; the frame has bounded the bytes before.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, body: &[u8]) -> Result<T, WireError> {
    let (value, used) = bincode::serde::decode_from_slice(body, config()).map_err(|_| WireError::Malformed(kind))?;
    match body.len().saturating_sub(used) {
        0 => Ok(value),
        bytes => Err(WireError::Trailing { kind, bytes }),
    }
}
