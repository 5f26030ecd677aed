//! The client for tokio: the same names, awaited.
//!
//! A call waits for its daemon at most 250 ms and blocks nobody meanwhile. Each runtime has a connection of its own, on
//! which all its tasks ask; no task is spawned. A future that is dropped gives its probe back, or has failed as `hung` if the call
//! was out for longer than the policy's `hung_after`.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::{Handle, Id};
use ::tokio::sync::Notify;
use ::tokio::time::sleep;
use arc_swap::ArcSwap;
use breakerd_proto::message::PolicyPatch;
use breakerd_proto::{Mono, Name, Outcome, State};

use crate::blocking::{self, Observation, settle_first};
use crate::classify::{Terms, by_type};
use crate::error::{BadBreaker, CallError, FirstError, ResetError};
use crate::fork::Native;
use crate::health::Health;
use crate::link::Link;
use crate::options::{BadVariable, Options};
use crate::permit::{Permit, Rejected};
use crate::wire::{Answer, Asked, Connection};

/// Runtimes of one process that keep their connection; the one that has it longest makes room for another.
const RUNTIMES_MAX: usize = 64;

/// A worker's way to its daemon. Cheap to clone. Usable on any runtime, and made outside of one as well.
#[derive(Clone, Debug)]
pub struct Client {
    inner: blocking::Client,
    lines: Arc<ArcSwap<Native<Mutex<Lines>>>>,
}

/// The connections of one process, by runtime.
type Lines = Vec<(Id, Arc<Line>)>;

/// One breaker, by its name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Breaker {
    inner: blocking::Breaker,
    client: Client,
}

/// One runtime's connection.
#[derive(Debug)]
struct Line {
    state: Mutex<LineState>,
    /// Told when an answer has come that another task took off the socket.
    came: Notify,
}

#[derive(Debug)]
struct LineState {
    connection: Connection,
    answers: BTreeMap<u64, Answer>,
    watched: Option<(u64, Arc<AsyncFd<Watched>>)>,
}

/// Keeps the socket open for as long as the runtime watches it.
#[derive(Debug)]
struct Watched {
    fd: RawFd,
    _open: Arc<Link>,
}

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl From<blocking::Client> for Client {
    /// On the same breakers and the same fallback.
    fn from(inner: blocking::Client) -> Self {
        Self { inner, lines: Arc::new(ArcSwap::from_pointee(Native::new(Mutex::default()))) }
    }
}

impl Client {
    /// As [`blocking::Client::open`].
    ///
    /// # Errors
    /// [`BadVariable`] if a `BREAKERD_…` variable cannot be understood.
    pub fn open() -> Result<Self, BadVariable> {
        blocking::Client::open().map(Self::from)
    }

    /// As [`blocking::Client::at`].
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn at(path: impl AsRef<Path>) -> Result<Self, BadVariable> {
        blocking::Client::at(path).map(Self::from)
    }

    /// With these options.
    #[must_use]
    pub fn with(options: Options) -> Self {
        options.open().into()
    }

    /// As [`blocking::Client::breaker`].
    ///
    /// # Errors
    /// Only for a name that breaks the rule.
    pub fn breaker(&self, name: &str) -> Result<Breaker, BadBreaker> {
        Ok(Breaker { inner: self.inner.breaker(name)?, client: self.clone() })
    }

    /// As [`blocking::Client::breaker_with`].
    ///
    /// # Errors
    /// For a name that breaks the rule or a policy out of its bounds.
    pub fn breaker_with(&self, name: &str, policy: PolicyPatch) -> Result<Breaker, BadBreaker> {
        Ok(Breaker { inner: self.inner.breaker_with(name, policy)?, client: self.clone() })
    }

    /// Makes the call under the first of these breakers that admits it.
    ///
    /// # Errors
    /// [`FirstError`]; the failure of the call itself tries no other breaker.
    pub async fn first_admitted<'n, T, E, F: Future<Output = Result<T, E>>>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        call: impl FnOnce(Breaker) -> F,
    ) -> Result<(Name, T), FirstError<E>> {
        let mut rejected = Vec::new();
        for name in names {
            let breaker = self.breaker(name).map_err(FirstError::Bad)?;
            match breaker.admit().await {
                Ok(permit) => return settle_first(permit, call(breaker).await),
                Err(no) => rejected.push(no),
            }
        }
        Err(FirstError::Rejected(rejected))
    }

    /// As [`blocking::Client::health`]: over the process's own connection, which may block for 5 ms.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.shared().health(breakerd_proto::limits::SYNC_WAIT_MAX)
    }

    /// This runtime's connection.
    fn line(&self) -> Arc<Line> {
        loop {
            let current = self.lines.load_full();
            let Some(lines) = current.get() else {
                // A forked child leaves its parent's alone.
                self.lines.compare_and_swap(&current, Arc::new(Native::new(Mutex::default())));
                continue;
            };
            let (runtime, mut lines) = (Handle::current().id(), lock(lines));
            if let Some((_, line)) = lines.iter().find(|(of, _)| *of == runtime) {
                return Arc::clone(line);
            }
            if lines.len() >= RUNTIMES_MAX {
                lines.remove(0);
            }
            let line = Arc::new(Line::new(&self.inner));
            lines.push((runtime, Arc::clone(&line)));
            return line;
        }
    }
}

impl Breaker {
    /// Its name, with the process's prefix.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.inner.name()
    }

    /// Awaits the call if it may be made. `Ok` is a success, `Err` a failure whose kind is the error's type. Dropped
    /// before its end it is abandoned, or has failed as `hung` if it was out for longer than the policy's `hung_after`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, CallError<E>> {
        self.call_classified(call, by_type).await
    }

    /// The same with your own judge of what the result is evidence of; [`classify`](crate::classify) has some ready.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_classified<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&Result<T, E>, Terms<'_>) -> Outcome,
    ) -> Result<T, CallError<E>> {
        let permit = self.admit().await.map_err(CallError::Rejected)?;
        let result = call.await;
        let outcome = classify(&result, permit.terms());
        permit.settle(outcome);
        result.map_err(CallError::Failed)
    }

    /// May I call?
    ///
    /// # Errors
    /// [`Rejected`] tells when to try again.
    pub async fn admit(&self) -> Result<Permit, Rejected> {
        if let Some(judged) = self.inner.want(Mono::now()).at_once() {
            return judged.map(Permit::cancellable);
        }
        let line = self.client.line();
        let judged = match line.ask(|connection| connection.query(&self.inner)).await {
            Some(Answer::Judged(judged)) => judged,
            // No answer of this kind can be lost; a process that blocks for 5 ms still guards its provider.
            _ => self.inner.admit(),
        };
        judged.map(Permit::cancellable)
    }

    /// What it is. As [`Breaker::observe`].
    pub async fn state(&self) -> State {
        self.observe().await.state
    }

    /// What this worker sees of it.
    pub async fn observe(&self) -> Observation {
        let line = self.client.line();
        match line.ask(|connection| connection.observe(&self.inner)).await {
            Some(Answer::Observed(seen)) => *seen,
            _ => self.inner.observe(),
        }
    }

    /// Changes the breaker to closed, as [`blocking::Breaker::reset`].
    ///
    /// # Errors
    /// [`ResetError`]; `Denied` if this account lacks the right.
    pub async fn reset(&self, because: &str) -> Result<(), ResetError> {
        let line = self.client.line();
        match line.ask(|connection| connection.reset(&self.inner, because)).await {
            Some(Answer::Reset(result)) => result,
            _ => self.inner.reset(because),
        }
    }
}

/// What a task waits for next.
enum Woken {
    Late,
    Readable,
    Told,
}

impl Line {
    fn new(client: &blocking::Client) -> Self {
        let state = LineState { connection: Connection::new(client), answers: BTreeMap::new(), watched: None };
        Self { state: Mutex::new(state), came: Notify::new() }
    }

    /// Asks and awaits the answer. Any of the waiting tasks takes what comes off the socket, for all of them.
    async fn ask(&self, ask: impl FnOnce(&mut Connection) -> Asked) -> Option<Answer> {
        let asked = ask(&mut lock(&self.state).connection);
        let (number, wait) = match asked {
            Asked::Answered(answer) => return Some(answer),
            Asked::Waits(number, wait) => (number, wait),
        };
        let _place = Place { line: self, number };
        self.answer(number, wait).await
    }

    async fn answer(&self, number: u64, wait: Duration) -> Option<Answer> {
        let mut late = pin!(sleep(wait));
        loop {
            let mut told = pin!(self.came.notified());
            // From here on no answer that another task takes goes unnoticed.
            told.as_mut().enable();
            let watched = {
                let mut state = lock(&self.state);
                if let Some(answer) = state.answers.remove(&number) {
                    return Some(answer);
                }
                state.watch()
            };
            let mut ready = pin!(async {
                match &watched {
                    Some(watched) => watched.readable().await.map(|mut ready| ready.clear_ready()).is_ok(),
                    None => std::future::pending().await,
                }
            });
            let woken = poll_fn(|context| {
                if ready.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Woken::Readable);
                }
                if told.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Woken::Told);
                }
                late.as_mut().poll(context).map(|()| Woken::Late)
            });
            match woken.await {
                Woken::Told => {}
                Woken::Readable => self.receive(),
                Woken::Late => {
                    let mut state = lock(&self.state);
                    let came = state.answers.remove(&number);
                    return came.or_else(|| state.connection.expire(number));
                }
            }
        }
    }

    fn receive(&self) {
        let mut state = lock(&self.state);
        let answers = state.connection.receive();
        state.answers.extend(answers);
        drop(state);
        self.came.notify_waiters();
    }
}

impl LineState {
    /// The socket as this runtime watches it. None while there is none, or where the runtime can watch nothing.
    #[allow(unsafe_code)]
    fn watch(&mut self) -> Option<Arc<AsyncFd<Watched>>> {
        let (number, link) = self.connection.link()?;
        if let Some((watched, fd)) = &self.watched
            && *watched == number
        {
            return Some(Arc::clone(fd));
        }
        self.watched = None;
        let watched = Watched { fd: link.number()?, _open: link };
        // SAFETY: the descriptor is the link's, which closes it when its last holder is gone; `Watched` is one of them,
        // and always gives the same number. In a forked child, where it is closed, none of this is touched again.
        let fd = Arc::new(unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) }.ok()?);
        self.watched = Some((number, Arc::clone(&fd)));
        Some(fd)
    }
}

/// A task's place among those who wait. Left early, what it is granted goes back.
struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.line.state);
        let came = state.answers.remove(&self.number);
        state.connection.cancel(self.number);
        drop(state);
        // A permit that came unseen is abandoned here, outside the lock.
        drop(came);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tokio_tests.rs"]
mod tests;
