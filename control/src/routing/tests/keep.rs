//! Whom the kernel is asked to keep.

use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage as M;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};

use super::super::keep::{Keeper, Order};
use super::messages::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn gateways_and_backends_are_needed_and_nobody_else() {
    let expected = [key(WAN, "192.0.2.1"), key(LAN, "10.20.0.11"), key(LAN, "10.20.0.12")];
    assert_eq!(state().outlook(&spec()).keep, expected.into());
    // Not on interfaces that XDP does not send on.
    let lan_only = ViewSpec { interfaces: [LAN].into(), ..spec() };
    assert_eq!(state().outlook(&lan_only).keep, expected[1..].iter().copied().collect());
}

#[test]
fn asks_until_the_kernel_keeps_it_and_not_too_often() {
    let needed = BTreeSet::from([key(LAN, "10.20.0.12")]);
    let (mut keeper, mut state) = (Keeper::default(), state());
    let start = Instant::now();
    let keep = vec![Order::Keep(key(LAN, "10.20.0.12"))];
    assert_eq!(keeper.plan(&needed, &state, start), (keep.clone(), Some(start + SECOND)));
    let soon = start + SECOND / 2;
    assert_eq!(keeper.plan(&needed, &state, soon), (vec![], Some(start + SECOND)));
    let later = start + SECOND;
    assert_eq!(keeper.plan(&needed, &state, later), (keep.clone(), Some(later + SECOND)));

    state.apply(0, &kept(LAN, "10.20.0.12", NeighbourState::Incomplete));
    assert_eq!(keeper.plan(&needed, &state, later + 5 * SECOND), (vec![], None));
    state.apply(0, &kept(LAN, "10.20.0.12", NeighbourState::Failed));
    let failed = later + 6 * SECOND;
    assert_eq!(keeper.plan(&needed, &state, failed), (keep, Some(failed + SECOND)));
}

#[test]
fn leaves_other_peoples_entries_alone() {
    let needed = BTreeSet::from([key(LAN, "10.20.0.12")]);
    let entry = |state| neighbour_message(LAN, "10.20.0.12", 12, state);
    let mut learned = entry(NeighbourState::Reachable);
    learned.header.flags = NeighbourFlags::ExtLearned;
    for foreign in [entry(NeighbourState::Permanent), entry(NeighbourState::Noarp), learned] {
        let mut state = state();
        state.apply(0, &M::NewNeighbour(foreign));
        let mut keeper = Keeper::default();
        assert_eq!(keeper.plan(&needed, &state, Instant::now()), (vec![], None));
        assert_eq!(keeper.plan(&BTreeSet::new(), &state, Instant::now()), (vec![], None));
    }
}

#[test]
fn gives_back_once_what_an_earlier_daemon_asked_for() {
    let mut state = state();
    state.apply(0, &kept(LAN, "10.20.0.12", NeighbourState::Reachable));
    // An operator's `ip neighbour add ... managed`.
    let mut managed = kept(LAN, "10.20.0.13", NeighbourState::Reachable);
    if let M::NewNeighbour(message) = &mut managed {
        message.attributes.pop();
    }
    state.apply(0, &managed);
    let mut keeper = Keeper::default();
    keeper.adopt(&state);
    let now = Instant::now();
    let (orders, _) = keeper.plan(&BTreeSet::new(), &state, now);
    assert_eq!(orders, [Order::Release(key(LAN, "10.20.0.12"))]);
    assert_eq!(keeper.plan(&BTreeSet::new(), &state, now), (vec![], None));
}
