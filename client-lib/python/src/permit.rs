//! A permit as Python holds it: settled once, abandoned when it is dropped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use breakerd_client::{Failure, Outcome};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What an admitted call holds.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Permit {
    held: Mutex<Option<breakerd_client::Permit>>,
    /// The breaker's generation at the moment of admission.
    #[pyo3(get)]
    generation: u64,
    /// Whether this call decides about recovery.
    #[pyo3(get)]
    is_probe: bool,
}

impl Permit {
    pub(crate) fn new(permit: breakerd_client::Permit) -> Self {
        let (generation, is_probe) = (permit.generation(), permit.is_probe());
        Self { held: Mutex::new(Some(permit)), generation, is_probe }
    }

    fn take(&self) -> Option<breakerd_client::Permit> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Permit {
    /// Tells how the call went; the first word stands. `retry_after` is in seconds.
    fn settle(&self, word: &str, kind: &str, detail: &str, retry_after: Option<f64>) -> PyResult<()> {
        let outcome = match word {
            "success" => Outcome::SUCCESS,
            "failure" => Outcome::Failure(failure(kind, detail, retry_after)),
            "ignored" => Outcome::Ignored,
            "abandoned" => Outcome::Abandoned,
            other => return Err(PyValueError::new_err(format!("{other:?} is no outcome"))),
        };
        if let Some(permit) = self.take() {
            permit.settle(outcome);
        }
        Ok(())
    }

    /// The call was cancelled: a failure `hung` if the provider had let it wait for longer than the policy's `hung_after`,
    /// else abandoned. `waited` is in seconds; by default the wait began with the call. Whether it hung.
    #[pyo3(signature = (waited=None))]
    fn cancel(&self, waited: Option<f64>) -> bool {
        let Some(permit) = self.take() else { return false };
        let waited = waited.and_then(|waited| Duration::try_from_secs_f64(waited).ok());
        let hung = waited.unwrap_or_else(|| permit.out_for()) > permit.hung_after();
        permit.settle(if hung { Outcome::failure("hung") } else { Outcome::Abandoned });
        hung
    }

    /// A stream's first item has come: slowness is judged by now.
    fn answer(&self) {
        if let Some(permit) = &mut *self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            permit.answer();
        }
    }
}

fn failure(kind: &str, detail: &str, retry_after: Option<f64>) -> Failure {
    let failure = Failure::new(kind).with_detail(detail);
    let wish = retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match wish.and_then(|wish| u64::try_from(wish.as_millis()).ok()) {
        Some(ms) => failure.with_retry_after_ms(ms),
        None => failure,
    }
}
