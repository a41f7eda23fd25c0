//! Sessions carried from one set of tables to another, while both are in use: the daemon's part, with the same
//! operations on slots and ids as the kernel program's.

use super::hash::{self, Flow};
use super::ids::{self, Scope};
use super::{Sessions, quota, slot};
use crate::abi::{Detail, Settings, Slot, Tenant};
use crate::cell::Cell;

/// The ids by which one direction's packets know a session. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Handed out and not yet in use.
    pub next: u32,
    /// In use.
    pub current: u32,
    /// The one before.
    pub previous: u32,
}

impl Ids {
    fn all(self) -> [u32; 3] {
        [self.next, self.current, self.previous]
    }
}

/// What a session has had: packets and bytes from the client, packets and bytes to it.
pub type Counts = [u64; 4];

/// A session, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named like the fields of the tables")]
pub struct Session {
    pub identity: u64,
    /// [`slot::TENTATIVE`] or [`slot::OPEN`], perhaps with [`slot::ASIDE`].
    pub state: u8,
    pub flow: Flow,
    pub endpoint: u16,
    pub opened: u64,
    pub last_seen: u32,
    pub counts: Counts,
    pub inbound: Ids,
    pub outbound: Ids,
    pub in_counter: u32,
    pub out_counter: u32,
    pub moves: u16,
    pub handshake: u16,
    pub closing: u16,
    /// The ids of answers are a control channel's, and lead to the session in both directions.
    pub control: bool,
}

impl Session {
    /// The session in a slot, with the slot's state word; `None` if there is none, or it changes hands. Whether its ids are a control
    /// channel's is not known by it.
    pub fn read(slot: &Slot, detail: &Detail) -> Option<(u64, Self)> {
        let word = slot.state.load();
        if !slot::is_live(word) {
            return None;
        }
        let count = |(low, high): (&Cell<u32>, &Cell<u32>)| {
            u64::from(high.get()) << 32 | u64::from(low.get())
        };
        let session = Self {
            identity: detail.identity.get(),
            state: slot::state(word),
            flow: slot::flow(slot),
            endpoint: slot.endpoint.get(),
            opened: detail.opened.get(),
            last_seen: slot.last_seen.get(),
            counts: counters(slot, detail).map(count),
            inbound: Ids {
                next: detail.in_id_next.get(),
                current: slot.in_id.get(),
                previous: detail.in_id_previous.get(),
            },
            outbound: Ids {
                next: detail.out_id_next.get(),
                current: slot.out_id.get(),
                previous: detail.out_id_previous.get(),
            },
            in_counter: detail.in_counter.get(),
            out_counter: detail.out_counter.get(),
            moves: detail.moves.get(),
            handshake: detail.handshake.get(),
            closing: detail.closing.get(),
            control: false,
        };
        let after = slot.state.load();
        let same = slot::is_live(after) && slot::generation(after) == slot::generation(word);
        same.then_some((after, Self { state: slot::state(after), ..session }))
    }

    /// True if it is known by its ids alone.
    pub const fn is_aside(&self) -> bool {
        self.state & slot::ASIDE != 0
    }

    /// True if it is open, aside or not.
    pub const fn is_open(&self) -> bool {
        self.state & !slot::ASIDE == slot::OPEN
    }
}

/// Why a session could not be put into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No slot is free within reach.
    Full,
    /// Another has the flow.
    Taken,
}

/// Puts a session into a free slot, and makes its ids lead there: the slot's index.
///
/// # Errors
/// There is none, or another session has the flow: then nothing has changed.
pub fn insert<T: Sessions>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    session: &Session,
) -> Result<u32, Refused> {
    let hash = hash::flow(s, &session.flow);
    count(s, tenant, session.is_open());
    let refused = |why| {
        quota::release(s, tenant, session.state);
        Err(why)
    };
    let Some(claim) = slot::claim(t, hash) else { return refused(Refused::Full) };
    let (Some(slot), Some(detail)) = (t.slot(claim.index), t.detail(claim.index)) else {
        return refused(Refused::Full);
    };
    write(slot, detail, session);
    if !slot::publish(t, hash, claim, session.state) {
        return refused(Refused::Taken);
    }
    lead(t, claim.index, session);
    Ok(claim.index)
}

/// Makes the ids of a session lead to its slot, those that do not yet.
pub fn lead<T: Sessions>(t: &T, index: u32, session: &Session) {
    let Some(slot) = t.slot(index) else { return };
    for (scope, id) in scopes(slot, session) {
        ids::insert(t, scope, id, index);
    }
}

/// Takes a session that will be counted into account. What was open is open, whatever the quota says.
fn count(s: &Settings, tenant: &Tenant, open: bool) {
    s.used.add(1);
    if open {
        quota::again(s, tenant);
    } else {
        tenant.tentative.add(1);
    }
}

fn write(slot: &Slot, detail: &Detail, session: &Session) {
    for (cell, half) in slot.client.iter().zip(session.flow.client.halves()) {
        cell.set(half);
    }
    slot.port_service.set(session.flow.port_service());
    slot.endpoint.set(session.endpoint);
    slot.nexthop.set(0);
    slot.route_generation.set(0);
    slot.last_seen.set(session.last_seen);
    for ((low, high), count) in counters(slot, detail).into_iter().zip(session.counts) {
        low.set(count as u32);
        high.set((count >> 32) as u32);
    }
    slot.in_id.set(session.inbound.current);
    slot.out_id.set(session.outbound.current);
    detail.opened.set(session.opened);
    detail.identity.set(session.identity);
    detail.in_id_next.set(session.inbound.next);
    detail.in_id_previous.set(session.inbound.previous);
    detail.out_id_next.set(session.outbound.next);
    detail.out_id_previous.set(session.outbound.previous);
    detail.in_counter.set(session.in_counter);
    detail.out_counter.set(session.out_counter);
    detail.moves.set(session.moves);
    detail.handshake.set(session.handshake);
    detail.closing.set(session.closing);
}

/// The halves of the four counts.
fn counters<'a>(slot: &'a Slot, detail: &'a Detail) -> [(&'a Cell<u32>, &'a Cell<u32>); 4] {
    [
        (&slot.rx_packets, &detail.rx_packets_high),
        (&slot.rx_bytes, &detail.rx_bytes_high),
        (&slot.tx_packets, &detail.tx_packets_high),
        (&slot.tx_bytes, &detail.tx_bytes_high),
    ]
}

/// All ids of a session, with their scopes.
fn scopes(slot: &Slot, session: &Session) -> impl Iterator<Item = (Scope, u32)> {
    let (inbound, outbound) =
        (Scope::inbound(slot.service()), Scope::outbound(slot.endpoint.get()));
    let control = if session.control { session.outbound.all() } else { [0; 3] };
    let all =
        [(inbound, session.inbound.all()), (outbound, session.outbound.all()), (inbound, control)];
    all.into_iter()
        .flat_map(|(scope, ids)| ids.into_iter().map(move |id| (scope, id)))
        .filter(|(_, id)| *id != 0)
}

/// Adds to the counts of a session that packets count in meanwhile. One that is counted at the very moment may be missed; what is
/// added is not.
pub fn add(slot: &Slot, detail: &Detail, more: Counts) {
    for ((low, high), more) in counters(slot, detail).into_iter().zip(more) {
        if more == 0 {
            continue;
        }
        loop {
            let sum = u64::from(low.get()) + (more & 0xffff_ffff);
            low.set(sum as u32);
            // A packet that had read it before has written its own sum over it.
            if low.get().wrapping_sub(sum as u32) < 1 << 31 {
                high.set(high.get().wrapping_add((sum >> 32) as u32 + (more >> 32) as u32));
                break;
            }
        }
    }
}

/// Gives a session the ids that it has by now, in both directions.
pub fn learn<T: Sessions>(t: &T, index: u32, before: &Session, now: &Session) {
    let (Some(slot), Some(detail)) = (t.slot(index), t.detail(index)) else { return };
    slot.in_id.set(now.inbound.current);
    detail.in_id_next.set(now.inbound.next);
    detail.in_id_previous.set(now.inbound.previous);
    slot.out_id.set(now.outbound.current);
    detail.out_id_next.set(now.outbound.next);
    detail.out_id_previous.set(now.outbound.previous);
    let kept: std::vec::Vec<_> = scopes(slot, now).collect();
    for (scope, id) in scopes(slot, before).filter(|id| !kept.contains(id)) {
        ids::remove(t, scope, id, index);
    }
    for (scope, id) in kept {
        ids::insert(t, scope, id, index);
    }
}

/// Opens a tentative session, which has been opened elsewhere: false if its slot has changed.
pub fn open(
    s: &Settings,
    tenant: &Tenant,
    slot: &Slot,
    detail: &Detail,
    (word, opened): (u64, u64),
) -> bool {
    quota::again(s, tenant);
    if slot::transition(slot, word, slot::OPEN) {
        tenant.tentative.add(u64::MAX);
        detail.opened.set(opened);
        return true;
    }
    quota::close(s, tenant);
    false
}

/// Takes a session out of its slot: false if that has changed.
pub fn retire(s: &Settings, tenant: &Tenant, slot: &Slot, word: u64) -> bool {
    let retired = slot::transition(slot, word, slot::RETIRED);
    if retired {
        quota::release(s, tenant, slot::state(word));
    }
    retired
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Address;
    use crate::table::host::{HostTables, Sizes};

    fn session(n: u32, state: u8) -> Session {
        Session {
            identity: 7 << 32 | u64::from(n),
            state,
            flow: Flow { client: Address::v4(n), port: 9, service: 1 },
            endpoint: 3,
            opened: 11,
            last_seen: 12,
            counts: [1 << 33 | 5, 6, 7, u64::from(u32::MAX)],
            inbound: Ids { next: 100 + n, current: 200 + n, previous: 0 },
            outbound: Ids { next: 0, current: 300 + n, previous: 400 + n },
            in_counter: 1,
            out_counter: 2,
            moves: 4,
            handshake: 0,
            closing: 0,
            control: false,
        }
    }

    fn by_id(t: &HostTables, scope: Scope, id: u32) -> Option<u32> {
        let flow = Flow { client: Address::v4(0x0909_0909), port: 1, service: 1 };
        ids::find(t, &ids::Query { scope, id, counter: 0 }, &flow).map(|found| found.index)
    }

    #[test]
    fn a_session_is_found_by_its_flow_and_by_all_of_its_ids() {
        let t = HostTables::new(Sizes::default());
        let (s, tenant) = (&t.settings, &t.tenants[0]);
        let one = session(1, slot::OPEN);
        let index = insert(&t, s, tenant, &one).unwrap();
        let found = slot::find::<_, true>(&t, s, &one.flow, hash::flow(s, &one.flow));
        assert_eq!((found.slot.is_some(), found.index), (true, index));
        for (scope, id) in [
            (Scope::inbound(1), 101),
            (Scope::inbound(1), 201),
            (Scope::outbound(3), 301),
            (Scope::outbound(3), 401),
        ] {
            assert_eq!(by_id(&t, scope, id), Some(index));
        }
        assert_eq!((tenant.sessions.load(), s.used.load()), (1, 1));
        // Its flow is its own; another that is known by ids alone may have it, too.
        let other = Session { identity: 8, ..one };
        assert_eq!(insert(&t, s, tenant, &other), Err(Refused::Taken));
        assert_eq!((tenant.sessions.load(), s.used.load()), (1, 1));
        let aside = Session { state: slot::OPEN | slot::ASIDE, ..session(2, 0) };
        insert(&t, s, tenant, &Session { flow: one.flow, ..aside }).unwrap();
        assert!(by_id(&t, Scope::inbound(1), 202).is_some());
    }

    #[test]
    fn counts_are_added_over_the_end_of_their_lower_half_and_ids_change_together() {
        let t = HostTables::new(Sizes::default());
        let (s, tenant) = (&t.settings, &t.tenants[0]);
        let one = session(1, slot::TENTATIVE);
        let index = insert(&t, s, tenant, &one).unwrap();
        let (slot, detail) = (&t.slots[index as usize], &t.details[index as usize]);
        assert_eq!(Session::read(slot, detail), Some((slot.state.load(), one)));
        add(slot, detail, [0, 1, 0, 2]);
        assert_eq!(
            (slot.rx_bytes.get(), slot.tx_bytes.get(), detail.tx_bytes_high.get()),
            (7, 1, 1)
        );
        assert_eq!(detail.rx_packets_high.get(), 2);
        let now = Session { inbound: Ids { next: 0, current: 101, previous: 201 }, ..one };
        learn(&t, index, &one, &Session { outbound: Ids { current: 999, ..one.outbound }, ..now });
        assert_eq!(by_id(&t, Scope::inbound(1), 101), Some(index));
        assert_eq!(by_id(&t, Scope::outbound(3), 999), Some(index));
        assert_eq!(by_id(&t, Scope::outbound(3), 301), None);
        let word = slot.state.load();
        assert!(open(s, tenant, slot, detail, (word, 77)));
        assert!(!open(s, tenant, slot, detail, (word, 78)));
        assert_eq!((tenant.sessions.load(), tenant.tentative.load()), (1, 0));
        assert!(retire(s, tenant, slot, slot.state.load()) && !retire(s, tenant, slot, word));
        assert_eq!((tenant.sessions.load(), s.used.load()), (0, 0));
    }
}
