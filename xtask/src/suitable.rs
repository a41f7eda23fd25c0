//! Whether this machine's kernel can be used.

use std::path::Path;

use anyhow::bail;

use crate::process::output;

/// Says in a sentence why it cannot, and what can be done instead.
pub(crate) fn check(command: &str) -> anyhow::Result<()> {
    if let Some(reason) = obstacle() {
        bail!(
            "this machine's kernel cannot be used: {reason}.\n`cargo xtask {command} --vm` does the same inside QEMU"
        );
    }
    Ok(())
}

/// Whether who runs this may do everything.
pub(crate) fn is_root() -> bool {
    output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

fn obstacle() -> Option<String> {
    if cfg!(not(target_os = "linux")) {
        return Some("it is not Linux".to_owned());
    }
    if !is_root() {
        return Some(
            "it takes root to load kernel programs and to make network namespaces".to_owned(),
        );
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.ends_with("sbin")) {
        return Some(
            "PATH has no /usr/sbin, where programs of root's are, as after `su` without `-`"
                .to_owned(),
        );
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists()
        && !Path::new("/proc/sys/net/core/bpf_jit_enable").exists()
    {
        return Some("it has no BPF".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some(
            "there is no /dev/net/tun, which WireGuard peers in user space need".to_owned(),
        );
    }
    let probe = format!("fernpass-probe-{}", std::process::id());
    if output("ip", &["netns", "add", &probe]).is_none() {
        // iproute2 may be missing, which setup mends.
        return output("ip", &["-V"]).map(|_| {
            "no network namespace can be made, so this is a container without rights".to_owned()
        });
    }
    let _ = output("ip", &["netns", "del", &probe]);
    None
}
