//! What the commands show of a breaker: its mode wherever its state stands, and its whole policy.

use breakerd_proto::{State, Verdict};
use breakerd_tests::{Daemon, Setup};

fn said(daemon: &Daemon, args: &[&str]) -> String {
    let output = daemon.cli(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn shadowed() -> Daemon {
    let more = "[breaker.\"pay/*\"]\nmode = \"shadow\"\nslow_after = \"2s\"\n\
                trip.slow_count = { at_least = 3, of_calls = 10 }\n";
    Daemon::with(&Setup { more: more.to_owned(), ..Setup::default() })
}

#[test]
fn the_mode_shows_wherever_the_state_shows() {
    let daemon = shadowed();
    assert_eq!(said(&daemon, &["ask", "pay/psp"]), "pay/psp: admit (mode shadow)\n", "before any worker uses it");
    assert_eq!(said(&daemon, &["ask", "openai"]), "openai: admit\n");
    let mut worker = daemon.worker();
    let lane = worker.lane("pay/psp");
    worker.fail_together(lane, 3);
    worker.observe(lane);
    assert_eq!(said(&daemon, &["ask", "pay/psp"]), "pay/psp: admit (mode shadow)\n");
    let table = said(&daemon, &["status"]);
    let row = table.lines().find(|line| line.starts_with("pay/psp")).unwrap();
    assert!(row.contains("open") && row.contains("mode shadow; 3 consecutive failures"), "{row}");
    let one = said(&daemon, &["status", "pay/psp"]);
    assert!(one.contains("why     mode shadow; 3 consecutive failures"), "{one}");
}

#[test]
fn a_mode_by_command_shows_with_its_author_survives_a_restart_and_goes_by_command() {
    let mut daemon = Daemon::start();
    let args = ["mode", "openai", "shadow", "--because", "drill"];
    let told = said(&daemon, &args);
    assert!(told.starts_with("openai is in mode shadow, on this host until `breakerd mode openai config`: "), "{told}");
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    assert_eq!(worker.observe(lane).view.state, State::Open);
    assert!(matches!(worker.query(lane), Verdict::Admit { .. }), "in its own books alone");
    assert!(daemon.stop().success());
    daemon.run();
    let row = said(&daemon, &["status"]);
    let row = row.lines().find(|line| line.starts_with("openai")).unwrap();
    let (_, shown) = row.split_once("mode shadow by ").unwrap();
    let (author, rest) = shown.split_once(": drill; ").unwrap();
    assert!(author.ends_with("@web-1") && rest.starts_with("3 consecutive failures"), "{row}");
    assert!(said(&daemon, &["status", "openai"]).contains(&format!("why     mode shadow by {author}: drill; ")));
    let admitted = format!("openai: admit (mode shadow by {author}: drill)\n");
    assert_eq!(said(&daemon, &["ask", "openai"]), admitted);
    let json = said(&daemon, &["status", "openai", "--json"]);
    for part in ["\"mode\":\"shadow\"", &format!("\"mode_by\":\"{author}\""), "\"mode_why\":\"drill\""] {
        assert!(json.contains(part), "no {part} in {json}");
    }
    let told = said(&daemon, &["mode", "openai", "config"]);
    assert_eq!(told, "openai is in mode on, as the configuration says: it judges and rejects\n");
    assert!(!said(&daemon, &["status"]).contains("mode"));
    assert!(!daemon.cli(&["ask", "openai"]).status.success(), "what was open rejects again");
    let logged = daemon.log().lines().filter(|line| line.contains("what=\"mode\"")).count();
    assert_eq!(logged, 2, "{}", daemon.log());
}

#[test]
fn the_cooldown_and_its_step_show_after_a_failed_probe() {
    let more = "[breaker.openai]\ncooldown = { first = \"50ms\", factor = 100.0, max = \"1m\", jitter = 0.0 }\n";
    let daemon = Daemon::with(&Setup { more: more.to_owned(), ..Setup::default() });
    let mut worker = daemon.worker();
    let lane = worker.lane("openai");
    worker.fail_together(lane, 3);
    assert!(said(&daemon, &["status", "openai"]).contains(", cooldown 50 ms"));
    let probe = breakerd_tests::until("the cooldown is over", || {
        Some(worker.query(lane)).filter(|verdict| matches!(verdict, Verdict::Probe { .. }))
    });
    worker.report(lane, &probe, breakerd_proto::Outcome::failure("http-503"));
    worker.observe(lane);
    for (args, told) in
        [(&["status"][..], "; cooldown 5 s (step 1)"), (&["status", "openai"], "), cooldown 5 s (step 1), retry in ")]
    {
        let shown = said(&daemon, args);
        assert!(shown.contains(told), "{shown}");
    }
    let json = said(&daemon, &["status", "openai", "--json"]);
    assert!(json.contains("\"step\":1") && json.contains("\"cooldown_ms\":5000"), "{json}");
}

#[test]
fn the_policy_in_force_shows_whole() {
    let daemon = shadowed();
    let mut worker = daemon.worker();
    worker.lane("pay/psp");
    let one = said(&daemon, &["status", "pay/psp"]);
    for line in [
        "policy  trips at 3 failures in a row (4 over all workers), or 50 % failed of at least 20 calls within 30s, or 3 slow of the last 10 calls",
        "        cooldown 1m x1 to 1m, jitter 0, forgotten 1m after a recovery",
        "        1 probe at a time, each for at most 2m, 1 success recovers, undecided for at most 10m",
        "        slow after 2s, hung after 10s, 401 and 403 ignored, without a daemon each process alone, over quota admitted",
    ] {
        assert!(one.lines().any(|shown| shown == line), "no {line:?} in:\n{one}");
    }
    let json = said(&daemon, &["status", "pay/psp", "--json"]);
    for part in ["\"schema\":1", "\"mode\":\"shadow\"", "\"hung_after_ms\":10000", "\"within_ms\":30000"] {
        assert!(json.contains(part), "no {part} in {json}");
    }
}
