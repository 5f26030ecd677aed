//! The client for a caller's own loop: asyncio, tokio, anything that can watch a descriptor.
//!
//! Nothing here blocks. Ask; if there is no answer at once, watch [`Connection::socket`] and call [`Connection::receive`]
//! when it is ready; call [`Connection::expire`] when the wait is over, [`Connection::cancel`] when the asker goes away.
//! A connection belongs to one loop. What the process knows of its breakers, and its fallback, are shared by all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use breakerd_proto::limits::ASYNC_WAIT_MAX;
use breakerd_proto::message::Action;
use breakerd_proto::{Mode, Mono};

use crate::attachment::Attachment;
use crate::blocking::{Breaker, Client, Observation, Process, Shared};
pub use crate::dialogue::Socket;
use crate::dialogue::{Begun, Key, Place, Question, Reply};
use crate::error::ResetError;
use crate::judge::Case;
use crate::permit::{Permit, Rejected};

/// One loop's connection. Connects when first asked, reconnects by itself.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    attachment: Arc<Attachment>,
    waiting: BTreeMap<u64, Waiting>,
    last_number: u64,
}

/// What a question got at once.
#[derive(Debug)]
pub enum Asked {
    /// The answer.
    Answered(Answer),
    /// The number under which the answer will come, and how long to wait for it.
    Waits(u64, Duration),
}

/// What a question gets in the end.
#[derive(Debug)]
pub enum Answer {
    /// To [`Connection::query`].
    Judged(Result<Permit, Rejected>),
    /// To [`Connection::observe`].
    Observed(Box<Observation>),
    /// To [`Connection::reset`].
    Reset(Result<(), ResetError>),
}

#[derive(Clone, Debug)]
enum What {
    Query,
    Observe,
    Reset(String),
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    breaker: Breaker,
    what: What,
    asked: Mono,
    deadline: Mono,
    /// Whether it was asked a second time, after its first connection was lost.
    again: bool,
}

impl Connection {
    /// A loop's own connection. It fails at nothing: without a daemon the process's fallback answers.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let shared = Arc::clone(client.shared());
        let attachment = attachment(&shared);
        Self { shared, attachment, waiting: BTreeMap::new(), last_number: 0 }
    }

    /// May I call?
    pub fn query(&mut self, breaker: &Breaker) -> Asked {
        self.ask(breaker, What::Query)
    }

    /// What does this worker see of the breaker?
    pub fn observe(&mut self, breaker: &Breaker) -> Asked {
        self.ask(breaker, What::Observe)
    }

    /// Changes the breaker to closed, as [`Breaker::reset`].
    pub fn reset(&mut self, breaker: &Breaker, because: &str) -> Asked {
        self.ask(breaker, What::Reset(because.to_owned()))
    }

    /// What to watch; to be asked for again after every call here. None while there is no daemon: nothing waits then.
    #[must_use]
    pub fn socket(&self) -> Option<Socket> {
        self.attachment.socket()
    }

    /// The connection's number and its socket, to be kept open by whoever watches it.
    #[cfg(feature = "tokio")]
    pub(crate) fn link(&self) -> Option<(u64, Arc<crate::link::Link>)> {
        self.attachment.link()
    }

    /// Takes what has come, and gives the answers that are complete by it.
    pub fn receive(&mut self) -> Vec<(u64, Answer)> {
        if !self.renew() {
            return Vec::new();
        }
        self.attachment.receive(Mono::now());
        let numbers: Vec<u64> = self.waiting.keys().copied().collect();
        numbers.into_iter().filter_map(|number| Some((number, self.take(number)?))).collect()
    }

    /// The wait is over: the answer of what was last seen, or of the fallback. None if the number waits no more.
    pub fn expire(&mut self, number: u64) -> Option<Answer> {
        let waiting = self.waiting.remove(&number)?;
        let reply = self.attachment.give_up(Mono::now(), waiting.key);
        Some(self.conclude(waiting, reply))
    }

    /// The asker has gone away: what it is granted goes back.
    pub fn cancel(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.remove(&number) {
            self.attachment.forget(Mono::now(), waiting.key);
        }
    }

    fn ask(&mut self, breaker: &Breaker, what: What) -> Asked {
        self.renew();
        let asked = Mono::now();
        let deadline = asked.after(ASYNC_WAIT_MAX);
        if let What::Query = what
            && let Some(judged) = breaker.want(asked).at_once()
        {
            return Asked::Answered(Answer::Judged(judged));
        }
        if self.shared.options.mode == Mode::Off {
            return Asked::Answered(self.answer(breaker, &what, asked, Reply::Absent));
        }
        match self.begin(breaker, &what, asked, deadline) {
            Ok(key) => {
                self.last_number += 1;
                let waiting = Waiting { key, breaker: breaker.clone(), what, asked, deadline, again: false };
                self.waiting.insert(self.last_number, waiting);
                Asked::Waits(self.last_number, ASYNC_WAIT_MAX)
            }
            Err(reply) => Asked::Answered(self.answer(breaker, &what, asked, reply)),
        }
    }

    fn begin(&self, breaker: &Breaker, what: &What, now: Mono, deadline: Mono) -> Result<Key, Reply> {
        let question = match what {
            What::Query => Question::Query(deadline),
            What::Observe => Question::Observe,
            What::Reset(because) => Question::Command(Action::Reset, because),
        };
        match self.attachment.begin(now, &breaker.known, question) {
            Begun::Asked(key, _) => Ok(key),
            Begun::Silent => Err(Reply::Silent),
            Begun::Absent => Err(Reply::Absent),
        }
    }

    /// The answer under this number if it is there. A question whose connection was lost is asked once more.
    fn take(&mut self, number: u64) -> Option<Answer> {
        let reply = self.attachment.take(self.waiting.get(&number)?.key)?;
        let mut waiting = self.waiting.remove(&number)?;
        if matches!(reply, Reply::Absent) && !waiting.again {
            waiting.again = true;
            match self.begin(&waiting.breaker, &waiting.what, Mono::now(), waiting.deadline) {
                Ok(key) => {
                    self.waiting.insert(number, Waiting { key, ..waiting });
                    return None;
                }
                Err(reply) => return Some(self.conclude(waiting, reply)),
            }
        }
        Some(self.conclude(waiting, reply))
    }

    fn conclude(&self, waiting: Waiting, reply: Reply) -> Answer {
        self.answer(&waiting.breaker, &waiting.what, waiting.asked, reply)
    }

    fn answer(&self, breaker: &Breaker, what: &What, asked: Mono, reply: Reply) -> Answer {
        let process = self.shared.process();
        match what {
            What::Observe => Answer::Observed(Box::new(breaker.observed(&process, reply))),
            What::Reset(because) => Answer::Reset(breaker.reset_by(&process, because, reply)),
            What::Query => Answer::Judged(self.judge(&process, breaker, asked, reply)),
        }
    }

    fn judge(&self, process: &Process, breaker: &Breaker, asked: Mono, reply: Reply) -> Result<Permit, Rejected> {
        let case = Case { call: breaker.want(asked), attachment: &self.attachment, alone: &process.alone };
        case.decide(Mono::now(), reply)
    }

    /// In a forked child: a connection of its own. What waited was the parent's. False if it did that.
    fn renew(&mut self) -> bool {
        let ours = self.attachment.is_ours();
        if !ours {
            self.attachment = attachment(&self.shared);
            self.waiting.clear();
        }
        ours
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for waiting in self.waiting.values() {
            self.attachment.forget(Mono::now(), waiting.key);
        }
    }
}

fn attachment(shared: &Shared) -> Arc<Attachment> {
    let process = shared.process();
    Attachment::new(Place::of(&shared.options), Arc::clone(&process.alone), Mono::now())
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
