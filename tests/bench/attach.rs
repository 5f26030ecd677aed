//! A worker's first words: connect, hello, two descriptors mapped, one name registered.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use breakerd_proto::map::{Board, BoardView, Lanes};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::calls::works;
use crate::clock::{once, pin_to};
use crate::harness::{Bench, Entry, median};
use crate::world;

/// Of one measurement.
const SAMPLES: usize = 100;
/// About as long as each frame is.
const HELLO_BYTES: usize = 64;
/// As many as the daemon's board has by default is not the point: pages that nobody touches cost nothing.
const SLOTS: usize = 4096;
const INSTANCE: u64 = 7;

/// From nothing to the first admitted call; the floor is the same sequence between two threads.
pub(crate) fn measure(bench: &mut Bench) {
    let daemon = world::daemon();
    let samples = bench.many(SAMPLES);
    let dir = tempfile::tempdir().unwrap();
    let path = &dir.path().join("floor.sock");
    let listener = &UnixListener::bind(path).unwrap();
    bench.measure(vec![
        Entry::one("attach", "µs", || {
            on_processor_1(samples, || {
                let mut client = None;
                let took = once(|| {
                    let breaker = world::client(&daemon).breaker("openai").unwrap();
                    assert!(breaker.call(works).is_ok());
                    client = Some(breaker);
                });
                drop(client);
                took / 1e3
            })
        }),
        Entry::one("floor.attach", "µs", || {
            std::thread::scope(|scope| {
                scope.spawn(move || welcome(listener, samples));
                on_processor_1(samples, || {
                    let mut held = None;
                    let took = once(|| held = Some(attach(path)));
                    drop(held);
                    took / 1e3
                })
            })
        }),
    ]);
}

fn on_processor_1(samples: usize, mut sample: impl FnMut() -> f64 + Send) -> f64 {
    let run = move || {
        pin_to(1);
        median(&mut (0..samples).map(|_| sample()).collect::<Vec<f64>>())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// The daemon's part, so many times.
fn welcome(listener: &UnixListener, times: usize) {
    pin_to(0);
    let board = Board::new(SLOTS, INSTANCE).unwrap();
    for _ in 0..times {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; HELLO_BYTES];
        stream.read_exact(&mut bytes).unwrap();
        let (_lanes, fd) = Lanes::new().unwrap();
        let fds = [board.fd(), fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut passed = SendAncillaryBuffer::new(&mut space);
        assert!(passed.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&stream, &[IoSlice::new(&bytes)], &mut passed, SendFlags::empty()).unwrap();
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    }
}

/// The worker's part.
fn attach(path: &Path) -> (UnixStream, BoardView, Lanes) {
    let mut stream = UnixStream::connect(path).unwrap();
    let mut bytes = [1; HELLO_BYTES];
    stream.write_all(&bytes).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut passed, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds: Vec<OwnedFd> = passed
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(fds) = message { Some(fds) } else { None })
        .flatten()
        .collect();
    let (board, lanes) = (BoardView::new(fds[0].as_fd(), INSTANCE).unwrap(), Lanes::open(fds[1].as_fd()).unwrap());
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut bytes).unwrap();
    (stream, board, lanes)
}
