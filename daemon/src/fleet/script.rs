//! The two scripts that judge what the fleet's table may become. They are the only writers of its keys.
//!
//! A Redis user for a fleet named F needs these rights, and no others: keys `{bk1:F}*`, channel `{bk1:F}ev`, and
//! `+hello +auth +ping +client|setname +subscribe +unsubscribe +role +time +hmget +hgetall +xrange +xrevrange +evalsha
//! +script|load +hget +hlen +hset +hdel +del +zscore +zcard +zrange +zadd +zrem +xadd +publish`.

/// Applies ops; see the head of the file for its arguments.
pub(super) const APPLY: &str = include_str!("apply.lua");
/// Begins an epoch; see the head of the file for its arguments.
pub(super) const INIT: &str = include_str!("init.lua");
