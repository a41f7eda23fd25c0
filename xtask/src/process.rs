//! Running other programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The directory of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// What a program prints on stdout, or `None` if it fails or is not there.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo_command() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    command
}

/// Runs cargo.
pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    run(cargo_command().args(arguments))
}

/// Runs a command of the lab's program, which exits by itself with what went wrong.
pub(crate) fn lab(arguments: &[&str]) -> anyhow::Result<()> {
    cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--bin",
        "fernpass",
        "--bin",
        "fernpass-lab",
    ])?;
    let release = target().join("release");
    let mut command = Command::new(release.join("fernpass-lab"));
    finish(command.args(arguments).env("FERNPASS_BIN", release.join("fernpass")))
}

/// Runs the benches, which exit by themselves with what went wrong.
pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let programs = ["--bin", "fernpass-bench", "--bin", "fernpass"];
    cargo(&[&["build", "--quiet", "--locked", "--release"][..], &programs].concat())?;
    finish(Command::new(target().join("release/fernpass-bench")).args(arguments))
}

/// Runs the benches of what runs in user space.
pub(crate) fn host_benches(arguments: &[String]) -> anyhow::Result<()> {
    let bench = ["bench", "--quiet", "--locked", "-p", "fernpass-bench", "--bench", "host", "--"];
    finish(cargo_command().args(bench).args(arguments))
}

/// Runs a program that says itself what went wrong.
fn finish(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

/// cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
