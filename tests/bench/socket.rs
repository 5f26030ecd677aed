//! What a worker says to the daemon, beside the same bytes between two threads. The worker's thread runs on processor 1,
//! who hears it on 0.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use breakerd_proto::Mono;
use breakerd_tests::{Daemon, until};
use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{micros, once, pin_to, rest, spin};
use crate::harness::{Bench, Entry, Figure, median};
use crate::trips::fail;
use crate::worker::{Role, Worker};
use crate::world;

/// About as long as the frame of a failure.
pub(crate) const FAILURE_BYTES: usize = 80;
/// About as long as a query's frame and its answer's.
const QUESTION_BYTES: usize = 48;
/// Of one measurement, after idle and awake.
const SAMPLES: usize = 200;
const IDLE: Duration = Duration::from_millis(3);
const BUSY: Duration = Duration::from_micros(300);

/// The median of some samples in microseconds, each taken after idle, then each after being busy.
fn after_idle_and_awake(samples: usize, mut sample: impl FnMut() -> f64 + Send) -> Vec<Figure> {
    let run = move || {
        pin_to(1);
        let mut of = |before: &dyn Fn()| -> f64 {
            let sample = |_| {
                before();
                sample()
            };
            median(&mut (0..samples).map(sample).collect::<Vec<f64>>())
        };
        vec![("", "µs", of(&|| rest(IDLE))), ("_awake", "µs", of(&|| spin(BUSY)))]
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Someone at the other end of a socket, on processor 0, who answers with as many bytes as they are told; none at all is
/// only to listen.
fn beside_a_listener(answer: usize, with: impl FnOnce(UnixStream) -> Vec<Figure>) -> Vec<Figure> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let end = near.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin_to(0);
            let mut bytes = [0; 4096];
            while far.read(&mut bytes).unwrap() > 0 {
                far.write_all(&bytes[..answer]).unwrap();
            }
        });
        let figures = with(near);
        end.shutdown(std::net::Shutdown::Both).unwrap();
        figures
    })
}

/// A probe's permit, from asking to having it. Each is given back, so the breaker stays half-open.
pub(crate) fn probe_permit(bench: &mut Bench) {
    let daemon = world::daemon();
    let breaker = &world::breaker(&daemon, "probed");
    fail(breaker);
    let permit = move || {
        until("a probe is admitted", || {
            let began = Mono::now();
            let permit = breaker.admit().ok()?;
            let took = Mono::now().since(began);
            permit.is_probe().then_some(micros(took))
        })
    };
    let samples = bench.many(SAMPLES);
    bench.measure(vec![
        Entry::many("probe_permit", || after_idle_and_awake(samples, permit)),
        Entry::many("floor.probe_permit", || {
            beside_a_listener(QUESTION_BYTES, |mut near| {
                let mut answer = [0; QUESTION_BYTES];
                after_idle_and_awake(samples, move || {
                    let there_and_back = || {
                        near.write_all(&[1; QUESTION_BYTES]).unwrap();
                        near.read_exact(&mut answer).unwrap();
                    };
                    once(there_and_back) / 1e3
                })
            })
        }),
    ]);
}

/// What a failure costs its own worker, while the daemon sleeps.
pub(crate) fn report_failure(bench: &mut Bench) {
    let daemon = world::daemon();
    let breaker = &world::breaker(&daemon, "patient");
    let samples = bench.many(SAMPLES);
    bench.measure(vec![
        Entry::many("report_failure", || {
            after_idle_and_awake(samples, || {
                let began = fail(breaker);
                micros(Mono::now().since(began))
            })
        }),
        Entry::many("floor.report_failure", || {
            beside_a_listener(0, |mut near| {
                after_idle_and_awake(samples, move || once(|| near.write_all(&[1; FAILURE_BYTES]).unwrap()) / 1e3)
            })
        }),
    ]);
}

/// Workers that fail as fast as they can.
const WORKERS: usize = 4;
const FAILURES: usize = 50_000;

/// Failures a second that the daemon takes and counts, how many of them it had not heard of a second later, and how many
/// it does not know of after one more failure; the floor is as many messages, one a write, to one reader. Nobody
/// is pinned.
pub(crate) fn report_rate(bench: &mut Bench) {
    let failures = bench.many(FAILURES);
    bench.measure(vec![
        Entry::many("report_rate", || flood(failures)),
        Entry::one("floor.report_rate", "1/s", || flood_bare(failures)),
    ]);
}

fn flood(failures: usize) -> Vec<Figure> {
    let daemon = Daemon::with(&world::setup());
    let mut workers: Vec<Worker> =
        (0..WORKERS).map(|_| Worker::start(&daemon, "patient", Role::Fails(failures))).collect();
    workers.iter_mut().for_each(Worker::go);
    let told = workers.iter_mut().map(|worker| {
        let line = worker.line();
        let mut figures = line.split(' ').map(|figure| figure.parse::<u64>().unwrap());
        [(); 4].map(|()| figures.next().unwrap())
    });
    let told: Vec<[u64; 4]> = told.collect();
    let began = told.iter().map(|[began, ..]| *began).min().unwrap();
    let ended = told.iter().map(|[_, ended, ..]| *ended).max().unwrap();
    let untold: u64 = told.iter().map(|[.., untold, _]| untold).sum();
    let lost: u64 = told.iter().map(|[.., lost]| lost).sum();
    let rate = rate(failures, Mono(ended).since(Mono(began)));
    vec![("", "1/s", rate), ("_untold", "failures", untold as f64), ("_lost", "failures", lost as f64)]
}

fn rate(each: usize, took: Duration) -> f64 {
    (WORKERS * each) as f64 / took.as_secs_f64()
}

fn flood_bare(messages: usize) -> f64 {
    let pairs: Vec<_> = (0..WORKERS).map(|_| UnixStream::pair().unwrap()).collect();
    let (senders, mut readers): (Vec<UnixStream>, Vec<UnixStream>) = pairs.into_iter().unzip();
    let began = Mono::now();
    std::thread::scope(|scope| {
        for mut sender in senders {
            scope.spawn(move || (0..messages).for_each(|_| sender.write_all(&[1; FAILURE_BYTES]).unwrap()));
        }
        read_all(&mut readers, WORKERS * messages * FAILURE_BYTES);
    });
    rate(messages, Mono::now().since(began))
}

/// One reader of many sockets, as a daemon is.
fn read_all(readers: &mut [UnixStream], bytes: usize) {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let mut fds: Vec<PollFd<'_>> = readers.iter().map(|reader| PollFd::new(reader, PollFlags::IN)).collect();
        poll(&mut fds, None).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
        for (reader, _) in readers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            left -= reader.read(&mut buffer).unwrap();
        }
    }
}
