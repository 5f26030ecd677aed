//! What is shown to people: rows, pages, totals. The words of a change are where the change is.

use breakerd_core::{Pattern, PatternPolicy, Settings};
use breakerd_proto::message::{Action, PolicyPatch};
use breakerd_proto::{Counts, Mode, Outcome, Override, Verdict};

use crate::host::Host;
use crate::script::policy;

fn host() -> Host {
    let shadowed = PatternPolicy {
        pattern: Pattern::parse("pay/*").unwrap(),
        patch: PolicyPatch { mode: Some(Mode::Shadow), ..PolicyPatch::default() },
    };
    Host::new(Settings { default: policy(), patterns: vec![shadowed], ..Settings::default() })
}

#[test]
fn a_name_that_nobody_uses_would_be_admitted_by_the_policy_that_it_would_have() {
    let host = host();
    for (name, mode) in [("openai", Mode::On), ("pay/stripe", Mode::Shadow)] {
        let asked = host.core.ask(host.now(), 4, name).unwrap();
        assert_eq!((asked.request, asked.view.mode), (4, mode));
        assert_eq!(asked.verdict, Verdict::Admit { generation: 0 });
        assert_eq!(host.core.policy(name).mode, Some(mode));
        assert_eq!(host.core.policy(name).consecutive_failures, Some(3));
    }
    assert_eq!(host.core.sizes(), (0, 0), "asking makes no breaker");
}

#[test]
fn workers_and_lanes_come_from_the_one_after_the_last_that_was_seen() {
    let mut host = host();
    let workers = [host.worker(1), host.worker(2)];
    host.pass(250);
    for worker in workers {
        host.lane(worker, "openai");
        host.lane(worker, "pay/stripe");
    }
    assert_eq!(host.core.sizes(), (2, 2));
    let all = host.core.workers(host.now(), 4, 0);
    let [first, second] = &all.rows[..] else { panic!("{all:?}") };
    assert_eq!((all.request, all.more, first.uid, second.uid), (4, false, 1, 2));
    assert_eq!((first.age_ms, first.connections, first.breakers, first.permits_out), (250, 1, 2, 0));
    for (row, worker) in [(first, workers[0]), (second, workers[1])] {
        let (id, label) = host.core.worker_of(worker).unwrap();
        assert_eq!((id.0, label), (row.worker, row.label.as_str()));
    }
    let lanes = |after| host.core.describe(host.now(), 0, "openai", after).unwrap().lanes;
    let page = |after| host.core.workers(host.now(), 0, after).rows;
    assert_eq!((page(first.worker), page(second.worker)), (vec![second.clone()], vec![]));
    assert_eq!((lanes(0).len(), lanes(first.worker).len(), lanes(second.worker).len()), (2, 1, 0));
    assert_eq!(lanes(first.worker)[0].label, second.label);
}

#[test]
fn reports_of_an_older_generation_are_counted() {
    let mut host = host();
    let worker = host.worker(1);
    let lane = host.lane(worker, "openai");
    host.report_failure(lane, 1);
    assert_eq!(host.core.stale_reports(), 0);
    host.fail(lane, 2);
    host.report_failure(lane, 1);
    host.report_with(lane, 1, Outcome::SUCCESS, Counts::default());
    assert_eq!(host.core.stale_reports(), 2);
}

#[test]
fn a_snapshot_has_what_is_not_simply_closed() {
    let mut host = host();
    let worker = host.worker(1);
    for name in ["closed", "open", "forced"] {
        let lane = host.lane(worker, name);
        host.fail(lane, if name == "open" { 3 } else { 1 });
    }
    host.command("forced", Action::Force { to: Override::ForcedClosed, for_ms: None });
    let saved = host.core.save(host.now()).breakers;
    let names: Vec<_> = saved.iter().map(|saved| saved.name.as_str()).collect();
    assert_eq!(names, ["forced", "open"]);
}
