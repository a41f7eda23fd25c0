//! What the daemon costs.

use std::path::Path;

use super::bars::{Bar, Group, Panel};
use super::scale::Scale;
use super::sheet::{self, FERN, FERN_LIGHT, Heading};
use super::stored::Stored;

/// False if there is nothing to draw.
pub(super) fn draw(stored: &Stored, path: &Path) -> anyhow::Result<bool> {
    let mut units: Vec<&str> = Vec::new();
    for row in &stored.results {
        if !units.contains(&row.unit.as_str()) {
            units.push(&row.unit);
        }
    }
    let panels: Vec<_> = units.into_iter().map(|unit| (unit, groups(stored, unit))).collect();
    let heights: Vec<u32> = panels.iter().map(|(_, groups)| Panel::height(groups, true)).collect();
    if heights.is_empty() {
        return Ok(false);
    }
    let heading = Heading {
        title: "What the daemon costs",
        better: "On gateways with as many open sessions; logarithmic scales: shorter is better.",
        note: "Median of rounds; lines from the least to the most. The daemon shares one core with what asks it.",
    };
    let sheet = heights.iter().sum::<u32>() + 74 + 44;
    sheet::draw(path, sheet, heading, &stored.machine, |area| {
        let mut rest = area.clone();
        for ((unit, groups), height) in panels.iter().zip(heights) {
            let (upper, lower) = rest.split_vertically(height);
            let title = match *unit {
                "ms" => "Time",
                "MB" => "Memory",
                _ => "Processor",
            };
            let ticks = decades(groups);
            let panel = Panel {
                title,
                unit,
                groups,
                scale: Scale { ticks: &ticks, log: true, format: sheet::number },
                beside: true,
                names: 470,
                figures: 72,
            };
            panel.draw(&upper)?;
            rest = lower;
        }
        Ok(())
    })?;
    Ok(true)
}

/// A group for each case: a bar for each number of sessions.
fn groups(stored: &Stored, unit: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let flows = stored.flows();
    for row in stored.results.iter().filter(|row| row.unit == unit) {
        if groups.iter().any(|group| group.title == row.case) {
            continue;
        }
        let bars = flows.iter().enumerate().filter_map(|(index, flows)| {
            let row = stored.row(&row.case, None, *flows)?;
            Some(Bar {
                name: format!("{} sessions", sheet::number(*flows as f64)),
                colour: if index == 0 { FERN_LIGHT } else { FERN },
                strong: false,
                value: row.median,
                least: row.min,
                most: row.max,
            })
        });
        groups.push(Group { title: row.case.clone(), bars: bars.collect() });
    }
    groups
}

/// Powers of ten around all figures.
fn decades(groups: &[Group]) -> Vec<f64> {
    let bars = || groups.iter().flat_map(|group| &group.bars);
    let least = bars().fold(f64::INFINITY, |least, bar| least.min(bar.least));
    let most = bars().fold(0.0, |most: f64, bar| most.max(bar.most));
    let first = least.max(1e-3).log10().floor() as i32;
    let last = (most.max(1e-3).log10().ceil() as i32).max(first + 1);
    (first..=last).map(|power| 10_f64.powi(power)).collect()
}
