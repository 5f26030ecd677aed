//! Awaitables that have their answer already.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::kept::Kept;

/// Gives a value at once.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Ready(Kept<Option<Py<PyAny>>>);

/// Gives `None` at once, as often as it is asked.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Done;

impl Ready {
    pub(crate) fn new(value: Py<PyAny>) -> Self {
        Self(Kept::new(Some(value)))
    }
}

impl Done {
    pub(crate) fn one(py: Python<'_>) -> PyResult<Py<Self>> {
        static ONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
        ONE.get_or_try_init(py, || Py::new(py, Self)).map(|one| one.clone_ref(py))
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Awaited a second time it gives `None`, as an iterator that has ended.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.0.replace(py, None) {
            None => Ok(None),
            Some(value) => Err(PyStopIteration::new_err(value)),
        }
    }
}

#[pymethods]
impl Done {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[allow(clippy::unused_self)]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }
}
