//! Packets a second, end to end, by way of forwarding.

use std::path::Path;

use plotters::style::RGBColor;

use super::bars::{Bar, Group, Panel};
use super::scale::Scale;
use super::sheet::{self, AMBER_LIGHT, BLUE, FERN, GREY, GREY_LIGHT, Heading};
use super::stored::Stored;

/// Ways as the suite names them, as they are named here, and colours.
const WAYS: [(&str, &str, RGBColor); 5] = [
    ("drop at the gateway", "only received (bound)", GREY_LIGHT),
    ("static redirect", "static redirect (floor)", GREY),
    ("fernpass", "Fernpass", FERN),
    ("kernel forwarding", "kernel forwarding", BLUE),
    ("nftables dnat", "nftables DNAT", AMBER_LIGHT),
];

/// False if there is nothing to draw.
pub(super) fn draw(stored: &Stored, path: &Path) -> anyhow::Result<bool> {
    let sides: Vec<_> = [64, 1_400].map(|bytes| (bytes, groups(stored, bytes))).into();
    let sides: Vec<_> = sides.into_iter().filter(|(_, groups)| !groups.is_empty()).collect();
    let bars = sides.iter().flat_map(|(_, groups)| groups).flat_map(|group| &group.bars);
    let most = bars.fold(0.0, |most: f64, bar| most.max(bar.value));
    let Some(height) = sides.iter().map(|(_, groups)| Panel::height(groups, false)).max() else {
        return Ok(false);
    };
    let heading = Heading {
        title: "Forwarding end to end, one core",
        better: "Packets a second from a client's cable through the gateway to a concentrator's (veth): longer is better.",
        note: "Flows in random order, median of rounds, lines from the slowest to the fastest round. A round counts if all frames arrived.",
    };
    let (sheet, ticks) = (height + 74 + 44, sheet::ticks(most, 4.0));
    sheet::draw(path, sheet, heading, &stored.machine, |area| {
        let parts = area.split_evenly((1, 2));
        for ((bytes, groups), area) in sides.iter().zip(&parts) {
            let panel = Panel {
                title: &format!("{} bytes", sheet::number(f64::from(*bytes))),
                unit: "packets/s",
                groups,
                scale: Scale { ticks: &ticks, log: false, format: sheet::short },
                beside: false,
                names: 160,
                figures: 48,
            };
            panel.draw(area)?;
        }
        Ok(())
    })?;
    Ok(true)
}

fn groups(stored: &Stored, bytes: u32) -> Vec<Group> {
    let mut groups = Vec::new();
    for flows in stored.flows() {
        let bars: Vec<Bar> = WAYS
            .iter()
            .filter_map(|(way, name, colour)| {
                let row = stored.row(&format!("{way}, {bytes} bytes"), None, flows)?;
                Some(Bar {
                    name: (*name).to_owned(),
                    colour: *colour,
                    strong: *way == "fernpass",
                    value: row.median,
                    least: row.min,
                    most: row.max,
                })
            })
            .collect();
        if !bars.is_empty() {
            let s = if flows == 1 { "" } else { "s" };
            groups.push(Group { title: format!("{} flow{s}", sheet::number(flows as f64)), bars });
        }
    }
    groups
}
