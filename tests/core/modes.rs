//! Modes and overrides without a fleet: who is admitted, and what the books say.

use breakerd_core::{Core, Settings, Snapshot};
use breakerd_proto::message::{Action, Command, PolicyPatch};
use breakerd_proto::{Mode, Mono, Override};

use crate::script::{check, check_with, policy};

fn in_mode(mode: Mode) -> PolicyPatch {
    PolicyPatch { mode: Some(mode), ..policy() }
}

#[test]
fn shadow_trips_in_its_books_and_admits() {
    check_with(
        in_mode(Mode::Shadow),
        "
        0 a fail x3
        0 a ask
        0 - want admit
        0 a see
        0 - want open failures=3 retry=1000 gen=2
        0 a drop
        1000 a ask
        1000 - want probe
        1000 b ask
        1000 - want admit
        1001 a ok
        1001 a see
        1001 - want closed failures=0 retry=0 gen=4
        1001 - changes
        1001 - want trip probe recover
        ",
    );
}

#[test]
fn shadow_obeys_an_operator() {
    check_with(
        in_mode(Mode::Shadow),
        "
        0 - op force-open
        0 a ask
        0 - want reject forced retry=never
        1 - op release
        1 a fail x3
        1 a see
        1 - want open failures=3 retry=1000 gen=4
        2 - op reset
        2 a see
        2 - want closed failures=0 retry=0 gen=5
        ",
    );
}

#[test]
fn off_admits_and_counts_nothing() {
    check_with(
        in_mode(Mode::Off),
        "
        0 a fail x9
        0 a ask
        0 - want admit
        0 - changes
        0 - want
        1 - op force-open
        1 a ask
        1 - want admit
        ",
    );
}

#[test]
fn an_operators_mode_holds_until_the_configurations_does_again() {
    check(
        "
        0 a fail x2
        0 - op mode shadow
        0 - mode
        0 - want shadow root@web-1 drill
        1 a fail x2
        1 a see
        1 - want closed failures=2 retry=0 gen=2
        2 a fail
        2 a ask
        2 - want admit
        2 a see
        2 - want open failures=3 retry=1000 gen=3
        3 - op mode on
        3 - mode
        3 - want on root@web-1 drill
        3 b ask
        3 - want reject open retry=999
        4 - op mode off
        4 b ask
        4 - want admit
        5 - op mode config
        5 - mode
        5 - want on
        5 b ask
        5 - want reject open retry=997
        5 - op mode config
        5 - changes
        5 - want mode trip mode mode mode
        ",
    );
    check_with(in_mode(Mode::Off), "0 - op mode on\n0 a fail x3\n0 a ask\n0 - want reject open retry=1000");
    check("0 - op mode config\n0 - want no breaker \"p\" in use here; `breakerd status` lists those that are");
}

#[test]
fn the_record_of_a_mode_names_its_author_also_where_it_is_taken_back() {
    let mut core = Core::new(Settings { default: in_mode(Mode::Shadow), ..Settings::default() }, 1);
    for (to, mode) in [(Some(Mode::Off), Mode::Off), (None, Mode::Shadow)] {
        let action = Action::Mode { to };
        let command = Command { request: 0, name: "p".to_owned(), action, because: "drill".to_owned() };
        let done = core.command(Mono(1), "root@web-1", &command).unwrap();
        assert_eq!((done.view.mode, done.fleet), (mode, false));
        let view = core.poll_change().unwrap().view;
        assert_eq!((view.mode, view.mode_by.as_str(), view.mode_why.as_str()), (mode, "root@web-1", "drill"));
    }
    assert_eq!(core.view(Mono(2), "p").unwrap().mode_by, "");
}

#[test]
fn a_probe_that_ends_under_an_override_decides_nothing() {
    check("0 a fail x3\n1000 a ask\n1001 - op force-closed\n1002 a ok\n1003 - op release\n1003 - want half-open");
    check("0 a fail x3\n1000 a ask\n1001 - op force-open 10\n1002 a fail\n1011 - tick\n1011 b ask\n1011 - want probe");
}

/// The row as `status` shows it, after a restart: state, override, mode, author, reason.
fn shown(core: &Core, now: Mono) -> String {
    let page = core.page(now, 0, "");
    let view = &page.rows.first().unwrap().view;
    let forced = view.forced.map_or("-", Override::word);
    format!("{} {forced} {} {}: {} retry={:?}", view.state, view.mode.word(), view.by, view.why, view.retry_after_ms)
}

#[test]
fn an_operators_mode_survives_a_restart_and_is_the_policy_that_workers_are_told() {
    let mut core = Core::new(Settings::default(), 1);
    let (action, because) = (Action::Mode { to: Some(Mode::Shadow) }, "drill".to_owned());
    core.command(Mono(1), "root@web-1", &Command { request: 0, name: "p".to_owned(), action, because }).unwrap();
    let mut again = Core::new(Settings::default(), 2);
    again.handle_snapshot(Mono(1), &core.save(Mono(1)));
    for core in [&core, &again] {
        let told = core.describe(Mono(1), 0, "p", 0).unwrap();
        assert_eq!((told.row.view.mode, told.policy.mode), (Mode::Shadow, Some(Mode::Shadow)));
        assert_eq!((told.row.view.mode_by.as_str(), told.row.view.mode_why.as_str()), ("root@web-1", "drill"));
    }
}

#[test]
fn overrides_survive_a_restart_with_author_reason_and_end() {
    let settings = || Settings { default: in_mode(Mode::Shadow), host: "web-1".to_owned(), ..Settings::default() };
    let at = |ms: u64| Mono(ms * 1_000_000);
    for (to, for_ms, want) in [
        (Override::ForcedOpen, Some(60_000), "open forced-open shadow root@web-1: drill retry=Some(50000)"),
        (Override::ForcedOpen, None, "open forced-open shadow root@web-1: drill retry=None"),
        (Override::ForcedClosed, Some(60_000), "closed forced-closed shadow root@web-1: drill retry=Some(0)"),
    ] {
        let mut core = Core::new(settings(), 1);
        let (action, because) = (Action::Force { to, for_ms }, "drill".to_owned());
        let command = Command { request: 0, name: "p".to_owned(), action, because };
        core.command(at(1000), "root@web-1", &command).unwrap();
        let saved: Snapshot = core.save(at(6000));
        let mut again = Core::new(settings(), 2);
        again.handle_snapshot(at(500_000), &saved);
        assert_eq!(shown(&again, at(505_000)), want);
        let due = again.poll_timeout().unwrap();
        again.handle_timeout(due);
        let end = for_ms.map(|ms| at(500_000 + ms - 5000));
        assert_eq!(end.unwrap_or(due), due);
        assert_eq!(again.poll_change().is_some(), end.is_some(), "its end is kept, and without one it stays");
    }
}
