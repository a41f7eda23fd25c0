//! Operations on a session: count, learn ids, make, open, move.

use crate::abi::{NO_NEXTHOP, POOL_STRIDE, Settings, Slot, Tenant, ticks};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::ids::{self, Match, Scope};
use crate::table::slot::{self, Insertion, Outcome, Record};
use crate::table::{Tables, hints, quota};

/// Counts a packet from the client.
#[inline(always)]
pub(super) fn count_rx(slot: &Slot, len: u32) {
    slot.rx_packets.set(slot.rx_packets.get().wrapping_add(1));
    slot.rx_bytes.set(slot.rx_bytes.get().wrapping_add(u64::from(len)));
}

/// Counts a packet to the client.
#[inline(always)]
pub(super) fn count_tx(slot: &Slot, len: u32, now: u64) {
    slot.tx_packets.set(slot.tx_packets.get().wrapping_add(1));
    slot.tx_bytes.set(slot.tx_bytes.get().wrapping_add(u64::from(len)));
    slot.last_tx.set(ticks(now));
}

/// The next hop towards the client: from the slot, or looked up again after a change of routes.
#[inline(always)]
pub(super) fn nexthop<T: Tables>(t: &T, s: &Settings, slot: &Slot, flow: &Flow) -> u32 {
    // Never 0, which a new slot has.
    let generation = s.route_generation.get() as u16 | 1;
    if slot.route_generation.get() == generation {
        return slot.nexthop.get();
    }
    let Some(index) = t.route(&flow.client) else { return NO_NEXTHOP };
    slot.nexthop.set(index);
    slot.route_generation.set(generation);
    t.count(Reason::RouteLookup);
    index
}

/// Makes `id` the next inbound id of a slot. The one that was next and never
/// came into use goes; the current and the previous stay.
#[inline(never)]
pub(super) fn learn_in<T: Tables>(t: &T, s: &Settings, slot: &Slot, index: u32, id: u32) {
    if id == slot.in_id.get() || id == slot.in_id_next.get() || id == slot.in_id_previous.get() {
        return;
    }
    let scope = Scope::inbound(slot.service.get());
    let old = slot.in_id_next.get();
    slot.in_id_next.set(id);
    exchange(t, s, scope, index, old, id, old == slot.in_id.get());
}

/// The client gave the next inbound id back: it is the current one now.
#[inline(never)]
pub(super) fn promote_in<T: Tables>(t: &T, s: &Settings, slot: &Slot, index: u32) {
    let (current, next, old) = (slot.in_id.get(), slot.in_id_next.get(), slot.in_id_previous.get());
    slot.in_id_previous.set(current);
    slot.in_id.set(next);
    slot.in_id_next.set(0);
    if old != 0 && old != current && old != next {
        ids::remove(t, s, Scope::inbound(slot.service.get()), old, index);
    }
}

/// Makes `id` the next outbound id of a slot.
#[inline(never)]
pub(super) fn learn_out<T: Tables>(t: &T, s: &Settings, slot: &Slot, index: u32, id: u32) {
    if id == slot.out_id.get() || id == slot.out_id_next.get() || id == slot.out_id_previous.get() {
        return;
    }
    let scope = Scope::outbound(slot.endpoint.get());
    let old = slot.out_id_next.get();
    slot.out_id_next.set(id);
    exchange(t, s, scope, index, old, id, old == slot.out_id.get());
}

/// The concentrator uses the next outbound id: it is the current one now.
#[inline(never)]
pub(super) fn promote_out<T: Tables>(t: &T, s: &Settings, slot: &Slot, index: u32) {
    let (current, next, old) =
        (slot.out_id.get(), slot.out_id_next.get(), slot.out_id_previous.get());
    slot.out_id_previous.set(current);
    slot.out_id.set(next);
    slot.out_id_next.set(0);
    if old != 0 && old != current && old != next {
        ids::remove(t, s, Scope::outbound(slot.endpoint.get()), old, index);
    }
}

#[inline(always)]
fn exchange<T: Tables>(
    t: &T,
    s: &Settings,
    scope: Scope,
    index: u32,
    old: u32,
    new: u32,
    old_stays: bool,
) {
    if old != 0 && !old_stays {
        ids::remove(t, s, scope, old, index);
    }
    let learned = ids::insert(t, s, scope, new, index);
    t.count(if learned { Reason::IdLearned } else { Reason::IdUnlearned });
}

/// Opens a tentative session: false at the tenant's quota.
#[inline(always)]
pub(super) fn open<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    slot: &Slot,
    word: u64,
    now: u64,
) -> bool {
    if !quota::open(tenant) {
        tenant.refused.add(1);
        return false;
    }
    if slot::transition(slot, word, slot::OPEN) {
        tenant.tentative.add(u64::MAX);
        slot.opened.set(now);
        opened(t, s, tenant, &slot::client(slot), slot);
    } else {
        // Another processor opened it, or the daemon ended it.
        tenant.sessions.add(u64::MAX);
    }
    true
}

#[inline(always)]
fn opened<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    client: &crate::abi::Address,
    slot: &Slot,
) {
    tenant.opened.add(1);
    t.count(Reason::SessionOpened);
    let ordinal = (slot.endpoint.get() % POOL_STRIDE) as u16;
    hints::note(t, s, client, slot.service.get(), ordinal);
}

/// A new session, tentative or open, that an answer makes.
pub(super) struct New {
    pub(super) flow: Flow,
    pub(super) endpoint: u32,
    /// 0 is none.
    pub(super) in_id: u32,
    /// 0 is none.
    pub(super) out_id: u32,
    pub(super) out_counter: u32,
    /// [`slot::TENTATIVE`] or [`slot::OPEN`], perhaps with [`slot::ASIDE`].
    pub(super) state: u8,
    pub(super) now: u64,
}

/// Makes a session: the index of its slot (or of the slot another processor
/// made for the flow at the same time), or why there is none.
#[inline(never)]
pub(super) fn make<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    new: &New,
) -> Result<u32, Reason> {
    let open = new.state & !slot::ASIDE == slot::OPEN;
    if open {
        if !quota::open(tenant) {
            tenant.refused.add(1);
            return Err(Reason::TenantQuota);
        }
    } else if !quota::tentative(tenant) {
        return Err(Reason::TentativeFull);
    }
    if !quota::slot(s) {
        // `slot` gave its own count back already.
        s.used.add(1);
        quota::release(s, tenant, new.state);
        return Err(Reason::TableFull);
    }
    let now = ticks(new.now);
    let record = Record {
        client: new.flow.client,
        port: new.flow.port,
        service: new.flow.service,
        endpoint: new.endpoint,
        in_id_next: new.in_id,
        out_id_next: new.out_id,
        out_counter: new.out_counter,
        opened: new.now,
        last_rx: now,
        last_tx: now,
        ..Record::default()
    };
    let (index, raced) = put(t, s, tenant, &record, new.state)?;
    let slot = t.slot(index).ok_or(Reason::BadTable)?;
    if raced {
        if new.in_id != 0 {
            learn_in(t, s, slot, index, new.in_id);
        }
        if new.out_id != 0 {
            learn_out(t, s, slot, index, new.out_id);
        }
        return Ok(index);
    }
    let mut known = true;
    if new.in_id != 0 {
        known = ids::insert(t, s, Scope::inbound(new.flow.service), new.in_id, index);
    }
    if known && new.out_id != 0 {
        known = ids::insert(t, s, Scope::outbound(new.endpoint), new.out_id, index);
    }
    if !known {
        let word = slot.state.load();
        if slot::is_live(word) && slot::transition(slot, word, slot::RETIRED) {
            quota::release(s, tenant, slot::state(word));
        }
        return Err(Reason::IdTableFull);
    }
    if open {
        opened(t, s, tenant, &new.flow.client, slot);
    } else {
        t.count(Reason::SessionTentative);
    }
    Ok(index)
}

/// Inserts a record for which the counts have been raised, and lowers them
/// again where it comes to nothing. Returns the slot that has the flow now, and
/// whether another processor was first and it is that one's.
#[inline(always)]
fn put<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    record: &Record,
    state: u8,
) -> Result<(u32, bool), Reason> {
    let hash = hash::flow(s, &record.flow());
    let Insertion { outcome, index, displaced } = slot::insert(t, s, hash, record, state);
    if displaced != 0 {
        t.count(Reason::InsertRace);
        quota::release(s, tenant, displaced);
    }
    match outcome {
        Outcome::Inserted => Ok((index, false)),
        Outcome::Overflowed => {
            t.count(Reason::Overflowed);
            Ok((index, false))
        }
        Outcome::Raced => {
            t.count(Reason::InsertRace);
            quota::release(s, tenant, state);
            Ok((index, true))
        }
        Outcome::Full => {
            quota::release(s, tenant, state);
            Err(Reason::TableFull)
        }
    }
}

/// Takes the flow from the session that has it: another is proven to be there.
#[inline(always)]
pub(super) fn displace<T: Tables>(t: &T, s: &Settings, tenant: &Tenant, slot: &Slot, word: u64) {
    if slot::state(word) == slot::OPEN {
        if slot::transition(slot, word, slot::OPEN | slot::ASIDE) {
            t.count(Reason::SessionDisplaced);
        }
    } else if slot::transition(slot, word, slot::RETIRED) {
        quota::release(s, tenant, slot::state(word));
    }
}

/// Moves a session to another flow, by a data answer: the index of its new slot.
/// A tentative session opens by it.
#[inline(never)]
pub(super) fn relocate<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    from: &Match,
    new: &New,
) -> Result<u32, Reason> {
    let old = t.slot(from.index).ok_or(Reason::BadTable)?;
    let was_open = slot::is_open(from.word);
    // The new slot is counted like any other until the old one is given back; a
    // move needs no room in any quota.
    if was_open {
        tenant.sessions.add(1);
    } else if !quota::open(tenant) {
        tenant.refused.add(1);
        return Err(Reason::TenantQuota);
    }
    s.used.add(1);
    let mut record = Record::of(old);
    record.client = new.flow.client;
    record.port = new.flow.port;
    if was_open {
        record.moves = record.moves.saturating_add(1);
    } else {
        record.opened = new.now;
    }
    let Ok((index, raced)) = put(t, s, tenant, &record, slot::OPEN) else {
        // No slot within reach: the session stays where it is, known by its ids.
        t.count(Reason::MoveRefused);
        return Err(Reason::OutStateless);
    };
    let slot = t.slot(index).ok_or(Reason::BadTable)?;
    if raced {
        return Ok(index);
    }
    if !slot::transition(old, from.word, slot::RETIRED) {
        // Moved or ended by another at the same time: this copy is one too many.
        let word = slot.state.load();
        if slot::is_live(word) && slot::transition(slot, word, slot::RETIRED) {
            quota::release(s, tenant, slot::state(word));
        }
        return Err(Reason::OutStateless);
    }
    quota::release(s, tenant, slot::state(from.word));
    let inbound = Scope::inbound(record.service);
    let outbound = Scope::outbound(record.endpoint);
    for n in 0..6_u32 {
        let (scope, id) = match n {
            0 => (inbound, record.in_id),
            1 => (inbound, record.in_id_next),
            2 => (inbound, record.in_id_previous),
            3 => (outbound, record.out_id),
            4 => (outbound, record.out_id_next),
            _ => (outbound, record.out_id_previous),
        };
        if id != 0 {
            ids::remove(t, s, scope, id, from.index);
            if !ids::insert(t, s, scope, id, index) {
                t.count(Reason::IdUnlearned);
            }
        }
    }
    if was_open {
        t.count(Reason::SessionMoved);
        let ordinal = (record.endpoint % POOL_STRIDE) as u16;
        hints::note(t, s, &record.client, record.service, ordinal);
    } else {
        opened(t, s, tenant, &record.client, slot);
    }
    Ok(index)
}
