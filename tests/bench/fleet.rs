//! Through a real Redis: a trip on another host, and a trip on this one while Redis is stopped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use breakerd_client::Breaker;
use breakerd_proto::Mono;
use breakerd_tests::redis::{Reply, Session};
use breakerd_tests::{Daemon, Redis, Setup, until};

use crate::calls::works;
use crate::clock::pin_to;
use crate::harness::{Bench, Entry, Figure};
use crate::socket::FAILURE_BYTES;
use crate::trips::{Race, fail};
use crate::world::{self, Resetter};

/// Trips of one measurement, after idle and awake.
const TRIPS: usize = 100;

fn host(redis: &Redis, host: &'static str) -> Daemon {
    let fleet = Some((redis.url(), "bench".to_owned()));
    let daemon = world::daemon_of(&Setup { host, fleet, ..world::setup() });
    let client = world::client(&daemon);
    until("it is joined", || client.health().is_joined().then_some(()));
    daemon
}

/// Both daemons' loops run on processor 0, Redis where the kernel puts it. The floor is the chain that cannot be shorter:
/// a message to a thread that sleeps, a script that compares, sets and publishes, a subscriber that sleeps.
pub(crate) fn trip(bench: &mut Bench) {
    let redis = &Redis::start();
    let (one, two) = (host(redis, "web-1"), host(redis, "web-2"));
    let (failing, watching) = (&world::breaker(&one, "openai"), &world::breaker(&two, "openai"));
    let mut resetter = Resetter::of(&one);
    let trips = bench.many(TRIPS);
    bench.measure(vec![
        Entry::many("trip_fleet", || {
            Race {
                rejected: |_| watching.call(works).is_err(),
                act: |_| fail(failing),
                again: |_| resetter.reset("openai"),
            }
            .run(trips)
        }),
        Entry::many("floor.trip_fleet", || chain(redis, trips)),
    ]);
}

/// Compares, sets, publishes.
const SCRIPT: &str = "local is = redis.call('HGET', KEYS[1], 'version') or '0'
if is ~= ARGV[1] then return is end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
redis.call('PUBLISH', 'floor', ARGV[2])
return ARGV[2]";

fn chain(redis: &Redis, trips: usize) -> Vec<Figure> {
    let (mut from, to) = UnixStream::pair().unwrap();
    let flag = &AtomicBool::new(false);
    let mut script = redis.session();
    let sha = script.ask(&["SCRIPT", "LOAD", SCRIPT]).text();
    script.ask(&["DEL", "floor"]);
    let mut subscriber = redis.session();
    subscriber.ask(&["SUBSCRIBE", "floor"]);
    std::thread::scope(|scope| {
        scope.spawn(move || relay(to, &mut script, &sha));
        scope.spawn(move || hear(&mut subscriber, flag));
        let figures = Race {
            rejected: |_| flag.load(Ordering::Acquire),
            act: |_| {
                let began = Mono::now();
                from.write_all(&[1; FAILURE_BYTES]).unwrap();
                began
            },
            again: |_| flag.store(false, Ordering::Release),
        }
        .run(trips);
        from.shutdown(std::net::Shutdown::Both).unwrap();
        redis.session().ask(&["PUBLISH", "floor", "over"]);
        figures
    })
}

fn relay(mut from: UnixStream, script: &mut Session, sha: &str) {
    pin_to(0);
    let mut bytes = [0; 4096];
    let mut version = 0_u64;
    while from.read(&mut bytes).unwrap() > 0 {
        let (before, after) = (version.to_string(), (version + 1).to_string());
        let now = script.ask(&["EVALSHA", sha, "1", "floor", &before, &after]).text();
        assert_eq!(now, after);
        version += 1;
    }
}

fn hear(subscriber: &mut Session, flag: &AtomicBool) {
    pin_to(0);
    loop {
        let Reply::Many(parts) = subscriber.read() else { panic!("no message of a subscription") };
        if parts.last() == Some(&Reply::Text("over".to_owned())) {
            return;
        }
        flag.store(true, Ordering::Release);
    }
}

/// A trip on one host while Redis does not answer, beside one while it does. Each trip has a name of its own, since a
/// reset would wait for Redis.
pub(crate) fn redis_frozen(bench: &mut Bench) {
    let redis = &Redis::start();
    let daemon = &host(redis, "web-1");
    let trips = bench.many(TRIPS);
    let (one, other) = (&world::client(daemon), &world::client(daemon));
    let series = &AtomicUsize::new(0);
    let fresh = move || -> Vec<(Breaker, Breaker)> {
        let series = series.fetch_add(1, Ordering::Relaxed);
        let name = |turn: usize| format!("frozen/{series}/{turn}");
        let both = |turn| (one.breaker(&name(turn)).unwrap(), other.breaker(&name(turn)).unwrap());
        let all: Vec<(Breaker, Breaker)> = (0..2 * trips + 1).map(both).collect();
        for (one, other) in &all {
            world::attached(one);
            world::attached(other);
        }
        all
    };
    let race = move |breakers: &[(Breaker, Breaker)]| {
        let turn = &AtomicUsize::new(0);
        Race {
            rejected: |_| breakers[turn.load(Ordering::Acquire)].1.call(works).is_err(),
            act: |at: usize| fail(&breakers[at].0),
            again: |at: usize| turn.store(at + 1, Ordering::Release),
        }
        .run(trips)
    };
    bench.measure(vec![
        Entry::many("local_trip_redis_frozen", || {
            let breakers = fresh();
            redis.freeze();
            let figures = race(&breakers);
            redis.thaw();
            let client = world::client(daemon);
            until("it is joined again", || client.health().is_joined().then_some(()));
            figures
        }),
        Entry::many("running.local_trip_redis_frozen", || race(&fresh())),
    ]);
}
