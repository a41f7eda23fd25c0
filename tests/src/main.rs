//! `fernpass-lab`: the demo, and labs to play with. `cargo xtask demo` and
//! `cargo xtask lab` build it and hand over to it.

mod chaos;
mod demo;
mod fuzz;
mod playground;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::LabError;

/// Fernpass among real WireGuard peers, in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "fernpass-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the story of the gateway, step by step, with measured results
    Demo(demo::Options),
    /// Kill the daemon again and again under traffic; nobody notices
    Chaos(chaos::Options),
    /// Send mutated frames into the live gateway from both sides; nobody notices
    Fuzz(fuzz::Options),
    /// Set up a lab to play with, look at it, take it down
    Lab {
        #[command(subcommand)]
        verb: playground::Verb,
    },
}

fn main() -> ExitCode {
    let (what, done) = match Arguments::parse().command {
        Command::Demo(options) => ("demo", demo::run(&options)),
        Command::Chaos(options) => ("chaos", chaos::run(&options)),
        Command::Fuzz(options) => ("fuzzing", fuzz::run(&options)),
        Command::Lab { verb } => ("lab", playground::run(&verb)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("fernpass-lab: {}", explain(what, &e));
            ExitCode::FAILURE
        }
    }
}

/// An error in a sentence, with a way out where there is one.
fn explain(what: &str, e: &LabError) -> String {
    match e {
        LabError::Impossible(why) => format!(
            "the {what} cannot run here: {why}. \
             `cargo xtask demo --vm` plays the demo in a virtual machine, as any user."
        ),
        other => other.to_string(),
    }
}
