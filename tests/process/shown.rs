//! What the commands show of a breaker: its mode wherever its state stands, and its whole policy.

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
