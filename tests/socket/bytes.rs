//! What bad bytes get: a sentence that says what was wrong, the end of that connection, and nothing else (I11).

use breakerd_proto::frame;
use breakerd_proto::limits::FEATURE_BOARD;
use breakerd_proto::message::{About, Bye, Hello, Register};
use breakerd_proto::{Code, Kind, ToClient, ToDaemon};
use breakerd_tests::{Daemon, Raw};

fn header(length: u32, kind: u16) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

/// Whether this connection is still served.
fn is_served(raw: &mut Raw) -> bool {
    let request = raw.request();
    raw.send(About { request });
    matches!(raw.read(), ToClient::Daemon(about) if about.request == request)
}

/// Sends bytes on a welcomed connection beside another; the last word, and the other is untouched.
fn last_word(bytes: &[u8]) -> Bye {
    let daemon = Daemon::start();
    let mut other = daemon.worker();
    let lane = other.lane("openai");
    let mut bad = daemon.worker();
    bad.bytes(bytes);
    let bye = bad.bye();
    assert!(is_served(&mut other), "another connection suffered");
    assert_eq!(other.lane("openai"), lane, "another connection lost its lanes");
    assert!(is_served(&mut daemon.worker()), "no new connection is taken");
    bye
}

#[track_caller]
fn check(bytes: &[u8], sentence: &str) {
    let bye = last_word(bytes);
    assert_eq!((bye.code, bye.sentence.as_str()), (Code::Protocol, sentence));
}

#[test]
fn garbage() {
    let sentence = "a frame began with [47, 45, 54, 20, 2f, 20, 48, 54], which is no header of this protocol";
    check(b"GET / HTTP/1.1\r\n\r\n", sentence);
}

#[test]
fn oversized() {
    check(&header(17, Kind::Forget as u16), "a message of kind 5 claims 17 bytes; it may have 16");
}

#[test]
fn the_largest_length_of_all() {
    check(&header(u32::MAX, Kind::Ask as u16), "a message of kind 7 claims 4294967295 bytes; it may have 2048");
}

#[test]
fn truncated_body() {
    let mut bytes = header(3, Kind::Forget as u16);
    bytes.extend_from_slice(&[1, 0, 0]);
    check(&bytes, "the body of a Forget ends too early or holds an impossible value");
}

#[test]
fn a_text_that_claims_more_than_there_is() {
    let mut bytes = header(12, Kind::Ask as u16);
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    check(&bytes, "the body of a Ask ends too early or holds an impossible value");
}

#[test]
fn trailing_bytes() {
    let mut bytes = header(6, Kind::Forget as u16);
    bytes.extend_from_slice(&[1, 0, 0, 0, 5, 5]);
    check(&bytes, "a Forget was followed by 2 bytes that belong to nothing");
}

#[test]
fn what_only_the_daemon_sends() {
    let mut bytes = header(4, Kind::Watching as u16);
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    check(&bytes, "Watching is never sent in this direction");
}

#[test]
fn a_stream_that_ends_inside_a_frame() {
    let daemon = Daemon::start();
    let mut other = daemon.worker();
    let mut bad = daemon.worker();
    bad.bytes(&header(4, Kind::Forget as u16)[..5]);
    bad.shut();
    assert_eq!(bad.bye().sentence, "the connection ended 5 bytes into a frame");
    assert!(is_served(&mut other));
}

#[test]
fn an_unknown_kind_is_named_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let mut bytes = header(3, 9999);
    bytes.extend_from_slice(b"abc");
    worker.bytes(&bytes);
    let sentence = worker.refused(Code::Protocol);
    assert_eq!(sentence, "this daemon knows no message of the kind 9999; it was passed over");
    assert!(is_served(&mut worker));
}

#[test]
fn anything_before_hello() {
    let daemon = Daemon::start();
    let mut rude = Raw::silent(&daemon.socket());
    rude.send(About { request: 1 });
    let bye = rude.bye();
    assert_eq!(bye.code, Code::Protocol);
    assert!(bye.sentence.contains("hello"), "{}", bye.sentence);
}

#[test]
fn a_second_hello() {
    let daemon = Daemon::start();
    let mut twice = daemon.worker();
    twice.send(Raw::greeting("test", 1));
    let bye = twice.bye();
    assert_eq!(bye.code, Code::Protocol);
    assert!(bye.sentence.contains("hello"), "{}", bye.sentence);
}

#[test]
fn no_common_version() {
    let daemon = Daemon::start();
    let mut new = Raw::silent(&daemon.socket());
    new.send(Hello { version_min: 900, version_max: 901, ..Raw::greeting("test", 1) });
    let bye = new.bye();
    assert_eq!(bye.code, Code::Version);
    assert!(bye.sentence.contains("900") && bye.sentence.contains("901"), "{}", bye.sentence);
}

#[test]
fn the_newest_version_that_both_speak() {
    let daemon = Daemon::start();
    let mut new = Raw::silent(&daemon.socket());
    new.send(Hello { version_min: 1, version_max: 900, features: u64::MAX, ..Raw::greeting("test", 1) });
    match new.read() {
        ToClient::Welcome(welcome) => assert_eq!((welcome.version, welcome.features), (1, FEATURE_BOARD)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_frame_that_comes_byte_by_byte() {
    let daemon = Daemon::start();
    let mut slow = Raw::silent(&daemon.socket());
    let mut bytes = Vec::new();
    frame::write(&ToDaemon::from(Raw::greeting("test", 1)), &mut bytes);
    for byte in bytes {
        slow.bytes(&[byte]);
    }
    assert!(matches!(slow.read(), ToClient::Welcome(_)));
}

#[test]
fn many_requests_without_waiting_are_answered_in_order() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    let requests: Vec<u32> = (0..500).map(|_| worker.ask_without_waiting(lane)).collect();
    for request in requests {
        worker.answer(request);
    }
}

#[test]
fn a_bad_name_is_answered_with_the_rule() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let rule = "; a name is 1 to 128 bytes of A-Z a-z 0-9 . _ : / @ + -";
    let bad = [
        (String::new(), "the breaker name is empty"),
        ("a b".to_owned(), "the breaker name has ' ' at byte 1"),
        ("a".repeat(129), "the breaker name has 129 bytes"),
        ("a\u{1b}[31m".to_owned(), "the breaker name has '\\u{1b}' at byte 1"),
    ];
    for (name, complaint) in bad {
        let request = worker.request();
        worker.send(Register { request, name, policy: None });
        assert_eq!(worker.refused(Code::BadName), format!("{complaint}{rule}"));
    }
    assert!(is_served(&mut worker));
}

#[test]
fn an_unknown_lane() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    worker.ask_without_waiting(7);
    assert_eq!(worker.refused(Code::UnknownLane), "lane 7 was never registered on this connection");
    assert!(is_served(&mut worker));
}
