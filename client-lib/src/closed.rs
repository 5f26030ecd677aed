//! A call that the board admitted, as a plain value: for bindings that must hold one without an allocation.

use std::sync::Arc;

use breakerd_proto::Mono;

use crate::blocking::Breaker;
use crate::board::Spot;
use crate::permit::{From, Permit};

/// A call that [`Breaker::admit_closed`] admitted. Whoever holds it settles it once; dropped, it is forgotten, which takes
/// nothing from anybody, since no probe is ever admitted so.
///
/// It belongs to the process that got it. In a child that was forked meanwhile it settles nothing.
#[derive(Clone, Copy, Debug)]
#[must_use = "what is dropped is not counted"]
pub struct Closed {
    spot: &'static Spot,
    generation: u64,
    began: Option<Mono>,
}

impl Closed {
    #[inline]
    pub(crate) fn new(spot: &'static Spot, generation: u64) -> Self {
        Self { spot, generation, began: None }
    }

    /// The same for a call that can be cancelled: a clock is read, by which [`Permit::out_for`] tells a hung call.
    pub fn timed(self) -> Self {
        Self { began: Some(Mono::now()), ..self }
    }

    /// The breaker's generation when the call was admitted.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.generation
    }

    /// It worked. One store, by the calling thread to a counter of its own.
    #[inline]
    pub fn succeed(self) {
        if self.spot.is_ours() {
            self.spot.succeed();
        }
    }

    /// A permit for the same call, for every other outcome. Without [`Closed::timed`] the call begins here. `breaker` is the
    /// one that admitted it.
    pub fn into_permit(self, breaker: &Breaker) -> Permit {
        let from = if self.spot.is_ours() { From::Board(self.spot, false) } else { From::Nobody };
        let began = self.began.unwrap_or_else(Mono::now);
        Permit::new(Arc::clone(&breaker.known), from, (self.generation, 0), began)
    }
}
