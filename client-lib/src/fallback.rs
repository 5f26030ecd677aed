//! What this process does without a daemon.
//!
//! By default it runs the daemon's own breaker on its own calls, from the last that it saw: open stays open until its
//! deadline, a force until its end and for ten minutes at most. One such time is a *spell*; what was judged in one is
//! forgotten when a daemon is back, whose word is the truth from the next call on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breakerd_core::Solo;
use breakerd_proto::clock::ms_up;
use breakerd_proto::message::{LastFailure, View};
use breakerd_proto::{Fallback, Mono, Outcome, RejectReason, State, Verdict};

use crate::fork::Native;
use crate::identity;
use crate::known::Known;

/// How long `admit` still believes a rejection that was last seen.
const BELIEVED_MAX: Duration = Duration::from_secs(10);
/// When to ask again where the fallback is `reject`: by then a daemon may be back.
const NO_DAEMON_RETRY_AFTER_MS: u64 = 1000;

/// The judge of one process that no daemon judges for. Shared by all its connections.
#[derive(Debug)]
pub(crate) struct Alone {
    books: Native<Mutex<Books>>,
    /// Whether a spell has begun, so that its end costs nothing while there is none.
    begun: AtomicBool,
}

#[derive(Debug, Default)]
struct Books {
    spell: u64,
    since: Option<Mono>,
    calls: u64,
    solo: Option<Solo>,
    /// Breakers that have started from what was last seen, in this spell.
    started: BTreeSet<breakerd_proto::Name>,
}

/// What the process sees of a breaker while it is alone.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) view: View,
    pub(crate) failures: u64,
    pub(crate) last_failure: Option<LastFailure>,
}

impl Alone {
    pub(crate) fn new() -> Self {
        Self { books: Native::new(Mutex::default()), begun: AtomicBool::new(false) }
    }

    /// May this process call? With the verdict comes the spell that it was given in.
    pub(crate) fn query(&self, now: Mono, known: &Known, fallback: Fallback) -> (Verdict, u64) {
        let Some(mut books) = self.begin() else { return (Verdict::Admit { generation: 0 }, 0) };
        let since = *books.since.get_or_insert(now);
        books.calls = books.calls.saturating_add(1);
        let verdict = match fallback {
            Fallback::Local => books.with_solo(now, known, |solo| solo.query(now, &known.name)),
            Fallback::Admit => believed(now, since, known).unwrap_or(Verdict::Admit { generation: 0 }),
            Fallback::Reject => Verdict::Reject {
                generation: 0,
                state: known.seen().map_or(State::Closed, |seen| seen.state),
                reason: RejectReason::NoDaemon,
                retry_after_ms: Some(NO_DAEMON_RETRY_AFTER_MS),
            },
        };
        (verdict, books.spell)
    }

    /// A call that was judged in this spell has ended.
    pub(crate) fn report(
        &self,
        now: Mono,
        known: &Known,
        spell: u64,
        (generation, permit): (u64, u64),
        outcome: &Outcome,
    ) {
        let Some(mut books) = self.lock() else { return };
        if books.spell == spell && books.solo.is_some() {
            books.with_solo(now, known, |solo| solo.report(now, &known.name, generation, permit, outcome));
        }
    }

    /// What the process sees.
    pub(crate) fn observe(&self, now: Mono, known: &Known) -> Option<Sight> {
        let mut books = self.begin()?;
        Some(books.with_solo(now, known, |solo| Sight {
            view: solo.view(now, &known.name),
            failures: solo.failures(now, &known.name),
            last_failure: solo.last_failure(now, &known.name),
        }))
    }

    /// Changes to closed, in this process only.
    pub(crate) fn reset(&self, now: Mono, known: &Known, because: &str) {
        if let Some(mut books) = self.begin() {
            books.with_solo(now, known, |solo| solo.reset(now, &known.name, because));
        }
    }

    /// Since when, in milliseconds before now, and for how many calls.
    pub(crate) fn told(&self, now: Mono) -> (u64, u64) {
        let Some(books) = self.lock() else { return (0, 0) };
        (books.since.map_or(0, |since| ms_up(now.since(since))), books.calls)
    }

    /// A daemon judges: what was judged without one is forgotten.
    pub(crate) fn end(&self) {
        if !self.begun.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Some(mut books) = self.lock() {
            let spell = books.spell.wrapping_add(1);
            *books = Books { spell, ..Books::default() };
        }
    }

    fn begin(&self) -> Option<MutexGuard<'_, Books>> {
        let books = self.lock()?;
        self.begun.store(true, Ordering::Release);
        Some(books)
    }

    /// None in a child that was forked from the process that this belongs to.
    fn lock(&self) -> Option<MutexGuard<'_, Books>> {
        self.books.get().map(|books| books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Books {
    fn with_solo<R>(&mut self, now: Mono, known: &Known, act: impl FnOnce(&mut Solo) -> R) -> R {
        let solo = self.solo.get_or_insert_with(|| Solo::new(identity::random(), now));
        if self.started.insert(known.name.clone()) {
            if let Some(policy) = known.policy() {
                solo.set_policy(now, &known.name, &policy);
            }
            if let Some(seen) = known.seen() {
                solo.start_from(now, &known.name, &seen.view(now));
            }
        }
        let result = act(solo);
        // Nobody watches a process's own changes; left alone they would pile up.
        while solo.poll_change().is_some() {}
        result
    }
}

/// What was last seen is believed until its deadline, and for [`BELIEVED_MAX`] at most.
fn believed(now: Mono, since: Mono, known: &Known) -> Option<Verdict> {
    let seen = known.seen()?;
    let reason = seen.rejects(now)?;
    let left = since.after(BELIEVED_MAX).left(now);
    if left.is_zero() {
        return None;
    }
    let left = seen.left(now).map_or(left, |until| until.min(left));
    let (generation, state) = (seen.generation, seen.state);
    Some(Verdict::Reject { generation, state, reason, retry_after_ms: Some(ms_up(left)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use breakerd_proto::message::PolicyPatch;
    use breakerd_proto::{Mode, Name, Override};

    use super::*;

    const START: Mono = Mono(1_000_000_000_000);

    fn known(declared: Option<PolicyPatch>) -> Known {
        Known::new(Name::parse("openai").unwrap(), declared, None)
    }

    fn three() -> PolicyPatch {
        PolicyPatch { consecutive_failures: Some(3), cooldown_jitter: Some(0.0), ..PolicyPatch::default() }
    }

    fn view(state: State, retry_after_ms: Option<u64>, forced: Option<Override>) -> View {
        View {
            state,
            forced,
            mode: Mode::On,
            mode_by: String::new(),
            mode_why: String::new(),
            generation: 7,
            retry_after_ms,
            age_ms: 1000,
            by: "chat-api[1]@web-1".to_owned(),
            why: "3 consecutive failures".to_owned(),
            host_only: false,
        }
    }

    fn fail(alone: &Alone, now: Mono, known: &Known) {
        let (verdict, spell) = alone.query(now, known, Fallback::Local);
        let permit = match verdict {
            Verdict::Admit { generation } => (generation, 0),
            Verdict::Probe { generation, permit } => (generation, permit),
            Verdict::Reject { .. } => panic!("rejected"),
        };
        alone.report(now, known, spell, permit, &Outcome::failure("http-401"));
    }

    #[test]
    fn a_process_trips_by_the_policy_in_code_and_lets_one_probe_through() {
        let (alone, known) = (Alone::new(), known(Some(three())));
        (0..3).for_each(|_| fail(&alone, START, &known));
        let (verdict, _) = alone.query(START, &known, Fallback::Local);
        let Verdict::Reject { state: State::Open, reason: RejectReason::Open, retry_after_ms: Some(ms), .. } = verdict
        else {
            panic!("{verdict:?}")
        };
        assert_eq!(alone.observe(START, &known).unwrap().failures, 3);
        let later = START.after_ms(ms);
        assert!(matches!(alone.query(later, &known, Fallback::Local).0, Verdict::Probe { .. }));
        assert!(matches!(
            alone.query(later, &known, Fallback::Local).0,
            Verdict::Reject { reason: RejectReason::Probing, .. }
        ));
        assert_eq!(alone.told(later), (ms, 6));
    }

    #[test]
    fn an_open_breaker_stays_open_until_the_deadline_that_was_seen() {
        let (alone, known) = (Alone::new(), known(None));
        known.handle_registered(START, 1, &three(), &view(State::Open, Some(9000), None));
        let at = |ms| alone.query(START.after_ms(ms), &known, Fallback::Local).0;
        let Verdict::Reject { reason: RejectReason::Open, retry_after_ms: Some(4000), .. } = at(5000) else {
            panic!("{:?}", at(5000))
        };
        assert!(matches!(at(8999), Verdict::Reject { .. }));
        assert!(matches!(at(9000), Verdict::Probe { .. }));
    }

    #[test]
    fn a_force_is_believed_for_ten_minutes_at_most() {
        let (alone, known) = (Alone::new(), known(None));
        known.handle_registered(START, 1, &three(), &view(State::Open, None, Some(Override::ForcedOpen)));
        let at = |ms| alone.query(START.after_ms(ms), &known, Fallback::Local).0;
        assert!(matches!(at(0), Verdict::Reject { reason: RejectReason::Forced, .. }));
        assert!(matches!(at(599_000), Verdict::Reject { reason: RejectReason::Forced, .. }));
        assert!(matches!(at(600_001), Verdict::Admit { .. }));
    }

    #[test]
    fn admit_believes_an_open_breaker_for_ten_seconds_and_reject_nobody() {
        let (alone, known) = (Alone::new(), known(None));
        known.handle_registered(START, 1, &three(), &view(State::Open, Some(60_000), None));
        let at = |ms, fallback| alone.query(START.after_ms(ms), &known, fallback).0;
        assert!(matches!(at(0, Fallback::Admit), Verdict::Reject { retry_after_ms: Some(10_000), .. }));
        assert!(matches!(at(10_000, Fallback::Admit), Verdict::Admit { .. }));
        assert!(matches!(at(0, Fallback::Reject), Verdict::Reject { reason: RejectReason::NoDaemon, .. }));
    }

    #[test]
    fn what_was_judged_in_one_spell_is_forgotten_in_the_next() {
        let (alone, known) = (Alone::new(), known(Some(three())));
        (0..3).for_each(|_| fail(&alone, START, &known));
        let spell = alone.query(START, &known, Fallback::Local).1;
        alone.end();
        assert_eq!(alone.told(START), (0, 0));
        let (verdict, next) = alone.query(START, &known, Fallback::Local);
        assert!(matches!(verdict, Verdict::Admit { .. }));
        assert_ne!(spell, next);
        (0..3).for_each(|_| alone.report(START, &known, spell, (verdict.generation(), 0), &Outcome::failure("late")));
        assert_eq!(alone.observe(START, &known).unwrap().failures, 0);
    }
}
