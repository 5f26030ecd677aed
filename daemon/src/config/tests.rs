#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use breakerd_proto::Mode;

use super::*;

/// The complaints about a file, as they are printed.
pub(super) fn complaints(text: &str) -> Vec<String> {
    match load_text("breakerd.toml", text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn nothing_at_all_is_the_defaults() {
    let config = load_text("breakerd.toml", "").unwrap();
    assert_eq!(config.listen, Listen { socket: SOCKET.into(), group: None, control: CONTROL.into() });
    assert_eq!(config.fleet, None);
    assert_eq!(config.rights, Rights::default());
    assert_eq!(config.log, Level::Info);
    let policy = config.breakers.policy("openai", None);
    assert_eq!(policy, breakerd_core::Policy::default());
    assert_eq!((policy.trip.consecutive_failures, policy.cooldown.first.as_secs()), (5, 15));
}

#[test]
fn a_whole_file_says_what_it_says() {
    let config = load_text(
        "breakerd.toml",
        r#"
            host = "web-1"
            [listen]
            socket = "/run/a/b.sock"
            control = "/run/c/d.sock"
            group = "root"
            [fleet]
            redis = "redis://10.0.0.5:6379/2"
            name = "prod"
            user = "breakerd"
            password_file = "/run/credentials/redis"
            [rights]
            reset = ["root", 33, "4711"]
            operators = "0"
            [state]
            dir = "/var/lib/x"
            [log]
            level = "debug"
            [breaker.default]
            trip.consecutive_failures = 3
            cooldown = { first = "500ms", factor = 3, max = "1h", jitter = 0.0 }
            probe = { permits = 2, successes = 4, max = "30s" }
            fallback = "reject"
            scope = "any"
            [breaker."payments/*"]
            mode = "shadow"
            slow_after = "2s"
        "#,
    )
    .unwrap();
    assert_eq!(config.listen.group, Some(Group { name: "root".into(), gid: 0 }));
    assert_eq!(config.breakers.host, "web-1");
    let fleet = config.fleet.as_ref().unwrap();
    assert_eq!((fleet.redis.as_str(), fleet.name.as_str()), ("redis://10.0.0.5:6379/2", "prod"));
    assert_eq!(fleet.user.as_deref(), Some("breakerd"));
    assert!(config.rights.may_reset(0) && config.rights.may_reset(33) && config.rights.may_reset(4711));
    assert!(!config.rights.may_reset(1));
    assert_eq!(config.log, Level::Debug);
    let policy = config.breakers.policy("payments/psp", None);
    assert_eq!((policy.trip.consecutive_failures, policy.mode), (3, Mode::Shadow));
    assert_eq!(policy.cooldown.first.as_millis(), 500);
    assert_eq!(config.breakers.check(), Ok(()));
}

#[test]
fn every_fault_is_told_with_its_line() {
    let found = complaints(
        "[listen]\nsockte = \"/x\"\n[breaker.default]\ncooldwon.first = \"1s\"\ncooldown = { first = \"15\", fatcor = 2 }\n",
    );
    assert_eq!(
        found,
        [
            "breakerd.toml:2: unknown key sockte in [listen]; did you mean socket?",
            "breakerd.toml:4: unknown key cooldwon in [breaker.default]; did you mean cooldown?",
            "breakerd.toml:5: cooldown.first: \"15\" has no unit; write whole numbers with ms, s, m, h or d, as in \
             \"500ms\", \"15s\", \"2m\", \"1h30m\"",
            "breakerd.toml:5: unknown key cooldown.fatcor in [breaker.default]; did you mean cooldown.factor?",
        ]
    );
}

/// One file with one fault, and the complaint without its place.
fn check(text: &str, complaint: &str) {
    let found = complaints(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    let told = found[0].strip_prefix("breakerd.toml:").unwrap();
    let (line, told) = told.split_once(": ").unwrap();
    assert!(line.parse::<usize>().unwrap() >= 1);
    assert_eq!(told, complaint, "{text}");
}

#[test]
fn each_complaint_says_the_next_step() {
    for (text, complaint) in [
        ("colour = 1", "unknown key colour; known here: host, listen, fleet, rights, state, log, quotas, breaker"),
        ("socket = \"/a\"", "unknown key socket; did you mean listen.socket?"),
        ("[breakers.default]", "unknown key breakers; did you mean breaker?"),
        (
            "[breaker.default]\nconsecutive_failures = 3",
            "unknown key consecutive_failures in [breaker.default]; did you mean trip.consecutive_failures?",
        ),
        (
            "[breaker]\nmode = \"on\"",
            "mode stands in [breaker] itself; put it into [breaker.default] or into a section for a pattern, as \
             [breaker.\"payments/*\"]",
        ),
        (
            "[breaker.default]\nscope = \"host\"",
            "scope is not built yet in this release; a trip opens the whole fleet, as scope = \"any\" does; leave the \
             key out",
        ),
        ("[flexiai]\nenabled = true", "flexiai is not built yet in this release; leave the section out"),
        ("[breaker.default]\nmode = \"dark\"", "mode is \"dark\"; it may be \"on\", \"shadow\", \"off\""),
        ("[breaker.default]\nmode = true", "mode takes a text in quotes, not true"),
        (
            "[breaker.default]\ncooldown.first = 15",
            "cooldown.first takes a duration in quotes, as \"15s\", not a number",
        ),
        (
            "[breaker.default]\ntrip.consecutive_failures = -1",
            "trip.consecutive_failures is -1; it takes a whole number up to 4294967295",
        ),
        (
            "[breaker.\"a b\"]\nmode = \"on\"",
            "[breaker.\"a b\"]: a pattern is made of `*` and of what names are made of, not ' '",
        ),
        (
            "[breaker.\"a*\"]\nmode = \"on\"\n[breaker.\"*a\"]\nmode = \"off\"",
            "[breaker.\"a*\"] and [breaker.\"*a\"] (breakerd.toml:3) match common names and neither is more specific; \
             make one of them longer",
        ),
        (
            "[fleet]\nname = \"prod\"",
            "[fleet] has name but no redis; add redis = \"redis://HOST:6379/0\" or leave [fleet] out",
        ),
        (
            "[fleet]\nredis = \"redis://h\"",
            "[fleet] has redis but no name; add name = \"prod\", so that another fleet on the same Redis cannot trip \
             this one's breakers",
        ),
        (
            "[fleet]\nredis = \"redis://h\"\nname = \"Prod\"",
            "the fleet's name is \"Prod\"; it takes 1 to 32 of a-z, 0-9 and -",
        ),
        (
            "[fleet]\nredis = \"redis://u:p@h\"\nname = \"prod\"",
            "the URL holds a password, which would be shown in logs; put it into a file of its own and give \
             password_file = \"/path\"",
        ),
        ("[fleet]\nredis = \"redis://u@h\"\nname = \"prod\"", "the URL holds a user; give user = \"NAME\" beside it"),
        (
            "[fleet]\nredis = \"rediss://h\"\nname = \"prod\"",
            "rediss:// (TLS) is not built yet in this release; use redis:// over a trusted network",
        ),
        (
            "[fleet]\nredis = \"redis://h:port\"\nname = \"prod\"",
            "\"redis://h:port\" is no address of a Redis; give \"redis://HOST:PORT/DATABASE\"",
        ),
        (
            "[fleet]\nredis = \"h:6379\"\nname = \"prod\"",
            "\"\" is no way to a Redis; give \"redis://HOST:PORT/DATABASE\" or \"unix:///path/redis.sock\"",
        ),
        (
            "[rights]\nreset = [\"nobody-of-this-name\"]",
            "no user \"nobody-of-this-name\" in /etc/passwd; check the spelling, or give the number or \"*\"",
        ),
        (
            "[listen]\ngroup = \"no-such-group\"",
            "listen.group: no group \"no-such-group\" in /etc/group; make it (groupadd --system no-such-group), or give \
             the number",
        ),
        ("[listen]\nsocket = \"a.sock\"", "socket is \"a.sock\"; give an absolute path"),
        ("[listen]\nsocket = [1]", "socket takes a text in quotes, not a list"),
        ("listen = 1", "listen takes a table, not a number"),
        ("[rights]\nreset = \"root\"", "reset takes a list of texts, as [\"www-data\"], not a text"),
    ] {
        check(text, complaint);
    }
}

#[test]
fn a_socket_path_is_bounded_at_its_edge() {
    let path = |bytes: usize| format!("[listen]\nsocket = \"/{}\"", "a".repeat(bytes - 1));
    assert_eq!(complaints(&path(107)), [""; 0]);
    check(&path(108), "listen.socket has 108 bytes; the path of a socket has at most 107, choose a shorter one");
}

#[test]
fn what_is_no_toml_is_told_by_line_and_nothing_is_guessed_from_it() {
    let found = complaints("[listen]\nsocket = \nsockte = 1\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("breakerd.toml:2: "), "{found:?}");
}

#[test]
fn files_of_conf_d_lie_over_the_main_file() {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("breakerd.toml");
    std::fs::write(&main, "[breaker.default]\nmode = \"off\"\ntrip.consecutive_failures = 7\n").unwrap();
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    for (file, text) in [("20-b.toml", "mode = \"shadow\""), ("10-a.toml", "mode = \"on\""), ("x.bak", "rubbish")] {
        std::fs::write(directory.path().join("conf.d").join(file), format!("[breaker.default]\n{text}\n")).unwrap();
    }
    let (files, faults) = found(&main);
    assert_eq!((files.len(), faults), (3, Vec::new()));
    let mut draft = read::Draft::default();
    let mut faults = Vec::new();
    for file in &files {
        draft.read(&file.as_path().into(), &std::fs::read_to_string(file).unwrap(), &mut faults);
    }
    let policy = draft.finish(&mut faults).breakers.policy("x", None);
    assert_eq!((policy.mode, policy.trip.consecutive_failures), (Mode::Shadow, 7));
    assert_eq!(faults, []);
}

#[test]
fn a_named_file_must_be_there() {
    let faults = load(Some(Path::new("/nowhere/breakerd.toml"))).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "/nowhere/breakerd.toml: cannot be read: entity not found; give --config FILE, or leave it out to run on the \
         defaults"
    );
}
