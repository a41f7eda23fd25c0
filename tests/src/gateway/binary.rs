//! The program under test.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{LabError, Result, Tried};

/// Names the program, instead of building it.
const VARIABLE: &str = "FERNPASS_BIN";

/// The `fernpass` binary: the one that `FERNPASS_BIN` names, or the workspace's,
/// built if it is not up to date: a test must never meet yesterday's program.
pub(super) fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(named) = env::var_os(VARIABLE) {
        return Ok(named.into());
    }
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let built = build("fernpass", &[])?;
    Ok(BUILT.get_or_init(|| built).clone())
}

/// The same of another version of the tables' layout.
pub(super) fn other_abi() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let built = build("fernpass-other-abi", &["--features", "fernpass/other-abi"])?;
    Ok(BUILT.get_or_init(|| built).clone())
}

fn build(name: &str, options: &[&str]) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // No package is named: what it depends on would be built anew, with fewer features.
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args([
        "build",
        "--locked",
        "--bin",
        name,
        "--message-format",
        "json-render-diagnostics",
    ]);
    command.args(options);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().tried(|| "running cargo to build fernpass".to_owned())?;
    if !output.status.success() {
        return Err(LabError::Command {
            command: format!("cargo build --bin {name}"),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| LabError::Scenario(format!("cargo named no executable {name}")))
}
