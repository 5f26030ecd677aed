//! Every change of every breaker, for whoever can wait for a descriptor. Nothing here blocks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use breakerd_client::watcher::{self, Event};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::client::Client;

/// A connection of its own, made at the first call and again whenever it is lost.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Watcher(Mutex<watcher::Watcher>);

#[pymethods]
impl Watcher {
    #[new]
    fn new(client: &Client) -> Self {
        Self(Mutex::new(watcher::Watcher::new(&client.inner)))
    }

    /// Whether from here on every change is told.
    #[getter]
    fn is_watching(&self) -> bool {
        self.lock().is_watching()
    }

    /// Why there is no daemon to watch, after the last try to find one.
    #[getter]
    fn away(&self) -> Option<String> {
        self.lock().away().map(ToString::to_string)
    }

    /// What to watch, to be asked for again after every call here: the descriptor, and whether it waits for room to write.
    #[getter]
    fn socket(&self) -> Option<(i32, bool)> {
        self.lock().socket().map(|socket| (socket.fd, socket.wants_write))
    }

    /// How many seconds to wait for it at most; none for as long as it takes.
    #[getter]
    fn wait(&self) -> Option<f64> {
        self.lock().wait().map(|wait| wait.as_secs_f64())
    }

    /// What has come: a dict for each change; for changes that were missed their number, or none where nobody knows it.
    fn receive(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let events = self.lock().receive();
        events.into_iter().map(|event| object(py, event)).collect()
    }
}

impl Watcher {
    fn lock(&self) -> MutexGuard<'_, watcher::Watcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let changed = match event {
        Event::Lagged(dropped) => return dropped.into_py_any(py),
        Event::Changed(changed) => changed,
    };
    let ago = watcher::ago(&changed).as_secs_f64();
    let (view, told) = (changed.view, PyDict::new(py));
    told.set_item("name", changed.name)?;
    told.set_item("was", changed.from.word())?;
    told.set_item("state", view.state.word())?;
    told.set_item("what", changed.what)?;
    told.set_item("forced", view.forced.map(|forced| forced.word()))?;
    told.set_item("mode", view.mode.word())?;
    told.set_item("why", view.why)?;
    told.set_item("by", view.by)?;
    #[allow(clippy::cast_precision_loss, reason = "exact up to 285,000 years")]
    told.set_item("retry_after", view.retry_after_ms.map(|ms| ms as f64 / 1000.0))?;
    told.set_item("ago", ago)?;
    told.set_item("host_only", view.host_only)?;
    told.set_item("generation", view.generation)?;
    told.into_py_any(py)
}
