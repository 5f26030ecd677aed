//! The rules that the shipped default is compared with, in their plainest form.

/// Three failures of a host's workers with no success between open the fleet.
#[derive(Default)]
pub(crate) struct ThreeOfAny {
    run: u32,
}

impl ThreeOfAny {
    /// A call ends. Tells whether it opens by it, and begins anew then.
    pub(crate) fn call(&mut self, failed: bool) -> bool {
        self.run = if failed { self.run + 1 } else { 0 };
        let opens = self.run == 3;
        self.run %= 3;
        opens
    }
}

/// resilience4j 2 as it comes (`CircuitBreakerConfig`): half of a process's last hundred calls, from a hundred on.
pub(crate) struct Resilience4j {
    last: [bool; 100],
    calls: usize,
    failed: u32,
}

impl Resilience4j {
    pub(crate) fn new() -> Self {
        Self { last: [false; 100], calls: 0, failed: 0 }
    }

    /// A call ends. Tells whether the process's breaker opens by it, and begins anew then.
    pub(crate) fn call(&mut self, failed: bool) -> bool {
        let oldest = &mut self.last[self.calls % 100];
        self.failed = self.failed + u32::from(failed) - u32::from(*oldest);
        *oldest = failed;
        self.calls += 1;
        let opens = self.calls >= 100 && self.failed >= 50;
        if opens {
            *self = Self::new();
        }
        opens
    }
}
