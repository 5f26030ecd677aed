//! Values that are one of a few words.

use breakerd_proto::{AuthErrors, Fallback, Mode, OnQuota};

use super::Level;

/// A value that a file gives by its word.
pub(crate) trait Word: Copy + 'static {
    /// Every value, in the order in which complaints list them.
    const ALL: &'static [Self];

    /// The word.
    fn written(self) -> &'static str;
}

/// What the wire names too has its words there.
macro_rules! of_the_wire {
    ($($name:ident),+) => { $(
        impl Word for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn written(self) -> &'static str {
                self.word()
            }
        }
    )+ };
}

of_the_wire!(Mode, Fallback, AuthErrors, OnQuota);

impl Word for Level {
    const ALL: &'static [Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    fn written(self) -> &'static str {
        self.word()
    }
}
