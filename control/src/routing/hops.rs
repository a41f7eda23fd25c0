//! From an interface and a neighbour to the frame that XDP sends.

use std::collections::BTreeSet;

use super::state::{Link, State};
use crate::model::{HopKey, NextHop, Vlan};

/// How frames leave by an interface.
struct Exit<'a> {
    /// The interface that has the address and the neighbours.
    link: &'a Link,
    /// The interface that XDP sends on.
    device: u32,
    vlan: Option<Vlan>,
    /// The smaller MTU of both, in bytes.
    mtu: u32,
}

/// The next hop of a key. `devices` are the interfaces that XDP may send on, `mtu` is the
/// smallest of the routes that lead there.
pub(super) fn build(
    state: &State,
    devices: &BTreeSet<u32>,
    key: &HopKey,
    mtu: Option<u32>,
) -> NextHop {
    let Some(exit) = exit(state, key.interface) else {
        return NextHop { ifindex: key.interface, ..NextHop::default() };
    };
    let dst_mac = state.neighbour(key).and_then(|neighbour| neighbour.mac);
    let src_mac = exit.link.mac;
    let mtu = mtu.map_or(exit.mtu, |mtu| mtu.min(exit.mtu));
    NextHop {
        ifindex: exit.device,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        dst_mac: dst_mac.unwrap_or_default(),
        src_mac: src_mac.unwrap_or_default(),
        vlan: exit.vlan,
        resolved: exit.link.usable()
            && exit.link.ethernet
            && devices.contains(&exit.device)
            && dst_mac.is_some()
            && src_mac.is_some(),
    }
}

/// Whether XDP can send to neighbours on the interface once it knows their MACs.
pub(super) fn sends(state: &State, devices: &BTreeSet<u32>, interface: u32) -> bool {
    exit(state, interface).is_some_and(|exit| {
        exit.link.usable() && exit.link.ethernet && devices.contains(&exit.device)
    })
}

/// `None` for an interface that is not known, whose lower interface is not, or that
/// needs more than one tag.
fn exit(state: &State, interface: u32) -> Option<Exit<'_>> {
    let link = state.links.get(&interface)?;
    let Some(tagged) = link.vlan else {
        return Some(Exit { link, device: interface, vlan: None, mtu: link.mtu });
    };
    let device = tagged.lower?;
    let lower = state.links.get(&device)?;
    let plain = lower.vlan.is_none();
    plain.then(|| Exit { link, device, vlan: Some(tagged.tag), mtu: link.mtu.min(lower.mtu) })
}
