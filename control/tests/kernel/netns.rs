//! A network namespace of the test's own, with the interfaces of the fixture.

use dataplane::fixture::site::{LAN, WAN};
use libtest_mimic::Failed;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;

/// Moves this thread, and those it starts from now on, into a new network namespace
/// with two interfaces, of the numbers that the fixture's next hops name. The
/// namespace ends with its last thread.
///
/// # Errors
/// There are no rights, or no veth.
pub(crate) fn enter() -> Result<(), Failed> {
    // SAFETY: it unshares no file descriptors and no memory, of which others could rely
    // on being shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|e| format!("making a network namespace, for which it takes root: {e}"))?;
    for (name, index) in [("wan", WAN), ("lan", LAN)] {
        let (index, peer) = (index.to_string(), format!("{name}-peer"));
        let peer_index = format!("1{index}");
        let link = ["link", "add", "name", name, "index", &index, "type", "veth", "peer"];
        let output = Command::new("ip")
            .args(link)
            .args(["name", &peer, "index", &peer_index])
            .output()
            .map_err(|e| format!("ip: {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    Ok(())
}
