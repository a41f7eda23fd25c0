//! Fernpass's benches: `cargo xtask bench`.
//!
//! - [`suite`]: the questions, a module each.
//! - [`gateway`]: a gateway as the daemon sets one up, with as many sessions as are wanted.
//! - [`daemon`]: the daemon itself, upon such a gateway's tables; [`farm`]: backends that
//!   answer its probes.
//! - [`player`]: packets through its program, by test runs, and what they cost.
//! - [`measure`]: rounds in which all variants take turns, and what is made of them.
//! - [`surge`]: the day of a whole region, end to end.
//! - [`report`]: results for people and for programs; [`machine`]: on what they were measured.
//! - [`series`], [`results`], [`plot`]: what is kept of a run, where, and drawn.
//! - [`place`]: namespaces of the bench's own, so that nothing outlives it.
//! - [`memory`]: the `unsafe` of it.

mod daemon;
mod farm;
mod gateway;
mod machine;
mod measure;
mod memory;
mod place;
mod player;
mod plot;
mod report;
mod results;
mod series;
mod suite;
mod surge;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;
use crate::suite::{Suite, Wanted};

/// What a packet, a session and the daemon cost, measured beside peers and floors.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", max_term_width = 100)]
#[command(after_help = "What runs in user space alone is timed by `cargo xtask bench host`.")]
struct Args {
    /// Which suites; all if none is named.
    suites: Vec<Suite>,
    /// Fewer and shorter rounds, and of `packet` fewer cases: two minutes at most for each suite.
    #[arg(long)]
    quick: bool,
    /// Of the suite `packet` only cases in whose `name family flows ` this text is, with the blank at the end.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    only: String,
    /// Print the results as JSON, and nothing else on stdout.
    #[arg(long)]
    json: bool,
    /// Where to keep results and plots: bench/results in the source tree for whole runs, and
    /// bench-results in the target directory with --quick or --only, if nothing else is said.
    #[arg(long, value_name = "DIRECTORY")]
    results: Option<PathBuf>,
    /// Measure nothing: draw the plots again, from the results that are there.
    #[arg(long, conflicts_with_all = ["json", "only"])]
    redraw: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let suites = if args.suites.is_empty() { Suite::ALL } else { args.suites.as_slice() };
    let full = !args.quick && args.only.is_empty();
    let directory = args.results.clone().unwrap_or_else(|| results::directory(full));
    let directory = std::path::absolute(directory)?;
    if args.redraw {
        return suites.iter().try_for_each(|suite| results::draw(*suite, &directory));
    }
    place::enter()?;
    let mut report = Report::new(machine::Machine::look());
    let wanted = Wanted { quick: args.quick, only: &args.only };
    for suite in suites {
        if let Err(e) = suite.run(wanted, &mut report) {
            // What was measured until then may say why; it is not kept.
            report.print(args.json)?;
            return Err(e.context(suite.name()));
        }
        results::keep(&report, *suite, &directory)?;
    }
    report.print(args.json)
}
