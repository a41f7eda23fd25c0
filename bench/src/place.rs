//! Namespaces of the bench's own: interfaces to forward between, and a bpffs for pins. They end
//! with the process, however it ends.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};

pub(crate) use bench_ebpf::{LAN, WAN};

use crate::memory::{unshare_mounts, unshare_network};

/// The gateway's addresses on the link.
const WAN_MAC: &str = "02:00:00:00:00:01";
const LAN_MAC: &str = "02:00:00:00:00:02";
/// The other end of [`WAN`]'s cable.
pub(crate) const WAN_PEER: u32 = WAN + 10;
/// The other end of [`LAN`]'s.
pub(crate) const LAN_PEER: u32 = LAN + 10;

/// A network namespace in which a gateway's two interfaces are, and the other ends of their cables.
#[derive(Debug)]
pub(crate) struct Net(OwnedFd);

impl Net {
    /// Makes one without anything, and moves this process there.
    pub(crate) fn empty() -> anyhow::Result<Self> {
        unshare_network().context("cannot make a network namespace")?;
        let own = File::open("/proc/thread-self/ns/net").context("cannot open a namespace")?;
        Ok(Self(own.into()))
    }

    /// A path by which it is known, for as long as this is.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Makes one, and moves this process there.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let own = Self::empty()?;
        // What the stack would send by itself is nobody's packet.
        sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        for (name, index, mac) in [("wan", WAN, WAN_MAC), ("lan", LAN, LAN_MAC)] {
            let peer = format!("{name}-peer");
            ip(&format!(
                "link add {name} index {index} address {mac} type veth peer name {peer} index {}",
                index + 10
            ))?;
            ip(&format!("link set {name} up"))?;
            ip(&format!("link set {peer} up"))?;
        }
        Ok(own)
    }

    /// Moves this process there.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter a network namespace")
    }
}

/// Writes a setting of this network namespace: a path below `/proc/sys/net`.
pub(crate) fn sysctl(path: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys/net").join(path);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

/// Moves this process, which has one thread, into namespaces of its own, and onto one processor.
pub(crate) fn enter() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the benches load programs into the kernel: run them as root");
    }
    unshare_mounts().context("cannot make a namespace for mounts")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    mount("tmpfs", "/mnt", "tmpfs", MountFlags::empty(), None).context("cannot mount a tmpfs")?;
    on_one_processor()
}

/// Stays on the last processor that may be used: the first has most of the interrupts.
pub(crate) fn on_one_processor() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None).context("cannot ask for processors")?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut only = CpuSet::new();
    only.set(last.unwrap_or(0));
    sched_setaffinity(None, &only).context("cannot stay on one processor")
}

/// Goes where the kernel likes: so do programs that are started now.
pub(crate) fn on_all_processors() -> anyhow::Result<()> {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    sched_setaffinity(None, &all).context("cannot leave the one processor")
}

/// A directory for a gateway's bpffs.
pub(crate) fn bpffs(name: &str) -> PathBuf {
    PathBuf::from("/mnt").join(name)
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> anyhow::Result<()> {
    command("ip", words, "")
}

/// Runs a program with these words, and this on its standard input.
pub(crate) fn command(program: &str, words: &str, input: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{program}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{program} {words}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
