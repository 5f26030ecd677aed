//! The frame reader at its edges, and arbitrary bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod example;

use breakerd_proto::frame::{self, Message, Reader};
use breakerd_proto::limits::{BODY_BYTES_MAX, HEADER_BYTES, NAME_BYTES_MAX, PAGE_ROWS_MAX, REASON_BYTES_MAX};
use breakerd_proto::message::{BreakerRow, Forget, LaneRow, LastFailure, Page, View};
use breakerd_proto::{Kind, Mode, State, ToClient, ToDaemon, WireError};
use proptest::prelude::*;

fn header(length: usize, kind: u16) -> Vec<u8> {
    let mut bytes = u32::try_from(length).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

fn framed<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(message, &mut bytes);
    bytes
}

fn forget(request: u32) -> Vec<u8> {
    framed(&ToDaemon::from(Forget { request }))
}

fn fed(bytes: &[u8]) -> Reader {
    let mut reader = Reader::default();
    reader.feed(bytes);
    reader
}

#[test]
fn every_kind_at_its_longest_and_one_byte_more() {
    for kind in Kind::ALL {
        let (number, most) = (*kind as u16, kind.body_bytes_max());
        let longest = fed(&header(most, number)).next_message::<ToDaemon>();
        assert_eq!(longest, Ok(None), "{kind:?}: the header alone says that the body follows");
        let claimed = u32::try_from(most + 1).unwrap();
        let longer = fed(&header(most + 1, number)).next_message::<ToDaemon>();
        assert_eq!(longer, Err(WireError::TooLong { kind: number, claimed, most }), "{kind:?}");
    }
}

#[test]
fn a_header_whose_last_bytes_are_not_zero() {
    let bytes = *b"GET / HT";
    let mut reader = fed(&bytes);
    assert_eq!(reader.next_message::<ToDaemon>(), Err(WireError::Header(bytes)));
    reader.feed(&forget(1));
    assert_eq!(reader.next_message::<ToDaemon>(), Ok(None), "after an error it gives nothing more");
}

#[test]
fn an_unknown_kind_is_passed_over_with_its_body() {
    let mut bytes = header(3, 9999);
    bytes.extend_from_slice(b"abc");
    bytes.extend(forget(7));
    let mut reader = fed(&bytes);
    assert_eq!(reader.next_message::<ToDaemon>(), Err(WireError::UnknownKind(9999)));
    assert_eq!(reader.next_message::<ToDaemon>(), Ok(Some(Forget { request: 7 }.into())));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn an_unknown_kind_has_the_largest_bound() {
    assert_eq!(fed(&header(BODY_BYTES_MAX, 9999)).next_message::<ToDaemon>(), Ok(None));
    let longer = fed(&header(BODY_BYTES_MAX + 1, 9999)).next_message::<ToDaemon>();
    assert!(matches!(longer, Err(WireError::TooLong { kind: 9999, most: BODY_BYTES_MAX, .. })), "{longer:?}");
}

#[test]
fn bytes_after_the_body_are_counted() {
    let mut bytes = header(6, Kind::Forget as u16);
    bytes.extend_from_slice(&[1, 0, 0, 0, 5, 5]);
    let trailing = Err(WireError::Trailing { kind: Kind::Forget, bytes: 2 });
    assert_eq!(fed(&bytes).next_message::<ToDaemon>(), trailing);
}

#[test]
fn a_body_that_ends_early() {
    let mut bytes = header(3, Kind::Forget as u16);
    bytes.extend_from_slice(&[1, 0, 0]);
    assert_eq!(fed(&bytes).next_message::<ToDaemon>(), Err(WireError::Malformed(Kind::Forget)));
}

#[test]
fn a_length_inside_the_body_that_reaches_past_it() {
    let mut bytes = header(12, Kind::Ask as u16);
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(fed(&bytes).next_message::<ToDaemon>(), Err(WireError::Malformed(Kind::Ask)));
}

#[test]
fn a_stream_that_ends_inside_a_frame() {
    let bytes = forget(1);
    for cut in 1..bytes.len() {
        let mut reader = fed(&bytes[..cut]);
        assert_eq!(reader.next_message::<ToDaemon>(), Ok(None));
        assert_eq!(reader.finish(), Err(WireError::Truncated { bytes: cut }));
    }
}

#[test]
fn what_only_the_other_side_sends() {
    let bytes = framed(&ToClient::from(breakerd_proto::message::Watching { request: 1 }));
    assert_eq!(fed(&bytes).next_message::<ToDaemon>(), Err(WireError::WrongDirection(Kind::Watching)));
    assert_eq!(fed(&forget(1)).next_message::<ToClient>(), Err(WireError::WrongDirection(Kind::Forget)));
}

#[test]
fn byte_by_byte_is_the_same_as_at_once() {
    let messages: Vec<ToDaemon> = example::to_daemon().into_iter().map(|(_, message)| message).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(framed).collect();
    let mut reader = Reader::default();
    let mut read = Vec::new();
    for byte in bytes {
        reader.feed(&[byte]);
        read.extend(reader.next_message::<ToDaemon>().unwrap());
    }
    assert_eq!(read, messages);
    assert_eq!(reader.pending(), 0);
}

/// The longest texts that the daemon ever puts into a row, so that a full page is known to fit its frame.
fn longest_row() -> BreakerRow {
    let view = View {
        state: State::Open,
        forced: Some(breakerd_proto::Override::ForcedOpen),
        mode: Mode::On,
        mode_by: "m".repeat(breakerd_proto::limits::AUTHOR_BYTES_MAX),
        mode_why: "y".repeat(REASON_BYTES_MAX),
        generation: u64::MAX,
        retry_after_ms: Some(u64::MAX),
        age_ms: u64::MAX,
        by: "b".repeat(breakerd_proto::limits::AUTHOR_BYTES_MAX),
        why: "w".repeat(REASON_BYTES_MAX),
        host_only: true,
    };
    BreakerRow {
        name: "n".repeat(NAME_BYTES_MAX),
        view,
        failures: u64::MAX,
        failures_total: u64::MAX,
        workers: u32::MAX,
        permits_out: u32::MAX,
        successes: u32::MAX,
        cooldown_ms: u64::MAX,
        step: u32::MAX,
    }
}

#[test]
fn a_full_page_of_the_longest_rows_comes_through() {
    let page = ToClient::from(Page { request: 1, rows: vec![longest_row(); PAGE_ROWS_MAX], more: true });
    let bytes = framed(&page);
    assert!(bytes.len() <= HEADER_BYTES + BODY_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(fed(&bytes).next_message::<ToClient>(), Ok(Some(page)));
}

#[test]
fn a_full_description_of_the_longest_lanes_comes_through() {
    use breakerd_proto::limits::{FAILURE_DETAIL_BYTES_MAX, FAILURE_KIND_BYTES_MAX, SERVICE_BYTES_MAX};
    let last = LastFailure {
        kind: "k".repeat(FAILURE_KIND_BYTES_MAX),
        detail: "d".repeat(FAILURE_DETAIL_BYTES_MAX),
        ago_ms: 1,
    };
    let lane = LaneRow {
        worker: u64::MAX,
        label: format!("{}[4294967295?]", "s".repeat(SERVICE_BYTES_MAX)),
        failures: u64::MAX,
        successes_total: u64::MAX,
        failures_total: u64::MAX,
        last_failure: Some(last),
    };
    let policy = Box::default();
    let lanes = vec![lane; PAGE_ROWS_MAX];
    let whole = breakerd_proto::message::Description { request: 1, row: longest_row(), policy, lanes, more: true };
    let whole = ToClient::from(whole);
    assert_eq!(fed(&framed(&whole)).next_message::<ToClient>(), Ok(Some(whole)));
}

/// Bytes that get past the header, so that bodies are reached: a known kind, its true length, then anything.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    (proptest::sample::select(Kind::ALL), proptest::collection::vec(any::<u8>(), 0..256)).prop_map(|(kind, body)| {
        let mut bytes = header(body.len().min(kind.body_bytes_max()), kind as u16);
        bytes.extend(body.into_iter().take(kind.body_bytes_max()));
        bytes
    })
}

/// A good stream with one byte changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let requests = example::to_daemon().into_iter().map(|(_, message)| framed(&message));
    let answers = example::to_client().into_iter().map(|(_, message)| framed(&message));
    let whole: Vec<Vec<u8>> = requests.chain(answers).collect();
    (proptest::sample::select(whole), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, to)| {
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        frame::fuzz_frame(&bytes);
    }

    #[test]
    fn no_body_makes_it_panic(frames in proptest::collection::vec(plausible(), 1..4)) {
        frame::fuzz_frame(&frames.concat());
    }

    #[test]
    fn no_damage_makes_it_panic(bytes in damaged()) {
        frame::fuzz_frame(&bytes);
    }
}
