//! Every bound of the wire, with the relations between them asserted where they stand.
//!
//! A number that two crates must agree on lives here and nowhere else.

use std::time::Duration;

/// Longest breaker name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest service label of a worker, in bytes.
pub const SERVICE_BYTES_MAX: usize = 64;
/// Longest kind of a failure (`http-401`, `TimeoutError`), in bytes.
pub const FAILURE_KIND_BYTES_MAX: usize = 48;
/// Longest detail of a failure, in bytes: a status and an error code, never a body or a key.
pub const FAILURE_DETAIL_BYTES_MAX: usize = 80;
/// Longest author of a change, in bytes; the fleet keeps as much.
pub const AUTHOR_BYTES_MAX: usize = 64;
/// Longest reason of a change, in bytes; the fleet keeps as much.
pub const REASON_BYTES_MAX: usize = 160;
/// Calls that a trip rule over the last calls may look at.
pub const WINDOW_CALLS_MAX: u32 = 10_000;
/// Longest `HOST:PORT` of an active probe, in bytes: a DNS name (RFC 1035, 2.3.4), a colon, a port.
pub const PROBE_CONNECT_BYTES_MAX: usize = 261;
/// Longest fleet name, in bytes: `[a-z0-9-]`.
pub const FLEET_BYTES_MAX: usize = 32;
/// Longest sentence in a `Refused` or `Bye`, in bytes.
pub const SENTENCE_BYTES_MAX: usize = 400;

/// Bytes of a frame's header: length, kind, zero.
pub const HEADER_BYTES: usize = 8;
/// Longest body that any kind allows, in bytes. A larger one is refused by its header alone.
pub const BODY_BYTES_MAX: usize = 32 * 1024;
/// Longest body of a message about one breaker or one worker, in bytes.
pub const SMALL_BODY_BYTES_MAX: usize = 2 * 1024;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;
/// Bytes of answers that may wait for one peer before the daemon stops reading from it.
pub const OUT_QUEUE_BYTES_MAX: usize = 64 * 1024;
/// Rows in one page of an answer about many breakers or workers.
pub const PAGE_ROWS_MAX: usize = 32;
/// Largest row of such a page, in bytes: a name, two authors and their reasons, each with its length, and numbers.
pub const ROW_BYTES_MAX: usize = 1000;

/// Oldest protocol version that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version that this build speaks.
pub const VERSION_MAX: u16 = 1;

/// The feature of a board and lane memory: their descriptors come with the first byte of `Welcome` (`SCM_RIGHTS`, unix(7)).
pub const FEATURE_BOARD: u64 = 1;

/// How long a peer may take over one frame, header to last byte.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a peer may leave its answers unread before it is cut off.
pub const OUT_QUEUE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may stand without saying hello.
pub const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a synchronous call waits for the daemon.
pub const SYNC_WAIT_MAX: Duration = Duration::from_millis(5);
/// How long a call that is awaited on its caller's own loop waits for the daemon.
pub const ASYNC_WAIT_MAX: Duration = Duration::from_millis(250);
/// How long a process's first attach may take: a cold start beside a living daemon must not answer from the fallback.
pub const FIRST_ATTACH_WAIT_MAX: Duration = Duration::from_millis(250);
/// Shortest retry-after of a rejection in half-open.
pub const PROBING_RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest retry-after that is ever told or obeyed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

const _: () = assert!(FRAME_BYTES_MAX <= OUT_QUEUE_BYTES_MAX, "a full page must fit an empty queue");
const _: () = assert!(SMALL_BODY_BYTES_MAX <= BODY_BYTES_MAX);
const _: () =
    assert!(PAGE_ROWS_MAX * ROW_BYTES_MAX + 512 <= BODY_BYTES_MAX, "a page of the largest rows must fit a frame");
const _: () = assert!(
    NAME_BYTES_MAX + 2 * (AUTHOR_BYTES_MAX + REASON_BYTES_MAX) + 300 <= ROW_BYTES_MAX,
    "the largest row of a breaker must fit its bound"
);
const _: () = assert!(
    SERVICE_BYTES_MAX + FAILURE_KIND_BYTES_MAX + FAILURE_DETAIL_BYTES_MAX + 300 <= ROW_BYTES_MAX,
    "the largest row of a lane must fit its bound"
);
const _: () = assert!(NAME_BYTES_MAX + REASON_BYTES_MAX + SENTENCE_BYTES_MAX + 256 <= SMALL_BODY_BYTES_MAX);
const _: () = assert!(VERSION_MIN <= VERSION_MAX);
