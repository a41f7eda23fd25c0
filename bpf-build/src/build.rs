//! The build itself.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::{Missing, Toolchain};

const PACKAGE: &str = "fernpass-dataplane-ebpf";
const BINARY: &str = "fernpass-xdp";
const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";

/// The kernel program cannot be built or checked.
#[derive(Debug)]
pub enum BuildError {
    /// There is no toolchain.
    Missing(Missing),
    /// cargo cannot be run.
    Cargo(PathBuf, io::Error),
    /// cargo failed; what it printed.
    Failed(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Cargo(path, e) => write!(f, "cannot run {}: {e}", path.display()),
            Self::Failed(output) => write!(f, "the kernel program does not build:\n{output}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds the kernel program. Returns the object's path.
///
/// `workspace` is the directory of the workspace, `target` a target directory that is
/// not that of a running cargo: two cargos in one would wait for each other.
///
/// # Errors
/// See [`BuildError`].
pub fn build(workspace: &Path, target: &Path) -> Result<PathBuf, BuildError> {
    run(&["build"], &[], workspace, target)?;
    Ok(target.join(TARGET).join(PROFILE).join(BINARY))
}

/// Runs clippy on the kernel program's crate, with warnings as errors.
///
/// # Errors
/// See [`BuildError`]; [`BuildError::Failed`] has clippy's findings.
pub fn clippy(workspace: &Path, target: &Path) -> Result<(), BuildError> {
    run(&["clippy"], &["--", "-Dwarnings"], workspace, target)
}

fn run(verb: &[&str], last: &[&str], workspace: &Path, target: &Path) -> Result<(), BuildError> {
    let toolchain = Toolchain::find().map_err(BuildError::Missing)?;
    let mut command = Command::new(&toolchain.cargo);
    clean(&mut command);
    let flags = [
        format!("-Clinker={}", toolchain.linker.display()),
        // Version 3 has the atomics that the session table needs; newer ones need newer kernels.
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    command
        .current_dir(workspace)
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(verb)
        .args(["--locked", "-Zbuild-std=core", "--target", TARGET])
        .args(["--profile", PROFILE, "--package", PACKAGE])
        .args(last);
    // `cargo clippy` runs the cargo-clippy that it finds first: it must be this cargo's.
    if let Some(dir) = toolchain.cargo.parent() {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(dir.to_owned()).chain(env::split_paths(&path));
        if let Ok(path) = env::join_paths(dirs) {
            command.env("PATH", path);
        }
    }
    if toolchain.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let output = command.output().map_err(|e| BuildError::Cargo(toolchain.cargo.clone(), e))?;
    if !output.status.success() {
        return Err(BuildError::Failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(())
}

/// Takes away what an outer cargo or rustup set for its own compiler.
fn clean(command: &mut Command) {
    let is_outers = |name: &str| {
        let kept = ["CARGO_HOME", "RUSTUP_HOME"].contains(&name)
            || ["CARGO_HTTP", "CARGO_NET", "CARGO_REGISTR", "CARGO_SOURCE"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        (name.starts_with("CARGO") || name.starts_with("RUST")) && !kept
    };
    let names = env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name: &OsString| name.to_str().is_some_and(is_outers)) {
        command.env_remove(name);
    }
}
