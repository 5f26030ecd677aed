//! What a worker says of itself.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use breakerd_proto::limits::{SERVICE_BYTES_MAX, VERSION_MAX, VERSION_MIN};
use breakerd_proto::message::Hello;
use breakerd_proto::{Mono, outcome};

use crate::fork;

/// A hello of this process. `alone` is how long and for how many calls it was without a daemon, in milliseconds.
pub(crate) fn hello(service: Option<&str>, alone: (u64, u64)) -> Hello {
    let service = service.map_or_else(find_service, str::to_owned);
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        pid: std::process::id(),
        nonce: nonce(),
        alone_ms: alone.0,
        alone_calls: alone.1,
        service: outcome::cut(&service, SERVICE_BYTES_MAX).to_owned(),
    }
}

/// Drawn once a process, the same for all its connections; another one after a fork.
fn nonce() -> u64 {
    use std::sync::OnceLock;
    static DRAWN: OnceLock<u64> = OnceLock::new();
    let drawn = DRAWN.get_or_init(random);
    // A child inherits the drawn number and differs by its life, which no process of the family shares with another of
    // the same pid and account.
    drawn.wrapping_add(fork::life().wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ u64::from(std::process::id())
}

/// A number that no one can tell beforehand, from the keys that the standard library draws from the system.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(Mono::now().0);
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// The service that this process belongs to: its systemd unit, else its program.
#[must_use]
pub fn find_service() -> String {
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    unit(&cgroup).unwrap_or_else(|| program(&argv("self"), &|| argv(&parent())).unwrap_or_else(|| "unknown".to_owned()))
}

fn parent() -> String {
    rustix::process::getppid().map_or_else(String::new, |pid| pid.to_string())
}

fn argv(process: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|arg| !arg.is_empty())
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect()
}

/// `0::/system.slice/chat-api.service` is `chat-api`. A login session or a user's manager is no service.
fn unit(cgroup: &str) -> Option<String> {
    let unit = cgroup.lines().filter_map(|line| line.rsplit(':').next()).find_map(|path| {
        path.rsplit('/').find_map(|part| part.strip_suffix(".service")).filter(|unit| !unit.starts_with("user@"))
    })?;
    Some(unit.replace("\\x2d", "-"))
}

/// The program's name; for an interpreter the script's or the module's, for a process that Python's multiprocessing
/// spawned its parent's.
fn program(argv: &[String], parent: &dyn Fn() -> Vec<String>) -> Option<String> {
    let base = |path: &str| Path::new(path).file_stem().map(|name| name.to_string_lossy().into_owned());
    let first = argv.first()?;
    let interpreter = base(first)?;
    let plain = interpreter.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !["python", "pypy", "ruby", "node", "perl", "php"].contains(&plain) {
        return Path::new(first).file_name().map(|name| name.to_string_lossy().into_owned());
    }
    if argv.iter().any(|arg| arg.contains("multiprocessing")) {
        return program(&parent(), &Vec::new).or(Some(interpreter));
    }
    let mut rest = argv.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-m" => return rest.next().cloned(),
            "-c" => return Some(interpreter),
            // The two options of CPython that take a value apart from them (python(1)).
            "-X" | "-W" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            script => return base(script),
        }
    }
    Some(interpreter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_by_unit() {
        for (cgroup, expect) in [
            ("0::/system.slice/chat-api.service\n", Some("chat-api")),
            ("0::/system.slice/chat\\x2dapi.service/worker\n", Some("chat-api")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n", None),
            ("0::/\n", None),
            ("12:pids:/\n1:name=systemd:/system.slice/a.service\n", Some("a")),
        ] {
            assert_eq!(unit(cgroup).as_deref(), expect, "{cgroup:?}");
        }
    }

    #[test]
    fn services_by_program() {
        let split = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let parent = || split("/v/bin/python3 /v/bin/uvicorn app:app --workers 4");
        for (line, expect) in [
            ("/usr/bin/chat-api --port 1", "chat-api"),
            ("/v/bin/python3.12 /v/bin/uvicorn app:app", "uvicorn"),
            ("python3 -X dev -m gunicorn app", "gunicorn"),
            ("python3 -c print(1)", "python3"),
            ("python3 -u worker.py", "worker"),
            ("python3", "python3"),
            ("/v/bin/python3 -c from_multiprocessing.spawn_import_spawn_main --multiprocessing-fork", "uvicorn"),
        ] {
            assert_eq!(program(&split(line), &parent).as_deref(), Some(expect), "{line}");
        }
        assert_eq!(program(&[], &parent), None);
    }
}
