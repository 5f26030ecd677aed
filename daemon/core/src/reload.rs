//! New settings under live breakers.
//!
//! A breaker keeps what the old policy made of it: its state, the deadline that it has, an override, its runs, the probes
//! that are out. From here on it goes by the new policy: a run that is long enough already trips with its next failure,
//! the next cooldown has the new length. A mode is shown, so another mode is a change with a new generation, and evidence
//! begins anew with it (I5).

use std::sync::Arc;

use breakerd_proto::{Mode, Mono};

use crate::breaker::{Breaker, Ordered, Turn};
use crate::change::{Because, What};
use crate::core::Core;
use crate::policies::Ruled;
use crate::settings::Settings;

impl Core {
    /// The settings are these from here on, for breakers that are as for those to come. Tells how many breakers have
    /// another policy than before.
    ///
    /// What somebody holds over a quota that has become smaller stays until it is given back.
    pub fn handle_settings(&mut self, now: Mono, settings: Settings) -> usize {
        self.settings = settings;
        self.policies.clear();
        self.table.ids().into_iter().filter(|id| self.rule_anew(now, *id)).count()
    }

    /// Whether the breaker has another policy by these settings.
    fn rule_anew(&mut self, now: Mono, id: crate::table::BreakerId) -> bool {
        let Some((name, old)) = self.table.rule_of(id) else { return false };
        let ruled = self.ruled(&name, old.declared.as_deref());
        let changed = *ruled.policy != *old.policy;
        if !self.table.rule_resting(id, &ruled) {
            self.touch(now, id, |breaker, turn| breaker.adopt(turn, ruled));
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
