//! What opening a session costs, while the table fills.

use std::path::Path;

use super::lines::{Line, Look, Panel};
use super::scale::Scale;
use super::sheet::{self, FERN, FERN_LIGHT, GREY, Heading};
use super::stored::Stored;

/// False if there is nothing to draw.
pub(super) fn draw(stored: &Stored, path: &Path) -> anyhow::Result<bool> {
    let of = |part: &str| {
        let lines = stored.series.iter().filter(move |line| line.case.ends_with(part));
        lines.map(|line| line.points.clone()).collect::<Vec<_>>()
    };
    let (medians, least, most) = (of(", median"), of(", least"), of(", most"));
    let all = || medians.iter().chain(&most).flatten();
    if all().next().is_none() {
        return Ok(false);
    }
    let y_ticks = sheet::ticks(all().fold(0.0, |most: f64, point| most.max(point.1)), 5.0);
    let heading = Heading {
        title: "Opening sessions, from an empty table to a full one",
        better: "Nanoseconds of one core for each session that an answer opens, by twentieths: lower is better; flat is best.",
        note: "Median of rounds; thin lines: the fastest and the slowest round. Harness subtracted.",
    };
    sheet::draw(path, 430, heading, &stored.machine, |area| {
        let parts = area.split_evenly((1, medians.len()));
        for (index, (points, area)) in medians.iter().zip(&parts).enumerate() {
            let full = points.last().map_or(0.0, |point| point.0);
            let bare = Look { bare: true, thin: true, ..Look::of(FERN_LIGHT) };
            let mut lines = Vec::new();
            for other in [&least, &most] {
                let points = other.get(index).cloned().unwrap_or_default();
                lines.push(Line { label: String::new(), look: bare, points });
            }
            let ends = [points.first(), points.last()].map(|end| end.map_or(0.0, |point| point.1));
            let first = points.iter().map(|point| (point.0, ends[0])).collect();
            let look = Look { dashed: true, bare: true, ..Look::of(GREY) };
            lines.push(Line {
                label: format!("first {}", sheet::number(ends[0])),
                look,
                points: first,
            });
            lines.push(Line {
                label: format!("last {}", sheet::number(ends[1])),
                look: Look::of(FERN),
                points: points.clone(),
            });
            let x_ticks = sheet::ticks(full, 5.0);
            let title = format!("A gateway for {} sessions", sheet::number(full));
            let panel = Panel {
                title: &title,
                x: (
                    "sessions in the table",
                    Scale { ticks: &x_ticks, log: false, format: sheet::number },
                ),
                y: ("ns/session", Scale { ticks: &y_ticks, log: false, format: sheet::number }),
                lines: &lines,
                labels: 74,
            };
            panel.draw(area)?;
        }
        Ok(())
    })?;
    Ok(true)
}
