//! Links between namespaces, in the state that packet-exact tests need.

use super::plan::Pair;
use crate::error::Result;
use crate::net::{Ns, ip_batch};

/// One end of a link.
pub(super) struct End<'a> {
    pub(super) ns: &'a Ns,
    pub(super) interface: &'a str,
    /// Addresses with their IPv4 and IPv6 prefix lengths; none for a bridge port.
    pub(super) addresses: Option<(Pair, u8, u8)>,
    /// What the other end sends by XDP arrives only if this end polls (NAPI),
    /// which a veth does while it has an XDP program or GRO.
    pub(super) receives_xdp: bool,
}

/// A namespace with the kernel parameters of `settings` (names below
/// `/proc/sys/net`), and without IPv6's duplicate address detection, which only costs a second.
pub(super) fn namespace(name: &str, settings: &[(&str, &str)]) -> Result<Ns> {
    ip_batch(None, &[format!("netns add {name}")])?;
    let ns = Ns::open(name)?;
    let common = [
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        // A host with two uplinks, and a router between them, have asymmetric paths.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // A moved address is announced.
        ("ipv4/conf/default/arp_notify", "1"),
        ("ipv6/conf/default/ndisc_notify", "1"),
    ];
    for (key, value) in common.iter().chain(settings) {
        ns.sysctl(&format!("net/{key}"), value)?;
    }
    ns.ip(&["link set lo up"])?;
    Ok(ns)
}

/// Lays a veth between two namespaces.
pub(super) fn connect(a: &End<'_>, b: &End<'_>) -> Result<()> {
    ip_batch(
        None,
        &[format!(
            "link add {} netns {} type veth peer name {} netns {}",
            a.interface,
            a.ns.name(),
            b.interface,
            b.ns.name()
        )],
    )?;
    for end in [a, b] {
        configure(end)?;
    }
    for end in [a, b].into_iter().filter(|end| end.receives_xdp) {
        // The other end becomes a target of redirects (`NETDEV_XDP_ACT_NDO_XMIT`) when
        // GRO is switched on while both are up, and not before.
        end.ns.run("ethtool", &["-K", end.interface, "gro", "on"])?;
    }
    Ok(())
}

fn configure(end: &End<'_>) -> Result<()> {
    let interface = end.interface;
    // Frames of local sockets would carry unfinished checksums and be larger than the MTU.
    let off = ["tx", "gso", "tso", "gro"].map(|feature| [feature, "off"]);
    let mut arguments = vec!["-K", interface];
    arguments.extend(off.as_flattened());
    end.ns.run("ethtool", &arguments)?;
    end.ns.ip(&address(end))
}

/// The commands that give an end its addresses and take it up.
pub(super) fn address(end: &End<'_>) -> Vec<String> {
    let interface = end.interface;
    let mut commands = Vec::new();
    if let Some((pair, v4_length, v6_length)) = end.addresses {
        commands.push(format!("addr add {}/{v4_length} dev {interface}", pair.v4));
        commands.push(format!("addr add {}/{v6_length} dev {interface} nodad", pair.v6));
    }
    commands.push(format!("link set {interface} up"));
    commands
}
