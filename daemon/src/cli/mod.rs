//! The command line: one binary, a file for each command.

mod args;
mod ask;
mod check;
mod command;
mod demo;
mod failure;
mod json;
mod policy;
mod printer;
mod private;
mod run;
mod serve;
mod status;
mod table;
mod text;
mod watch;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use breakerd_client::Operator;
use clap::Parser;

use args::{Arguments, Command, Global};
use failure::Failure;

/// Reads the arguments and does what they say.
///
/// The exit codes are part of the interface: 0 done, 1 `ask` says reject or the demo's claim does not hold, 2 usage,
/// 69 no daemon, 75 another daemon is running, 77 no right, 78 configuration; `run` ends with its command's own.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come here too, with code 0. Where they cannot be printed nobody reads them.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let global = &arguments.global;
    let done = match arguments.command.unwrap_or_default() {
        Command::Serve(serve) => serve::serve(global, &serve),
        Command::Run(run) => run::run(global, &run),
        Command::Demo(demo) => demo::demo(&demo),
        Command::Check(check) => check::check(global, &check),
        Command::Status(status) => status::status(global, status.name.as_ref()),
        Command::Watch => watch::watch(global),
        Command::Ask(ask) => ask::ask(global, &ask.name),
        Command::Force(force) => command::force(global, &force),
        Command::Release(release) => command::release(global, &release),
        Command::Reset(reset) => command::reset(global, &reset),
        Command::Mode(mode) => command::mode(global, &mode),
        Command::Workers => workers::workers(global),
        Command::DemoWorker(worker) => demo::work(&worker),
    };
    done.unwrap_or_else(|failure| {
        if let Some(complaint) = failure.complaint() {
            printer::complain(&complaint);
        }
        failure.exit_code()
    })
}

impl Global {
    /// Where workers connect, and whoever only looks.
    fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(crate::config::SOCKET))
    }

    /// Where operators connect.
    fn control(&self) -> &Path {
        self.control.as_deref().unwrap_or(Path::new(crate::config::CONTROL))
    }

    /// A conversation with the daemon, to look.
    fn look(&self) -> Result<Operator, Failure> {
        Ok(Operator::connect(self.socket())?)
    }
}
