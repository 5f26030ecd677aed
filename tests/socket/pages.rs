//! Answers about many come in pages.

use breakerd_proto::message::{Describe, Description, List, Page, Workers, WorkersPage};
use breakerd_proto::{Code, State, ToClient, limits::PAGE_ROWS_MAX};
use breakerd_tests::{Daemon, Raw};

fn page(raw: &mut Raw, after: &str) -> Page {
    let request = raw.request();
    raw.send(List { request, after: after.to_owned() });
    match raw.read() {
        ToClient::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn workers(raw: &mut Raw, after: u64) -> WorkersPage {
    let request = raw.request();
    raw.send(Workers { request, after });
    match raw.read() {
        ToClient::WorkersPage(page) => page,
        other => panic!("{other:?}"),
    }
}

fn describe(raw: &mut Raw, name: &str, after: u64) -> Description {
    let request = raw.request();
    raw.send(Describe { request, name: name.to_owned(), after });
    match raw.read() {
        ToClient::Description(description) => description,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_table() {
    let daemon = Daemon::start();
    let page = page(&mut daemon.worker(), "");
    assert!(page.rows.is_empty() && !page.more, "{page:?}");
}

#[test]
fn a_full_page_is_the_last_and_one_more_row_makes_another() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    for number in 0..PAGE_ROWS_MAX {
        worker.lane(&format!("breaker-{number:03}"));
    }
    let full = page(&mut worker, "");
    assert_eq!((full.rows.len(), full.more), (PAGE_ROWS_MAX, false));
    worker.lane("breaker-one-more");
    let first = page(&mut worker, "");
    assert_eq!((first.rows.len(), first.more), (PAGE_ROWS_MAX, true));
}

#[test]
fn every_name_comes_once_and_in_order() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let names: Vec<String> = (0..100).map(|number| format!("breaker-{number:03}")).collect();
    for name in names.iter().rev() {
        worker.lane(name);
    }
    let (mut read, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(&mut worker, &after);
        read.extend(page.rows.into_iter().map(|row| row.name));
        after = read.last().unwrap().clone();
        if !page.more {
            break;
        }
    }
    assert_eq!(read, names);
}

#[test]
fn the_longest_names_fit_a_page() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let long = "x".repeat(125);
    for number in 0..PAGE_ROWS_MAX {
        let lane = worker.lane(&format!("{long}{number:03}"));
        worker.fail_together(lane, 3);
    }
    let page = page(&mut worker, "");
    assert_eq!(page.rows.len(), PAGE_ROWS_MAX);
    assert!(page.rows.iter().all(|row| row.view.state == State::Open), "{page:?}");
}

#[test]
fn one_breaker_with_its_lanes() {
    let daemon = Daemon::start();
    let mut all = crate::breaker::four(&daemon, "openai");
    let (first, lane) = &mut all[0];
    first.fail_together(*lane, 5);
    let told = describe(first, "openai", 0);
    assert_eq!((told.row.failures_total, told.row.workers), (5, 4));
    assert_eq!(told.policy.consecutive_failures, Some(3));
    let failures: Vec<u64> = told.lanes.iter().map(|lane| lane.failures).collect();
    assert_eq!(failures, [5, 0, 0, 0]);
    let label = format!("test[{}]", std::process::id());
    assert!(told.lanes.iter().all(|lane| lane.label == label), "{told:?}");
}

#[test]
fn more_lanes_than_a_page() {
    let daemon = Daemon::start();
    let mut all: Vec<Raw> = (0..=PAGE_ROWS_MAX).map(|_| daemon.worker()).collect();
    for worker in &mut all {
        worker.lane("openai");
    }
    let first = describe(&mut all[0], "openai", 0);
    assert!(first.more && first.lanes.len() <= PAGE_ROWS_MAX, "{} lanes", first.lanes.len());
    let second = describe(&mut all[0], "openai", first.lanes.last().unwrap().worker);
    assert!(!second.more);
    let numbers: Vec<u64> = first.lanes.iter().chain(&second.lanes).map(|lane| lane.worker).collect();
    assert_eq!(numbers.len(), all.len(), "every lane comes once");
    assert!(numbers.is_sorted_by(|a, b| a < b), "in the order of their numbers: {numbers:?}");
}

#[test]
fn a_breaker_that_nobody_uses() {
    let daemon = Daemon::start();
    let mut worker = daemon.worker();
    let request = worker.request();
    worker.send(Describe { request, name: "opneai".to_owned(), after: 0 });
    assert!(worker.refused(Code::UnknownBreaker).contains("opneai"));
}

#[test]
fn the_workers_page_by_page() {
    let daemon = Daemon::start();
    let mut all: Vec<Raw> = (0..=PAGE_ROWS_MAX).map(|_| daemon.worker()).collect();
    all[0].lane("openai");
    let first = workers(&mut all[0], 0);
    assert_eq!((first.rows.len(), first.more), (PAGE_ROWS_MAX, true));
    let row = &first.rows[0];
    let uid = rustix::process::getuid().as_raw();
    assert_eq!((row.uid, row.connections, row.breakers, row.permits_out), (uid, 1, 1, 0));
    let second = workers(&mut all[0], first.rows.last().unwrap().worker);
    assert_eq!((second.rows.len(), second.more), (1, false));
}

#[test]
fn two_connections_of_one_process_are_one_worker_and_it_ends_with_the_last() {
    let daemon = Daemon::start();
    let mut watcher = daemon.worker();
    let (one, welcome) = Raw::hello_as(&daemon.socket(), "app", 77);
    let (two, again) = Raw::hello_as(&daemon.socket(), "app", 77);
    assert_eq!(welcome.worker, again.worker);
    let row = |watcher: &mut Raw| workers(watcher, 0).rows.into_iter().find(|row| row.worker == welcome.worker);
    assert_eq!(row(&mut watcher).unwrap().connections, 2);
    drop(one);
    breakerd_tests::until("one connection is left", || row(&mut watcher).filter(|row| row.connections == 1).map(drop));
    drop(two);
    breakerd_tests::until("the worker has ended", || row(&mut watcher).is_none().then_some(()));
}

#[test]
fn a_service_is_a_label_and_never_an_escape_sequence() {
    let daemon = Daemon::start();
    let (mut raw, welcome) = Raw::hello_as(&daemon.socket(), "a\u{1b}[31m\nb", 78);
    let page = workers(&mut raw, 0);
    let row = page.rows.iter().find(|row| row.worker == welcome.worker).unwrap();
    assert_eq!(row.label, format!("a__31m_b[{}]", std::process::id()));
}
