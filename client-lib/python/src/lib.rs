//! The extension module under the Python package: Rust's client, as classes without any policy of their own.
//!
//! What blocks does so with the interpreter released. Nothing here calls back into Python: what people should know is
//! kept in [`Client::warnings`] until the Python side asks. Classification, blocks and asyncio are Python's part.

mod answer;
mod client;
mod connection;
mod permit;
mod policy;
mod watcher;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _breakerd {
    #[pymodule_export]
    use crate::client::{Breaker, Client};
    #[pymodule_export]
    use crate::connection::Connection;
    #[pymodule_export]
    use crate::permit::Permit;
    #[pymodule_export]
    use crate::watcher::Watcher;
}
