//! A process's connection to its daemon, shared by threads.
//!
//! Threads that wait share one socket: one of them polls without the lock, the others wait for its signal, so that no
//! thread waits longer than its own deadline. A caller that has a loop of its own uses the steps and waits there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use breakerd_proto::{Mono, Name};

use crate::dialogue::{Begun, Dialogue, Key, Place, Question, Reply, Socket, Standing, Ticket};
use crate::fallback::Alone;
use crate::fork::Native;
use crate::known::Known;
use crate::session::Settled;

/// One connection after another to one daemon.
#[derive(Debug)]
pub(crate) struct Attachment {
    inner: Native<Mutex<Dialogue>>,
    turn: Condvar,
}

impl Attachment {
    pub(crate) fn new(place: Place, alone: Arc<Alone>, now: Mono) -> Arc<Self> {
        Arc::new_cyclic(|owner| {
            let inner = Dialogue::new(place, Weak::clone(owner), alone, now);
            Self { inner: Native::new(Mutex::new(inner)), turn: Condvar::new() }
        })
    }

    /// Whether this process made it. In a forked child everything else here answers that there is no daemon.
    pub(crate) fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }

    /// Asks, connecting first if it is time to, and waits for the answer until the deadline, or until the end of the
    /// process's first attach where that is later.
    pub(crate) fn ask(&self, known: &Arc<Known>, question: Question<'_>, deadline: Mono) -> Reply {
        // A daemon that was restarted since the last call is found by the second attempt.
        for _ in 0..2 {
            let (key, first_until) = match self.begin(Mono::now(), known, question) {
                Begun::Asked(key, first_until) => (key, first_until),
                Begun::Silent => return Reply::Silent,
                Begun::Absent => return Reply::Absent,
            };
            match self.wait(key, deadline.max(first_until.unwrap_or(deadline))) {
                Reply::Absent if Mono::now() < deadline => {}
                reply => return reply,
            }
        }
        Reply::Absent
    }

    /// Asks without waiting.
    pub(crate) fn begin(&self, now: Mono, known: &Arc<Known>, question: Question<'_>) -> Begun {
        let Some(mut inner) = self.lock() else { return Begun::Absent };
        let begun = inner.begin(now, known, question);
        let warning = inner.warning();
        drop(inner);
        if let Some((warn, why)) = warning {
            warn(&why);
        }
        begun
    }

    /// Takes what has come off the socket, for a caller whose own loop says that something has.
    pub(crate) fn receive(&self, now: Mono) {
        if let Some(mut inner) = self.lock() {
            inner.receive(now);
            drop(inner);
            self.turn.notify_all();
        }
    }

    /// The reply to a question, once, if it is there.
    pub(crate) fn take(&self, key: Key) -> Option<Reply> {
        let Some(mut inner) = self.lock() else { return Some(Reply::Absent) };
        inner.take(key)
    }

    /// The deadline has passed: the daemon is told so, and that it was missed is remembered.
    pub(crate) fn give_up(&self, now: Mono, key: Key) -> Reply {
        let Some(mut inner) = self.lock() else { return Reply::Absent };
        inner.give_up(now, key)
    }

    /// The asker has gone away before its deadline.
    pub(crate) fn forget(&self, now: Mono, key: Key) {
        if let Some(mut inner) = self.lock() {
            inner.forget(now, key);
        }
    }

    /// Tells how a call went. Never waits: what does not fit the socket is made good by the next message.
    pub(crate) fn report(&self, now: Mono, name: &Name, ticket: Ticket, settled: Settled) {
        if let Some(mut inner) = self.lock() {
            inner.report(now, name, ticket, settled);
        }
    }

    /// Whether the daemon has yet to be told something of this breaker; also where another thread is at it. Never waits,
    /// since it is asked under another connection's lock.
    pub(crate) fn owes(&self, name: &Name) -> bool {
        let inner = self.inner.get().map(Mutex::try_lock);
        inner.is_some_and(|inner| inner.map_or(true, |inner| inner.owes(name)))
    }

    /// The socket while there is one.
    pub(crate) fn socket(&self) -> Option<Socket> {
        self.lock()?.socket()
    }

    /// The connection's number and its socket, to be kept open by whoever watches it.
    #[cfg(feature = "tokio")]
    pub(crate) fn link(&self) -> Option<(u64, Arc<crate::link::Link>)> {
        let inner = self.lock()?;
        Some((inner.number()?, inner.link()?.0))
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.lock()?.ticket()
    }

    pub(crate) fn standing(&self, now: Mono) -> Standing {
        self.lock().map_or(Standing::Away(now, None), |inner| inner.standing())
    }

    fn wait(&self, key: Key, deadline: Mono) -> Reply {
        let Some(mut inner) = self.lock() else { return Reply::Absent };
        loop {
            if let Some(reply) = inner.take(key) {
                return reply;
            }
            let now = Mono::now();
            if now >= deadline {
                return inner.give_up(now, key);
            }
            inner = if inner.polling {
                let waited = self.turn.wait_timeout(inner, deadline.left(now));
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                match self.poll(inner, deadline) {
                    Some(inner) => inner,
                    None => return Reply::Absent,
                }
            };
        }
    }

    /// Waits at the socket for all who wait, without the lock, and takes what has come.
    fn poll<'a>(&'a self, mut inner: MutexGuard<'a, Dialogue>, deadline: Mono) -> Option<MutexGuard<'a, Dialogue>> {
        let Some((link, interest)) = inner.link() else { return Some(inner) };
        inner.polling = true;
        drop(inner);
        let waited = link.wait(interest, deadline);
        let mut inner = self.lock()?;
        inner.polling = false;
        match waited {
            Ok(_) => inner.receive(Mono::now()),
            Err(end) => inner.fall(Mono::now(), end),
        }
        self.turn.notify_all();
        Some(inner)
    }

    /// Holds the lock, as a thread does that is at work when its process forks.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + use<'_> {
        self.lock().unwrap_or_else(|| unreachable!("it is ours"))
    }

    fn lock(&self) -> Option<MutexGuard<'_, Dialogue>> {
        self.inner.get().map(|inner| inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
