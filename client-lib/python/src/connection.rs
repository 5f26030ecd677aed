//! A connection that belongs to one event loop. Nothing here blocks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breakerd_client::wire::{self, Answer, Asked};
use pyo3::prelude::*;

use crate::answer;
use crate::client::{Breaker, Client};

/// One loop's connection: connects when first asked, reconnects by itself.
#[pyclass(frozen, module = "breakerd._breakerd")]
pub(crate) struct Connection(Mutex<wire::Connection>);

/// Zero and the answer, or a number and the seconds to wait for the answer under it.
type Step = (u64, Option<Py<PyAny>>, f64);

#[pymethods]
impl Connection {
    #[new]
    fn new(client: &Client) -> Self {
        Self(Mutex::new(wire::Connection::new(&client.inner)))
    }

    /// May I call?
    fn query(&self, py: Python<'_>, breaker: &Breaker) -> PyResult<Step> {
        step(py, self.lock().query(&breaker.inner))
    }

    /// What does this worker see?
    fn observe(&self, py: Python<'_>, breaker: &Breaker) -> PyResult<Step> {
        step(py, self.lock().observe(&breaker.inner))
    }

    /// Change it to closed.
    fn reset(&self, py: Python<'_>, breaker: &Breaker, because: &str) -> PyResult<Step> {
        step(py, self.lock().reset(&breaker.inner, because))
    }

    /// What to watch, to be asked for again after every call here: the descriptor, the number of the connection that it
    /// belongs to (a descriptor's number may be given out again), and whether it waits for room to write.
    #[getter]
    fn socket(&self) -> Option<(i32, u64, bool)> {
        self.lock().socket().map(|socket| (socket.fd, socket.connection, socket.wants_write))
    }

    /// Takes what has come, and gives the answers that are complete by it.
    fn receive(&self, py: Python<'_>) -> PyResult<Vec<(u64, Py<PyAny>)>> {
        let answers = self.lock().receive();
        answers.into_iter().map(|(number, answer)| Ok((number, object(py, answer)?))).collect()
    }

    /// The wait is over. None if the number waits no more.
    fn expire(&self, py: Python<'_>, number: u64) -> PyResult<Option<Py<PyAny>>> {
        let answer = self.lock().expire(number);
        answer.map(|answer| object(py, answer)).transpose()
    }

    /// The asker has gone away.
    fn cancel(&self, number: u64) {
        self.lock().cancel(number);
    }
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, wire::Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn step(py: Python<'_>, asked: Asked) -> PyResult<Step> {
    match asked {
        Asked::Answered(answer) => Ok((0, Some(object(py, answer)?), Duration::ZERO.as_secs_f64())),
        Asked::Waits(number, wait) => Ok((number, None, wait.as_secs_f64())),
    }
}

fn object(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    match answer {
        Answer::Judged(judged) => answer::judged(py, judged),
        Answer::Observed(seen) => Ok(answer::observed(py, &seen)?.into_any().unbind()),
        Answer::Reset(done) => Ok(answer::reset(done).into_pyobject(py)?.into_any().unbind()),
    }
}
