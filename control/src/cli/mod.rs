//! The command line: `fernpass [-j] OBJECT VERB`, in the style of `ip` and `bpftool`.
//!
//! * `args`: what can be typed.
//! * `remote`: commands that ask the daemon.
//! * `local`: commands that need none (`check`, `load`, `attach`, ...).
//! * `run`: the daemon's process, and the agent's.
//! * `output`, `tables`: how answers look.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration.

mod args;
mod local;
mod log;
mod output;
mod remote;
mod run;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

use crate::agent::AgentError;
use crate::api::ClientError;
use crate::daemon::StartError;
use crate::loader::LoadError;
pub(crate) use args::Args;
use args::Command;
use output::Output;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    let result = match args.command {
        Command::Run { config, log_packets, unconfined } => {
            run::run(&config, log_packets.into(), !unconfined)
        }
        Command::Agent { config, interface, gateway } => run::agent(&config, &interface, &gateway),
        Command::Check { config } => local::check(&config, &output),
        Command::Load(place) => local::load(&place, &output),
        Command::Unload(place) => local::unload(&place, &output),
        Command::Attach { interface, place } => local::attach(&interface, &place, &output),
        Command::Detach { interface, place } => local::detach(&interface, &place, &output),
        Command::BpfInfo => local::bpf_info(&output),
        Command::Openapi => local::openapi(&output),
        Command::Completions { shell } => local::completions(shell),
        Command::Man { dir } => local::man(&dir),
        Command::Remote(command) => remote::run(command, &args.socket, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(Failure::Shown) => ExitCode::from(Failure::Shown.code()),
        Err(failure) => {
            output.fail(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// Why a command failed, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Agent(#[from] AgentError),
    #[error("{0}")]
    Serve(#[from] crate::api::ServeError),
    #[error("{0}")]
    Confine(#[from] crate::confine::ConfineError),
    /// Mistakes in a configuration, rendered; or a file that cannot be read.
    #[error("{0}")]
    Config(String),
    /// Mistakes in a configuration that were shown already.
    #[error("the configuration cannot be used")]
    Shown,
    /// Of several things some were not done.
    #[error("{why}")]
    Partly {
        /// Why not.
        why: String,
        /// What was.
        done: Vec<String>,
    },
    #[error("{0}")]
    Io(String),
    /// The reader of the output has gone: nothing is wrong.
    #[error("the reader has gone")]
    Pipe,
}

impl Failure {
    /// The daemon's own words, if it was the daemon that refused.
    fn problem(&self) -> Option<&crate::api::Problem> {
        match self {
            Self::Client(ClientError::Refused(problem)) => Some(problem),
            _ => None,
        }
    }

    /// What was done nevertheless.
    fn done(&self) -> &[String] {
        match self {
            Self::Partly { done, .. } => done,
            _ => &[],
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Shown | Self::Start(StartError::Config(_)) => 2,
            Self::Agent(e) if e.is_configuration() => 2,
            Self::Client(ClientError::Refused(problem)) if problem.is_configuration() => 2,
            _ => 1,
        }
    }
}
