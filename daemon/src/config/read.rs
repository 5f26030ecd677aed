//! The sections of a file, and what they come to together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use breakerd_core::Settings;
use breakerd_proto::limits::FLEET_BYTES_MAX;
use toml::de::DeTable;

use super::accounts::{self, Group};
use super::breaker::{self, Layer};
use super::fault::{Fault, Problem};
use super::quotas;
use super::section::{At, Section, Source};
use super::settings;
use super::{Account, Config, Fleet, Level, Listen, Rights};

/// Longest path of a socket in bytes: `sun_path` less its final zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Keys of the sections, so that one that stands at the wrong place is pointed to the right one.
const DEEPER: [&str; 10] = [
    "listen.socket",
    "listen.group",
    "listen.control",
    "fleet.redis",
    "fleet.name",
    "fleet.password_file",
    "rights.reset",
    "rights.operators",
    "log.level",
    "state.dir",
];

/// What the files have said so far; a later file's key stands over an earlier one's.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) files: Vec<PathBuf>,
    host: Option<At<String>>,
    socket: Option<At<PathBuf>>,
    group: Option<At<String>>,
    control: Option<At<PathBuf>>,
    redis: Option<At<String>>,
    fleet_name: Option<At<String>>,
    user: Option<At<String>>,
    password_file: Option<At<PathBuf>>,
    reset: Vec<At<String>>,
    operators: Option<At<String>>,
    state: Option<At<PathBuf>>,
    level: Option<At<Level>>,
    quotas: quotas::Draft,
    default: Option<Layer>,
    patterns: BTreeMap<String, Layer>,
}

/// Takes the later value, if there is one.
fn over<T>(slot: &mut Option<At<T>>, later: Option<At<T>>) {
    if later.is_some() {
        *slot = later;
    }
}

impl Draft {
    /// Reads one file over what is there.
    pub(super) fn read(&mut self, file: &Arc<Path>, text: &str, faults: &mut Vec<Fault>) {
        let source = Source { file: Arc::clone(file), text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = source.place(error.span().map_or(0, |span| span.start));
            faults.push(Problem::Syntax(error.message().to_owned()).at(place));
        }
        // What a broken file seems to say is a guess, and complaints about a guess mislead.
        if errors.is_empty() {
            self.top(&mut Section::top(&source, table.get_ref(), faults));
        }
    }

    fn top(&mut self, top: &mut Section<'_, '_>) {
        over(&mut self.host, top.text("host"));
        top.inner("listen", |listen| {
            over(&mut self.socket, listen.path("socket"));
            over(&mut self.group, listen.text("group"));
            over(&mut self.control, listen.path("control"));
            listen.finish(&[]);
        });
        top.inner("fleet", |fleet| self.fleet(fleet));
        top.inner("rights", |rights| {
            let reset = rights.texts("reset");
            if !reset.is_empty() {
                self.reset = reset;
            }
            over(&mut self.operators, rights.text("operators"));
            rights.finish(&[]);
        });
        top.inner("state", |state| {
            over(&mut self.state, state.path("dir"));
            state.finish(&[]);
        });
        top.inner("log", |log| {
            over(&mut self.level, log.word("level"));
            log.finish(&[]);
        });
        top.inner("quotas", |quotas| self.quotas.read(quotas));
        top.inner("breaker", |breakers| self.breakers(breakers));
        for section in ["flexiai", "http", "metrics"] {
            top.not_built(section, "leave the section out");
        }
        let deeper: Vec<&'static str> = DEEPER.into_iter().chain(quotas::keys()).collect();
        top.finish(&deeper);
    }

    fn fleet(&mut self, fleet: &mut Section<'_, '_>) {
        over(&mut self.redis, fleet.text("redis"));
        over(&mut self.fleet_name, fleet.text("name"));
        over(&mut self.user, fleet.text("user"));
        over(&mut self.password_file, fleet.path("password_file"));
        for key in ["ca_file", "cert_file", "key_file"] {
            fleet.not_built(key, "TLS comes later; leave the key out and use redis:// over a trusted network");
        }
        fleet.not_built("sentinel", "give the address of one Redis server");
        fleet.finish(&[]);
    }

    fn breakers(&mut self, breakers: &mut Section<'_, '_>) {
        breakers.each(
            |key| Problem::BareBreaker(key.to_owned()),
            |name, place, section| {
                let layer = match name {
                    "default" => self.default.get_or_insert_with(|| Layer::new(None, place)),
                    name => {
                        self.patterns.entry(name.to_owned()).or_insert_with(|| Layer::new(Some(name.to_owned()), place))
                    }
                };
                breaker::read(layer, section);
            },
        );
    }

    /// Puts everything together and checks what only shows then. The result counts only if no fault came up.
    pub(super) fn finish(mut self, faults: &mut Vec<Fault>) -> Config {
        let listen = Listen {
            socket: socket_path(self.socket.take(), "listen.socket", super::SOCKET, faults),
            control: socket_path(self.control.take(), "listen.control", super::CONTROL, faults),
            group: group("listen.group", self.group.take(), faults),
        };
        let fleet = self.finish_fleet(faults);
        let reset = self.reset.iter().filter_map(|user| account(user, faults)).collect();
        let rights = Rights { reset, operators: group("rights.operators", self.operators.take(), faults) };
        let layers: Vec<Layer> = self.default.take().into_iter().chain(self.patterns.into_values()).collect();
        let (quotas, quota_places) = self.quotas.finish(faults);
        let breakers = Settings {
            quotas,
            host: self.host.map_or_else(super::machine, |at| at.value),
            ..settings::settings(&layers, faults)
        };
        Config {
            listen,
            fleet,
            rights,
            state: self.state.map_or_else(super::default_state, |at| at.value),
            log: self.level.map_or_else(Level::default, |at| at.value),
            breakers,
            files: self.files,
            layers,
            quota_places,
        }
    }

    fn finish_fleet(&mut self, faults: &mut Vec<Fault>) -> Option<Fleet> {
        let name = self.fleet_name.take();
        let user = self.user.take();
        let password_file = self.password_file.take();
        let Some(redis) = self.redis.take() else {
            let orphans = [
                name.map(|at| ("name", at.place)),
                user.map(|at| ("user", at.place)),
                password_file.map(|at| ("password_file", at.place)),
            ];
            for (key, place) in orphans.into_iter().flatten() {
                faults.push(Problem::FleetWithoutRedis(key).at(place));
            }
            return None;
        };
        faults.extend(url_problem(&redis.value).map(|problem| problem.at(redis.place.clone())));
        let Some(name) = name else {
            faults.push(Problem::FleetWithoutName.at(redis.place));
            return None;
        };
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.value.is_empty() || name.value.len() > FLEET_BYTES_MAX || !name.value.chars().all(allowed) {
            faults.push(Problem::FleetName(name.value.clone()).at(name.place));
        }
        Some(Fleet {
            redis: redis.value,
            name: name.value,
            user: user.map(|at| at.value),
            password_file: password_file.map(|at| at.value),
        })
    }
}

fn socket_path(given: Option<At<PathBuf>>, key: &str, default: &str, faults: &mut Vec<Fault>) -> PathBuf {
    let Some(At { value, place }) = given else { return PathBuf::from(default) };
    let bytes = value.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        faults.push(Problem::SocketPathTooLong { key: key.to_owned(), bytes }.at(place));
    }
    value
}

fn group(key: &str, given: Option<At<String>>, faults: &mut Vec<Fault>) -> Option<Group> {
    let At { value: name, place } = given?;
    if let Some(gid) = accounts::gid_of(&name) {
        return Some(Group { name, gid });
    }
    faults.push(Problem::NoGroup { key: key.to_owned(), group: name }.at(place));
    None
}

fn account(user: &At<String>, faults: &mut Vec<Fault>) -> Option<Account> {
    if user.value == "*" {
        return Some(Account::Anyone);
    }
    let uid = accounts::uid_of(&user.value);
    if uid.is_none() {
        faults.push(Problem::NoUser(user.value.clone()).at(user.place.clone()));
    }
    uid.map(Account::User)
}

/// What is wrong with the address of a Redis, if anything.
fn url_problem(url: &str) -> Option<Problem> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let address = match rest.rsplit_once('@') {
        Some((login, _)) if login.contains(':') => return Some(Problem::PasswordInUrl),
        Some(_) => return Some(Problem::UserInUrl),
        None => rest,
    };
    match scheme {
        "unix" if address.starts_with('/') => None,
        "redis" if is_host_port_database(address) => None,
        "unix" | "redis" => Some(Problem::RedisAddress(url.to_owned())),
        scheme => Some(Problem::RedisUrl { scheme: scheme.to_owned() }),
    }
}

fn is_host_port_database(address: &str) -> bool {
    let (server, database) = address.split_once('/').unwrap_or((address, ""));
    // An address of IPv6 has colons of its own and stands in brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && port_fits && (database.is_empty() || database.parse::<u32>().is_ok())
}
