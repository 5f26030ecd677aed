//! An awaitable that has its answer already.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Gives `None` at once, as often as it is asked.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Done;

impl Done {
    pub(crate) fn one(py: Python<'_>) -> PyResult<Py<Self>> {
        static ONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
        ONE.get_or_try_init(py, || Py::new(py, Self)).map(|one| one.clone_ref(py))
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
