//! What this process knows of a breaker, whichever connection told it.
//!
//! Read and replaced without a lock, so that a forked child can go on from what its parent saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use breakerd_core::Policy;
use breakerd_proto::board::Sight;
use breakerd_proto::clock::ms_up;
use breakerd_proto::limits::PROBING_RETRY_AFTER_MIN;
use breakerd_proto::message::{Observed, PolicyPatch, View};
use breakerd_proto::{AuthErrors, Mode, Mono, Name, Override, RejectReason, State, Verdict};

use crate::board::{Memory, Spot};
use crate::classify::AuthWarning;
use crate::options::Warn;

/// One breaker that the code uses.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: Name,
    /// What the code says of its policy.
    pub(crate) declared: Option<PolicyPatch>,
    pub(crate) auth_warning: AuthWarning,
    seen: ArcSwapOption<Seen>,
    /// Its places in shared memory, of the connection that declared it last.
    spot: AtomicPtr<Spot>,
    /// The same while calls are to go by messages.
    withdrawn: AtomicPtr<Spot>,
}

/// The last that a daemon told of a breaker.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The daemon's life that told it; generations mean nothing in another.
    pub(crate) instance: u64,
    pub(crate) generation: u64,
    pub(crate) state: State,
    pub(crate) forced: Option<Override>,
    pub(crate) since: Mono,
    /// When to ask again; none under a force without end.
    pub(crate) until: Option<Mono>,
    /// Whether `by` and `why` were told for this generation.
    pub(crate) told: bool,
    pub(crate) by: Arc<str>,
    pub(crate) why: Arc<str>,
    /// This worker's failures when they were last told.
    pub(crate) failures: u64,
    /// The whole policy in force.
    pub(crate) policy: Arc<PolicyPatch>,
}

impl Known {
    pub(crate) fn new(name: Name, declared: Option<PolicyPatch>, warn: Option<Warn>) -> Self {
        let auth_warning = AuthWarning::new(warn);
        Self {
            name,
            declared,
            auth_warning,
            seen: ArcSwapOption::empty(),
            spot: AtomicPtr::default(),
            withdrawn: AtomicPtr::default(),
        }
    }

    /// Its places in shared memory, if a connection has any.
    #[inline]
    pub(crate) fn spot(&self) -> Option<&'static Spot> {
        stored(&self.spot)
    }

    pub(crate) fn set_spot(&self, spot: Option<&'static Spot>) {
        let spot = spot.map_or(std::ptr::null_mut(), |spot| std::ptr::from_ref(spot).cast_mut());
        self.spot.store(spot, Ordering::Release);
    }

    /// Takes these places if it has none.
    pub(crate) fn offer_spot(&self, spot: &'static Spot) {
        if self.spot().is_none() && self.withdrawn().is_none() {
            self.set_spot(Some(spot));
        }
    }

    /// Lets calls go by messages, until [`Known::restore_spot`]: the next one comes after what was just told.
    pub(crate) fn withdraw_spot(&self) {
        let spot = self.spot.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !spot.is_null() {
            self.withdrawn.store(spot, Ordering::Release);
        }
    }

    /// The places that are not looked at for now.
    pub(crate) fn withdrawn(&self) -> Option<&'static Spot> {
        stored(&self.withdrawn)
    }

    /// Lets calls look at the board again, unless a connection has told meanwhile where it stands.
    pub(crate) fn restore_spot(&self) {
        let spot = self.withdrawn.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !spot.is_null() {
            let none = std::ptr::null_mut();
            self.spot.compare_exchange(none, spot, Ordering::AcqRel, Ordering::Acquire).ok();
        }
    }

    /// Whether it is known why the breaker is so, in this generation of this life of the daemon.
    pub(crate) fn is_told(&self, (instance, generation, state): (u64, u64, State)) -> bool {
        let is_it = |seen: &Arc<Seen>| (seen.instance, seen.generation, seen.state) == (instance, generation, state);
        self.seen.load().as_ref().is_some_and(|seen| seen.told && is_it(seen))
    }

    /// Why it is in this state, if that is known.
    pub(crate) fn why(&self, state: State) -> Option<String> {
        let seen = self.seen.load();
        seen.as_ref().filter(|seen| seen.told && seen.state == state).map(|seen| sentence(&seen.by, &seen.why))
    }

    /// The board has told what the breaker is.
    pub(crate) fn handle_sight(&self, instance: u64, sight: &Sight) {
        let Some(old) = self.seen() else { return };
        let (state, forced) = sight.word.shown().state();
        let generation = sight.word.generation();
        if self.is_told((instance, generation, state)) {
            return;
        }
        let until = (sight.until != Mono::NEVER).then_some(sight.until);
        let (by, why) = (Arc::from(sight.by.as_str()), Arc::from(sight.why.as_str()));
        let fresh = Seen { instance, generation, state, forced, since: sight.since, until, ..(*old).clone() };
        self.seen.store(Some(Arc::new(Seen { told: true, by, why, ..fresh })));
    }

    /// The connection that had this memory is over: what was last seen there is kept.
    pub(crate) fn leave(&self, memory: &Memory) {
        self.restore_spot();
        if let Some(spot) = self.spot().filter(|spot| spot.is_of(memory)) {
            if let Some(sight) = spot.sight() {
                self.handle_sight(memory.ticket.instance, &sight);
            }
            self.set_spot(None);
        }
    }

    pub(crate) fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.load_full()
    }

    /// The policy that a daemon last sent, else the one in code.
    pub(crate) fn policy(&self) -> Option<Arc<PolicyPatch>> {
        self.seen().map(|seen| Arc::clone(&seen.policy)).or_else(|| self.declared.clone().map(Arc::new))
    }

    /// Slower calls are called slow.
    pub(crate) fn slow_after(&self) -> Option<Duration> {
        self.rule(|policy| policy.slow_after_ms).map(Duration::from_millis)
    }

    /// A cancelled call that was out for longer is a failure.
    pub(crate) fn hung_after(&self) -> Duration {
        self.rule(|policy| policy.hung_after_ms).map_or_else(|| Policy::default().hung_after, Duration::from_millis)
    }

    /// What 401 and 403 count as.
    pub(crate) fn auth_errors(&self) -> AuthErrors {
        self.rule(|policy| policy.auth_errors).unwrap_or_default()
    }

    /// One field of the policy that a daemon last sent, else of the one in code.
    fn rule<T>(&self, field: impl FnOnce(&PolicyPatch) -> Option<T>) -> Option<T> {
        let seen = self.seen.load();
        seen.as_ref().map(|seen| &*seen.policy).or(self.declared.as_ref()).and_then(field)
    }

    /// A daemon has taken the declaration.
    pub(crate) fn handle_registered(&self, now: Mono, instance: u64, policy: &PolicyPatch, view: &View) {
        // The same daemon tells it again when its settings have changed, and that ends no run.
        let same = |seen: &Seen| (seen.instance, seen.generation) == (instance, view.generation);
        let failures = self.seen().filter(|seen| same(seen)).map_or(0, |seen| seen.failures);
        self.seen.store(Some(Arc::new(Seen::of(now, instance, view, Arc::new(policy.clone()), failures))));
    }

    /// A daemon has told what the breaker is.
    pub(crate) fn handle_view(&self, now: Mono, instance: u64, view: &View) {
        if let Some(old) = self.seen() {
            let failures = if view.state == State::Closed { 0 } else { old.failures };
            self.seen.store(Some(Arc::new(Seen::of(now, instance, view, Arc::clone(&old.policy), failures))));
        }
    }

    /// A daemon has told what this worker sees.
    pub(crate) fn handle_observed(&self, now: Mono, instance: u64, observed: &Observed) {
        if let Some(old) = self.seen() {
            let policy = Arc::clone(&old.policy);
            self.seen.store(Some(Arc::new(Seen::of(now, instance, &observed.view, policy, observed.failures))));
        }
    }

    /// A daemon has judged a call. Gives what is known now; of a breaker that has changed nobody has yet told why.
    pub(crate) fn handle_verdict(&self, now: Mono, instance: u64, verdict: &Verdict) -> Option<Arc<Seen>> {
        let old = self.seen()?;
        let (state, until, forced) = match verdict {
            Verdict::Admit { .. } => (State::Closed, Some(now), old.forced.filter(|f| *f == Override::ForcedClosed)),
            Verdict::Probe { .. } => (State::HalfOpen, Some(now.after(PROBING_RETRY_AFTER_MIN)), None),
            Verdict::Reject { state, reason, retry_after_ms, .. } => (
                *state,
                retry_after_ms.map(|ms| now.after_ms(ms)),
                (*reason == RejectReason::Forced).then_some(Override::ForcedOpen),
            ),
        };
        let generation = verdict.generation();
        if (old.instance, old.generation, old.state) == (instance, generation, state) {
            return Some(old);
        }
        let fresh = Seen { instance, generation, state, forced, since: now, until, ..(*old).clone() };
        let fresh = Arc::new(Seen { told: false, by: Arc::from(""), why: Arc::from(""), ..fresh });
        self.seen.store(Some(Arc::clone(&fresh)));
        Some(fresh)
    }
}

/// The places that a breaker has stored there.
#[inline]
#[allow(unsafe_code)]
fn stored(spot: &AtomicPtr<Spot>) -> Option<&'static Spot> {
    // SAFETY: what is stored is null or came from a `&'static Spot`, in either field and in nothing else.
    unsafe { spot.load(Ordering::Acquire).as_ref() }
}

impl Seen {
    fn of(now: Mono, instance: u64, view: &View, policy: Arc<PolicyPatch>, failures: u64) -> Self {
        Self {
            instance,
            generation: view.generation,
            state: view.state,
            forced: view.forced,
            since: now.before(Duration::from_millis(view.age_ms)),
            until: view.retry_after_ms.map(|ms| now.after_ms(ms)),
            told: true,
            by: Arc::from(view.by.as_str()),
            why: Arc::from(view.why.as_str()),
            failures,
            policy,
        }
    }

    /// How long until it is worth asking again; none under a force without end.
    pub(crate) fn left(&self, now: Mono) -> Option<Duration> {
        self.until.map(|until| until.left(now))
    }

    /// The same as a view of this moment.
    pub(crate) fn view(&self, now: Mono) -> View {
        View {
            state: self.state,
            forced: self.forced,
            mode: self.policy.mode.unwrap_or(Mode::On),
            mode_by: String::new(),
            mode_why: String::new(),
            generation: self.generation,
            retry_after_ms: self.left(now).map(ms_up),
            age_ms: ms_up(now.since(self.since)),
            by: self.by.to_string(),
            why: self.why.to_string(),
            host_only: false,
        }
    }

    /// Whether a rejection still stands by what was last seen, and why.
    pub(crate) fn rejects(&self, now: Mono) -> Option<RejectReason> {
        let runs = self.left(now).is_none_or(|left| !left.is_zero());
        match (self.forced, self.state) {
            (Some(Override::ForcedOpen), _) if runs => Some(RejectReason::Forced),
            (None, State::Open) if runs => Some(RejectReason::Open),
            _ => None,
        }
    }
}

/// Why a breaker is what it is, and by whose word.
pub(crate) fn sentence(by: &str, why: &str) -> String {
    match (by, why) {
        (_, "") => String::new(),
        ("", what) => what.to_owned(),
        (by, what) => format!("{what} ({by})"),
    }
}
