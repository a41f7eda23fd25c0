//! The six steps.

use std::time::Duration;

use lab::Result;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{Claim, Farm, death, drain, flood, quota, restart, roam, sessions_open};
use serde_json::{Value, json};

use super::Outcome;
use super::cast::{FULL, ROOMY};
use super::screen::Screen;

/// The client that roams, and later carries the traffic over the daemon's death.
const TRAVELLER: usize = 0;
/// The client that roams while the daemon is dead.
const SECOND_TRAVELLER: usize = 2;
/// Initiations of the flood.
const FLOOD: u64 = 200_000;
/// How long there is traffic around the daemon's death.
const UNDER_TRAFFIC: Duration = Duration::from_secs(10);

/// One step of the story.
pub(super) struct Step {
    /// Stable name, for the JSON output.
    pub(super) name: &'static str,
    /// What will be seen.
    pub(super) story: &'static str,
    /// Plays it.
    pub(super) play: fn(&mut Farm, &Screen) -> Result<Played>,
}

/// What a step measured.
pub(super) struct Played {
    measured: Value,
    failures: Vec<String>,
    summary: String,
}

impl Played {
    fn of<C: Claim>(claim: &C) -> Self {
        Self {
            // Cannot fail: the measurements are plain structs.
            measured: serde_json::to_value(claim).unwrap_or_default(),
            failures: claim.failures(),
            summary: claim.summary(),
        }
    }

    pub(super) fn named(self, name: &'static str) -> Outcome {
        Outcome { name, measured: self.measured, failures: self.failures, summary: self.summary }
    }
}

/// The story.
pub(super) const STEPS: [Step; 6] = [
    Step {
        name: "sessions_open",
        story: "the clients dial, their sessions open",
        play: |farm, screen| {
            let opened = sessions_open(farm)?;
            screen.listing("fernpass session list", &farm.gateway().show(&["session", "list"])?);
            Ok(Played::of(&opened))
        },
    },
    Step {
        name: "roam",
        story: "a client changes its address and port under 20 pings a second",
        play: |farm, _| Ok(Played::of(&roam(farm, TRAVELLER)?)),
    },
    Step {
        name: "drain_and_death",
        story: "a concentrator is drained while new clients come; then one dies (some 20 s)",
        play: drain_and_death,
    },
    Step {
        name: "flood",
        story: "200,000 handshake initiations from random sources, under everybody's traffic",
        play: |farm, _| Ok(Played::of(&flood(farm, FLOOD)?)),
    },
    Step {
        name: "restart",
        story: "the daemon is killed with -9 under 1,000 packets a second; another client roams \
                while it is dead",
        play: |farm, _| {
            Ok(Played::of(&restart(farm, TRAVELLER, Some(SECOND_TRAVELLER), UNDER_TRAFFIC)?))
        },
    },
    Step {
        name: "quota",
        story: "a tenant is at its quota, and one more client dials",
        play: |farm, _| Ok(Played::of(&quota(farm, FULL, WireguardGo)?)),
    },
];

fn drain_and_death(farm: &mut Farm, screen: &Screen) -> Result<Played> {
    let drained = drain(farm, ROOMY, WireguardGo, 2)?;
    screen.say(&format!("   {}", drained.summary()));
    farm.gateway().act(&["backend", "undrain", &drained.backend])?;
    let died = death(farm, ROOMY)?;
    Ok(Played {
        measured: json!({ "drain": drained, "death": died }),
        failures: [drained.failures(), died.failures()].concat(),
        summary: format!("{}. {}", drained.summary(), died.summary()),
    })
}
