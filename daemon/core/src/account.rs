//! What each user id holds, and the receipts for it.
//!
//! After dbus-broker's `UserCharge` (src/util/user.h): whoever takes something into the table charges its account at
//! that moment and keeps a [`Charge`]; giving the receipt back is the only way to lower the figure. An account that
//! holds nothing is forgotten, so a look after the last connection finds every leak (I10).

use std::collections::BTreeMap;

/// What can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A connection.
    Connection,
    /// A name that this account was the first to use.
    Name,
    /// A probe that is out.
    Permit,
}

/// A receipt for one thing held. Give it back to [`Accounts::release`].
#[must_use = "a charge that is not given back is a leak"]
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    uid: u32,
    held: Held,
}

impl Charge {
    /// Whose account it is.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

/// All accounts that hold anything.
#[derive(Debug, Default)]
pub struct Accounts(BTreeMap<(u32, Held), u32>);

impl Accounts {
    /// Charges one thing, unless the account holds `most` of them.
    pub fn charge(&mut self, uid: u32, held: Held, most: u32) -> Option<Charge> {
        let holds = self.0.entry((uid, held)).or_default();
        if *holds >= most {
            if *holds == 0 {
                self.0.remove(&(uid, held));
            }
            return None;
        }
        *holds += 1;
        Some(Charge { uid, held })
    }

    /// Takes a receipt back.
    #[allow(clippy::needless_pass_by_value, reason = "the receipt ends here")]
    pub fn release(&mut self, charge: Charge) {
        let key = (charge.uid, charge.held);
        debug_assert!(self.0.contains_key(&key), "I10: a receipt of an account that holds nothing: {charge:?}");
        if let Some(holds) = self.0.get_mut(&key) {
            *holds = holds.saturating_sub(1);
            if *holds == 0 {
                self.0.remove(&key);
            }
        }
    }

    /// How many of these the account holds.
    #[must_use]
    pub fn holds(&self, uid: u32, held: Held) -> u32 {
        self.0.get(&(uid, held)).copied().unwrap_or(0)
    }

    /// Whether whatever is held is of this kind.
    #[must_use]
    pub fn holds_only(&self, held: Held) -> bool {
        self.0.keys().all(|(_, kind)| *kind == held)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_of_a_quota_and_back_to_zero() {
        let mut accounts = Accounts::default();
        assert!(accounts.charge(1, Held::Name, 0).is_none());
        let first = accounts.charge(1, Held::Name, 2).unwrap();
        let second = accounts.charge(1, Held::Name, 2).unwrap();
        assert!(accounts.charge(1, Held::Name, 2).is_none(), "the third of two");
        let other = accounts.charge(2, Held::Name, 2).unwrap();
        assert_eq!([first.uid(), other.uid()], [1, 2]);
        assert!(accounts.holds_only(Held::Name) && !accounts.holds_only(Held::Connection));
        accounts.release(first);
        let third = accounts.charge(1, Held::Name, 2).unwrap();
        for charge in [second, third, other] {
            accounts.release(charge);
        }
        assert!(accounts.holds_only(Held::Connection), "nothing is left");
    }
}
