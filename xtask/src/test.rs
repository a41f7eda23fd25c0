//! `cargo xtask test` without arguments: every test there is.
//!
//! The lab's tests mostly wait: for a client to dial, for a backend to be found dead. All others compute, and run beside them at the lowest
//! priority, because a lab whose processors are taken loses packets.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::check::MODEL;
use crate::process::{cargo, cargo_command, run, target, workspace};

/// Whose tests wait.
const LAB: &str = "fernpass-lab";

/// The programs that the lab starts, as it would build them (`tests/src/gateway/binary.rs`).
const PROGRAMS: [&[&str]; 2] =
    [&["--bin", "fernpass"], &["--bin", "fernpass-other-abi", "--features", "fernpass/other-abi"]];

/// Runs all tests.
pub(crate) fn all() -> anyhow::Result<()> {
    let tests = Tests::find()?;
    // Built before any runs: so nothing that is built disturbs them.
    cargo(&["test", "--locked", "--no-run"])?;
    cargo(&[&["test", "--no-run"], &MODEL[..]].concat())?;
    for program in PROGRAMS {
        cargo(&[&["build", "--locked"], program].concat())?;
    }
    let documentation = ["test", "--locked", "--doc"].map(str::to_owned).to_vec();
    let others = Aside::start(vec![tests.others(), model(), documentation])?;
    let lab = run(cargo_command().args(tests.lab()));
    if lab.is_err() {
        eprintln!("the other tests are still running");
    }
    let others = others.finish();
    lab.and(others)
}

fn model() -> Vec<String> {
    ["test"].iter().chain(&MODEL).map(|&word| word.to_owned()).collect()
}

/// The workspace's test targets, but those that need a feature.
#[derive(Debug, Default)]
struct Tests {
    lab: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Tests {
    fn find() -> anyhow::Result<Self> {
        let mut command = cargo_command();
        command.args(["metadata", "--no-deps", "--locked", "--format-version", "1"]);
        let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo does not tell the tests there are");
        }
        Self::of(&serde_json::from_slice(&output.stdout).context("cargo's metadata")?)
    }

    fn of(metadata: &Value) -> anyhow::Result<Self> {
        let mut tests = Self::default();
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let members = array(&metadata["workspace_default_members"]);
        for package in array(&metadata["packages"]) {
            if !members.contains(&package["id"]) {
                continue;
            }
            let of = if package["name"] == LAB { &mut tests.lab } else { &mut tests.others };
            for found in array(&package["targets"]) {
                if array(&found["kind"]).contains(&"test".into())
                    && array(&found["required-features"]).is_empty()
                {
                    of.insert(
                        found["name"].as_str().context("a target without a name")?.to_owned(),
                    );
                }
            }
        }
        if let Some(name) = tests.lab.intersection(&tests.others).next() {
            bail!("two crates have tests called `{name}`: they could not be told apart");
        }
        Ok(tests)
    }

    fn lab(&self) -> Vec<String> {
        arguments(&[], &self.lab)
    }

    /// Those of libraries and programs are all among the others, the lab's too.
    fn others(&self) -> Vec<String> {
        arguments(&["--lib", "--bins"], &self.others)
    }
}

/// No packages are named: their crates would be built anew, with fewer features.
fn arguments(first: &[&str], tests: &BTreeSet<String>) -> Vec<String> {
    let first =
        ["test", "--locked", "--no-fail-fast"].iter().chain(first).map(|&word| word.to_owned());
    first.chain(tests.iter().flat_map(|name| ["--test".to_owned(), name.clone()])).collect()
}

/// Commands of cargo that run one after the other, with what processors are left. What they say is shown when they have ended.
struct Aside {
    thread: JoinHandle<anyhow::Result<()>>,
    log: PathBuf,
}

impl Aside {
    fn start(commands: Vec<Vec<String>>) -> anyhow::Result<Self> {
        let log = target().join("tests-aside.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let thread = std::thread::spawn(move || {
            // All of them, as `--no-fail-fast` has all of each.
            let ended: Vec<_> = commands.iter().map(|words| aside(words, &file)).collect();
            ended.into_iter().collect()
        });
        Ok(Self { thread, log })
    }

    /// Waits for them, and shows what they have said.
    fn finish(self) -> anyhow::Result<()> {
        let ended = self.thread.join();
        let said =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        io::stderr().write_all(&said)?;
        ended.unwrap_or_else(|_| bail!("the tests beside the lab's did not end"))
    }
}

fn aside(words: &[String], log: &File) -> anyhow::Result<()> {
    let cargo = cargo_command();
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(cargo.get_program()).args(words);
    command.current_dir(workspace()).stdin(Stdio::null());
    run(command.stdout(log.try_clone()?).stderr(log.try_clone()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_test_is_run_once_and_none_is_forgotten() {
        let target = |name: &str, kind: &str, features: &[&str]| json!({ "name": name, "kind": [kind], "required-features": features });
        let metadata = json!({
            "workspace_default_members": ["a", "b"],
            "packages": [
                { "id": "a", "name": LAB, "targets": [
                    target("e2e", "test", &[]), target("machine", "test", &["machine"]), target("lab", "lib", &[]),
                ] },
                { "id": "b", "name": "another", "targets": [target("kernel", "test", &[]), target("host", "bench", &[])] },
                { "id": "c", "name": "for-the-kernel", "targets": [target("none", "test", &[])] },
            ],
        });
        let tests = Tests::of(&metadata).unwrap();
        let words = |words: Vec<String>| words.join(" ");
        assert_eq!(words(tests.lab()), "test --locked --no-fail-fast --test e2e");
        assert_eq!(
            words(tests.others()),
            "test --locked --no-fail-fast --lib --bins --test kernel"
        );
        let mut twice = metadata;
        twice["packages"][1]["targets"][0]["name"] = "e2e".into();
        assert!(Tests::of(&twice).is_err());
    }
}
