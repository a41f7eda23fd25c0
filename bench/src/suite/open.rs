//! Sessions opened, by answers, from an empty table to a full one.

use anyhow::bail;
use bench_ebpf::Target;
use dataplane::reason::Reason;

use crate::gateway::Gateway;
use crate::measure::Spread;
use crate::player::{Family, Flows, Message, Player, Side};
use crate::report::{Measured, Report, progress};

/// Parts into which filling is cut, to compare the last sessions with the first.
const PARTS: u32 = 20;

/// Measures.
pub(super) fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if quick { 3 } else { 9 };
    for sessions in [60_000_u32, 1_000_000] {
        let (mut costs, mut first, mut last, mut ratios) = (vec![], vec![], vec![], vec![]);
        for round in 1..=rounds {
            progress(&format!("open: {sessions} sessions, round {round} of {rounds}"));
            let parts = fill(sessions)?;
            costs.push(parts.iter().sum::<f64>() / parts.len() as f64);
            first.push(parts[0]);
            last.push(parts[parts.len() - 1]);
            ratios.push(parts[parts.len() - 1] / parts[0]);
        }
        let mut row = |case: &str, unit, figures: Vec<f64>, ratio: Option<f64>| {
            report.add(Measured {
                suite: "open",
                case: case.to_owned(),
                family: Some(Family::V4.name()),
                flows: u64::from(sessions),
                unit,
                spread: Spread::of(figures),
                against: ratio.map(|_| "the first"),
                ratio,
            });
        };
        let rates = costs.iter().map(|ns| 1e9 / ns).collect();
        row("all", "sessions/s", rates, None);
        row("first twentieth", "ns/session", first, None);
        row("last twentieth", "ns/session", last, Some(Spread::of(ratios).median));
    }
    Ok(())
}

/// Fills a new gateway; what a session of each part cost, in nanoseconds.
fn fill(sessions: u32) -> anyhow::Result<Vec<f64>> {
    let gateway = Gateway::new("open", u64::from(sessions))?;
    let mut player = Player::new(&gateway, 1)?;
    let part = sessions / PARTS;
    let mut costs = Vec::new();
    for number in 0..PARTS {
        let mut cost = |target| -> anyhow::Result<f64> {
            let flows = Flows { first: number * part, count: part, random: false };
            player.set(Message::DataAnswer, Family::V4, flows, target);
            Ok(player.run(part, Side::Lan)?.ns)
        };
        let control = cost(Target::Control)?;
        costs.push((cost(Target::Gateway)? - control) / f64::from(part));
    }
    let opened = gateway.count(Reason::SessionOpened)?;
    if opened != u64::from(part * PARTS) {
        bail!("{opened} of {} sessions opened", part * PARTS);
    }
    Ok(costs)
}
