//! `fernpass-fuzz`: what `cargo xtask fuzz` asks of the targets beside fuzzing them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use fuzz::{TARGETS, Target, corpus};

/// Fernpass's fuzz targets.
#[derive(Debug, Parser)]
#[command(name = "fernpass-fuzz")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the targets: name, most bytes of an input, what it is about
    List,
    /// Write what a corpus begins with into a directory, and a dictionary beside it
    Seed {
        /// The target
        target: String,
        /// The directory; the dictionary is `DIRECTORY.words`
        directory: PathBuf,
    },
    /// Feed a target with files: to see a finding again
    Replay {
        /// The target
        target: String,
        /// The inputs
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("fernpass-fuzz: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => {
            for target in TARGETS {
                println!("{}\t{}\t{}", target.name, target.longest, target.about);
            }
        }
        Command::Seed { target, directory } => corpus::seed(find(&target)?, &directory)?,
        Command::Replay { target, files } => {
            let target = find(&target)?;
            for file in files {
                let input = std::fs::read(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                (target.run)(&input);
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<&'static Target> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    Target::of(name).with_context(|| format!("there is no target `{name}`; there are: {}", names()))
}
