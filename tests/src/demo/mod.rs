//! The story of the gateway in six steps, each of them measured; and its chief claim with other protocols.

mod cast;
mod profiles;
mod screen;
mod steps;

use std::time::Instant;

use clap::{Args, ValueEnum};
use lab::scenario::{Claim, Farm};
use lab::{Lab, LabError, Result, preflight, record};
use serde_json::{Value, json};

pub(crate) use cast::{commands, farm, greet};
use screen::Screen;
use steps::{STEPS, Step};

/// How to play it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// Print the results as JSON, alone on standard output
    #[arg(long)]
    json: bool,
    /// Leave the lab standing, and print the commands to explore it
    #[arg(long)]
    keep: bool,
    /// With other clients and servers, which change their address: the story is WireGuard's
    #[arg(long, value_enum, default_value_t = Profile::WireGuard, conflicts_with = "keep")]
    profile: Profile,
}

/// Whose clients and servers play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// The whole story
    #[value(name = "wireguard")]
    WireGuard,
    /// OpenVPN over UDP: clients float between servers that give out the same peer-ids
    #[value(name = "openvpn")]
    OpenVpn,
    /// IKEv2 with MOBIKE, ESP in UDP
    Ipsec,
    /// QUIC, whose servers name themselves in their connection ids: clients migrate, too
    Quic,
}

/// What became of a step.
struct Outcome {
    name: &'static str,
    measured: Value,
    failures: Vec<String>,
    summary: String,
}

impl Outcome {
    fn of<C: Claim>(name: &'static str, claim: &C) -> Self {
        // Cannot fail: the measurements are plain structs.
        let measured = serde_json::to_value(claim).unwrap_or_default();
        Self { name, measured, failures: claim.failures(), summary: claim.summary() }
    }

    fn ok(&self) -> bool {
        self.failures.is_empty()
    }

    fn to_json(&self) -> Value {
        let mut step = json!({ "name": self.name, "ok": self.ok(), "measured": self.measured });
        if !self.ok() {
            step["failures"] = json!(self.failures);
        }
        step
    }
}

/// Plays the demo; true if every step was as claimed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let played = play(options);
    let report = match &played {
        Ok(outcomes) => json!({
            "ok": outcomes.iter().all(Outcome::ok),
            "steps": outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>(),
        }),
        Err(e) => json!({ "ok": false, "error": e.to_string(), "steps": [] }),
    };
    if options.json {
        println!("{report:#}");
    }
    played.map(|outcomes| outcomes.iter().all(Outcome::ok))
}

fn play(options: &Options) -> Result<Vec<Outcome>> {
    preflight()?;
    let screen = Screen::new(options.json);
    let started = Instant::now();
    if options.profile != Profile::WireGuard {
        let outcomes = profiles::play(options.profile, &screen)?;
        screen.table(&outcomes, started.elapsed());
        return Ok(outcomes);
    }
    greet(&screen);
    let mut farm = farm(options.keep)?;
    take_down_when_interrupted(farm.lab());
    screen.say(&format!(
        "lab {} and the gateway stand after {:.1} s",
        farm.lab().id(),
        started.elapsed().as_secs_f64()
    ));
    let outcomes: Vec<Outcome> =
        STEPS.iter().map(|step| perform(step, &mut farm, &screen)).collect();
    screen.table(&outcomes, started.elapsed());
    if options.keep {
        screen.say(&commands(&farm)?);
    }
    Ok(outcomes)
}

/// Plays one step. One that cannot be played to its end has failed; the next is tried all the same.
fn perform(step: &Step, farm: &mut Farm, screen: &Screen) -> Outcome {
    screen.headline(step);
    let outcome = match (step.play)(farm, screen) {
        Ok(outcome) => outcome.named(step.name),
        Err(e) => broken(step, &e),
    };
    screen.verdict(&outcome);
    outcome
}

fn broken(step: &Step, e: &LabError) -> Outcome {
    Outcome {
        name: step.name,
        measured: json!({ "error": e.to_string() }),
        failures: vec![e.to_string()],
        summary: "could not be played to its end".to_owned(),
    }
}

/// An interrupt takes the lab down before the process ends.
pub(crate) fn take_down_when_interrupted(lab: &Lab) {
    let id = lab.id().to_owned();
    // Fails when there is a handler already: that of this process's first lab.
    let _ = ctrlc::set_handler(move || {
        eprintln!("\ninterrupted: taking lab {id} down");
        let _ = record::remove(&id);
        std::process::exit(130);
    });
}
