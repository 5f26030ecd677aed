//! What `@guard` makes of a plain function.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::admission::Admission;
use crate::kept::Kept;
use crate::lane::{self, Lane};

/// The base of Python's `Guarded`: it binds as a method, and pickles by its name as functions do.
#[pyclass(subclass, frozen, module = "breakerd._breakerd")]
pub(crate) struct Guarded {
    lane: Py<Lane>,
    rules: Py<PyAny>,
    function: Py<PyAny>,
    /// The same, guarded by Python's side.
    slowly: Py<PyAny>,
    /// Tells whether results of a type are a success whatever they hold.
    is_plain: Py<PyAny>,
    /// The type of the last result, if its results are.
    plain: Kept<Option<Py<PyType>>>,
}

#[pymethods]
impl Guarded {
    #[new]
    fn new(lane: Py<Lane>, rules: Py<PyAny>, function: Py<PyAny>, slowly: Py<PyAny>, is_plain: Py<PyAny>) -> Self {
        Self { lane, rules, function, slowly, is_plain, plain: Kept::new(None) }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(closed) = self.lane.get().admit_closed() else {
            return self.slowly.bind(py).call(args, kwargs);
        };
        let stamp = lane::stamp();
        let permit = || {
            let permit = Admission::make(py, &self.lane, &self.rules)?;
            permit.get().admit_at(py, closed, stamp);
            Ok::<_, PyErr>(permit)
        };
        match self.function.bind(py).call(args, kwargs) {
            Ok(result) if self.is_success(&result)? => {
                closed.succeed();
                Ok(result)
            }
            Ok(result) => {
                permit()?.call_method1("_settle_result", (&result,))?;
                Ok(result)
            }
            Err(error) => {
                permit()?.call_method1("_settle_exception", (error.value(py),))?;
                Err(error)
            }
        }
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = class;
        match instance {
            None => Ok(slf.clone().into_any()),
            Some(instance) => bound(slf.as_any(), instance),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lane)?;
        visit.call(&self.rules)?;
        visit.call(&self.function)?;
        visit.call(&self.slowly)?;
        visit.call(&self.is_plain)?;
        self.plain.visit(&visit)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.getattr("__qualname__")
    }

    /// What a Python function has beside, its code for example, is that of the one that guards slowly.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.slowly.bind(py).getattr(name)
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let text = format!("<guarded {}>", slf.get().function.bind(slf.py()).repr()?);
        Ok(PyString::new(slf.py(), &text))
    }
}

impl Guarded {
    /// Whether the result is a success whatever it holds.
    #[inline]
    fn is_success(&self, result: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = result.py();
        let class = result.get_type();
        let known = self.plain.look(py, |plain| plain.as_ref().is_some_and(|plain| plain.is(&class)));
        if known {
            return Ok(true);
        }
        self.learn(&class)
    }

    #[cold]
    fn learn(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        let plain = self.is_plain.bind(py).call1((class,))?.is_truthy()?;
        if plain {
            drop(self.plain.replace(py, Some(class.clone().unbind())));
        }
        Ok(plain)
    }
}

fn bound<'py>(function: &Bound<'py, PyAny>, instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    METHOD.import(function.py(), "types", "MethodType")?.call1((function, instance))
}
