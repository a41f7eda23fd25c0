//! Whether this machine can run a lab, said before anything is tried.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{LabError, Result};

/// A program the lab starts, and how to get it.
const PROGRAMS: [(&str, &str); 4] = [
    ("ip", "apt install iproute2"),
    ("ethtool", "apt install ethtool"),
    ("wireguard-go", "apt install wireguard-go"),
    ("boringtun-cli", "cargo install boringtun-cli --version 0.7.1 --locked"),
];

/// Fails with a [`LabError::Impossible`] that names everything that is missing.
pub fn preflight() -> Result<()> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("it needs root, to make network namespaces".to_owned());
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
    find(program).ok_or_else(|| LabError::Impossible(format!("{program} is not installed")))
}
