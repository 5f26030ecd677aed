//! What any breaker in an extension module costs at least: methods of the same form that do nothing.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A breaker that knows nothing.
#[pyclass(frozen)]
struct Floor;

#[pymethods]
impl Floor {
    #[new]
    fn new() -> Self {
        Self
    }

    fn allow(&self) -> bool {
        true
    }

    fn success(&self) {}

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _error: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {}

    /// Wraps a function.
    fn __call__(&self, function: Py<PyAny>) -> Guarded {
        Guarded { function }
    }
}

/// A function behind it.
#[pyclass(frozen)]
struct Guarded {
    function: Py<PyAny>,
}

#[pymethods]
impl Guarded {
    #[pyo3(signature = (*args, **named))]
    fn __call__(&self, py: Python<'_>, args: &Bound<'_, PyTuple>, named: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyAny>> {
        self.function.call(py, args, named)
    }
}

/// The extension module.
#[pymodule]
mod breakerd_floor {
    #[pymodule_export]
    use super::Floor;
}
