//! Whether this machine can run a lab, said before anything is tried.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{LabError, Result};

/// A program the lab starts, and how to get it.
const PROGRAMS: [(&str, &str); 4] = [
    ("ip", "apt install iproute2"),
    ("ethtool", "apt install ethtool"),
    ("wireguard-go", "apt install wireguard-go"),
    ("boringtun-cli", "cargo install boringtun-cli --version 0.7.1 --locked"),
];

/// Programs that only some labs start.
const PEERS: [(&str, &str); 5] = [
    ("openvpn", "apt install openvpn"),
    ("swanctl", "apt install strongswan-swanctl"),
    ("ocserv", "apt install ocserv"),
    ("occtl", "apt install ocserv"),
    ("openconnect", "apt install openconnect"),
];

/// Capabilities (bit numbers of `linux/capability.h`) that even root may lack, in a container.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)];

/// Fails with a [`LabError::Impossible`] that names everything that is missing.
pub fn preflight() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::Impossible(
            "it needs root, for network namespaces and BPF".to_owned(),
        ));
    }
    let mut missing = Vec::new();
    if let Some(status) = read("/proc/self/status") {
        let lacking = lacking_capabilities(&status);
        if !lacking.is_empty() {
            missing.push(format!("this root lacks {}", lacking.join(", ")));
        }
    }
    if read("/proc/filesystems").is_some_and(|all| !all.contains("\tbpf\n")) {
        missing.push("this kernel has no BPF".to_owned());
    }
    if !Path::new("/proc/self/ns/net").exists() {
        missing.push("this kernel has no network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("there is no /dev/net/tun, which the WireGuard peers need".to_owned());
    }
    for (program, remedy) in PROGRAMS {
        if find(program).is_none() {
            missing.push(format!("{program} is not installed ({remedy})"));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(LabError::Impossible(missing.join("; "))) }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The names of [`CAPABILITIES`] that are not in effect, by `/proc/self/status`.
fn lacking_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else { return Vec::new() };
    let lacking = CAPABILITIES.iter().filter(|(_, bit)| effective & (1 << bit) == 0);
    lacking.map(|&(name, _)| name).collect()
}

/// A program on the PATH, or where `cargo install` and Debian put it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo.map(|cargo| cargo.join("bin")))
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// [`find`], or an error that says what is missing.
pub(crate) fn require(program: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| {
        let remedy = PROGRAMS.iter().chain(&PEERS).find(|(name, _)| *name == program);
        let remedy = remedy.map(|(_, remedy)| format!(" ({remedy})")).unwrap_or_default();
        LabError::Impossible(format!("{program} is not installed{remedy}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        let status = |mask: &str| format!("Name:\tx\nCapEff:\t{mask}\nCapBnd:\t0\n");
        assert_eq!(lacking_capabilities(&status("000001ffffffffff")), Vec::<&str>::new());
        // What Docker leaves to root.
        assert_eq!(
            lacking_capabilities(&status("00000000a80425fb")),
            ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"]
        );
    }
}
