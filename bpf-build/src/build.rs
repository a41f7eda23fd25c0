//! The build itself.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::toolchain::{Missing, Toolchain};

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";

/// What there is to build for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The gateway's program.
    Gateway,
    /// The agent's.
    Agent,
    /// The benches' programs.
    Bench,
}

impl Object {
    const ALL: [Self; 3] = [Self::Gateway, Self::Agent, Self::Bench];

    const fn package(self) -> &'static str {
        match self {
            Self::Gateway => "fernpass-dataplane-ebpf",
            Self::Agent => "fernpass-agent-ebpf",
            Self::Bench => "fernpass-bench-ebpf",
        }
    }

    const fn binary(self) -> &'static str {
        match self {
            Self::Gateway => "fernpass-xdp",
            Self::Agent => "fernpass-agent-tc",
            Self::Bench => "fernpass-bench-xdp",
        }
    }
}

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

/// Builds an object. Returns its path.
///
/// `workspace` is the directory of the workspace, `target` a target directory that is
/// not that of a running cargo: two cargos in one would wait for each other.
///
/// # Errors
/// See [`BuildError`].
pub fn build(object: Object, workspace: &Path, target: &Path) -> Result<PathBuf, BuildError> {
    run(object, &["build"], &features(object), workspace, target)?;
    Ok(target.join(TARGET).join(PROFILE).join(object.binary()))
}

/// Runs clippy on the kernel programs' crates, with warnings as errors.
///
/// # Errors
/// See [`BuildError`]; [`BuildError::Failed`] has clippy's findings.
pub fn clippy(workspace: &Path, target: &Path) -> Result<(), BuildError> {
    let clippy = |object| run(object, &["clippy"], &["--", "-Dwarnings"], workspace, target);
    Object::ALL.into_iter().try_for_each(clippy)
}

/// A whole build script: builds an object, or takes the one that `variable` names, and gives
/// its path to the crate in `variable`. `inputs` are what it is built from, in the workspace.
pub fn script(object: Object, variable: &str, inputs: &[&str]) -> ExitCode {
    println!("cargo::rerun-if-env-changed={variable}");
    let path = match env::var_os(variable) {
        Some(path) => Ok(PathBuf::from(path)),
        None => build_for_cargo(object, inputs),
    };
    match path {
        Ok(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            println!("cargo::rustc-env={variable}={}", path.display());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn build_for_cargo(object: Object, inputs: &[&str]) -> Result<PathBuf, BuildError> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = package.join("..");
    for path in inputs {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out; one directory serves all profiles.
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let dir = if features(object).is_empty() { "bpf" } else { "bpf-other-abi" };
    let target = out.ancestors().nth(4).unwrap_or(&out).join(dir);
    build(object, &workspace, &target)
}

/// The feature that cargo builds the package with whose build script this is, if the object has it, too: another version of
/// the tables.
fn features(object: Object) -> Vec<&'static str> {
    let other = object == Object::Gateway && env::var_os("CARGO_FEATURE_OTHER_ABI").is_some();
    if other { vec!["--features", "other-abi"] } else { Vec::new() }
}

fn run(
    object: Object,
    verb: &[&str],
    last: &[&str],
    workspace: &Path,
    target: &Path,
) -> Result<(), BuildError> {
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
        .args(["--profile", PROFILE, "--package", object.package()])
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
