//! Plots of results, in SVG, drawn from the files that runs leave.
//!
//! - [`packet`], [`forward`], [`open`], [`control`], [`surge`]: a suite's plots each.
//! - [`lines`], [`bars`]: panels that they are made of; [`scale`]: their axes;
//!   [`sheet`]: what is around them.
//! - [`stored`]: the results as they lie in a file; [`reference`](mod@reference): others' figures.

mod bars;
mod control;
mod forward;
mod lines;
mod open;
mod packet;
mod reference;
mod scale;
mod sheet;
mod stored;
mod surge;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use stored::Stored;

/// Draws a suite's results in this directory, from its file there: what was written.
pub(crate) fn draw(suite: &str, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let stored = Stored::read(&directory.join(format!("{suite}.json")))?;
    type Draw = fn(&Stored, &Path) -> anyhow::Result<bool>;
    let plots: &[(&str, Draw)] = match suite {
        "packet" => &[("sessions", packet::draw)],
        "forward" => &[("throughput", forward::draw)],
        "open" => &[("filling", open::draw)],
        "control" => &[("costs", control::draw)],
        "surge" => &[("time", surge::draw)],
        _ => &[],
    };
    let mut written = Vec::new();
    for (what, draw) in plots {
        let path = directory.join(format!("{suite}-{what}.svg"));
        // Some of the cases may not have been measured.
        if draw(&stored, &path)? {
            written.push(path);
        }
    }
    Ok(written)
}
