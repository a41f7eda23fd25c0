//! The daemon as systemd's unit starts it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use crate::error::{Result, Tried};

/// The unit that is delivered.
const UNIT: &str = include_str!("../../../packaging/fernpass.service");
/// In place of the service's own user (Debian's `nobody` and `nogroup`).
const USER: u32 = 65_534;

/// A program run by another user, with the capabilities that the unit gives and none besides.
pub(super) fn command(program: &Path) -> Command {
    let kept: String = capabilities().map(|name| format!(",+{name}")).collect();
    let kept = format!("-all{kept}");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"])
        .args(["--inh-caps", &kept, "--ambient-caps", &kept, "--bounding-set", &kept])
        .args(["--no-new-privs", "--"])
        .arg(program);
    command
}

/// As setpriv(1) names them.
fn capabilities() -> impl Iterator<Item = String> {
    let words = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let words = words.expect("the unit gives capabilities").split_whitespace();
    words.map(|word| word.trim_start_matches("CAP_").to_lowercase())
}

/// Makes a file, or a directory with all that is below it, the service's.
pub(super) fn give_away(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER)).tried(|| format!("giving {} away", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path).tried(|| format!("reading {}", path.display()))? {
            let entry = entry.tried(|| format!("reading {}", path.display()))?;
            if !entry.path().is_symlink() {
                give_away(&entry.path())?;
            }
        }
    }
    Ok(())
}
