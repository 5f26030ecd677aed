//! New settings under live breakers.
//!
//! A breaker keeps what the old policy made of it: its state, the deadline that it has, an override, its runs, the probes
//! that are out. From here on it goes by the new policy: a run that is long enough already trips with its next failure,
//! the next cooldown has the new length. A mode is shown, so another mode is a change with a new generation, and evidence
//! begins anew with it (I5).
//!
//! A hundred thousand names would hold the loop for long, so they hear of it [`NAMES_A_TURN`] at a time, in the order of
//! their names. One that waits for its turn goes by its old policy, a name that is new by the new one.

use std::sync::Arc;

use breakerd_proto::{Mode, Mono, Name};

use crate::breaker::{Breaker, Ordered, Turn};
use crate::change::{Because, What};
use crate::core::Core;
use crate::policies::Ruled;
use crate::settings::Settings;
use crate::table::BreakerId;

/// So many names are seen to in one turn of the loop, whatever it is that all of them want at once: a few tenths of a
/// millisecond.
pub(crate) const NAMES_A_TURN: usize = 500;

/// New settings on their way through the table.
#[derive(Debug)]
pub(crate) struct Sweep {
    since: Mono,
    /// The last name that has heard of them.
    after: Option<Name>,
    changed: usize,
}

/// What new settings came to, once every breaker goes by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reruled {
    /// Whether they say anything else of policies than those before.
    pub rules: bool,
    /// How many breakers in use have another policy than before.
    pub changed: usize,
}

impl Core {
    /// The settings are these from here on: for names to come at once, for those in use one after another, by
    /// [`Core::handle_timeout`]; [`Core::poll_reruled`] tells when all have heard.
    ///
    /// What somebody holds over a quota that has become smaller stays until it is given back.
    pub fn handle_settings(&mut self, now: Mono, settings: Settings) {
        let rules = settings.default != self.settings.default || settings.patterns != self.settings.patterns;
        self.settings = settings;
        // Settings that come while others are on their way begin at the first name again.
        if !rules && self.sweep.is_none() {
            self.out.reruled = Some(Reruled { rules, changed: 0 });
            return;
        }
        self.policies.clear();
        self.sweep = Some(Sweep { since: now, after: None, changed: 0 });
        self.sweep(now);
    }

    /// What the newest settings came to, told once.
    pub fn poll_reruled(&mut self) -> Option<Reruled> {
        self.out.reruled.take()
    }

    /// When [`Core::sweep`] has something to do: at once.
    pub(crate) fn sweep_timeout(&self) -> Option<Mono> {
        self.sweep.as_ref().map(|sweep| sweep.since)
    }

    /// Tells the next names of the newest settings.
    pub(crate) fn sweep(&mut self, now: Mono) {
        let Some(mut sweep) = self.sweep.take() else { return };
        let ids = self.table.ids_after(sweep.after.as_ref(), NAMES_A_TURN);
        let more = ids.len() == NAMES_A_TURN;
        for id in ids {
            let Some((name, ruled)) = self.table.rule_of(id) else { continue };
            sweep.changed += usize::from(self.rule_anew(now, id, &name, &ruled));
            sweep.after = Some(name);
        }
        if more {
            self.sweep = Some(sweep);
        } else {
            self.out.reruled = Some(Reruled { rules: true, changed: sweep.changed });
        }
    }

    /// Whether the breaker has another policy by these settings. One that has not is not touched.
    fn rule_anew(&mut self, now: Mono, id: BreakerId, name: &Name, old: &Ruled) -> bool {
        let ruled = self.ruled(name, old.declared.as_deref());
        let changed = *ruled.policy != *old.policy;
        if !self.table.rule_quietly(id, &ruled) {
            self.touch(now, id, |breaker, turn| breaker.adopt(turn, ruled));
        }
        if changed {
            self.table.renew(id);
        }
        changed
    }
}

impl Breaker {
    /// Goes by this policy from here on.
    fn adopt(&mut self, turn: &mut Turn<'_>, ruled: Ruled) {
        let (from, mode) = (self.state(), self.mode());
        self.policy = Arc::clone(&ruled.policy);
        self.declared = ruled.declared;
        if self.mode() != mode {
            self.change(turn, from, What::Mode);
        }
    }

    /// An operator's word on the host's mode; with none the policy's holds again. Lasts until the next such word, reloads
    /// and restarts in between included.
    pub(crate) fn order(&mut self, turn: &mut Turn<'_>, to: Option<Mode>, because: Because) {
        if to.is_none() && self.ordered.is_none() {
            return;
        }
        let from = self.state();
        // The record of the change names its author, also where it takes the word away.
        self.ordered = Some(Ordered { mode: to.unwrap_or(self.policy.mode), because });
        self.change(turn, from, What::Mode);
        if to.is_none() {
            self.ordered = None;
        }
    }
}
