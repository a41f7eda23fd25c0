//! What a packet costs, over the number of sessions.

use std::path::Path;

use super::lines::{Line, Look, Panel, legend};
use super::reference::{FIREZONE, KATRAN, NOTE, Reference};
use super::scale::Scale;
use super::sheet::{self, AMBER, AMBER_LIGHT, BLUE, FERN, FERN_LIGHT, GREY, Heading, VIOLET};
use super::stored::Stored;

const OWN: Look = Look::of(FERN);
const OWN6: Look = Look { hollow: true, ..Look::of(FERN_LIGHT) };
const HASH: Look = Look::of(AMBER);
const HASH6: Look = Look { hollow: true, ..Look::of(AMBER_LIGHT) };
const LINE: Look = Look::of(GREY);
const KATRAN_LOOK: Look = Look { dashed: true, ..Look::of(VIOLET) };
const FIREZONE_LOOK: Look = Look { dashed: true, ..Look::of(BLUE) };

/// False if there is nothing to draw.
pub(super) fn draw(stored: &Stored, path: &Path) -> anyhow::Result<bool> {
    let inbound =
        lines(stored, "wireguard in", &[(KATRAN, KATRAN_LOOK), (FIREZONE, FIREZONE_LOOK)]);
    let outbound = lines(stored, "wireguard out", &[(FIREZONE, FIREZONE_LOOK)]);
    let points = || inbound.iter().chain(&outbound).flat_map(|line| &line.points);
    if stored.medians("wireguard in", "ipv4").len() < 2 {
        return Ok(false);
    }
    let most = points().fold(0.0, |most: f64, point| most.max(point.1));
    let (x_ticks, y_ticks) = ([1.0, 1e3, 60e3, 1e6], sheet::ticks(most, 6.0));
    let heading = Heading {
        title: "What a packet of an established session costs",
        better: "Nanoseconds of one core for each packet, sessions in random order: lower is better.",
        note: &format!(
            "Whole kernel program, 64-byte frames, median of rounds, harness subtracted. Dashed: Katran and Firezone, \
             IPv4, {NOTE}."
        ),
    };
    sheet::draw(path, 560, heading, &stored.machine, |area| {
        legend(
            area,
            (sheet::MARGIN, 12),
            &[
                ("Fernpass, IPv4", OWN),
                ("IPv6", OWN6),
                ("with a BPF hash, IPv4", HASH),
                ("IPv6", HASH6),
                ("one cache line alone", LINE),
                (KATRAN.name, KATRAN_LOOK),
                (FIREZONE.name, FIREZONE_LOOK),
            ],
        )?;
        let (_, below) = area.split_vertically(34);
        let (left, right) = below.split_horizontally(sheet::WIDTH / 2);
        for (title, lines, area) in [
            ("Inbound: client to concentrator", &inbound, left),
            ("Outbound: concentrator to client", &outbound, right),
        ] {
            let panel = Panel {
                title,
                x: ("sessions", Scale { ticks: &x_ticks, log: true, format: sheet::number }),
                y: ("ns/packet", Scale { ticks: &y_ticks, log: false, format: sheet::number }),
                lines,
                labels: 58,
            };
            panel.draw(&area)?;
        }
        Ok(())
    })?;
    Ok(true)
}

/// A direction's lines, those drawn last on top.
fn lines(stored: &Stored, case: &str, references: &[(Reference, Look)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (reference, look) in references {
        lines.push(line(reference.costs.to_vec(), *look));
    }
    let (hash, touched) = (format!("{case}, bpf hash"), format!("{case}, one cache line"));
    for (case, family, look) in [
        (touched.as_str(), "ipv4", LINE),
        (&hash, "ipv6", HASH6),
        (&hash, "ipv4", HASH),
        (case, "ipv6", OWN6),
        (case, "ipv4", OWN),
    ] {
        lines.push(line(stored.medians(case, family), look));
    }
    lines
}

/// A line with its last figure at its end.
fn line(points: Vec<(f64, f64)>, look: Look) -> Line {
    let last = points.last().map_or(0.0, |point| point.1);
    Line { label: format!("{} ns", sheet::number(last)), look, points }
}
