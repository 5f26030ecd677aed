//! Answers as Python gets them: a permit, or plain tuples that the Python side gives names to.

use breakerd_client::{LastFailure, Observation, Rejected, ResetError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::permit::Permit;

/// A permit, or a rejection as (state, reason, seconds or none, why).
pub(crate) fn judged(py: Python<'_>, answer: Result<breakerd_client::Permit, Rejected>) -> PyResult<Py<PyAny>> {
    match answer {
        Ok(permit) => Ok(Py::new(py, Permit::new(permit))?.into_any()),
        Err(no) => {
            let after = no.retry_after.map(|after| after.as_secs_f64());
            let tuple = (no.state.word(), no.reason.word(), after, no.why).into_pyobject(py)?;
            Ok(tuple.into_any().unbind())
        }
    }
}

/// (state, failures, last failure, seconds until a call may be admitted, why). The last failure is (kind, detail,
/// seconds ago) or none. While closed a call may be admitted at once.
pub(crate) fn observed<'py>(py: Python<'py>, seen: &Observation) -> PyResult<Bound<'py, PyTuple>> {
    let last = seen.last_failure.as_ref().map(last_failure);
    let closed = seen.state == breakerd_client::State::Closed;
    let after = if closed { Some(0.0) } else { seen.retry_after.map(|after| after.as_secs_f64()) };
    let why = match (seen.by.as_str(), seen.why.as_str()) {
        (_, "") => String::new(),
        ("", why) => why.to_owned(),
        (by, why) => format!("{why} ({by})"),
    };
    (seen.state.word(), seen.failures, last, after, why).into_pyobject(py)
}

fn last_failure(last: &LastFailure) -> (String, String, f64) {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 285,000 years")]
    let ago = last.ago_ms as f64 / 1000.0;
    (last.kind.clone(), last.detail.clone(), ago)
}

/// ("done", ""), or ("denied", "refused" or "no-answer", sentence).
pub(crate) fn reset(answer: Result<(), ResetError>) -> (&'static str, String) {
    let word = match &answer {
        Ok(()) => "done",
        Err(ResetError::Denied { .. }) => "denied",
        Err(ResetError::Refused { .. }) => "refused",
        Err(ResetError::NoAnswer { .. }) => "no-answer",
    };
    (word, answer.err().map_or_else(String::new, |error| error.to_string()))
}
