//! A host with all backends' addresses, for what the daemon wants of them: that they answer its probes.

use std::fmt::Write as _;

use crate::gateway::{BACKENDS, Gateway, backend4, backend6};
use crate::place::{Net, command, sysctl};

/// Puts the other end of the gateway's cable to the concentrators into a namespace with their
/// addresses. It lasts as long as what is returned.
pub(crate) fn lay_out(gateway: &Gateway) -> anyhow::Result<Net> {
    let farm = Net::empty()?;
    gateway.enter()?;
    for name in ["all", "default", "wan", "lan"] {
        sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
    }
    let routes = format!(
        "link set lan-peer netns {}
address add 198.51.100.2/24 dev wan
address add 10.20.0.1/24 dev lan
address add fd20::1/64 dev lan nodad
neighbour add 198.51.100.1 lladdr 02:00:00:01:0b:01 nud permanent dev wan
route add default via 198.51.100.1 dev wan
",
        farm.path()
    );
    command("ip", "-batch -", &routes)?;
    farm.enter()?;
    let mut addresses = String::from("link set lan-peer up\n");
    for number in 0..BACKENDS {
        let _ = writeln!(addresses, "address add {}/24 dev lan-peer", backend4(number));
        let _ = writeln!(addresses, "address add {}/64 dev lan-peer nodad", backend6(number));
    }
    command("ip", "-batch -", &addresses)?;
    gateway.enter()?;
    Ok(farm)
}
