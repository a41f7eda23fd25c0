//! Where results are kept: a suite's file, and the plots drawn from it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::plot;
use crate::report::Report;
use crate::suite::Suite;

/// The directory, if none is named. Results of full runs are kept with the source; a quick or
/// partial one must not take their place.
pub(crate) fn directory(full: bool) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    if full {
        return own.join("results");
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let workspace = own.parent().unwrap_or(own);
    target.unwrap_or_else(|| workspace.join("target")).join("bench-results")
}

/// Writes a suite's results as JSON into the directory, and their plots beside it.
pub(crate) fn keep(report: &Report, suite: Suite, directory: &Path) -> anyhow::Result<()> {
    let name = suite.name();
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&report.of(name))?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{name}: results are in {}", path.display());
    draw(suite, directory)
}

/// Draws a suite's plots from its file in the directory.
pub(crate) fn draw(suite: Suite, directory: &Path) -> anyhow::Result<()> {
    for path in plot::draw(suite.name(), directory)? {
        eprintln!("{}: drawn as {}", suite.name(), path.display());
    }
    Ok(())
}
