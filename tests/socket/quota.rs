//! What one account may hold is bounded, and what it held comes back.

use breakerd_proto::message::Register;
use breakerd_proto::{Code, ToClient};
use breakerd_tests::Daemon;

#[test]
fn names_over_the_quota_are_refused_and_the_rest_goes_on() {
    let daemon = Daemon::start();
    let mut refused = None;
    // Connections are limited in lanes, the account in names: many connections, many names.
    'all: for connection in 0..64 {
        let mut worker = daemon.worker();
        for number in 0..1024 {
            let request = worker.request();
            worker.send(Register { request, name: format!("n/{connection}/{number}"), policy: None });
            match worker.read() {
                ToClient::Registered(_) => {}
                ToClient::Refused(no) if no.sentence.contains("one connection") => break,
                ToClient::Refused(no) => {
                    refused = Some(no);
                    break 'all;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let refused = refused.expect("no quota on names");
    assert_eq!(refused.code, Code::Quota);
    let uid = rustix::process::getuid().as_raw().to_string();
    assert!(refused.sentence.contains("names") && refused.sentence.contains(&uid), "{}", refused.sentence);
    let mut worker = daemon.worker();
    worker.lane("n/0/0");
}
