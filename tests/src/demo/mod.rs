//! The story of the gateway in six steps, each of them measured.

mod cast;
mod screen;
mod steps;

use std::time::Instant;

use clap::Args;
use lab::scenario::Farm;
use lab::{LabError, Result, preflight, record};
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
}

/// What became of a step.
struct Outcome {
    name: &'static str,
    measured: Value,
    failures: Vec<String>,
    summary: String,
}

impl Outcome {
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
    greet(&screen);
    let mut farm = farm(options.keep)?;
    take_down_when_interrupted(&farm);
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
pub(crate) fn take_down_when_interrupted(farm: &Farm) {
    let id = farm.lab().id().to_owned();
    // Fails when there is a handler already: that of this process's first lab.
    let _ = ctrlc::set_handler(move || {
        eprintln!("\ninterrupted: taking lab {id} down");
        let _ = record::remove(&id);
        std::process::exit(130);
    });
}
