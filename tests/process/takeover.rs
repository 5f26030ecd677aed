//! Whose socket it is: a living daemon's is left alone, a dead one's is taken over.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use breakerd_proto::{Code, Mono};
use breakerd_tests::{Daemon, Setup, until};

#[test]
fn a_second_daemon_says_who_is_there_and_exits_75() {
    let daemon = Daemon::start();
    let second = daemon.second();
    let said = String::from_utf8_lossy(&second.stderr);
    let sentence = format!("another breakerd, pid {}, is listening on {}", daemon.pid(), daemon.socket().display());
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains(&sentence), "{said}");
    daemon.worker().lane("openai");
}

#[test]
fn a_socket_file_that_a_killed_daemon_left_is_taken_over() {
    let mut daemon = Daemon::start();
    daemon.kill9();
    assert!(daemon.socket().exists() && daemon.control().exists(), "a kill leaves the files");
    daemon.run();
    daemon.worker().lane("openai");
    daemon.operator().lane("openai");
}

#[test]
fn a_socket_file_that_nobody_listens_on_is_taken_over() {
    let mut daemon = Daemon::idle(&Setup::default());
    drop(UnixListener::bind(daemon.socket()).unwrap());
    assert!(daemon.socket().exists());
    daemon.run();
    daemon.worker().lane("openai");
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let daemon = Daemon::idle(&Setup::default());
    fs::write(daemon.socket(), "precious").unwrap();
    let output = daemon.second();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&daemon.socket().display().to_string()), "{said}");
    assert_eq!(fs::read_to_string(daemon.socket()).unwrap(), "precious");
}

#[test]
fn sigterm_is_a_clean_stop_and_the_sockets_are_gone() {
    let mut daemon = Daemon::start();
    let mut worker = daemon.worker();
    let since = Mono::now();
    let status = daemon.stop();
    let took = Mono::now().since(since);
    assert!(status.success(), "{status}:\n{}", daemon.log());
    breakerd_tests::wait::bounded("a clean stop", took, Duration::from_secs(1));
    assert!(!daemon.socket().exists() && !daemon.control().exists());
    let bye = worker.bye();
    assert_eq!(bye.code, Code::Stopping);
}

#[test]
fn a_stop_removes_only_its_own_socket() {
    let mut daemon = Daemon::start();
    fs::remove_file(daemon.socket()).unwrap();
    let other = UnixListener::bind(daemon.socket()).unwrap();
    assert!(daemon.stop().success());
    assert!(daemon.socket().exists(), "another's socket was removed");
    drop(other);
}

#[test]
fn all_may_reach_the_workers_socket_as_its_mode_says_and_only_operators_the_other() {
    let daemon = Daemon::start();
    for (socket, others) in [(daemon.socket(), None), (daemon.control(), Some(0))] {
        let meta = fs::metadata(&socket).unwrap();
        assert!(meta.file_type().is_socket());
        let mode = meta.permissions().mode() & 0o777;
        if let Some(others) = others {
            assert_eq!(mode & 0o007, others, "{}: {mode:o}", socket.display());
        }
        assert_eq!(mode & 0o600, 0o600, "{}: {mode:o}", socket.display());
    }
}

#[test]
fn a_frozen_daemon_is_still_a_living_one() {
    let daemon = Daemon::start();
    daemon.freeze();
    let second = daemon.second();
    daemon.thaw();
    assert_eq!(second.status.code(), Some(75), "{}", String::from_utf8_lossy(&second.stderr));
    until("it answers again", || Some(daemon.worker()));
}
