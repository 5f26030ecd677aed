#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use breakerd_proto::frame::{self, Reader};
use breakerd_proto::message::{Lagged, View, Watching, Welcome};
use breakerd_proto::{Link as Fleet, Mode, State, ToDaemon};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::options::Options;

/// A daemon of one connection at a time: greets, says that it watches, then tells what it was given and goes.
fn daemon(path: &Path, lives: Vec<Vec<ToClient>>) -> JoinHandle<()> {
    drop(std::fs::remove_file(path));
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for told in lives {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = Reader::default();
            assert!(matches!(heard(&mut stream, &mut reader), ToDaemon::Hello(_)));
            say(&mut stream, &welcome());
            let ToDaemon::Watch(watch) = heard(&mut stream, &mut reader) else { panic!("it asks for changes") };
            say(&mut stream, &Watching { request: watch.request }.into());
            told.iter().for_each(|message| say(&mut stream, message));
        }
    })
}

fn heard(stream: &mut UnixStream, reader: &mut Reader) -> ToDaemon {
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = reader.next_message::<ToDaemon>().unwrap() {
            return message;
        }
        let bytes = stream.read(&mut buffer).unwrap();
        reader.feed(buffer.get(..bytes).unwrap());
    }
}

fn say(stream: &mut UnixStream, message: &ToClient) {
    let mut out = Vec::new();
    frame::write(message, &mut out);
    stream.write_all(&out).unwrap();
}

fn welcome() -> ToClient {
    let (release, fleet) = ("0.0.0".to_owned(), String::new());
    let (link, now) = (Fleet::Standalone, Mono::now());
    Welcome { version: 1, features: 0, instance: 1, worker: 1, now, link, release, fleet }.into()
}

fn changed(name: &str) -> Changed {
    let view = View {
        state: State::Open,
        forced: None,
        mode: Mode::On,
        mode_by: String::new(),
        mode_why: String::new(),
        generation: 2,
        retry_after_ms: Some(5000),
        age_ms: 0,
        by: "chat-api[1]@web-1".to_owned(),
        why: "3 consecutive failures".to_owned(),
        host_only: false,
    };
    Changed { name: name.to_owned(), from: State::Closed, view, what: "trip".to_owned(), at: Mono(1) }
}

/// As a caller's loop would: waits for the socket or for the time, whichever is first.
#[allow(unsafe_code)]
fn next(watcher: &mut Watcher) -> Vec<Event> {
    loop {
        let events = watcher.receive();
        if !events.is_empty() {
            return events;
        }
        let wait = watcher.wait().map(|wait| Timespec::try_from(wait).unwrap());
        match watcher.socket() {
            None => poll(&mut [], wait.as_ref()).unwrap(),
            Some(socket) => {
                // SAFETY: the watcher keeps it open until it is next called.
                let fd = unsafe { BorrowedFd::borrow_raw(socket.fd) };
                let write = if socket.wants_write { PollFlags::OUT } else { PollFlags::empty() };
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN | write)], wait.as_ref()).unwrap()
            }
        };
    }
}

fn all(watcher: &mut Watcher, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.append(&mut next(watcher));
    }
    events
}

#[test]
fn a_watcher_that_loses_its_daemon_finds_the_next_and_says_that_it_missed_something() {
    let path = std::env::temp_dir().join(format!("breakerd-watcher-{}.sock", std::process::id()));
    let lives = vec![
        vec![changed("openai").into(), Lagged { dropped: 7 }.into(), changed("psp").into()],
        vec![changed("openai").into()],
    ];
    let daemon = daemon(&path, lives);
    let mut watcher = Watcher::new(&Options::from_env().unwrap().socket(&path).open());
    assert!(!watcher.is_watching() && watcher.socket().is_none(), "it connects when it is first asked");
    let told = all(&mut watcher, 5);
    let expect = [
        Event::Changed(changed("openai")),
        Event::Lagged(Some(7)),
        Event::Changed(changed("psp")),
        Event::Lagged(None),
        Event::Changed(changed("openai")),
    ];
    assert_eq!(told, expect);
    daemon.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_a_daemon_it_pauses_and_says_why() {
    let path = std::env::temp_dir().join(format!("breakerd-watcher-none-{}.sock", std::process::id()));
    let mut watcher = Watcher::new(&Options::from_env().unwrap().socket(&path).open());
    assert_eq!(watcher.receive(), Vec::new());
    assert!(watcher.wait().unwrap() > Duration::ZERO);
    assert_eq!(watcher.away(), Some(&ConnectError::Absent { path, stale: false }));
}
