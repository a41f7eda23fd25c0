//! `cargo xtask fuzz --live`.

use clap::Args;
use lab::scenario::{Claim as _, MutatedPlan, mutated};
use lab::{Result, preflight};

/// How much is sent.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// How many frames are sent, half of them from each side
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000_000)]
    frames: u64,
    /// Where the mutations begin; the same number makes the same frames
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How many sessions there are meanwhile
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    sessions: u32,
    /// Packets a second on all of them together
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    rate: u32,
    /// Print the results as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

/// Sends them; false if somebody noticed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    preflight()?;
    let plan = MutatedPlan {
        frames: options.frames,
        seed: options.seed,
        sessions: options.sessions as usize,
        rate: options.rate,
    };
    let measured = mutated(&plan, |sent| eprintln!("  {sent} of {} sent", plan.frames))?;
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
