//! What all guards of one name share here: whether the daemon's board alone may admit a call.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use breakerd_client::Closed;
use pyo3::prelude::*;

use crate::admission::Admission;
use crate::client::Breaker;

/// Whether a test has put a fake in the daemon's place.
static FAKED: AtomicBool = AtomicBool::new(false);

/// Orders admissions and countings of exceptions: the number that was given out last.
static STAMPS: AtomicU64 = AtomicU64::new(0);

/// The base of Python's `Lane`.
#[pyclass(subclass, frozen, module = "breakerd._breakerd")]
#[derive(Default)]
pub(crate) struct Lane {
    breaker: OnceLock<breakerd_client::Breaker>,
    /// How many blocks and calls hold a probe: their holders may enter again under it, so nobody passes them by.
    probes: AtomicUsize,
}

#[pymethods]
impl Lane {
    #[new]
    #[pyo3(signature = (*_args))]
    fn new(_args: &Bound<'_, pyo3::types::PyTuple>) -> Self {
        Self::default()
    }

    /// Whose board it is. The first stands.
    fn attach(&self, breaker: &Breaker) {
        self.breaker.set(breaker.inner.clone()).ok();
    }

    /// A permit if the board alone can admit the call. `timed` where the call can be cancelled.
    #[pyo3(name = "admit_closed")]
    fn admit_permit<'py>(
        slf: &Bound<'py, Self>,
        rules: Py<PyAny>,
        timed: bool,
    ) -> PyResult<Option<Bound<'py, Admission>>> {
        let Some(closed) = slf.get().admit_closed() else { return Ok(None) };
        let permit = Admission::make(slf.py(), &slf.clone().unbind(), &rules)?;
        permit.get().admit(slf.py(), if timed { closed.timed() } else { closed });
        Ok(Some(permit))
    }

    /// So many blocks and calls hold a probe by now.
    fn handle_probes(&self, probes: usize) {
        self.probes.store(probes, Ordering::Relaxed);
    }
}

impl Lane {
    /// Admits a call if the board alone can.
    #[inline]
    pub(crate) fn admit_closed(&self) -> Option<Closed> {
        if self.probes.load(Ordering::Relaxed) != 0 || FAKED.load(Ordering::Relaxed) {
            return None;
        }
        self.breaker.get()?.admit_closed()
    }

    /// The permit of a call that was admitted here.
    pub(crate) fn permit(&self, closed: Closed) -> Option<breakerd_client::Permit> {
        self.breaker.get().map(|breaker| closed.into_permit(breaker))
    }
}

/// While a fake answers, no board does.
#[pyfunction]
pub(crate) fn handle_faked(faked: bool) {
    FAKED.store(faked, Ordering::Relaxed);
}

/// The next number of the order of admissions and countings.
#[pyfunction]
pub(crate) fn next_stamp() -> u64 {
    STAMPS.fetch_add(1, Ordering::Relaxed) + 1
}

/// What is counted from here on has a higher number.
#[inline]
pub(crate) fn stamp() -> u64 {
    STAMPS.load(Ordering::Relaxed)
}
