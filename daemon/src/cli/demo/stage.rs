//! The demo's processes: hosts with their daemons, workers, the provider.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use breakerd_client::Operator;
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Link, Mono};

use super::super::failure::Failure;
use super::super::printer::{complain, say};
use super::super::private::{Log, Private, Source};
use super::Stuck;
use super::crew::{self, Worker};
use super::orders::{BREAKER, Order, Sight, Tally};
use super::provider::Provider;

/// Workers before the fifth.
pub(super) const WORKERS: usize = 4;
/// Failures in a row that trip.
pub(super) const THRESHOLD: u32 = 3;
/// Long enough for all that is shown while open, on a slow machine too.
pub(super) const COOLDOWN: Duration = Duration::from_secs(5);
/// How often something that must come is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a daemon may take to join a Redis that answers.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(3);

pub(super) struct Stage {
    pub(super) provider: Provider,
    // Workers end before their daemons: fields are dropped in this order.
    pub(super) workers: Vec<Worker>,
    pub(super) hosts: Vec<Private>,
    /// The fleet of the hosts, if they have one; last, for the daemons write to it until they end.
    pub(super) fleet: Option<Fleet>,
}

/// A fleet of the demo's own, which no other fleet on the same Redis notices.
pub(super) struct Fleet {
    redis: String,
    name: String,
    /// A daemon may have joined it, and so written something.
    may_be_written: bool,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.may_be_written {
            return;
        }
        if let Err(error) = crate::fleet::erase(&self.redis, &self.name) {
            complain(&format!("the demo's fleet {:?} is still in {}: {error}", self.name, self.redis));
        }
    }
}

impl Stage {
    /// Starts the provider, the daemons and four workers, spread over the hosts.
    pub(super) fn set(redis: Option<&str>, hosts: u8) -> Result<Self, Failure> {
        let provider = Provider::start().map_err(Stuck::Provider)?;
        let fleet = redis.map(|url| Fleet {
            redis: url.to_owned(),
            name: format!("demo-{}", std::process::id()),
            may_be_written: false,
        });
        let section = match &fleet {
            Some(Fleet { redis, name, .. }) => format!("[fleet]\nredis = {redis:?}\nname = {name:?}\n"),
            None => String::new(),
        };
        let mut stage = Self { provider, workers: Vec::new(), hosts: Vec::new(), fleet };
        for host in 1..=hosts {
            let config = format!("host = \"web-{host}\"\n{section}{}", policy_text());
            stage.hosts.push(Private::start(Source::Text(&config), Log::Kept)?);
            if let Some(fleet) = &mut stage.fleet {
                fleet.may_be_written = true;
            }
        }
        stage.wait_joined()?;
        let per_host = WORKERS / stage.hosts.len().max(1);
        for worker in 0..WORKERS {
            stage.add_worker(worker / per_host.max(1))?;
        }
        Ok(stage)
    }

    /// Starts a worker on a host.
    pub(super) fn add_worker(&mut self, host: usize) -> Result<&mut Worker, Failure> {
        let socket = self.hosts.get(host).map(Private::socket).unwrap_or_default();
        self.workers.push(Worker::start(&socket, self.provider.address(), host)?);
        match self.workers.last_mut() {
            Some(worker) => Ok(worker),
            None => Err(Stuck::Start(std::io::ErrorKind::NotFound.into()).into()),
        }
    }

    /// A conversation with the daemon of a host.
    pub(super) fn operator(&self, host: usize) -> Result<Operator, Failure> {
        let socket = self.hosts.get(host).map(Private::socket).unwrap_or_default();
        Ok(Operator::connect(&socket)?)
    }

    /// Waits until every host's daemon has joined the fleet, if there is one.
    pub(super) fn wait_joined(&mut self) -> Result<(), Failure> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let joined = until(JOIN_WAIT_MAX, || self.all_joined())?;
        match &mut self.fleet {
            Some(fleet) if !joined => {
                fleet.may_be_written = false;
                Err(Stuck::NotJoined { redis: fleet.redis.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    fn all_joined(&self) -> Result<bool, Failure> {
        for host in 0..self.hosts.len() {
            if self.operator(host)?.about()?.link != Link::Joined {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What every worker sees.
    pub(super) fn sights(&mut self) -> Result<Vec<Sight>, Failure> {
        let sights: Result<Vec<Sight>, Stuck> = self.workers.iter_mut().map(Worker::look).collect();
        Ok(sights?)
    }

    /// The table of the workers, each with a note.
    pub(super) fn table(&self, sights: &[Sight], notes: &[String]) -> Result<(), Failure> {
        let mut host_shown = None;
        for (i, (worker, sight)) in self.workers.iter().zip(sights).enumerate() {
            if self.hosts.len() > 1 && host_shown != Some(worker.host) {
                host_shown = Some(worker.host);
                say(&format!("   on web-{}", worker.host + 1))?;
            }
            say(&format!("   Worker {}:", worker.pid()))?;
            let note = notes.get(i).map(String::as_str).unwrap_or_default();
            let line =
                format!("     {BREAKER:<10} - State: {:<10} Failures: {}    {note}", sight.state, sight.failures);
            say(line.trim_end())?;
        }
        Ok(())
    }

    /// So many calls by every worker, all workers at once.
    pub(super) fn order_calls(&mut self, calls: u32) -> Result<(), Failure> {
        for worker in &mut self.workers {
            worker.order(Order::Calls { calls })?;
        }
        Ok(())
    }

    /// How they went, together.
    pub(super) fn tally(&mut self) -> Result<Tally, Failure> {
        let mut all = Tally::default();
        for worker in &mut self.workers {
            all.add(&worker.tally()?);
        }
        Ok(all)
    }

    /// The tallies in the order in which they come; `before_last` is done when all but one are there.
    pub(super) fn tallies_as_they_come(
        &mut self,
        before_last: impl FnOnce(&Provider),
    ) -> Result<Vec<(u32, Tally)>, Failure> {
        let mut waiting: Vec<usize> = (0..self.workers.len()).collect();
        let mut tallies = Vec::new();
        let mut before_last = Some(before_last);
        while !waiting.is_empty() {
            if waiting.len() == 1
                && let Some(act) = before_last.take()
            {
                act(&self.provider);
            }
            let at = crew::first_to_speak(&self.workers, &waiting)?;
            waiting.retain(|index| *index != at);
            if let Some(worker) = self.workers.get_mut(at) {
                tallies.push((worker.pid(), worker.tally()?));
            }
        }
        Ok(tallies)
    }

    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.hosts.iter().map(|host| host.directory().to_path_buf()).collect()
    }
}

/// Looks until it is so, for so long at most; whether it came to be so.
pub(super) fn until(most: Duration, mut holds: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let deadline = Mono::now().after(most);
    loop {
        if holds()? {
            return Ok(true);
        }
        if Mono::now() > deadline {
            return Ok(false);
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

fn policy_text() -> String {
    format!(
        "[breaker.default]\ntrip.consecutive_failures = {THRESHOLD}\ncooldown = {{ first = \"{}s\", factor = 2.0, max = \
         \"2m\", jitter = 0.0 }}\nprobe = {{ permits = 1, successes = 1, max = \"30s\" }}\n",
        COOLDOWN.as_secs()
    )
}

/// The same policy, for the breakers that stand alone.
pub(super) fn policy() -> PolicyPatch {
    PolicyPatch {
        consecutive_failures: Some(THRESHOLD),
        cooldown_first_ms: u64::try_from(COOLDOWN.as_millis()).ok(),
        cooldown_jitter: Some(0.0),
        ..PolicyPatch::default()
    }
}
