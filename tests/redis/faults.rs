//! What an operator, a stranger or a broken server does to the link, and how it heals.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use breakerd_proto::message::Action;
use breakerd_proto::{Link, Mono, State, ToClient};
use breakerd_tests::redis::Reply;
use breakerd_tests::{Redis, until};

use crate::world::{FLEET, Host, two};

/// No message, announced or sent, may take the daemon beyond this.
const MEMORY_MAX_KIB: u64 = 32 * 1024;

fn channel() -> String {
    format!("{{bk1:{FLEET}}}ev")
}

/// One host trips, the other hears of it; then the other way round for the reset.
fn assert_they_talk(one: &mut Host, two: &mut Host) {
    one.trip();
    two.until_state(State::Open);
    assert!(matches!(two.daemon.operator().command("openai", Action::Reset), ToClient::Done(_)));
    one.until_state(State::Closed);
    two.until_state(State::Closed);
}

#[test]
fn scripts_that_were_flushed_are_loaded_again() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    for _ in 0..10 {
        redis.session().ask(&["SCRIPT", "FLUSH"]);
        assert_they_talk(&mut one, &mut two);
    }
    let Reply::Text(info) = redis.session().ask(&["INFO", "commandstats"]) else { panic!("no text") };
    assert!(!info.contains("cmdstat_eval:"), "scripts go by their digest");
}

#[test]
fn killed_connections_are_made_again_and_nothing_is_missed() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    for _ in 0..5 {
        redis.session().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        one.trip();
        let since = Mono::now();
        two.until_state(State::Open);
        assert!(Mono::now().since(since) < Duration::from_secs(1));
        assert!(matches!(two.daemon.operator().command("openai", Action::Reset), ToClient::Done(_)));
        one.until_state(State::Closed);
        two.until_state(State::Closed);
        one.until_link(Link::Joined);
    }
}

#[test]
fn a_stranger_on_the_channel_is_not_listened_to() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let mut session = redis.session();
    let head = session.ask(&["HGET", &format!("{{bk1:{FLEET}}}h"), "!e"]).text();
    let gap = format!("B1 {head} 900000000 1 00000001 00000002 1\nopenai\t900000000|O|0|0|||0|0|0|0|-|0||");
    for garbage in ["", "B2 who knows", "B1", "E1 x", &gap, "\u{1b}[31m"] {
        for _ in 0..50 {
            session.ask(&["PUBLISH", &channel(), garbage]);
        }
    }
    assert_they_talk(&mut one, &mut two);
    assert_eq!((one.about().link, two.about().link), (Link::Joined, Link::Joined));
    assert!(!one.daemon.log().contains('\u{1b}'));
}

#[test]
fn a_message_that_is_too_large_costs_a_reconnect_and_no_memory() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let large = "x".repeat(10 << 20);
    for _ in 0..3 {
        redis.session().ask(&["PUBLISH", &channel(), &large]);
    }
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    assert_they_talk(&mut one, &mut two);
    assert!(one.daemon.memory_kib("VmHWM") < MEMORY_MAX_KIB);
}

#[test]
fn old_data_put_back_are_seen_and_left_for_a_new_epoch() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let table = format!("{{bk1:{FLEET}}}h");
    let mut session = redis.session();
    let Reply::Many(old) = session.ask(&["HGETALL", &table]) else { panic!("no table") };
    let epoch = old.iter().position(|word| *word == Reply::Text("!e".to_owned())).map(|at| old[at + 1].clone());
    assert_they_talk(&mut one, &mut two);
    let old: Vec<String> = old.into_iter().map(Reply::text).collect();
    let mut put_back = vec!["HSET", table.as_str()];
    put_back.extend(old.iter().map(String::as_str));
    session.ask(&["MULTI"]);
    session.ask(&["DEL", &table]);
    session.ask(&put_back);
    session.ask(&["EXEC"]);
    until("a new epoch has begun", || (Some(session.ask(&["HGET", &table, "!e"])) != epoch).then_some(()));
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    assert_they_talk(&mut one, &mut two);
}

#[test]
fn a_master_that_became_a_replica_is_left_and_found_again() {
    let redis = Redis::start();
    let other = Redis::start();
    let (mut one, mut two) = two(&redis);
    let port = other.port().to_string();
    redis.session().ask(&["REPLICAOF", "127.0.0.1", &port]);
    one.until_link(Link::Detached);
    two.until_link(Link::Detached);
    redis.session().ask(&["REPLICAOF", "NO", "ONE"]);
    one.until_link(Link::Joined);
    two.until_link(Link::Joined);
    assert_they_talk(&mut one, &mut two);
}

#[test]
fn an_account_that_was_switched_off_and_on_again() {
    let redis = Redis::start();
    let (mut one, mut two) = two(&redis);
    let mut session = redis.session();
    session.ask(&["ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all"]);
    session.ask(&["AUTH", "admin", "x"]);
    session.ask(&["ACL", "SETUSER", "default", "-hmget"]);
    one.until_link(Link::Detached);
    one.trip();
    session.ask(&["ACL", "SETUSER", "default", "+hmget"]);
    two.until_state(State::Open);
    let log = one.daemon.log();
    assert!(log.contains("NOPERM") || log.contains("no permissions"), "the log says what is refused:\n{log}");
}

/// A server that is none: it takes what comes and says one thing.
fn impostor(says: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let visits = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&visits);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::Relaxed);
            // Whether the daemon still listens is its own affair.
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(says));
        }
    });
    (format!("redis://127.0.0.1:{port}"), visits)
}

#[test]
fn a_server_that_is_no_redis_leaves_a_working_host() {
    for says in [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".as_slice(),
        b"$536870912\r\nxxxx",
        b"*1000000000\r\n",
        b"-ERR unknown command `HELLO`\r\n",
        b"\n\n\n\n",
        b"",
    ] {
        let (url, visits) = impostor(says);
        let mut host = Host::start(&url, "web-1", Duration::from_secs(60));
        host.trip();
        until("it is tried again and again", || (visits.load(Ordering::Relaxed) >= 5).then_some(()));
        assert_eq!(host.about().link, Link::Detached);
        assert!(host.daemon.memory_kib("VmHWM") < MEMORY_MAX_KIB);
        assert!(host.daemon.stop().success());
    }
}
