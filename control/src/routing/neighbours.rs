//! Neighbours that the kernel keeps resolved for us (`NTF_EXT_MANAGED`, linux/neighbour.h).

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState,
};
use rtnetlink::Handle;

use super::state::State;
use super::view::ViewSpec;

/// Asks the kernel to keep those neighbours resolved that packets go to, and to let
/// go of those that they do not go to any more. An operator's own entries are left alone.
pub(super) async fn manage(
    handle: &Handle,
    state: &State,
    spec: &ViewSpec,
    managed: &mut std::collections::BTreeSet<(u32, IpAddr)>,
) {
    let wanted = state.wanted_neighbours(spec);
    for key in &wanted {
        let there = state.neighbours.get(key).copied().unwrap_or_default();
        if !there.managed && !there.fixed {
            if let Err(e) = ask(handle, *key, true).await {
                tracing::debug!(neighbour = %key.1, "cannot be kept resolved: {e}");
            }
            managed.insert(*key);
        }
    }
    let done: Vec<_> = managed.difference(&wanted).copied().collect();
    for key in done {
        managed.remove(&key);
        if state.neighbours.get(&key).is_some_and(|there| there.managed)
            && let Err(e) = ask(handle, key, false).await
        {
            tracing::debug!(neighbour = %key.1, "cannot be let go: {e}");
        }
    }
}

async fn ask(
    handle: &Handle,
    (link, address): (u32, IpAddr),
    managed: bool,
) -> Result<(), rtnetlink::Error> {
    let mut request = handle
        .neighbours()
        .add(link, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace();
    if managed {
        let flags = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        request.message_mut().attributes.push(flags);
    }
    request.execute().await
}
