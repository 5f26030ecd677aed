//! `serve`: the daemon in this process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::args::{Global, ServeArgs};
use super::failure::Failure;
use crate::config::{self, Config};
use crate::reload::Read;

pub(super) fn serve(global: &Global, serve: &ServeArgs) -> Result<ExitCode, Failure> {
    if let Some(parent) = serve.parent
        && !end_with(parent)?
    {
        return Ok(ExitCode::SUCCESS);
    }
    let read = reader(global.clone(), serve.private.clone());
    let code = crate::service::serve(read()?, read);
    if let Some(directory) = &serve.private {
        // Whoever started this daemon removes the directory as well, unless it was killed; then nobody else would.
        drop(std::fs::remove_dir_all(directory));
    }
    Ok(code)
}

/// Reads the configuration as this command line has it, now and at each reload.
fn reader(global: Global, private: Option<PathBuf>) -> Read {
    Arc::new(move || {
        let mut config = config::load(global.config.as_deref())?;
        match &private {
            Some(directory) => keep_within(&mut config, directory),
            None => overrule(&mut config, &global),
        }
        Ok(config)
    })
}

/// Sockets and snapshot in one directory, which is nobody else's.
fn keep_within(config: &mut Config, directory: &Path) {
    config.listen.socket = directory.join("breakerd.sock");
    config.listen.control = directory.join("control.sock");
    config.listen.group = None;
    config.state = directory.join("state");
}

/// What the command line and the environment say stands over the files.
fn overrule(config: &mut Config, global: &Global) {
    if let Some(socket) = &global.socket {
        config.listen.socket.clone_from(socket);
    }
    if let Some(control) = &global.control {
        config.listen.control.clone_from(control);
    }
}

/// Has the kernel send this process SIGTERM when its parent ends; false if the parent has ended already.
fn end_with(parent: i32) -> Result<bool, Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::System { what: "cannot follow the parent's end", error: error.into() })?;
    // Zero stands for a parent in another pid namespace, whose number cannot be compared.
    let now = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    Ok(now == parent || now == 0)
}
