//! The arguments, as they are written.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use breakerd_proto::limits::REASON_BYTES_MAX;
use breakerd_proto::{BadName, Mode, Name, Override};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::parse_duration;

const AFTER_HELP: &str = "Exit codes: 0 done; 1 ask says reject; 2 usage; 69 no daemon; 75 another daemon is running; \
                          77 no right; 78 configuration.\nWithout a command: serve.";

/// A circuit breaker shared by every worker of a host and every host of a fleet.
#[derive(Debug, Parser)]
#[command(name = "breakerd", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Global {
    /// The configuration [default: /etc/breakerd/breakerd.toml and conf.d/*.toml]
    #[arg(long, global = true, env = "BREAKERD_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The socket of the workers [default: /run/breakerd/breakerd.sock]
    #[arg(long, global = true, env = "BREAKERD_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The socket of the operators [default: /run/breakerd-control/control.sock]
    #[arg(long, global = true, env = "BREAKERD_CONTROL", hide_env_values = true, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
    /// For programs: JSON with "schema": 1
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Serve(ServeArgs),
    /// Run a command with a daemon of its own, which ends with it
    Run(RunArgs),
    /// Show on this machine what breakerd does, in ten seconds
    Demo(DemoArgs),
    /// Check the configuration
    Check(CheckArgs),
    /// Show all breakers, or one with its workers
    Status(StatusArgs),
    /// Show every change as it happens
    Watch,
    /// Would a call be let through? Takes no probe
    Ask(AskArgs),
    /// Force a breaker open or closed, everywhere
    Force(ForceArgs),
    /// Take a force away
    Release(ReleaseArgs),
    /// Change a breaker to closed, everywhere
    Reset(ResetArgs),
    /// Set whether a breaker acts, on this host alone
    Mode(ModeArgs),
    /// Show the connected workers
    Workers,
    #[command(hide = true)]
    DemoWorker(DemoWorkerArgs),
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(ServeArgs::default())
    }
}

#[derive(Args, Debug, Default)]
pub(super) struct ServeArgs {
    /// Sockets and snapshot go here, and the directory goes at the end.
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    pub(super) private: Option<PathBuf>,
    /// End when this process ends.
    #[arg(long, hide = true, value_name = "PID")]
    pub(super) parent: Option<i32>,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The command and its arguments. The daemon is configured by --config, else by ./breakerd.toml, else not at all
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Let the hosts meet in this Redis
    #[arg(long, value_name = "URL")]
    pub(super) redis: Option<String>,
    /// How many hosts to show, 1 or 2
    #[arg(long, requires = "redis", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) hosts: Option<u8>,
}

#[derive(Args, Debug)]
pub(super) struct DemoWorkerArgs {
    pub(super) provider: std::net::SocketAddr,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Say for each value of this breaker's policy where it comes from
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(super) explain: Option<Name>,
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// One breaker
    #[arg(value_parser = name)]
    pub(super) name: Option<Name>,
}

#[derive(Args, Debug)]
pub(super) struct AskArgs {
    /// The breaker
    #[arg(value_parser = name)]
    pub(super) name: Name,
}

#[derive(Args, Debug)]
pub(super) struct ForceArgs {
    /// Reject every call, or admit every call
    pub(super) to: ForceTo,
    /// The breaker
    #[arg(value_parser = name)]
    pub(super) name: Name,
    #[command(flatten)]
    pub(super) end: ForceEnd,
    /// Why, for whoever finds it so
    #[arg(long, value_parser = reason)]
    pub(super) because: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ForceTo {
    Open,
    Closed,
}

impl ForceTo {
    pub(super) fn over(self) -> Override {
        match self {
            Self::Open => Override::ForcedOpen,
            Self::Closed => Override::ForcedClosed,
        }
    }
}

#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct ForceEnd {
    /// For so long, as 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = positive)]
    pub(super) lasts: Option<Duration>,
    /// Until `breakerd release`
    #[arg(long)]
    pub(super) until_released: bool,
}

#[derive(Args, Debug)]
pub(super) struct ReleaseArgs {
    /// The breaker
    #[arg(value_parser = name)]
    pub(super) name: Name,
    /// Why
    #[arg(long, value_parser = reason, default_value = "")]
    pub(super) because: String,
}

#[derive(Args, Debug)]
pub(super) struct ResetArgs {
    /// The breaker
    #[arg(value_parser = name)]
    pub(super) name: Name,
    /// Why
    #[arg(long, value_parser = reason, default_value = "")]
    pub(super) because: String,
}

#[derive(Args, Debug)]
pub(super) struct ModeArgs {
    /// The breaker
    #[arg(value_parser = name)]
    pub(super) name: Name,
    /// Which; config: what the configuration says
    pub(super) to: ModeTo,
    /// Why, for whoever finds it so
    #[arg(long, value_parser = reason, default_value = "")]
    pub(super) because: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ModeTo {
    On,
    Shadow,
    Off,
    Config,
}

impl ModeTo {
    /// The mode; none for the configuration's.
    pub(super) fn mode(self) -> Option<Mode> {
        match self {
            Self::On => Some(Mode::On),
            Self::Shadow => Some(Mode::Shadow),
            Self::Off => Some(Mode::Off),
            Self::Config => None,
        }
    }
}

fn name(text: &str) -> Result<Name, BadName> {
    Name::parse(text)
}

fn positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => {
            Err("a force lasts longer than nothing; give a duration as 10m".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(bad) => Err(format!("it {bad}")),
    }
}

fn reason(text: &str) -> Result<String, String> {
    if text.len() > REASON_BYTES_MAX {
        return Err(format!("it has {} bytes; a reason has at most {REASON_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    fn code(line: &str) -> i32 {
        let words = std::iter::once("breakerd").chain(line.split(' ').filter(|word| !word.is_empty()));
        Arguments::try_parse_from(words).map_or_else(|error| error.exit_code(), |_| -1)
    }

    #[test]
    fn a_wrong_line_is_usage_and_a_right_one_is_read() {
        for right in [
            "",
            "serve --config /x",
            "status",
            "status openai --json",
            "ask openai --socket /a",
            "force open openai --for 10m --because maintenance",
            "force closed openai --until-released --because x",
            "release openai",
            "reset openai --because x",
            "mode openai shadow --because x",
            "mode openai config",
            "run -- sh -c true",
            "run sh -c true",
            "check --explain chat/openai",
            "demo",
            "demo --redis redis://127.0.0.1 --hosts 2",
        ] {
            assert_eq!(code(right), -1, "{right}");
        }
        for wrong in [
            "open openai",
            "force openai --for 10m --because x",
            "force open openai --because x",
            "force open openai --for 10m",
            "force open openai --for 10 --because x",
            "force open openai --for 0s --because x",
            "force open openai --for 10m --until-released --because x",
            "mode openai",
            "mode openai open",
            "mode openai none",
            "ask",
            "ask a|b",
            "run",
            "demo --hosts 2",
            "demo --redis redis://127.0.0.1 --hosts 3",
        ] {
            assert_eq!(code(wrong), 2, "{wrong}");
        }
        assert_eq!(code(&format!("release x --because {}", "y".repeat(160))), -1);
        assert_eq!(code(&format!("release x --because {}", "y".repeat(161))), 2);
    }
}
