//! What the demo says of itself, held against what was seen.

use super::super::failure::Failure;
use super::super::printer::say;

/// Counts claims and says at once which does not hold.
#[derive(Default)]
pub(super) struct Claims {
    made: u32,
    broken: u32,
}

impl Claims {
    /// A claim and whether it holds.
    pub(super) fn claim(&mut self, holds: bool, what: &str) -> Result<(), Failure> {
        self.count(holds);
        if holds { Ok(()) } else { say(&format!("   DOES NOT HOLD: {what}")) }
    }

    fn count(&mut self, holds: bool) {
        self.made += 1;
        self.broken += u32::from(!holds);
    }

    pub(super) fn all_hold(&self) -> bool {
        self.broken == 0
    }

    /// `23 claims checked, all hold`.
    pub(super) fn summary(&self) -> String {
        match self.broken {
            0 => format!("{} claims checked, all hold", self.made),
            broken => format!("{broken} of {} claims do not hold", self.made),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_claim_is_enough() {
        let mut claims = Claims::default();
        claims.count(true);
        assert_eq!((claims.all_hold(), claims.summary().as_str()), (true, "1 claims checked, all hold"));
        claims.count(false);
        assert_eq!((claims.all_hold(), claims.summary().as_str()), (false, "1 of 2 claims do not hold"));
    }
}
