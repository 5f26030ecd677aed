//! Takes a fleet out of Redis: for the demo, which leaves nothing behind.

use std::time::Duration;

use redis::{Client, Connection, ErrorKind, RedisError};

/// Redis has answered all along; if it no longer does, the demo's end need not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Removes everything that the fleet of this name has written. Its daemons must have ended: a daemon that finds its fleet
/// gone writes it anew.
///
/// # Errors
/// Redis is out of reach or refuses.
pub(crate) fn erase(url: &str, fleet: &str) -> Result<(), RedisError> {
    let keys = breakerd_core::fleet::Keys::of(fleet)
        .ok_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "this is no name of a fleet")))?;
    let mut connection: Connection = Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    // The table, the changes and the leases, beside the channel, which is no key.
    let channel = keys.channel();
    let prefix = channel.strip_suffix("ev").unwrap_or(&channel);
    let names: Vec<String> = ["h", "c", "l"].iter().map(|key| format!("{prefix}{key}")).collect();
    redis::cmd("DEL").arg(names).query(&mut connection)
}
