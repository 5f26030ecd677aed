//! What an operator asks of a daemon: the table, the workers, commands, the stream of changes.
//!
//! A connection of its own, blocking, one request at a time: for tools, never for guarded calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use breakerd_proto::limits::REASON_BYTES_MAX;
use breakerd_proto::message::{
    About, Action, Ask, Asked, BreakerRow, Changed, Command, Daemon, Describe, Description, Done, LaneRow, List, Watch,
    Welcome, WorkerRow, Workers,
};
use breakerd_proto::{Mono, Name, ToClient, ToDaemon, outcome};

use crate::channel::Channel;
use crate::connect::{connect, greet};
use crate::error::{ConnectError, End, OperatorError};
use crate::identity;
use crate::link::{Interest, Link};

/// How long a request may take. A command may have to go to the fleet and back.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// A conversation with one daemon.
#[derive(Debug)]
pub struct Operator {
    line: Line,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// A breaker has changed.
    Changed(Changed),
    /// So many changes were dropped because this watcher read too slowly: read the table again.
    Lagged(u64),
}

/// Every change from the moment of [`Operator::watch`] on. Each `next` blocks until there is one; after an error it ends.
#[derive(Debug)]
pub struct Changes {
    line: Line,
    over: bool,
}

impl Operator {
    /// Connects and says hello, within [`ANSWER_WAIT_MAX`].
    ///
    /// # Errors
    /// [`ConnectError`] says what is wrong with the socket and what to do about it.
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        let deadline = Mono::now().after(ANSWER_WAIT_MAX);
        let link = connect(path, deadline)?;
        let mut channel = Channel::new(&identity::hello(None, (0, 0)));
        greet(&link, &mut channel, deadline)
            .map_err(|end| lost(path, end))?
            .ok_or_else(|| ConnectError::Silent { path: path.to_owned(), waited: ANSWER_WAIT_MAX })?;
        Ok(Self { line: Line { path: path.to_owned(), link, channel } })
    }

    /// What the daemon said at hello.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        self.line.channel.welcome()
    }

    /// What the daemon is.
    ///
    /// # Errors
    /// [`OperatorError`], as for every request here: refused, or the conversation is lost.
    pub fn about(&mut self) -> Result<Daemon, OperatorError> {
        self.line.ask(
            |request| About { request }.into(),
            |answer| match answer {
                ToClient::Daemon(daemon) => Some(daemon),
                _ => None,
            },
        )
    }

    /// The whole table, in the order of the names.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn list(&mut self) -> Result<Vec<BreakerRow>, OperatorError> {
        let mut rows: Vec<BreakerRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.name.clone()).unwrap_or_default();
            let page = self.line.ask(
                |request| List { request, after }.into(),
                |answer| match answer {
                    ToClient::Page(page) => Some(page),
                    _ => None,
                },
            )?;
            let empty = page.rows.is_empty();
            rows.extend(page.rows);
            if !page.more || empty {
                return Ok(rows);
            }
        }
    }

    /// One breaker with its policy and all its lanes.
    ///
    /// # Errors
    /// [`OperatorError`]; refused with `UnknownBreaker` if nobody uses the name.
    pub fn describe(&mut self, name: &Name) -> Result<Description, OperatorError> {
        let mut lanes: Vec<LaneRow> = Vec::new();
        loop {
            let (name, after) = (name.as_str().to_owned(), lanes.last().map_or(0, |lane| lane.worker));
            let mut page = self.line.ask(
                |request| Describe { request, name, after }.into(),
                |answer| match answer {
                    ToClient::Description(page) => Some(page),
                    _ => None,
                },
            )?;
            let empty = page.lanes.is_empty();
            lanes.append(&mut page.lanes);
            if !page.more || empty {
                return Ok(Description { lanes, more: false, ..page });
            }
        }
    }

    /// All workers, in the order of their numbers.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn workers(&mut self) -> Result<Vec<WorkerRow>, OperatorError> {
        let mut rows: Vec<WorkerRow> = Vec::new();
        loop {
            let after = rows.last().map_or(0, |row| row.worker);
            let page = self.line.ask(
                |request| Workers { request, after }.into(),
                |answer| match answer {
                    ToClient::WorkersPage(page) => Some(page),
                    _ => None,
                },
            )?;
            let empty = page.rows.is_empty();
            rows.extend(page.rows);
            if !page.more || empty {
                return Ok(rows);
            }
        }
    }

    /// What would a call of this name be answered? Takes nothing.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn ask(&mut self, name: &Name) -> Result<Asked, OperatorError> {
        let name = name.as_str().to_owned();
        self.line.ask(
            |request| Ask { request, name }.into(),
            |answer| match answer {
                ToClient::Asked(asked) => Some(asked),
                _ => None,
            },
        )
    }

    /// Resets, forces or releases a breaker. A reason longer than 160 bytes is cut.
    ///
    /// # Errors
    /// [`OperatorError`]; refused with `Denied` if this account or this socket lacks the right.
    pub fn command(&mut self, name: &Name, action: Action, because: &str) -> Result<Done, OperatorError> {
        let (name, because) = (name.as_str().to_owned(), outcome::cut(because, REASON_BYTES_MAX).to_owned());
        self.line.ask(
            |request| Command { request, name, action, because }.into(),
            |answer| match answer {
                ToClient::Done(done) => Some(done),
                _ => None,
            },
        )
    }

    /// From here on, every change.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn watch(mut self) -> Result<Changes, OperatorError> {
        self.line.ask(
            |request| Watch { request }.into(),
            |answer| match answer {
                ToClient::Watching(watching) => Some(watching),
                _ => None,
            },
        )?;
        Ok(Changes { line: self.line, over: false })
    }
}

impl Changes {
    /// The next change, waiting for it until the deadline at most; none if there was none.
    ///
    /// # Errors
    /// [`OperatorError::Lost`]; the stream has ended then.
    pub fn next_until(&mut self, deadline: Mono) -> Result<Option<WatchEvent>, OperatorError> {
        loop {
            match self.line.receive(deadline)? {
                None => return Ok(None),
                Some(ToClient::Changed(changed)) => return Ok(Some(WatchEvent::Changed(changed))),
                Some(ToClient::Lagged(lagged)) => return Ok(Some(WatchEvent::Lagged(lagged.dropped))),
                Some(_) => {}
            }
        }
    }
}

impl Iterator for Changes {
    type Item = Result<WatchEvent, OperatorError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_until(Mono::NEVER).transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// One connection, used by one caller at a time.
#[derive(Debug)]
struct Line {
    path: PathBuf,
    link: Link,
    channel: Channel,
}

impl Line {
    /// Sends one request and waits for its answer; `pick` takes the answer of the right kind.
    fn ask<T>(
        &mut self,
        request: impl FnOnce(u32) -> ToDaemon,
        pick: impl Fn(ToClient) -> Option<T>,
    ) -> Result<T, OperatorError> {
        let number = self.channel.next_request();
        self.channel.queue(&request(number));
        let deadline = Mono::now().after(ANSWER_WAIT_MAX);
        loop {
            let Some(answer) = self.receive(deadline)? else {
                let (path, waited) = (self.path.clone(), ANSWER_WAIT_MAX);
                return Err(ConnectError::Silent { path, waited }.into());
            };
            match answer {
                ToClient::Refused(no) if no.request == number => {
                    return Err(OperatorError::Refused { code: no.code, sentence: no.sentence });
                }
                other => {
                    if let Some(answer) = pick(other) {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// The next message, sending what is queued meanwhile; none if the deadline passes first.
    fn receive(&mut self, deadline: Mono) -> Result<Option<ToClient>, OperatorError> {
        loop {
            self.link.flush(&mut self.channel).map_err(|end| lost(&self.path, end))?;
            if let Some(message) = self.channel.next_message().map_err(|end| lost(&self.path, end))? {
                return Ok(Some(message));
            }
            let interest = Interest { write: self.channel.wants_write() };
            if !self.link.wait(interest, deadline).map_err(|end| lost(&self.path, end))? {
                return Ok(None);
            }
            self.link.fill(&mut self.channel);
        }
    }
}

fn lost(path: &Path, end: End) -> ConnectError {
    ConnectError::Ended { path: path.to_owned(), end }
}
