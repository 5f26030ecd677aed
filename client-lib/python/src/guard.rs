//! The guard's hot half: what the board alone can answer. All else is Python's part.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::admission::{Admission, is_shared};
use crate::kept::{Kept, require_lock};
use crate::lane::Lane;

/// How many permits a guard keeps for later calls. One would do for calls that end before the next begins, but for the name
/// that a block gives its permit: that holds it until the next block's is there.
const SPARES: usize = 4;

/// The base of Python's `Guard`.
#[pyclass(subclass, frozen, module = "breakerd._breakerd")]
pub(crate) struct Guard {
    #[pyo3(get, name = "_lane")]
    lane: Py<Lane>,
    #[pyo3(get, name = "_rules")]
    rules: Py<PyAny>,
    /// Permits that were made. Each serves again when nobody else has it any more.
    spares: [Kept<Option<Py<Admission>>>; SPARES],
    /// Which of them was given out last.
    last: Kept<usize>,
}

#[pymethods]
impl Guard {
    #[new]
    fn new(py: Python<'_>, lane: Py<Lane>, rules: Py<PyAny>) -> PyResult<Self> {
        require_lock(py)?;
        Ok(Self { lane, rules, spares: Default::default(), last: Kept::new(0) })
    }

    /// Raises `Rejected` before the block starts.
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(exit) = self.loaded(py) else {
            return self.lane.call_method1(py, "enter", (&self.rules,));
        };
        if let Some(closed) = self.lane.get().admit_closed() {
            exit.get().admit(py, closed);
            return Ok(exit.into_any());
        }
        let permit = self.lane.call_method1(py, "enter", (&self.rules,))?;
        exit.call_method1(py, "_enter", (&permit,))?;
        Ok(permit)
    }

    /// Raises `Rejected` before the block starts.
    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let exit = self.loaded(py);
        if let Some(exit) = &exit
            && let Some(closed) = self.lane.get().admit_closed()
        {
            exit.get().admit(py, closed.timed());
            return given(py, exit);
        }
        self.lane.call_method1(py, "enter_async", (&self.rules, exit))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lane)?;
        visit.call(&self.rules)?;
        self.spares.iter().try_for_each(|spare| spare.visit(&visit))
    }

    /// A permit to settle by hand, or `Rejected`.
    fn admit(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(closed) = self.lane.get().admit_closed() else {
            return self.lane.call_method1(py, "admit", (&self.rules,));
        };
        let permit = self.spare(py)?;
        permit.get().admit(py, closed);
        Ok(permit.into_any())
    }
}

impl Guard {
    /// The exit of a block that is about to be entered.
    #[inline]
    pub(crate) fn load(&self, py: Python<'_>, is_async: bool) -> PyResult<Py<Admission>> {
        let exit = self.spare(py)?;
        exit.get().load(py, is_async);
        Ok(exit)
    }

    /// The exit that was loaded just now by the `with` statement that calls the entry. An entry by hand has none: then the one
    /// that was loaded last, if any, was entered already, or nobody has it.
    #[inline]
    fn loaded(&self, py: Python<'_>) -> Option<Py<Admission>> {
        self.spares.get(self.last.get(py))?.look(py, |last| {
            let last = last.as_ref()?;
            (is_shared(py, last) && last.get().is_loaded(py)).then(|| last.clone_ref(py))
        })
    }

    /// A permit that nobody has.
    #[inline]
    fn spare(&self, py: Python<'_>) -> PyResult<Py<Admission>> {
        for (at, spare) in self.spares.iter().enumerate() {
            let spare = spare.look(py, |spare| {
                let spare = spare.as_ref()?;
                (!is_shared(py, spare) && spare.get().is_spent(py)).then(|| spare.clone_ref(py))
            });
            if let Some(spare) = spare {
                self.last.replace(py, at);
                return Ok(spare);
            }
        }
        self.another(py)
    }

    #[cold]
    fn another(&self, py: Python<'_>) -> PyResult<Py<Admission>> {
        let fresh = Admission::make(py, &self.lane, &self.rules)?.unbind();
        let at = (self.last.get(py) + 1) % SPARES;
        self.last.replace(py, at);
        drop(self.spares.get(at).and_then(|spare| spare.replace(py, Some(fresh.clone_ref(py)))));
        Ok(fresh)
    }
}

/// A coroutine that returns this. One of Python's own makes no exception to carry its answer.
fn given(py: Python<'_>, permit: &Py<Admission>) -> PyResult<Py<PyAny>> {
    static GIVEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GIVEN.import(py, "breakerd._permit", "given").and_then(|given| given.call1((permit,))).map(Bound::unbind)
}
