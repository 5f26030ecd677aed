//! What the interpreter's own lock guards.

use std::cell::UnsafeCell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// A value that is only touched with the interpreter's lock held. It is copied, moved out and moved in, never lent: dropping
/// what it held may run Python code, which may come here again.
#[derive(Default)]
pub(crate) struct Kept<T>(UnsafeCell<T>);

// SAFETY: each method is shown that its thread is attached to the interpreter, and one thread at a time is: `require_lock`
// refuses an interpreter that runs without its lock before there is anything that holds a `Kept`.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Kept<T> {}

#[allow(unsafe_code)]
impl<T> Kept<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn get(&self, _: Python<'_>) -> T
    where
        T: Copy,
    {
        // SAFETY: nobody else is here (above), and no reference outlives a method.
        unsafe { *self.0.get() }
    }

    #[inline]
    pub(crate) fn replace(&self, _: Python<'_>, value: T) -> T {
        // SAFETY: nobody else is here (above), no reference outlives a method, and a move runs no code.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// What a look at it gives. The look must not run Python code.
    #[inline]
    pub(crate) fn look<R>(&self, _: Python<'_>, look: impl FnOnce(&T) -> R) -> R {
        // SAFETY: nobody else is here (above), and what looks comes back before anybody can be.
        look(unsafe { &*self.0.get() })
    }
}

#[allow(unsafe_code)]
impl<T> Kept<Option<Py<T>>> {
    /// Shows the collector of cycles what is here.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the lock held, and what it is shown runs no code.
        visit.call(unsafe { &*self.0.get() })
    }
}

/// Refuses a free-threaded interpreter that was told to run without its lock although this module asks for it.
///
/// # Errors
/// `RuntimeError`, which says what to do.
pub(crate) fn require_lock(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let Some(enabled) = sys.getattr_opt("_is_gil_enabled")? else { return Ok(()) };
    if enabled.call0()?.is_truthy()? {
        return Ok(());
    }
    Err(PyRuntimeError::new_err("breakerd needs the interpreter's lock: run without PYTHON_GIL=0 and -X gil=0"))
}
