//! The fleet: how daemons agree through Redis, without a byte of I/O.
//!
//! [`LinkMachine`] is the link's whole behaviour as a state machine: the carrier tells it what came off the wire and
//! does what it asks; the table is told [`Fact`]s and proposes [`Op`]s. The other files are the words: [`value`] one
//! breaker as the fleet stores it, [`event`] what the channel carries, [`op`] what a daemon may ask, [`command`] what
//! goes to Redis. The scripts that judge the ops are the daemon's (`daemon/src/fleet/*.lua`).

pub mod command;
pub mod event;
mod fact;
mod link;
pub mod op;
pub mod position;
mod redis_time;
mod sync;
pub mod value;
mod writes;

pub use command::{Command, CommandKind, ConnectionNumber, Datum, Failed, Heard, Keys, Request, RequestId, Said};
pub use event::{Batch, Event};
pub use fact::{Counters, Fact, LinkState, Seen};
pub use link::LinkMachine;
pub use op::{Op, OpKind, OpResult, Token};
pub use position::{Epoch, Position, Tag};
pub use redis_time::{LEASE_MS, RedisTime};
pub use value::Value;
pub use writes::NotTaken;

#[cfg(test)]
mod world;
