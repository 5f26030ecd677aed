//! The table's own books: places, alarms, and who is told of what while it rests.

use std::sync::Arc;

use breakerd_proto::{Mode, Mono, Name};

use super::{BreakerId, IDLE_AFTER, Table};
use crate::WorkerId;
use crate::account::{Accounts, Held};
use crate::policies::Ruled;
use crate::policy::Policy;

fn start() -> Mono {
    Mono::default().after_ms(1_000_000)
}

fn insert(table: &mut Table, now: Mono, name: &str) -> BreakerId {
    let charge = Accounts::default().charge(1, Held::Name, 1).unwrap();
    table.insert(now, &Name::parse(name).unwrap(), Ruled::default(), charge)
}

/// A table with one breaker, which rests.
fn table() -> (Table, BreakerId) {
    let mut table = Table::default();
    let id = insert(&mut table, start(), "openai");
    (table, id)
}

fn in_mode(mode: Mode) -> Ruled {
    Ruled { policy: Arc::new(Policy { mode, ..Policy::default() }), declared: None }
}

#[test]
fn a_place_that_was_given_up_is_used_again_by_another_tenant() {
    let (mut table, old) = table();
    let now = start().after(IDLE_AFTER);
    assert!(table.evict(now, Some(1)).is_some());
    let new = insert(&mut table, now, "stripe");
    assert_eq!((table.slots.len(), new.slot), (1, old.slot));
    assert!(table.holds(new) && !table.holds(old) && table.get(old).is_none());
    assert!(table.get(new).unwrap().generation > 1, "a name's generation never falls");
}

#[test]
fn whatever_wakes_a_breaker_sets_the_alarm_by_which_it_rests_again() {
    let (mut table, id) = table();
    assert_eq!(table.next_wake(), None);
    table.get_mut(id).unwrap();
    let rest_at = start().after(IDLE_AFTER);
    assert_eq!(table.next_wake(), Some((rest_at, id)));
    table.rest(rest_at, id);
    assert!(table.awake(id).is_none() && table.next_wake().is_none());
}

#[test]
fn an_alarm_for_something_else_brings_nothing_to_rest() {
    let (mut table, id) = table();
    table.get_mut(id).unwrap();
    let other = start().after_ms(5000);
    table.set_wake(id, Some(other));
    table.rest(other, id);
    assert!(table.awake(id).is_some());
    assert_eq!(table.next_wake(), Some((other, id)), "and is not forgotten by it");
}

#[test]
fn what_rests_takes_a_leave_and_a_policy_without_being_woken() {
    let (mut table, id) = table();
    table.enroll(id, WorkerId(1));
    assert!(table.leave_resting(id, WorkerId(1)));
    assert!(table.get(id).unwrap().lanes.is_empty());
    assert!(!table.rule_quietly(id, &in_mode(Mode::Shadow)), "a mode is shown, so it must tell");
    let ruled = in_mode(Mode::On);
    assert!(table.rule_quietly(id, &ruled));
    assert!(Arc::ptr_eq(&table.rule_of(id).unwrap().1.policy, &ruled.policy));
    assert!(table.awake(id).is_none());
    table.get_mut(id).unwrap();
    assert!(!table.leave_resting(id, WorkerId(1)));
    assert!(table.rule_quietly(id, &ruled), "the same");
    assert!(!table.rule_quietly(id, &in_mode(Mode::Shadow)));
}
