//! The extension module under the Python package: Rust's client, as classes without any policy of their own.
//!
//! What blocks does so with the interpreter released. What people should know is kept in [`Client::warnings`] until the
//! Python side asks. Classification, probes and asyncio are Python's part.
//!
//! The hot halves of guards, permits and guarded functions are here too (`guard`, `admission`, `guarded`): while the daemon's
//! board alone can admit a call, no Python code of ours runs but for a call that is no plain success.

mod admission;
mod answer;
mod awaitable;
mod client;
mod connection;
mod guard;
mod guarded;
mod kept;
mod lane;
mod permit;
mod policy;
mod watcher;

use pyo3::prelude::*;

/// The extension module.
#[pymodule(gil_used = true)]
mod _breakerd {
    #[pymodule_export]
    use crate::admission::{Admission, Exit};
    #[pymodule_export]
    use crate::client::{Breaker, Client};
    #[pymodule_export]
    use crate::connection::Connection;
    #[pymodule_export]
    use crate::guard::Guard;
    #[pymodule_export]
    use crate::guarded::Guarded;
    #[pymodule_export]
    use crate::lane::{Lane, handle_faked, next_stamp};
    #[pymodule_export]
    use crate::permit::Permit;
    #[pymodule_export]
    use crate::watcher::Watcher;
}
