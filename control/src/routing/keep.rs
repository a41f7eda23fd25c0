//! Which neighbours the kernel is to keep resolved.
//!
//! XDP does not ask for neighbours, so the kernel is told to look after those that matter
//! (`NTF_EXT_MANAGED`). Entries that an operator has set by hand and those of other daemons
//! are never touched. What was asked for is given back when nobody needs it any more, but
//! not when the daemon stops: forwarding goes on without it, and the next
//! daemon recognises the entries by their originator.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::NLM_F_CREATE;
use tracing::debug;

use super::socket::Requester;
use super::state::{Neighbour, OUR_PROTOCOL, State};
use crate::model::HopKey;

/// Soonest time to ask for the same neighbour again.
const AGAIN: Duration = Duration::from_secs(1);

/// What to tell the kernel about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To keep it resolved.
    Keep(HopKey),
    /// To treat it like any other.
    Release(HopKey),
}

/// Remembers what the kernel was told.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    asked: BTreeMap<HopKey, Instant>,
    mine: BTreeSet<HopKey>,
}

impl Keeper {
    /// Takes over what an earlier daemon asked for.
    pub(super) fn adopt(&mut self, state: &State) {
        let ours = state.neighbours.iter().filter(|(_, entry)| entry.ours && entry.managed);
        self.mine.extend(ours.map(|(key, _)| *key));
    }

    /// What to tell the kernel now, and when to look again if nothing happens.
    pub(super) fn plan(
        &mut self,
        needed: &BTreeSet<HopKey>,
        state: &State,
        now: Instant,
    ) -> (Vec<Order>, Option<Instant>) {
        let mut orders = Vec::new();
        let mut again: Option<Instant> = None;
        for key in needed {
            if !wants_asking(state.neighbour(key)) {
                continue;
            }
            let due = self.asked.get(key).map_or(now, |asked| *asked + AGAIN);
            // If asking is of no avail, nothing happens that would be heard of.
            let next = if due <= now { now + AGAIN } else { due };
            if due <= now {
                self.asked.insert(*key, now);
                self.mine.insert(*key);
                orders.push(Order::Keep(*key));
            }
            again = Some(again.map_or(next, |first| first.min(next)));
        }
        let idle: Vec<_> = self.mine.difference(needed).copied().collect();
        for key in idle {
            // Only once: if another gateway wants to keep it, that is not to be a quarrel.
            self.mine.remove(&key);
            self.asked.remove(&key);
            if state.neighbour(&key).is_some_and(|entry| entry.ours && entry.managed) {
                orders.push(Order::Release(key));
            }
        }
        (orders, again)
    }
}

fn wants_asking(entry: Option<&Neighbour>) -> bool {
    entry.is_none_or(|entry| !entry.foreign && (!entry.managed || entry.failed))
}

/// Tells the kernel. If it refuses it will be asked again; until then the next hop is
/// not resolved, and packets take the way through its stack.
pub(super) async fn carry_out(requester: &mut Requester, orders: &[Order]) {
    for order in orders {
        let result = tell(requester, order).await;
        match (result, order) {
            (Ok(()), _) => debug!(?order, "neighbour"),
            // It is gone already.
            (Err(error), Order::Release(_)) if error.raw_os_error() == Some(libc::ENOENT) => {}
            (Err(error), _) => debug!(?order, %error, "neighbour refused"),
        }
    }
}

async fn tell(requester: &mut Requester, order: &Order) -> io::Result<()> {
    let (key, managed) = match order {
        Order::Keep(key) => (key, true),
        Order::Release(key) => (key, false),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = match key.neighbour {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = key.interface;
    message.header.state = NeighbourState::None;
    // With `NTF_USE` the entry's MAC and state stay as they are.
    message.header.flags = NeighbourFlags::Use;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::from(key.neighbour)),
        NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL)),
    ];
    if managed {
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    }
    let flags = if managed { NLM_F_CREATE } else { 0 };
    requester.order(RouteNetlinkMessage::NewNeighbour(message), flags).await
}
