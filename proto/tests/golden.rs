//! The bytes of one example of every message, both ways, in `golden.txt`: what is on the wire today is what a client
//! of another language was written for.
//!
//! The wire changed on purpose? Raise the version, update `WIRE.md`, and write the file anew with
//! `GOLDEN=write cargo test -p breakerd-proto --test golden`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod example;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use breakerd_proto::frame::{self, Message, Reader};
use breakerd_proto::{Kind, ToClient, ToDaemon};

const GOLDEN: &str = include_str!("golden.txt");

/// One message as text: a title with its kind, then its frame in hex, the header on a line of its own.
fn lines<M: Message>(title: &str, message: &M) -> String {
    let mut bytes = Vec::new();
    frame::write(message, &mut bytes);
    let (header, body) = bytes.split_at(8);
    let mut text = format!("{title} ({:?} = {})\n", message.kind_of(), message.kind_of() as u16);
    for line in std::iter::once(header).chain(body.chunks(16)) {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "  {}", hex.join(" ")).unwrap();
    }
    text
}

fn whole() -> String {
    let mut text =
        "# Frames in hex, little-endian: the 8 bytes of the header, then the body. Written by golden.rs.\n".to_owned();
    for (title, message) in example::to_daemon() {
        write!(text, "\n{}", lines(title, &message)).unwrap();
    }
    for (title, message) in example::to_client() {
        write!(text, "\n{}", lines(title, &message)).unwrap();
    }
    text
}

/// The file's frames, in its order, each with its title.
fn frames() -> Vec<(String, Vec<u8>)> {
    let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
    for line in GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => frames.push((line.to_owned(), Vec::new())),
            Some(hex) => {
                let (_, bytes) = frames.last_mut().unwrap();
                bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            }
        }
    }
    frames
}

fn read<M: Message>(title: &str, bytes: &[u8]) -> M {
    let mut reader = Reader::default();
    reader.feed(bytes);
    let message = reader.next_message::<M>().unwrap_or_else(|error| panic!("{title}: {error}")).unwrap();
    assert_eq!(reader.pending(), 0, "{title}: bytes are left");
    message
}

#[test]
fn every_message_is_written_as_the_file_has_it() {
    let text = whole();
    #[allow(clippy::disallowed_methods, reason = "the one switch of this test")]
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt"), &text).unwrap();
        return;
    }
    let differs = text.lines().zip(GOLDEN.lines()).find(|(ours, file)| ours != file);
    assert!(text == GOLDEN, "golden.txt differs, first in (ours, file) {differs:?}; see the head of golden.rs");
}

#[test]
fn every_frame_of_the_file_is_read_as_the_message() {
    let frames = frames();
    let requests = example::to_daemon();
    let answers = example::to_client();
    assert_eq!(frames.len(), requests.len() + answers.len());
    let (of_requests, of_answers) = frames.split_at(requests.len());
    for ((title, bytes), (_, message)) in of_requests.iter().zip(&requests) {
        assert_eq!(&read::<ToDaemon>(title, bytes), message, "{title}");
    }
    for ((title, bytes), (_, message)) in of_answers.iter().zip(&answers) {
        assert_eq!(&read::<ToClient>(title, bytes), message, "{title}");
    }
}

#[test]
fn no_kind_is_missing() {
    let requests = example::to_daemon().into_iter().map(|(_, message)| message.kind() as u16);
    let answers = example::to_client().into_iter().map(|(_, message)| message.kind() as u16);
    let have: BTreeSet<u16> = requests.chain(answers).collect();
    let want: BTreeSet<u16> = Kind::ALL.iter().map(|kind| *kind as u16).collect();
    assert_eq!(have, want, "add an example of the missing kind to tests/example/mod.rs");
}
