//! The process's client, and its breakers for code that blocks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use breakerd_client::{AuthErrors, Health, Options};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::answer;
use crate::policy::patch;

/// Sentences that wait for the Python side; more are dropped, since each tells of the same trouble.
const WARNINGS_MAX: usize = 16;

/// A worker's way to its daemon.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Client {
    pub(crate) inner: breakerd_client::Client,
    warnings: Arc<Warnings>,
}

/// One breaker.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Breaker {
    pub(crate) inner: breakerd_client::Breaker,
}

#[derive(Default)]
struct Warnings {
    some: AtomicBool,
    sentences: Mutex<Vec<String>>,
}

#[pymethods]
impl Client {
    /// Connects at the first call. `ValueError` for a variable of the environment that cannot be understood.
    #[new]
    fn new() -> PyResult<Self> {
        let options = Options::from_env().map_err(|bad| PyValueError::new_err(bad.to_string()))?;
        let warnings = Arc::new(Warnings::default());
        let told = Arc::clone(&warnings);
        let inner = options.on_warning(move |sentence| told.push(sentence)).open();
        Ok(Self { inner, warnings })
    }

    /// The breaker of this name. The first policy of a name stands.
    #[pyo3(signature = (name, policy=None))]
    fn breaker(&self, name: &str, policy: Option<&Bound<'_, PyDict>>) -> PyResult<Breaker> {
        let breaker = match policy {
            None => self.inner.breaker(name),
            Some(policy) => self.inner.breaker_with(name, patch(policy)?),
        };
        breaker.map(|inner| Breaker { inner }).map_err(|bad| PyValueError::new_err(bad.to_string()))
    }

    /// How the client stands to its daemon, which is asked now: a dict.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = py.detach(|| self.inner.health());
        let told = PyDict::new(py);
        told.set_item("sentence", health.to_string())?;
        told.set_item("silent", matches!(health, Health::Silent { .. }))?;
        let path = match &health {
            Health::Attached { release, link, fleet, path, .. } => {
                told.set_item("daemon", release)?;
                told.set_item("link", link.word())?;
                told.set_item("fleet", fleet)?;
                Some(path)
            }
            Health::Silent { path, .. } | Health::Alone { path, .. } => Some(path),
            Health::Off => None,
        };
        told.set_item("socket", path.map(|path| path.display().to_string()))?;
        Ok(told)
    }

    /// Whether there is anything to tell.
    #[getter]
    fn has_warnings(&self) -> bool {
        self.warnings.some.load(Ordering::Relaxed)
    }

    /// What people should know, each sentence once.
    fn warnings(&self) -> Vec<String> {
        self.warnings.some.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.warnings.sentences.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Breaker {
    /// May I call? A permit, or a rejection as (state, reason, seconds or none, why).
    fn admit(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let answer = py.detach(|| self.inner.admit());
        answer::judged(py, answer)
    }

    /// What this worker sees: (state, failures, last failure, seconds until a call may be admitted or none, why).
    fn observe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let seen = py.detach(|| self.inner.observe());
        answer::observed(py, &seen)
    }

    /// What 401 and 403 count as by the policy that the daemon last sent, else the one in code: `ignored`, `failure`, or
    /// none where neither says.
    #[getter]
    fn auth_errors(&self) -> Option<&'static str> {
        self.inner.policy()?.auth_errors.map(AuthErrors::word)
    }

    /// Changes it to closed: a word, and a sentence unless it was done.
    fn reset(&self, py: Python<'_>, because: &str) -> (&'static str, String) {
        answer::reset(py.detach(|| self.inner.reset(because)))
    }
}

impl Warnings {
    fn push(&self, sentence: &str) {
        let mut sentences = self.sentences.lock().unwrap_or_else(PoisonError::into_inner);
        if sentences.len() < WARNINGS_MAX {
            sentences.push(sentence.to_owned());
        }
        self.some.store(true, Ordering::Relaxed);
    }
}
