//! The demo, scene by scene.

use std::time::Duration;

use breakerd_proto::message::View;
use breakerd_proto::{Mono, Name, State, Verdict};

use super::super::failure::Failure;
use super::super::printer::say;
use super::super::status::because;
use super::super::text::{fine, grouped, wait};
use super::Stuck;
use super::claims::Claims;
use super::contrast::{self, Contrast};
use super::orders::{BREAKER, SERVICE, Sight, Tally};
use super::provider::Provider;
use super::stage::{COOLDOWN, Stage, THRESHOLD, WORKERS, policy, until};

/// Calls in flight together in the scene of the trip.
const BURST: u32 = 5;
/// Calls of each worker while open.
const CALLS: u32 = 1000;
/// Calls of each worker while its daemon is being killed, and again when it is dead.
const CALLS_UNDER_FIRE: u32 = 500;
/// A call without an answer at once would take the client's deadline, 5 ms; the rest is the machine's.
const HANG: Duration = Duration::from_millis(250);
/// How long hosts may take to agree.
const AGREE_WAIT_MAX: Duration = Duration::from_secs(2);

struct Story {
    stage: Stage,
    claims: Claims,
    name: Name,
    contrast: Contrast,
}

/// Tells it all; true if every claim holds.
pub(super) fn tell(redis: Option<&str>, hosts: u8) -> Result<bool, Failure> {
    let began = Mono::now();
    let name = Name::parse(BREAKER).map_err(Stuck::Name)?;
    let workers = u32::try_from(WORKERS).unwrap_or(u32::MAX);
    let contrast = contrast::separate(workers, BURST, CALLS, &name, &policy());
    let mut story = Story { stage: Stage::set(redis, hosts)?, claims: Claims::default(), name, contrast };
    story.start()?;
    story.trip()?;
    story.reject()?;
    story.fifth_worker()?;
    story.kill_daemon()?;
    story.probe()?;
    story.end(began)
}

impl Story {
    fn start(&mut self) -> Result<(), Failure> {
        let daemons: Vec<String> =
            self.stage.hosts.iter().map(|host| host.pid().as_raw_nonzero().to_string()).collect();
        let (one, many) = if daemons.len() == 1 { ("daemon", "") } else { ("daemons", ", one on each host") };
        say(&format!(
            "1. Four workers, {one} {}{many}, and a provider on {} that takes no key",
            daemons.join(" and "),
            self.stage.provider.address()
        ))?;
        say(&format!("   policy: {THRESHOLD} failures in a row trip; cooldown {} s", COOLDOWN.as_secs()))?;
        let sights = self.stage.sights()?;
        self.stage.table(&sights, &[])?;
        self.claims.claim(all(&sights, State::Closed) && failures(&sights) == [0; 4], "all four start closed")
    }

    fn trip(&mut self) -> Result<(), Failure> {
        let workers = &mut self.stage.workers;
        let pid = workers.first().map_or(0, |worker| worker.pid());
        say(&format!("\n2. Worker {pid} has {BURST} calls in flight; the provider answers 401 to each"))?;
        for other in workers.iter_mut().skip(1) {
            other.watch_for_open()?;
        }
        let (failed, reported_ns) = match workers.first_mut() {
            Some(first) => first.burst(BURST)?,
            None => (0, Vec::new()),
        };
        let last_straw = usize::try_from(THRESHOLD).ok().and_then(|n| reported_ns.get(n.checked_sub(1)?)).copied();
        let mut notes = vec![String::new()];
        let mut all_saw = true;
        for other in workers.iter_mut().skip(1) {
            let seen = other.seen_open()?;
            all_saw &= seen.is_some();
            notes.push(match (last_straw, seen) {
                (Some(from), Some(at)) => format!("saw it after {}", fine(at.saturating_sub(from))),
                _ => String::new(),
            });
        }
        let sights = self.stage.sights()?;
        self.stage.table(&sights, &notes)?;
        self.claims.claim(failed == BURST, "the provider fails all five calls")?;
        self.claims.claim(all_saw && all(&sights, State::Open), "all four see it open")?;
        self.claims.claim(failures(&sights) == [5, 0, 0, 0], "failures are 5, 0, 0, 0")?;
        self.claims.claim(self.stage.provider.reached() == u64::from(BURST), "five calls have reached the provider")
    }

    fn reject(&mut self) -> Result<(), Failure> {
        let before = self.stage.provider.reached();
        self.stage.order_calls(CALLS)?;
        let tally = self.stage.tally()?;
        let reached = self.stage.provider.reached() - before;
        let each = tally.total_ns / u64::from(tally.calls().max(1));
        let total = grouped(u64::from(tally.calls()));
        say(&format!("\n3. {total} calls while it is open, {} by each worker", grouped(u64::from(CALLS))))?;
        say(&format!(
            "   with breakerd        {reached} of {total} reach the provider; a refusal takes {}, retry in {}",
            fine(each),
            wait(tally.retry_after_ms)
        ))?;
        say(&format!(
            "   four breakers apart  {} of {total} would: three have yet to fail {THRESHOLD} times by themselves",
            self.contrast.reached
        ))?;
        let all_rejected = tally.rejected == tally.calls() && tally.reason == "open";
        self.claims.claim(all_rejected && reached == 0, "none of these calls reaches the provider")?;
        self.claims.claim(self.contrast.reached > 0, "separate breakers let calls through")
    }

    fn fifth_worker(&mut self) -> Result<(), Failure> {
        let before = self.stage.provider.reached();
        let host = self.stage.hosts.len().saturating_sub(1);
        let worker = self.stage.add_worker(host)?;
        let pid = worker.pid();
        let first = worker.calls(1)?;
        let sight = worker.look()?;
        say(&format!("\n4. A fifth worker starts: {pid}"))?;
        say(&format!(
            "     {BREAKER:<10} - State: {:<10} Failures: {}    its first call: refused, retry in {}",
            sight.state,
            sight.failures,
            wait(first.retry_after_ms)
        ))?;
        let open = Sight { state: State::Open.word().to_owned(), failures: 0 };
        let refused = first.rejected == 1 && self.stage.provider.reached() == before;
        self.claims.claim(sight == open && refused, "the fifth worker's first call is refused")
    }

    fn kill_daemon(&mut self) -> Result<(), Failure> {
        let before = self.stage.provider.reached();
        let pid = self.stage.hosts.first().map_or(0, |host| host.pid().as_raw_nonzero().get());
        say(&format!("\n5. kill -9 {pid}: the daemon dies while all workers call"))?;
        self.stage.order_calls(CALLS_UNDER_FIRE)?;
        if let Some(host) = self.stage.hosts.first_mut() {
            host.kill()?;
        }
        let mut tally = self.stage.tally()?;
        self.stage.order_calls(CALLS_UNDER_FIRE)?;
        tally.add(&self.stage.tally()?);
        let reached = self.stage.provider.reached() - before;
        say(&format!(
            "   {} calls: {reached} reach the provider, the longest refusal takes {}",
            grouped(u64::from(tally.calls())),
            fine(tally.longest_ns)
        ))?;
        self.claims.claim(tally.rejected == tally.calls() && reached == 0, "no call gets through without a daemon")?;
        self.claims.claim(Duration::from_nanos(tally.longest_ns) < HANG, "no call hangs")?;
        self.restart()
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let began = Mono::now();
        let mut pid = 0;
        if let Some(host) = self.stage.hosts.first_mut() {
            host.start_again()?;
            pid = host.pid().as_raw_nonzero().get();
        }
        let took = Mono::now().since(began);
        let view = self.view(0)?;
        say(&format!(
            "   a new daemon ({pid}, up in {} ms) knows: {}, {}; retry in {}",
            took.as_millis(),
            view.state,
            because(&view),
            wait(view.retry_after_ms.unwrap_or_default())
        ))?;
        self.claims.claim(view.state == State::Open, "the new daemon knows that it is open")?;
        let here = self.stage.workers.iter().filter(|worker| worker.host == 0).count();
        let mut operator = self.stage.operator(0)?;
        let back = until(AGREE_WAIT_MAX, || {
            // Looking is what makes a worker connect again.
            let open = all(&self.stage.sights()?, State::Open);
            let rows = operator.workers()?;
            Ok(open && rows.iter().filter(|row| row.label.starts_with(SERVICE)).count() == here)
        })?;
        self.claims.claim(back, "all workers are back and see it open")
    }

    /// What a host's daemon says of the breaker.
    fn view(&self, host: usize) -> Result<View, Failure> {
        Ok(self.stage.operator(host)?.ask(&self.name)?.view)
    }

    fn probe(&mut self) -> Result<(), Failure> {
        let left = Duration::from_millis(self.view(0)?.retry_after_ms.unwrap_or_default());
        say(&format!("\n6. The provider recovers. {:.1} s of the cooldown are left ...", left.as_secs_f64()))?;
        self.stage.provider.recover();
        let mut operator = self.stage.operator(0)?;
        let due =
            until(left + AGREE_WAIT_MAX, || Ok(matches!(operator.ask(&self.name)?.verdict, Verdict::Probe { .. })))?;
        self.claims.claim(due, "the cooldown ends when it was said to")?;
        say("   All workers call at once:")?;
        let before = self.stage.provider.reached();
        let tallies = self.all_call_until_one_probes()?;
        let (mut probes, mut told_to_wait) = (0, 0);
        for (pid, tally) in &tallies {
            let line = match (tally.succeeded, tally.reason.as_str()) {
                (1, _) => "let through as the probe; the provider answers 200".to_owned(),
                (_, reason) => format!("told to wait ({reason}), retry in {}", wait(tally.retry_after_ms.max(1))),
            };
            probes += tally.succeeded;
            // A daemon that has to ask Redis for the probe may take longer than a worker waits for a word.
            let may_be_told = ["probing", "no-answer"].contains(&tally.reason.as_str());
            told_to_wait += u32::from(tally.rejected == 1 && may_be_told);
            say(&format!("   Worker {pid}: {line}"))?;
        }
        let reached = self.stage.provider.reached() - before;
        let apart = self.contrast.probes;
        say(&format!("   {reached} call reaches the provider; of four breakers apart {apart} would have sent theirs"))?;
        let others = u32::try_from(tallies.len()).unwrap_or(u32::MAX) - 1;
        self.claims.claim(probes == 1 && reached == 1, "one probe, no more, reaches the provider")?;
        self.claims.claim(told_to_wait == others, "all others are told to wait")
    }

    /// One call by each worker, again and again until a probe is among them: where Redis grants the probe, the daemon may
    /// hear of it later than a worker waits, and then the next caller gets it.
    fn all_call_until_one_probes(&mut self) -> Result<Vec<(u32, Tally)>, Failure> {
        let deadline = Mono::now().after(AGREE_WAIT_MAX);
        loop {
            // The provider takes its time over the probe, so that the others call while it is out.
            self.stage.provider.hold();
            self.stage.order_calls(1)?;
            let tallies = self.stage.tallies_as_they_come(Provider::release)?;
            let let_through = tallies.iter().any(|(_, tally)| tally.rejected == 0);
            if let_through || Mono::now() > deadline {
                return Ok(tallies);
            }
        }
    }

    fn end(mut self, began: Mono) -> Result<bool, Failure> {
        say("\n7. The probe's success closes it for all")?;
        let mut sights = Vec::new();
        let closed = until(AGREE_WAIT_MAX, || {
            sights = self.stage.sights()?;
            Ok(all(&sights, State::Closed))
        })?;
        self.stage.table(&sights, &[])?;
        self.claims.claim(closed && failures(&sights) == [0; 5], "all five see it closed, failures 0")?;
        self.stage.order_calls(1)?;
        let tally = self.stage.tally()?;
        self.claims.claim(tally.succeeded == tally.calls(), "calls go through again")?;
        let Self { stage, mut claims, .. } = self;
        let directories = stage.directories();
        drop(stage);
        claims.claim(directories.iter().all(|directory| !directory.exists()), "nothing is left behind")?;
        let took = Mono::now().since(began);
        say(&format!("\n{}; {:.1} s, nothing left behind", claims.summary(), took.as_secs_f64()))?;
        Ok(claims.all_hold())
    }
}

fn all(sights: &[Sight], state: State) -> bool {
    sights.iter().all(|sight| sight.state == state.word())
}

fn failures(sights: &[Sight]) -> Vec<u64> {
    sights.iter().map(|sight| sight.failures).collect()
}
