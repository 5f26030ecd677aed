//! Through a real Redis: a trip on another host, and a trip on this one while Redis is stopped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use breakerd_client::Breaker;
use breakerd_proto::Mono;
use breakerd_tests::redis::{Reply, Session};
use breakerd_tests::{Daemon, Redis, Setup, until};

use crate::clock::pin_to;
use crate::harness::{Bench, Entry, Figure};
use crate::socket::FAILURE_BYTES;
use crate::trips::{Flag, Race, fail, set};
use crate::worker::{Role, Worker};
use crate::world::{self, Resetter};

/// Trips of one measurement, after idle and awake.
const TRIPS: usize = 100;
/// Host one hears of its own trip and its own reset too, and a failure from before that is stale.
const SETTLED: Duration = Duration::from_millis(100);

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
    let failing = &world::breaker(&one, "openai");
    let mut resetter = Resetter::of(&one);
    let trips = bench.many(TRIPS);
    bench.measure(vec![
        Entry::many("trip_fleet", || {
            let watcher = Worker::start(&two, "openai", Role::Watches(1));
            let again = |_| resetter.reset("openai");
            Race { watcher, act: |_| fail(failing), again, settled: SETTLED }.run(trips)
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
    let watcher = Flag::new();
    let (setter, clearer) = (watcher.handle(), watcher.handle());
    let mut script = redis.session();
    let sha = script.ask(&["SCRIPT", "LOAD", SCRIPT]).text();
    script.ask(&["DEL", "floor"]);
    let mut subscriber = redis.session();
    subscriber.ask(&["SUBSCRIBE", "floor"]);
    std::thread::scope(|scope| {
        scope.spawn(move || relay(to, &mut script, &sha));
        scope.spawn(move || hear(&mut subscriber, &setter));
        let end = from.try_clone().unwrap();
        let act = move |_| {
            let began = Mono::now();
            from.write_all(&[1; FAILURE_BYTES]).unwrap();
            began
        };
        let figures = Race { watcher, act, again: |_| set(&clearer, false), settled: Duration::ZERO }.run(trips);
        end.shutdown(std::net::Shutdown::Both).unwrap();
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

fn hear(subscriber: &mut Session, flag: &AtomicU8) {
    pin_to(0);
    loop {
        let Reply::Many(parts) = subscriber.read() else { panic!("no message of a subscription") };
        if parts.last() == Some(&Reply::Text("over".to_owned())) {
            return;
        }
        set(flag, true);
    }
}

/// A trip on one host while Redis does not answer, beside one while it does. Each trip has a name of its own, since a
/// reset would wait for Redis.
pub(crate) fn redis_frozen(bench: &mut Bench) {
    let redis = &Redis::start();
    let daemon = &host(redis, "web-1");
    let trips = bench.many(TRIPS);
    let client = &world::client(daemon);
    let series = &AtomicUsize::new(0);
    let fresh = move || {
        let name = format!("frozen/{}", series.fetch_add(1, Ordering::Relaxed));
        // One more than there are trips: the watcher looks at the next one after each.
        let number = 2 * trips + 1;
        let breakers: Vec<Breaker> =
            (0..number).map(|turn| client.breaker(&format!("{name}/{turn}")).unwrap()).collect();
        breakers.iter().for_each(world::attached);
        (Worker::start(daemon, &name, Role::Watches(number)), breakers)
    };
    let race = move |(watcher, breakers): (Worker, Vec<Breaker>)| {
        Race { watcher, act: |turn: usize| fail(&breakers[turn]), again: |_| (), settled: Duration::ZERO }.run(trips)
    };
    bench.measure(vec![
        Entry::many("local_trip_redis_frozen", || {
            let ready = fresh();
            redis.freeze();
            let figures = race(ready);
            redis.thaw();
            until("it is joined again", || client.health().is_joined().then_some(()));
            figures
        }),
        Entry::many("running.local_trip_redis_frozen", || race(fresh())),
    ]);
}
