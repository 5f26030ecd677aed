//! The only folder that knows Redis. The link's behaviour is [`breakerd_core::fleet::LinkMachine`]; here bytes are carried
//! for it, and here are the scripts.
//!
//! The driver starts a carrier with [`start`], passes it each request of the machine by [`Requests::ask`], and hands the
//! machine whatever [`Events::recv`] brings.

mod bounded;
mod erase;
mod link;
mod queue;
mod script;

use std::fmt;
use std::io;
use std::sync::Arc;

pub(crate) use erase::erase;
pub(crate) use queue::{Events, Requests};

/// Reads the password, anew for each connection, so that it can be changed under a running daemon.
type ReadPassword = dyn Fn() -> io::Result<Option<String>> + Send + Sync;

/// Where Redis is, and as whom to speak to it.
#[derive(Clone)]
pub(crate) struct RedisSettings {
    /// `redis://HOST:PORT/DATABASE` or `unix:///PATH`, without user and password.
    pub(crate) url: String,
    /// The account; none: `default`.
    pub(crate) user: Option<String>,
    /// The password's source.
    pub(crate) password: Arc<ReadPassword>,
}

impl From<&crate::config::Fleet> for RedisSettings {
    fn from(fleet: &crate::config::Fleet) -> Self {
        let source = fleet.clone();
        Self { url: fleet.redis.clone(), user: fleet.user.clone(), password: Arc::new(move || source.password()) }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Starts the task that carries the link's bytes; it ends when [`Requests`] is dropped.
pub(crate) fn start(settings: RedisSettings) -> (Requests, Events) {
    let (ask, asked) = queue::requests();
    let (tell, events) = queue::events();
    drop(tokio::spawn(link::carry(settings, asked, tell)));
    (ask, events)
}
