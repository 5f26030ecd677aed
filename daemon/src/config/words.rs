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

impl Word for Mode {
    const ALL: &'static [Self] = &[Self::On, Self::Shadow, Self::Off];

    fn written(self) -> &'static str {
        self.word()
    }
}

impl Word for Fallback {
    const ALL: &'static [Self] = &[Self::Local, Self::Admit, Self::Reject];

    fn written(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Admit => "admit",
            Self::Reject => "reject",
        }
    }
}

impl Word for AuthErrors {
    const ALL: &'static [Self] = &[Self::Ignored, Self::Failure];

    fn written(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Failure => "failure",
        }
    }
}

impl Word for OnQuota {
    const ALL: &'static [Self] = &[Self::Admit, Self::Reject];

    fn written(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Reject => "reject",
        }
    }
}

impl Word for Level {
    const ALL: &'static [Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    fn written(self) -> &'static str {
        self.word()
    }
}
