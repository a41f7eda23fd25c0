//! Namespaces of the bench's own: interfaces to forward between, and a bpffs for pins. They end
//! with the process, however it ends.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::memory::unshare;

/// Index of the interface to the Internet.
pub(crate) const WAN: u32 = 11;
/// Index of the interface to the concentrators.
pub(crate) const LAN: u32 = 12;

/// Moves this process, which has one thread, into namespaces of its own, and onto one processor.
pub(crate) fn enter() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the benches load programs into the kernel: run them as root");
    }
    unshare().context("cannot make namespaces for network and mounts")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    mount("tmpfs", "/mnt", "tmpfs", MountFlags::empty(), None).context("cannot mount a tmpfs")?;
    for (name, index) in [("wan", WAN), ("lan", LAN)] {
        let peer = format!("{name}-peer");
        let (index, peer_index) = (index.to_string(), (index + 10).to_string());
        let words = ["link", "add", name, "index", &index, "type", "veth", "peer", "name", &peer];
        ip(&[&words[..], &["index", &peer_index]].concat())?;
    }
    // The last processor that may be used: the first has most of the interrupts.
    let allowed = sched_getaffinity(None).context("cannot ask for processors")?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut only = CpuSet::new();
    only.set(last.unwrap_or(0));
    sched_setaffinity(None, &only).context("cannot stay on one processor")
}

/// A directory for a gateway's bpffs.
pub(crate) fn bpffs(name: &str) -> PathBuf {
    PathBuf::from("/mnt").join(name)
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip`")?;
    if !output.status.success() {
        bail!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
