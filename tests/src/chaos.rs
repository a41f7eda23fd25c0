//! `cargo xtask chaos`.

use clap::Args;
use lab::scenario::{ChaosPlan, Claim as _, chaos};
use lab::{Result, preflight};

/// How wild it gets.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// How often the daemon is killed
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,
    /// How many sessions there are meanwhile
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    sessions: u32,
    /// Packets a second on all of them together
    #[arg(long, value_name = "NUMBER", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    rate: u32,
    /// Print the results as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

/// Kills daemons; false if somebody noticed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    preflight()?;
    let plan =
        ChaosPlan { kills: options.kills, sessions: options.sessions as usize, rate: options.rate };
    let mut told = 0;
    let measured = chaos(&plan, |killed| {
        if killed >= told + 10 {
            told = killed;
            eprintln!("  {killed} of {} killed", plan.kills);
        }
    })?;
    if options.json {
        // Cannot fail: the measurements are plain structs.
        println!("{}", serde_json::to_string_pretty(&measured).unwrap_or_default());
    } else {
        println!("{}", measured.summary());
    }
    let failures = measured.failures();
    for failure in &failures {
        eprintln!("not as claimed: {failure}");
    }
    Ok(failures.is_empty())
}
