//! A surge over time: a panel for each unit.

use std::path::Path;

use super::lines::{Line, Look, Panel};
use super::scale::Scale;
use super::sheet::{self, AMBER, BLUE, FERN, Heading, VIOLET};
use super::stored::Stored;

/// False if there is nothing to draw.
pub(super) fn draw(stored: &Stored, path: &Path) -> anyhow::Result<bool> {
    const HEIGHT: u32 = 190;
    let mut units: Vec<&str> = Vec::new();
    for line in &stored.series {
        if !units.contains(&line.unit.as_str()) {
            units.push(&line.unit);
        }
    }
    let points = || stored.series.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return Ok(false);
    }
    let x_ticks = sheet::ticks(points().fold(0.0, |most: f64, point| most.max(point.0)), 8.0);
    let heading = Heading {
        title: "A surge of clients, over time",
        better: "Sessions and packets should rise with the clients and lose nothing; the daemon should stay low.",
        note: "Everything on one machine.",
    };
    let sheet = units.len() as u32 * HEIGHT + 74 + 44;
    sheet::draw(path, sheet, heading, &stored.machine, |area| {
        for (unit, area) in units.iter().zip(area.split_evenly((units.len(), 1))) {
            let colours = [FERN, AMBER, VIOLET, BLUE].into_iter().cycle();
            let series = stored.series.iter().filter(|line| line.unit == *unit).zip(colours);
            let lines: Vec<Line> = series
                .map(|(line, colour)| Line {
                    label: line.case.clone(),
                    look: Look { bare: true, ..Look::of(colour) },
                    points: line.points.clone(),
                })
                .collect();
            let points = lines.iter().flat_map(|line| &line.points);
            let most = points.fold(0.0, |most: f64, point| most.max(point.1));
            let y_ticks = sheet::ticks(most, 3.0);
            let (title, unit) = match *unit {
                "sessions" => ("Open sessions", ""),
                "packets/s" => ("Packets a second", ""),
                "% of a core" => ("The daemon", "% of a core"),
                other => (other, ""),
            };
            let panel = Panel {
                title,
                x: ("seconds", Scale { ticks: &x_ticks, log: false, format: sheet::number }),
                y: (unit, Scale { ticks: &y_ticks, log: false, format: sheet::short }),
                lines: &lines,
                labels: 260,
            };
            panel.draw(&area)?;
        }
        Ok(())
    })?;
    Ok(true)
}
