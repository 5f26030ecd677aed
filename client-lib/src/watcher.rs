//! Every change of every breaker, for a caller's own loop. Nothing here blocks.
//!
//! A connection of its own, made at the first call and again whenever it is lost. Call [`Watcher::receive`] when
//! [`Watcher::socket`] is ready and when [`Watcher::wait`] is over; ask for both again after every call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use breakerd_proto::message::{Changed, Watch};
use breakerd_proto::{Mono, ToClient};

use crate::blocking::Client;
use crate::channel::Channel;
use crate::connect::connect_now;
pub use crate::dialogue::Socket;
use crate::error::ConnectError;
use crate::identity;
use crate::link::Link;
use crate::operator::ANSWER_WAIT_MAX;
use crate::patience::Pauses;

/// A watcher of one daemon.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    service: Option<String>,
    line: Option<Line>,
    connections: u64,
    /// Whether any connection has got so far as to be told of changes.
    began: bool,
    pauses: Pauses,
    away: Option<ConnectError>,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A breaker has changed.
    Changed(Changed),
    /// Changes were missed: so many because this watcher read too slowly, or nobody knows how many because it had lost
    /// its daemon for a while. Read the table again.
    Lagged(Option<u64>),
}

/// How long ago it happened. The daemon's clock is ours, but for time namespaces, where this reads zero at worst.
#[must_use]
pub fn ago(changed: &Changed) -> Duration {
    Mono::now().since(changed.at)
}

/// One connection.
#[derive(Debug)]
struct Line {
    link: Link,
    channel: Channel,
    asked: bool,
    watching: bool,
    /// By when it must be watching.
    deadline: Mono,
}

impl Watcher {
    /// A watcher of this client's daemon. It connects at the first [`Watcher::receive`].
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let options = &client.shared().options;
        Self {
            path: options.socket.clone(),
            service: options.service.clone(),
            line: None,
            connections: 0,
            began: false,
            pauses: Pauses::default(),
            away: None,
        }
    }

    /// Whether from here on every change is told.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.watching)
    }

    /// Why there is no connection, after the last try to make one.
    #[must_use]
    pub fn away(&self) -> Option<&ConnectError> {
        self.away.as_ref()
    }

    /// What to watch. None while there is no connection.
    #[must_use]
    pub fn socket(&self) -> Option<Socket> {
        let line = self.line.as_ref()?;
        let fd = line.link.number()?;
        Some(Socket { fd, connection: self.connections, wants_write: line.channel.wants_write() })
    }

    /// How long to wait for the socket at most. None for as long as it takes.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let now = Mono::now();
        match &self.line {
            None => Some(self.pauses.left(now)),
            Some(line) if line.watching => None,
            Some(line) => Some(line.deadline.left(now)),
        }
    }

    /// What has come. Connects where there is no connection and the pause after the last is over.
    pub fn receive(&mut self) -> Vec<Event> {
        let now = Mono::now();
        let mut events = Vec::new();
        if self.line.is_none() && self.pauses.is_over(now) {
            match self.connect(now) {
                Ok(line) => self.line = Some(line),
                Err(error) => self.lost(now, error),
            }
        }
        let Some(line) = &mut self.line else { return events };
        let advanced = line.advance(now, &self.path, self.began, &mut events);
        if line.watching {
            self.began = true;
            self.pauses.clear();
            self.away = None;
        }
        if let Err(error) = advanced {
            self.lost(now, error);
        }
        events
    }

    fn connect(&mut self, now: Mono) -> Result<Line, ConnectError> {
        let link = connect_now(&self.path)?;
        self.connections += 1;
        let channel = Channel::new(&identity::hello(self.service.as_deref(), (0, 0)));
        Ok(Line { link, channel, asked: false, watching: false, deadline: now.after(ANSWER_WAIT_MAX) })
    }

    fn lost(&mut self, now: Mono, error: ConnectError) {
        self.line = None;
        self.away = Some(error);
        self.pauses.begin(now);
    }
}

impl Line {
    /// Sends and reads what it can. `again` says that changes were told before this connection.
    fn advance(&mut self, now: Mono, path: &Path, again: bool, events: &mut Vec<Event>) -> Result<(), ConnectError> {
        let ended = |end| ConnectError::Ended { path: path.to_owned(), end };
        self.link.fill(&mut self.channel);
        while let Some(message) = self.channel.next_message().map_err(ended)? {
            match message {
                ToClient::Watching(_) => {
                    self.watching = true;
                    if again {
                        events.push(Event::Lagged(None));
                    }
                }
                ToClient::Changed(changed) => events.push(Event::Changed(changed)),
                ToClient::Lagged(lagged) => events.push(Event::Lagged(Some(lagged.dropped))),
                _ => {}
            }
        }
        if !self.asked && self.channel.welcome().is_some() {
            self.asked = true;
            let request = self.channel.next_request();
            self.channel.queue(&Watch { request }.into());
        }
        self.link.flush(&mut self.channel).map_err(ended)?;
        if self.watching || now < self.deadline {
            return Ok(());
        }
        Err(ConnectError::Silent { path: path.to_owned(), waited: ANSWER_WAIT_MAX })
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
