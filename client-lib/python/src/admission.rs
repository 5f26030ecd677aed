//! What an admitted call holds, and how a `with` block that holds it ends.
//!
//! A `with` statement loads the exit before it calls the entry (language reference, 8.5), so the exit that is loaded is a
//! permit already, and the entry admits it: each block leaves by its own permit, whatever other threads and tasks do in
//! between, and nobody has to look for it.

use breakerd_client::Closed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::awaitable::Done;
use crate::kept::Kept;
use crate::lane::{self, Lane};
use crate::permit::Permit;

/// The base of Python's `Permit`.
#[pyclass(subclass, frozen, module = "breakerd._breakerd")]
pub(crate) struct Admission {
    #[pyo3(get, name = "_lane")]
    lane: Py<Lane>,
    #[pyo3(get, name = "_rules")]
    rules: Py<PyAny>,
    state: Kept<State>,
    stamp: Kept<u64>,
    /// Whether it is the exit of an `async with`.
    is_async: Kept<bool>,
}

/// Who knows how the call goes.
pub(crate) enum State {
    /// Python's side, or nobody yet.
    Python,
    /// It is loaded as the exit of a block that is not entered yet.
    Loaded,
    /// The board admitted the call, and nothing was told of it.
    Closed(Closed),
    /// It was counted as a success.
    Succeeded,
    /// It is the exit of a block that was entered by this other permit.
    Entered(Py<PyAny>),
}

#[pymethods]
impl Admission {
    #[new]
    fn new(lane: Py<Lane>, rules: Py<PyAny>) -> Self {
        let stamp = Kept::new(lane::next_stamp());
        Self { lane, rules, state: Kept::new(State::Python), stamp, is_async: Kept::new(false) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lane)?;
        visit.call(&self.rules)
    }

    /// It worked.
    fn success(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().succeed(slf.py()) {
            return Ok(());
        }
        slf.call_method0("_succeed_by_hand").map(drop)
    }

    /// The block ends.
    #[pyo3(signature = (_kind, error, _trace))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        _kind: &Bound<'py, PyAny>,
        error: &Bound<'py, PyAny>,
        _trace: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Py<Done>>> {
        let (this, py) = (slf.get(), slf.py());
        let is_async = this.is_async.get(py);
        if !(error.is_none() && this.succeed(py)) {
            this.leave(slf, error, is_async)?;
        }
        if is_async { Done::one(py).map(Some) } else { Ok(None) }
    }

    /// The raw permit of a call that the board admitted, to tell by it what is no plain success. `RuntimeError` where it
    /// admitted none.
    fn _claim(&self, py: Python<'_>) -> PyResult<Permit> {
        let permit = self.closed(py).and_then(|closed| self.lane.get().permit(closed));
        let Some(permit) = permit else { return Err(PyRuntimeError::new_err("no call was admitted by this permit")) };
        drop(self.state.replace(py, State::Python));
        Ok(Permit::new(permit))
    }

    /// The generation of a call that the board admitted.
    #[getter]
    fn _generation(&self, py: Python<'_>) -> u64 {
        self.closed(py).map_or(0, Closed::generation)
    }

    /// Whether it was counted as a success here.
    #[getter]
    fn _succeeded(&self, py: Python<'_>) -> bool {
        self.state.look(py, |state| matches!(state, State::Succeeded))
    }

    /// When it was admitted, in the order of admissions and countings.
    #[getter]
    fn _stamp(&self, py: Python<'_>) -> u64 {
        self.stamp.get(py)
    }

    /// The block whose exit this is was entered by another permit.
    fn _enter(&self, py: Python<'_>, permit: Py<PyAny>) {
        drop(self.state.replace(py, State::Entered(permit)));
    }
}

impl Admission {
    /// A fresh one.
    pub(crate) fn make<'py>(py: Python<'py>, lane: &Py<Lane>, rules: &Py<PyAny>) -> PyResult<Bound<'py, Self>> {
        static PERMIT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = PERMIT.import(py, "breakerd._permit", "Permit")?;
        Ok(class.call1((lane, rules))?.cast_into()?)
    }

    /// The board has admitted the call.
    #[inline]
    pub(crate) fn admit(&self, py: Python<'_>, closed: Closed) {
        self.admit_at(py, closed, lane::stamp());
    }

    /// The same of a call that began at this stamp.
    pub(crate) fn admit_at(&self, py: Python<'_>, closed: Closed, stamp: u64) {
        self.stamp.replace(py, stamp);
        drop(self.state.replace(py, State::Closed(closed)));
    }

    /// It is the exit of a block that is about to be entered.
    #[inline]
    pub(crate) fn load(&self, py: Python<'_>, is_async: bool) {
        self.is_async.replace(py, is_async);
        drop(self.state.replace(py, State::Loaded));
    }

    #[inline]
    pub(crate) fn is_loaded(&self, py: Python<'_>) -> bool {
        self.state.look(py, |state| matches!(state, State::Loaded))
    }

    /// Whether it may serve another call, once nobody else has it: nothing of the last one is left in it.
    #[inline]
    pub(crate) fn is_spent(&self, py: Python<'_>) -> bool {
        self.state.look(py, |state| matches!(state, State::Succeeded | State::Loaded))
    }

    #[inline]
    fn closed(&self, py: Python<'_>) -> Option<Closed> {
        self.state.look(py, |state| match state {
            State::Closed(closed) => Some(*closed),
            _ => None,
        })
    }

    /// Counts a success if the board admitted the call and nothing was told of it.
    #[inline]
    fn succeed(&self, py: Python<'_>) -> bool {
        let Some(closed) = self.closed(py) else { return false };
        drop(self.state.replace(py, State::Succeeded));
        closed.succeed();
        true
    }

    fn leave<'py>(&self, slf: &Bound<'py, Self>, error: &Bound<'py, PyAny>, timed: bool) -> PyResult<()> {
        let (py, lane) = (slf.py(), self.lane.bind(slf.py()));
        match self.state.replace(py, State::Python) {
            closed @ State::Closed(_) => {
                drop(self.state.replace(py, closed));
                slf.call_method1("_leave", (error, timed))
            }
            State::Entered(permit) => lane.call_method1("leave", (error, permit, timed)),
            // A block that was entered by hand is found by who entered it.
            State::Loaded => lane.call_method1("leave", (error, py.None(), timed)),
            State::Python | State::Succeeded => slf.call_method1("_leave", (error, timed)),
        }
        .map(drop)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        // As for every other permit: dropped without a word it is abandoned.
        Python::attach(|py| {
            if let Some(closed) = self.closed(py) {
                drop(self.lane.get().permit(closed));
            }
        });
    }
}

/// The attribute `__exit__` or `__aexit__` of a guard.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Exit {
    /// Leaves a block that was entered by hand, or by a class's own attributes as `contextlib.ExitStack` does.
    by_hand: Py<PyAny>,
    is_async: bool,
}

#[pymethods]
impl Exit {
    #[new]
    fn new(by_hand: Py<PyAny>, is_async: bool) -> Self {
        Self { by_hand, is_async }
    }

    fn __get__<'py>(
        &self,
        guard: Option<&Bound<'py, crate::guard::Guard>>,
        _class: Option<&Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Py<PyAny>> {
        match guard {
            None => Ok(self.by_hand.clone_ref(py)),
            Some(guard) => Ok(guard.get().load(py, self.is_async)?.into_any()),
        }
    }
}

/// Whether anybody but its keeper has it.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn is_shared<T>(_: Python<'_>, object: &Py<T>) -> bool {
    // SAFETY: the object is alive, and the thread is attached.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) > 1 }
}
