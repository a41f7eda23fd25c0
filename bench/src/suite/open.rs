//! Sessions opened, by answers, from an empty table to a full one.

use anyhow::bail;
use bench_ebpf::Target;
use dataplane::reason::Reason;

use crate::gateway::Gateway;
use crate::measure::Spread;
use crate::player::{Family, Flows, Message, Player, Side};
use crate::report::{Measured, Progress, Report};
use crate::series::Series;

/// Parts into which filling is cut, to compare the last sessions with the first.
const PARTS: u32 = 20;

/// Measures.
pub(super) fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if quick { 3 } else { 9 };
    let mut progress = Progress::new("open", 2 * rounds);
    for sessions in [60_000_u32, 1_000_000] {
        let mut fillings = Vec::new();
        for round in 1..=rounds {
            progress.step(&format!("{sessions} sessions, round {round} of {rounds}"));
            fillings.push(fill(sessions)?);
        }
        summarise(sessions, &fillings, report);
    }
    Ok(())
}

/// What sessions cost in one round, in nanoseconds each.
struct Filling {
    /// By part.
    parts: Vec<f64>,
    /// What the lines of memory alone cost that a session is written to, when all are there.
    lines: f64,
}

/// Adds what so many sessions cost, by round and part.
fn summarise(sessions: u32, fillings: &[Filling], report: &mut Report) {
    let each = |figure: fn(&[f64]) -> f64| -> Spread {
        Spread::of(fillings.iter().map(|filling| figure(&filling.parts)))
    };
    let mut row = |case: &str, unit, spread, ratio: Option<(&'static str, f64)>| {
        report.add(Measured {
            suite: "open",
            case: case.to_owned(),
            family: Some(Family::V4.name()),
            flows: u64::from(sessions),
            unit,
            spread,
            against: ratio.map(|(against, _)| against),
            ratio: ratio.map(|(_, ratio)| ratio),
        });
    };
    let ratio = each(|parts| parts[parts.len() - 1] / parts[0]).median;
    let rate = each(|parts| 1e9 / mean(parts));
    let lines = |figure: fn(&Filling) -> f64| Spread::of(fillings.iter().map(figure));
    let share = lines(|filling| mean(&filling.parts) / filling.lines).median;
    row("all", "sessions/s", rate, None);
    row("all", "ns/session", each(mean), Some(("their lines of memory", share)));
    row("their lines of memory", "ns/session", lines(|filling| filling.lines), None);
    row("first twentieth", "ns/session", each(|parts| parts[0]), None);
    row(
        "last twentieth",
        "ns/session",
        each(|parts| parts[parts.len() - 1]),
        Some(("the first", ratio)),
    );
    let spreads: Vec<Spread> = (0..PARTS as usize)
        .map(|part| Spread::of(fillings.iter().map(|filling| filling.parts[part])))
        .collect();
    let mut record = |what: &str, figure: fn(&Spread) -> f64| {
        let points = spreads.iter().zip(1..).map(|(spread, part)| {
            // What a part costs is known when it is done.
            (f64::from(sessions / PARTS * part), figure(spread))
        });
        report.record(Series {
            suite: "open",
            case: format!("{sessions} sessions, {what}"),
            unit: "ns/session",
            points: points.collect(),
        });
    };
    record("median", |spread| spread.median);
    record("least", |spread| spread.min);
    record("most", |spread| spread.max);
}

fn mean(parts: &[f64]) -> f64 {
    parts.iter().sum::<f64>() / parts.len() as f64
}

/// Fills a new gateway.
fn fill(sessions: u32) -> anyhow::Result<Filling> {
    let gateway = Gateway::new("open", u64::from(sessions))?;
    let mut player = Player::new(&gateway, 1)?;
    let part = sessions / PARTS;
    let mut cost = |number: u32, target| -> anyhow::Result<f64> {
        let flows = Flows { first: number * part, count: part, random: false };
        player.set(Message::DataAnswer, Family::V4, flows, target);
        Ok(player.run(part, Side::Lan)?.ns / f64::from(part))
    };
    let mut parts = Vec::new();
    for number in 0..PARTS {
        let control = cost(number, Target::Control)?;
        parts.push(cost(number, Target::Gateway)? - control);
    }
    let mut lines = Vec::new();
    for number in 0..PARTS {
        let control = cost(number, Target::Control)?;
        lines.push(cost(number, Target::Lines)? - control);
    }
    let opened = gateway.count(Reason::SessionOpened)?;
    if opened != u64::from(part * PARTS) {
        bail!("{opened} of {} sessions opened", part * PARTS);
    }
    Ok(Filling { parts, lines: mean(&lines) })
}
