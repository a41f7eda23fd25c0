//! What messages do to the mirror.

use netlink_packet_route::RouteNetlinkMessage as M;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteType;
use proptest::prelude::*;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};

use super::messages::*;
use super::*;
use crate::routing::Effect;

const TO: &str = "198.51.100.0/24";
const TO6: &str = "2001:db8:1::/48";

/// The next hop that counts for the prefix after these messages, with the last one's effect.
fn after(to: &str, messages: &[(u16, M)]) -> (Option<HopKey>, Effect) {
    let mut state = state();
    let mut effect = Effect::Nothing;
    for (flags, message) in messages {
        effect = state.apply(*flags, message);
    }
    (state.view(&spec()).routes.get(&prefix(to)).copied(), effect)
}

#[test]
fn what_is_known_already_changes_nothing() {
    let mut state = state();
    for message in [
        link(WAN, "wan0", 1),
        address(WAN, "192.0.2.2"),
        route("0.0.0.0/0", WAN, Some("192.0.2.1")),
        neighbour(LAN, "10.20.0.11", 11),
        M::NewNeighbour(neighbour_message(LAN, "10.20.0.11", 11, NeighbourState::Stale)),
        M::DelNeighbour(neighbour_message(LAN, "10.20.0.99", 1, NeighbourState::Failed)),
        M::DelRoute(route_message(TO, WAN, None)),
    ] {
        assert_eq!(state.apply(0, &message), Effect::Nothing, "{message:?}");
    }
    assert_eq!(state, super::state());
}

#[test]
fn routes_come_change_and_go() {
    let wan = || route_message(TO, WAN, Some("192.0.2.1"));
    let lan = || route_message(TO, LAN, Some("10.20.0.11"));
    let add = (NLM_F_CREATE, M::NewRoute(wan()));
    let (key_wan, key_lan) = (Some(key(WAN, "192.0.2.1")), Some(key(LAN, "10.20.0.11")));
    assert_eq!(after(TO, std::slice::from_ref(&add)), (key_wan, Effect::Changed));
    let replace = (NLM_F_REPLACE, M::NewRoute(lan()));
    assert_eq!(after(TO, &[add.clone(), replace]), (key_lan, Effect::Changed));
    let gone = (0, M::DelRoute(wan()));
    assert_eq!(after(TO, &[add.clone(), gone.clone()]), (None, Effect::Changed));

    // Others with the same metric: the kernel tells more or less what it did, and is asked.
    let append = (NLM_F_CREATE | NLM_F_APPEND, M::NewRoute(lan()));
    assert_eq!(after(TO, &[add.clone(), append.clone()]), (key_wan, Effect::Stale));
    let prepend = (NLM_F_CREATE, M::NewRoute(lan()));
    assert_eq!(after(TO, &[add.clone(), prepend]), (key_lan, Effect::Stale));
    assert_eq!(after(TO, &[add, append, gone]), (key_lan, Effect::Changed));
}

#[test]
fn a_blackhole_hides_a_route_until_it_goes() {
    let mut hole = bare_route(TO);
    hole.header.kind = RouteType::BlackHole;
    let add = (0, M::NewRoute(metric(route_message(TO, WAN, Some("192.0.2.1")), 10)));
    let hide = (0, M::NewRoute(hole.clone()));
    let (hidden, _) = after(TO, &[add.clone(), hide.clone()]);
    assert_eq!(hidden, Some(crate::routing::STACK));
    let (shown, effect) = after(TO, &[add, hide, (0, M::DelRoute(hole))]);
    assert_eq!((shown, effect), (Some(key(WAN, "192.0.2.1")), Effect::Changed));
}

#[test]
fn ipv6_joins_routes_with_routers_and_takes_them_apart() {
    let single = |via| M::NewRoute(route_message(TO6, WAN, Some(via)));
    let both = multipath(TO6, &[(WAN, "fe80::1", false), (WAN, "fe80::2", false)]);
    let joined = [(NLM_F_CREATE, single("fe80::1")), (NLM_F_APPEND, M::NewRoute(both.clone()))];
    assert_eq!(after(TO6, &joined).0, Some(key(WAN, "fe80::1")));
    let mut parted = joined.to_vec();
    parted.push((0, M::DelRoute(route_message(TO6, WAN, Some("fe80::1")))));
    assert_eq!(after(TO6, &parted), (Some(key(WAN, "fe80::2")), Effect::Changed));
    let mut gone = joined.to_vec();
    gone.push((0, M::DelRoute(both)));
    assert_eq!(after(TO6, &gone), (None, Effect::Changed));
}

#[test]
fn what_the_kernel_does_not_tell_is_read_again() {
    let down = link_with(WAN, "wan0", 1, LinkFlags::empty());
    assert_eq!(state().apply(0, &down), Effect::Stale);
    let no_carrier = link_with(WAN, "wan0", 1, LinkFlags::Up);
    assert_eq!(state().apply(0, &no_carrier), Effect::Stale);
    let gone = M::DelLink(link_message(WAN, "wan0", 1));
    let mut state = state();
    assert_eq!(state.apply(0, &gone), Effect::Stale);
    assert!(state.neighbour(&key(WAN, "192.0.2.1")).is_none());
    assert!(!state.view(&spec()).devices.contains(&WAN));
    let M::NewAddress(own) = address(WAN, "192.0.2.2") else { panic!("an address") };
    let mut state = super::state();
    assert!(state.is_local(ip("192.0.2.2")));
    assert_eq!(state.apply(0, &M::DelAddress(own)), Effect::Stale);
    assert!(!state.is_local(ip("192.0.2.2")));
}

#[test]
fn a_bridge_that_loses_a_port_does_not_lose_the_interface() {
    let mut message = link_message(WAN, "wan0", 1);
    message.header.interface_family = netlink_packet_route::AddressFamily::Bridge;
    let mut state = state();
    assert_eq!(state.apply(0, &M::DelLink(message)), Effect::Nothing);
    assert!(state.links().contains_key(&WAN));
}

/// One of a few routes that get in each other's way.
fn any_route() -> impl Strategy<Value = (u16, bool, M)> {
    let to = prop_oneof![Just(TO), Just("0.0.0.0/0"), Just(TO6)];
    let via = prop_oneof![Just(None), Just(Some(0_usize)), Just(Some(1_usize))];
    let flags = prop_oneof![Just(0), Just(NLM_F_APPEND), Just(NLM_F_REPLACE)];
    (to, via, 0_u32..2, flags, any::<bool>()).prop_map(|(to, via, cost, flags, add)| {
        let routers = if to == TO6 { ["fe80::1", "fe80::2"] } else { ["192.0.2.1", "192.0.2.3"] };
        let message = metric(route_message(to, WAN, via.map(|at| routers[at])), cost);
        (flags, add, if add { M::NewRoute(message) } else { M::DelRoute(message) })
    })
}

proptest! {
    /// Whatever comes in which order: every route of the view is one of the mirror, no list of
    /// routes is empty, and what was added last and not taken away is there.
    #[test]
    fn stays_consistent(messages in proptest::collection::vec(any_route(), 0..40)) {
        let mut state = state();
        for (flags, added, message) in &messages {
            let before = state.clone();
            let effect = state.apply(*flags, message);
            if effect == Effect::Nothing {
                prop_assert_eq!(&before, &state);
            }
            prop_assert!(state.routes.values().all(|routes| !routes.is_empty()));
            if *added {
                let known = state.clone();
                state.apply(*flags, message);
                prop_assert_eq!(&known, &state, "known now");
            }
        }
        let view = state.view(&spec());
        prop_assert_eq!(
            view.routes.keys().filter(|prefix| state.routes.contains_key(prefix)).count(),
            state.routes.len()
        );
    }
}
