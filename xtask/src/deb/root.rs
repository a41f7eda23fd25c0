//! A clean Debian to install the package in.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process::run;

const SUITE: &str = "bookworm";
/// What is in it besides the smallest system that has apt.
const PACKAGES: &str = "iproute2,systemd";
/// It has mounts, among them a bpffs, and a network of its own: what the package does to gateways it does not do to this
/// machine's. There is an interface to attach to.
const PREPARE: &str = "set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
ip link add wan0 type veth peer name wan1
ip link set wan0 up
ip link set wan1 up
echo ready
exec sleep 1h";

/// The root. It goes with this, mounts and network with it.
pub(super) struct Root {
    directory: PathBuf,
    /// Who keeps the namespaces.
    keeper: Option<Child>,
}

impl Root {
    /// Makes it in a directory, of which nothing is left afterwards.
    pub(super) fn new(directory: &Path) -> anyhow::Result<Self> {
        let mut root = Self { directory: directory.to_owned(), keeper: None };
        root.clear()?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(SUITE)
            .arg(root.path())
            .stdout(io::stderr()))?;
        root.enter()?;
        Ok(root)
    }

    fn enter(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--root"]).arg(self.path());
        command.args(["sh", "-c", PREPARE]);
        clean(&mut command);
        let keeper = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let keeper = self.keeper.insert(keeper.context("cannot run `unshare`")?);
        let mut said = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        if said.trim() != "ready" {
            bail!("the root cannot have mounts and a network of its own; what it said is above");
        }
        Ok(())
    }

    /// Where it is on this machine.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// A file in it, as this machine sees it: not below what is mounted.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    /// Runs a script in it; what it prints.
    pub(super) fn shell(&self, script: &str) -> anyhow::Result<String> {
        let keeper = self.keeper.as_ref().context("nothing keeps the root")?;
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--root", "--wd"]);
        command.args(["--target", &keeper.id().to_string()]);
        command.args(["sh", "-e", "-c", script]);
        clean(&mut command);
        let output = command.stdin(Stdio::null()).output().context("cannot run `nsenter`")?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{script}` failed ({}): {stdout}{stderr}", output.status);
        }
        Ok(stdout)
    }

    fn clear(&self) -> anyhow::Result<()> {
        // Not into what might be mounted in it.
        run(Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.directory))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        if let Err(e) = self.clear() {
            eprintln!("{} is left: {e:#}", self.directory.display());
        }
    }
}

/// Nothing of this machine's environment.
fn clean(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive");
}
