//! The demo and the tests inside QEMU, for machines whose kernel cannot be used.
//!
//! The machine has no disk: its kernel and its programs are Debian's packages, unpacked into
//! an initial RAM filesystem, with what is tested laid over them. Nothing of it takes
//! root, and nothing of it outlives the command but the image under `target/vm`.

mod cables;
mod guest;
mod image;
mod init;
mod kernel;
mod qemu;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{cargo, cargo_command, target};
use crate::setup::{self, Need};
use cables::Cables;
pub(crate) use guest::Guest;
use image::Overlay;
pub(crate) use kernel::Kernel;

/// Twenty times what they take where this was written.
const DEMO: Duration = Duration::from_secs(3600);
const TEST: Duration = Duration::from_secs(4 * 3600);

/// Tests of one target: its name, a filter.
type Target = (&'static str, &'static str);

/// The tests that a kernel makes a difference to. The cards keep the lab's names for links, which others want for veths: they come last.
const TESTS: &[Target] = &[("kernel", ""), ("loader", ""), (LIBRARY, "live"), (MACHINE, "")];
/// Those that are run there if they are named: emulated processors take an hour or more for them, and they say the same.
const ON_REQUEST: &[Target] = &[("lab", ""), ("peers", ""), ("e2e", "")];
/// Those that need a kernel and nothing else: no lab, no daemon.
const KERNEL_ALONE: &[Target] = &[("kernel", "")];
/// Those within the control plane's library.
const LIBRARY: &str = "control";
/// Those that only a machine of their own can run, with its network cards: a target, and the feature that it takes to build it.
const MACHINE: &str = "machine";
const MACHINE_FEATURE: &str = "fernpass-lab/machine";

/// Plays the demo; its own exit code becomes ours.
pub(crate) fn demo(kernel: Kernel, json: bool) -> anyhow::Result<()> {
    prepare(Need::MACHINE)?;
    cargo(&["build", "--locked", "--release", "--bin", "fernpass", "--bin", "fernpass-lab"])?;
    let mut overlay = overlay(kernel)?;
    let release = target().join("release");
    overlay.program("fernpass-lab", &release.join("fernpass-lab"))?;
    let command = if json { "fernpass-lab demo --json" } else { "fernpass-lab demo" };
    play(kernel, overlay, &[command.to_owned()], None, json, DEMO)
}

/// Runs the tests that need a kernel: all that it makes a difference to, or what `arguments` leave of them, which are `cargo test`'s.
pub(crate) fn test(kernel: Kernel, arguments: &[String]) -> anyhow::Result<()> {
    let (chosen, arguments) = chosen(arguments)?;
    let alone = chosen == KERNEL_ALONE;
    prepare(if alone { Need::MACHINE_ALONE } else { Need::MACHINE })?;
    let built = if alone { as_tested_here(&chosen)? } else { test_programs(&chosen)? };
    let mut overlay = if alone { empty_overlay(kernel)? } else { overlay(kernel)? };
    let cables = (!alone).then(|| Cables::find(qemu::processors()));
    let mut commands = Vec::new();
    for (name, filter) in &chosen {
        let program = built.get(*name).with_context(|| format!("cargo built no test {name}"))?;
        let installed = format!("test-{name}");
        overlay.program(&installed, program)?;
        let words = cables
            .filter(|_| *name == MACHINE)
            .map(Cables::environment)
            .into_iter()
            .chain(std::iter::once(installed))
            .chain((!filter.is_empty()).then(|| (*filter).to_owned()))
            .chain(arguments.iter().map(|word| init::quoted(word)));
        commands.push(words.collect::<Vec<_>>().join(" "));
    }
    if !alone {
        let lab = target().join("release/fernpass-lab");
        overlay.program("fernpass-lab", &lab)?;
        overlay.also_at("fernpass-lab", &lab)?;
    }
    play(kernel, overlay, &commands, cables, false, TEST)
}

/// The targets that `--test NAME` names, or [`TESTS`], and what is left for them.
fn chosen(arguments: &[String]) -> anyhow::Result<(Vec<Target>, Vec<&String>)> {
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--test" => {
                let name = words.next().context("--test takes the name of a target")?;
                let all = || ON_REQUEST.iter().chain(TESTS);
                let target = all().find(|(target, _)| target == name);
                let names = all().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                chosen.push(*target.with_context(|| format!("there are {names}, and no {name}"))?);
            }
            "--" => rest.extend(words.by_ref()),
            _ => rest.push(word),
        }
    }
    if chosen.is_empty() {
        chosen.extend(TESTS);
    }
    Ok((chosen, rest))
}

fn prepare(needs: &[Need]) -> anyhow::Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "what runs in the virtual machine is built here, which takes Linux on x86-64.\n\
             On another system, make a Debian 12 machine with your own hypervisor and run \
             `cargo xtask demo` there"
        );
    }
    setup::setup(needs)
}

fn empty_overlay(kernel: Kernel) -> anyhow::Result<Overlay> {
    Overlay::new(&own_directory(kernel)?.join("overlay"))
}

/// What demo and tests with a lab both need; the program is built.
fn overlay(kernel: Kernel) -> anyhow::Result<Overlay> {
    let mut overlay = empty_overlay(kernel)?;
    overlay.program("fernpass", &target().join("release/fernpass"))?;
    let boringtun = setup::program("boringtun-cli").context("boringtun-cli is not installed")?;
    overlay.program("boringtun-cli", &boringtun)?;
    Ok(overlay)
}

fn play(
    kernel: Kernel,
    overlay: Overlay,
    commands: &[String],
    cables: Option<Cables>,
    result_apart: bool,
    most: Duration,
) -> anyhow::Result<()> {
    let base = image::base(&directory()?, kernel)?;
    let image = overlay.pack(&init::script(commands, result_apart), &base)?;
    eprintln!("starting a virtual machine; its processors are emulated: give it minutes");
    let code =
        qemu::run(&base.kernel, &image, &own_directory(kernel)?, cables, result_apart, most)?;
    if code != 0 {
        std::process::exit(code);
    }
    Ok(())
}

/// What belongs to one machine: those with different kernels may run at the same time.
fn own_directory(kernel: Kernel) -> anyhow::Result<PathBuf> {
    let directory = directory()?.join(kernel.name());
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn directory() -> anyhow::Result<PathBuf> {
    let directory = target().join("vm");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Builds the test programs, and what they test; where they are by the names of their targets.
fn test_programs(chosen: &[Target]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let common =
        ["--release", "-p", "fernpass", "-p", "fernpass-lab", "--features", MACHINE_FEATURE];
    // In one go with the tests, which else have dependencies of their own; and both, as cargo builds a test's own package alone.
    let programs = ["build", "--bin", "fernpass", "--bin", "fernpass-lab"];
    let mut messages = build(programs.into_iter().chain(common).chain(targets(chosen)))?;
    if chosen.iter().any(|(name, _)| *name == LIBRARY) {
        messages += &build(["test", "--no-run", "--lib"].into_iter().chain(common))?;
    }
    Ok(programs_in(&messages))
}

/// The same as `cargo test` builds them, which has done so where all is tested.
fn as_tested_here(chosen: &[Target]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let messages = build(["test", "--no-run"].into_iter().chain(targets(chosen)))?;
    Ok(programs_in(&messages))
}

fn targets(chosen: &[Target]) -> impl Iterator<Item = &'static str> {
    let tests = chosen.iter().filter(|(name, _)| *name != LIBRARY);
    tests.flat_map(|(name, _)| ["--test", name])
}

/// Has cargo build something; what it says of it.
fn build<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let mut command = cargo_command();
    command.args(arguments).args(["--quiet", "--locked"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests cannot be built");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The test programs among what cargo says it has built.
fn programs_in(messages: &str) -> BTreeMap<String, PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true);
    tests
        .filter_map(|message| {
            let target = &message["target"];
            let name = target["name"].as_str()?;
            // The lab's library has the name of one of its tests.
            let is_meant = target["kind"][0] == "test" || name == LIBRARY;
            is_meant.then(|| Some((name.to_owned(), message["executable"].as_str()?.into())))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_as_cargo_does() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (all, rest) = (words("roam"), words("--test e2e --test lab -- --exact a::b"));
        let (targets, filters) = chosen(&all).unwrap();
        assert_eq!((targets.len(), filters[0].as_str()), (TESTS.len(), "roam"));
        let (targets, filters) = chosen(&rest).unwrap();
        assert_eq!(targets, [("e2e", ""), ("lab", "")]);
        assert_eq!(filters, ["--exact", "a::b"]);
        assert!(chosen(&words("--test none")).is_err());
    }
}
