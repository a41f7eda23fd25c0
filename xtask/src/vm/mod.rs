//! The demo and the tests inside QEMU, for machines whose kernel cannot be used.
//!
//! The machine has no disk: its kernel and its programs are Debian 12's packages, unpacked into
//! an initial RAM filesystem, with what is tested laid over them. Nothing of it takes
//! root, and nothing of it outlives the command but the image under `target/vm`.

mod image;
mod init;
mod qemu;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{cargo, cargo_command, target};
use crate::setup::{self, Need};
use image::Overlay;

/// Twenty times what they take where this was written.
const DEMO: Duration = Duration::from_secs(3600);
const TEST: Duration = Duration::from_secs(4 * 3600);

/// The tests that a kernel makes a difference to: the package, the target, a filter.
const TESTS: &[(&str, &str, &str)] = &[
    ("fernpass", "kernel", ""),
    ("fernpass", "loader", ""),
    ("fernpass", "control", "live"),
    ("fernpass-lab", "lab", ""),
    ("fernpass-lab", "peers", ""),
    ("fernpass-lab", "e2e", ""),
];

/// Plays the demo; its own exit code becomes ours.
pub(crate) fn demo(json: bool) -> anyhow::Result<()> {
    prepare()?;
    cargo(&["build", "--locked", "--release", "--bin", "fernpass", "--bin", "fernpass-lab"])?;
    let mut overlay = overlay()?;
    let release = target().join("release");
    overlay.program("fernpass-lab", &release.join("fernpass-lab"))?;
    let command = if json { "fernpass-lab demo --json" } else { "fernpass-lab demo" };
    play(overlay, &[command.to_owned()], json, DEMO)
}

/// Runs the tests that need a kernel, all of them or those whose names `arguments` filter.
pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    prepare()?;
    let mut overlay = overlay()?;
    let lab = target().join("release/fernpass-lab");
    let mut commands = Vec::new();
    for (package, name, filter) in TESTS {
        let program = test_program(package, name)?;
        let installed = format!("test-{name}");
        overlay.program(&installed, &program)?;
        let words = std::iter::once(installed.as_str())
            .chain((!filter.is_empty()).then_some(*filter))
            .map(str::to_owned)
            .chain(arguments.iter().map(|word| init::quoted(word)));
        commands.push(words.collect::<Vec<_>>().join(" "));
    }
    // Built beside its tests.
    overlay.program("fernpass-lab", &lab)?;
    overlay.also_at("fernpass-lab", &lab)?;
    play(overlay, &commands, false, TEST)
}

fn prepare() -> anyhow::Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "what runs in the virtual machine is built here, which takes Linux on x86-64.\n\
             On another system, make a Debian 12 machine with your own hypervisor and run \
             `cargo xtask demo` there"
        );
    }
    setup::setup(Need::MACHINE)
}

/// What demo and tests both need.
fn overlay() -> anyhow::Result<Overlay> {
    cargo(&["build", "--quiet", "--locked", "--release", "--bin", "fernpass"])?;
    let mut overlay = Overlay::new(&directory()?.join("overlay"))?;
    overlay.program("fernpass", &target().join("release/fernpass"))?;
    let boringtun = setup::program("boringtun-cli").context("boringtun-cli is not installed")?;
    overlay.program("boringtun-cli", &boringtun)?;
    Ok(overlay)
}

fn play(
    overlay: Overlay,
    commands: &[String],
    result_apart: bool,
    most: Duration,
) -> anyhow::Result<()> {
    let directory = directory()?;
    let base = image::base(&directory)?;
    let image = overlay.pack(&init::script(commands, result_apart), &base)?;
    eprintln!("starting a virtual machine; its processors are emulated: give it minutes");
    let code = qemu::run(&base.kernel, &image, &directory, result_apart, most)?;
    if code != 0 {
        std::process::exit(code);
    }
    Ok(())
}

fn directory() -> anyhow::Result<PathBuf> {
    let directory = target().join("vm");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Builds a test program, and says where it is.
fn test_program(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo_command();
    command.args(["test", "--quiet", "--locked", "--release", "--no-run", "-p", package]);
    if name == "control" {
        command.arg("--lib");
    } else {
        command.args(["--test", name]);
    }
    command.args(["--message-format", "json-render-diagnostics"]);
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests `{name}` of {package} cannot be built");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name && message["profile"]["test"] == true)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo named no program for the tests `{name}` of {package}"))
}
