//! Operations on a session: count, learn ids, make, open, move.

use crate::abi::{Detail, NO_NEXTHOP, POOL_STRIDE, Settings, Slot, Tenant, ticks};
use crate::cell::Cell;
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::ids::{self, Match, Scope};
use crate::table::slot::{self, Claim};
use crate::table::{Tables, ahead, hints, quota};

/// Counts a packet from the client.
#[inline(always)]
pub(super) fn count_rx<T: Tables>(t: &T, slot: &Slot, index: u32, len: u32) {
    let (packets, bytes) = (add(&slot.rx_packets, 1), add(&slot.rx_bytes, len));
    if (packets | bytes) >> 32 != 0
        && let Some(detail) = t.detail(index)
    {
        add(&detail.rx_packets_high, carry(packets));
        add(&detail.rx_bytes_high, carry(bytes));
    }
}

/// Counts packets to the client.
#[inline(always)]
pub(super) fn count_tx<T: Tables>(t: &T, slot: &Slot, index: u32, (packets, len): (u32, u32)) {
    let (packets, bytes) = (add(&slot.tx_packets, packets), add(&slot.tx_bytes, len));
    if (packets | bytes) >> 32 != 0
        && let Some(detail) = t.detail(index)
    {
        add(&detail.tx_packets_high, carry(packets));
        add(&detail.tx_bytes_high, carry(bytes));
    }
}

/// Adds, and returns the sum with its [`carry`].
#[inline(always)]
fn add(count: &Cell<u32>, more: u32) -> u64 {
    let sum = u64::from(count.get()) + u64::from(more);
    count.set(sum as u32);
    sum
}

#[inline(always)]
const fn carry(sum: u64) -> u32 {
    (sum >> 32) as u32
}

/// The next hop towards the client: from the slot, or looked up again after a change of routes.
#[inline(always)]
pub(super) fn nexthop<T: Tables>(t: &T, s: &Settings, slot: &Slot, flow: &Flow) -> u32 {
    if let Some(index) = known_nexthop(s, slot) {
        return index;
    }
    // Before the lookup: what is found while routes change may be out of date, and is to be looked up again.
    let generation = generation(s);
    let Some(index) = t.route(&flow.client) else { return NO_NEXTHOP };
    slot.nexthop.set(index as u16);
    slot.route_generation.set(generation);
    t.count(Reason::RouteLookup);
    index
}

/// The next hop towards the client, if routes have not changed since it was looked up.
#[inline(always)]
pub(super) fn known_nexthop(s: &Settings, slot: &Slot) -> Option<u32> {
    (slot.route_generation.get() == generation(s)).then(|| slot.nexthop.get().into())
}

/// The routes' generation as slots have it: never 0, which a new slot has, and never the same twice
/// running.
#[inline(always)]
fn generation(s: &Settings) -> u16 {
    s.route_generation.get() as u16 | 0x8000
}

/// Makes `id` the next inbound id of a slot. The one that was next and never
/// came into use goes; the current and the previous stay.
#[inline(never)]
pub(super) fn learn_in<T: Tables>(t: &T, slot: &Slot, index: u32, id: u32) {
    let Some(detail) = t.detail(index) else { return };
    if id == slot.in_id.get() || id == detail.in_id_next.get() || id == detail.in_id_previous.get()
    {
        return;
    }
    let scope = Scope::inbound(slot.service());
    let old = detail.in_id_next.get();
    detail.in_id_next.set(id);
    forget(t, scope, slot, detail, index, old);
    let learned = ids::insert(t, scope, id, index);
    t.count(if learned { Reason::IdLearned } else { Reason::IdUnlearned });
}

/// The client gave the next inbound id back: it is the current one now. Nothing if another
/// processor has seen to it.
#[inline(never)]
pub(super) fn promote_in<T: Tables>(t: &T, slot: &Slot, index: u32) {
    let Some(detail) = t.detail(index) else { return };
    let (current, next, old) =
        (slot.in_id.get(), detail.in_id_next.get(), detail.in_id_previous.get());
    if next == 0 {
        return;
    }
    detail.in_id_previous.set(current);
    slot.in_id.set(next);
    detail.in_id_next.set(0);
    let scope = Scope::inbound(slot.service());
    // Another processor that learns an id may just be taking this one for given up.
    ids::insert(t, scope, next, index);
    forget(t, scope, slot, detail, index, old);
}

/// Makes `id` the next outbound id of a slot.
#[inline(never)]
pub(super) fn learn_out<T: Tables>(t: &T, slot: &Slot, index: u32, id: u32) {
    let Some(detail) = t.detail(index) else { return };
    if id == slot.out_id.get()
        || id == detail.out_id_next.get()
        || id == detail.out_id_previous.get()
    {
        return;
    }
    let scope = Scope::outbound(slot.endpoint.get());
    let old = detail.out_id_next.get();
    detail.out_id_next.set(id);
    forget(t, scope, slot, detail, index, old);
    let learned = ids::insert(t, scope, id, index);
    t.count(if learned { Reason::IdLearned } else { Reason::IdUnlearned });
}

/// The concentrator uses the next outbound id: it is the current one now. Nothing if
/// another processor has seen to it.
#[inline(never)]
pub(super) fn promote_out<T: Tables>(t: &T, slot: &Slot, index: u32) {
    let Some(detail) = t.detail(index) else { return };
    let (current, next, old) =
        (slot.out_id.get(), detail.out_id_next.get(), detail.out_id_previous.get());
    if next == 0 {
        return;
    }
    detail.out_id_previous.set(current);
    slot.out_id.set(next);
    detail.out_id_next.set(0);
    let scope = Scope::outbound(slot.endpoint.get());
    // Another processor that learns an id may just be taking this one for given up.
    ids::insert(t, scope, next, index);
    forget(t, scope, slot, detail, index, old);
}

/// Makes `id` the current one of a control channel, in both directions. The one before stays: its end is told under it.
#[inline(never)]
pub(super) fn learn_control<T: Tables>(t: &T, slot: &Slot, index: u32, id: u32) {
    let Some(detail) = t.detail(index) else { return };
    let (current, old) = (slot.out_id.get(), detail.out_id_previous.get());
    if id == 0 || id == current || id == old {
        return;
    }
    slot.out_id.set(id);
    detail.out_id_previous.set(current);
    let inbound = Scope::inbound(slot.service());
    let outbound = Scope::outbound(slot.endpoint.get());
    forget(t, inbound, slot, detail, index, old);
    forget(t, outbound, slot, detail, index, old);
    let learned = ids::insert(t, outbound, id, index) & ids::insert(t, inbound, id, index);
    t.count(if learned { Reason::IdLearned } else { Reason::IdUnlearned });
}

/// Makes `id` the slot's only id, in both directions; 0 takes its id away.
#[inline(never)]
pub(super) fn rename<T: Tables>(t: &T, slot: &Slot, index: u32, id: u32) {
    let Some(detail) = t.detail(index) else { return };
    detail.handshake.set(0);
    let old = slot.out_id.get();
    if old == id {
        return;
    }
    slot.in_id.set(id);
    slot.out_id.set(id);
    let inbound = Scope::inbound(slot.service());
    let outbound = Scope::outbound(slot.endpoint.get());
    if old != 0 {
        ids::remove(t, inbound, old, index);
        ids::remove(t, outbound, old, index);
    }
    if id != 0 {
        let learned = ids::insert(t, outbound, id, index) & ids::insert(t, inbound, id, index);
        t.count(if learned { Reason::IdLearned } else { Reason::IdUnlearned });
    }
}

/// Forgets that an id led to the slot, if it is no longer among the slot's.
#[inline(always)]
fn forget<T: Tables>(t: &T, scope: Scope, slot: &Slot, detail: &Detail, index: u32, id: u32) {
    if id == 0 || scope.holds(slot, detail, id) {
        return;
    }
    ids::remove(t, scope, id, index);
    // Another processor may have learned it meanwhile: and noted it before it was removed.
    if scope.holds(slot, detail, id) {
        ids::insert(t, scope, id, index);
    }
}

/// Opens a tentative session, in the slot that was found with its index and state word; or says why its tenant may
/// have no more.
#[inline(always)]
pub(super) fn open<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    slot: &Slot,
    found: (u32, u64),
    now: u64,
) -> Result<(), Reason> {
    let (index, word) = found;
    quota::open(t, slot.endpoint.get())?;
    if slot::transition(slot, word, slot::OPEN) {
        tenant.tentative.add(u64::MAX);
        if let Some(detail) = t.detail(index) {
            detail.opened.set(now);
        }
        opened(t, tenant, &slot::client(slot), slot);
    } else {
        // Another processor opened it, or the daemon ended it.
        quota::close(s, tenant);
    }
    Ok(())
}

#[inline(always)]
fn opened<T: Tables>(t: &T, tenant: &Tenant, client: &crate::abi::Address, slot: &Slot) {
    tenant.opened.add(1);
    t.count(Reason::SessionOpened);
    let ordinal = u32::from(slot.endpoint.get()) % POOL_STRIDE;
    hints::note(t, client, slot.service(), 0, ordinal);
}

/// A new session, tentative or open, that an answer makes.
pub(super) struct New {
    pub(super) flow: Flow,
    pub(super) endpoint: u16,
    /// 0 is none.
    pub(super) in_id: u32,
    /// 0 is none.
    pub(super) out_id: u32,
    pub(super) out_counter: u32,
    /// [`slot::TENTATIVE`] or [`slot::OPEN`], perhaps with [`slot::ASIDE`].
    pub(super) state: u8,
    pub(super) now: u64,
}

/// Makes a session: the index of its slot, or why there is none. Where another
/// processor made one for the flow at the same time, this answer belongs to none.
#[inline(never)]
pub(super) fn make<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    new: &New,
) -> Result<u32, Reason> {
    let open = new.state & !slot::ASIDE == slot::OPEN;
    // What opens at once has come by the hot path, which did so; all but what agents report.
    if !open {
        ahead::load(t, &new.flow, new.endpoint, new.in_id, new.out_id);
    }
    if open {
        quota::open(t, new.endpoint)?;
    } else if !quota::tentative(tenant) {
        // Nor is it refused: who asks for much could keep others from their answers.
        t.count(Reason::TentativeFull);
        return Err(Reason::OutStateless);
    }
    if !quota::slot(s) {
        // `slot` gave its own count back already.
        s.used.add(1);
        quota::release(s, tenant, new.state);
        return Err(Reason::TableFull);
    }
    let hash = hash::flow(s, &new.flow);
    let Some(claim) = slot::claim(t, hash) else {
        quota::release(s, tenant, new.state);
        return Err(Reason::TableFull);
    };
    let slot = t.slot(claim.index).ok_or(Reason::BadTable)?;
    let detail = t.detail(claim.index).ok_or(Reason::BadTable)?;
    write_flow(slot, &new.flow);
    slot.endpoint.set(new.endpoint);
    slot.last_seen.set(ticks(new.now));
    slot.in_id.set(0);
    slot.out_id.set(0);
    slot.rx_packets.set(0);
    slot.rx_bytes.set(0);
    slot.tx_packets.set(0);
    slot.tx_bytes.set(0);
    detail.rx_packets_high.set(0);
    detail.rx_bytes_high.set(0);
    detail.tx_packets_high.set(0);
    detail.tx_bytes_high.set(0);
    detail.identity.set(slot::identity(claim.index, slot.state.load()));
    detail.opened.set(new.now);
    detail.in_id_next.set(new.in_id);
    detail.in_id_previous.set(0);
    detail.in_counter.set(0);
    detail.out_id_next.set(new.out_id);
    detail.out_id_previous.set(0);
    detail.out_counter.set(new.out_counter);
    detail.moves.set(0);
    detail.handshake.set(0);
    detail.closing.set(0);
    if !publish(t, s, tenant, hash, claim, new.state) {
        return Err(Reason::OutStateless);
    }
    let index = claim.index;
    let mut known = true;
    if new.in_id != 0 {
        known = ids::insert(t, Scope::inbound(new.flow.service), new.in_id, index);
    }
    if known && new.out_id != 0 {
        known = ids::insert(t, Scope::outbound(new.endpoint), new.out_id, index);
    }
    if !known {
        let word = slot.state.load();
        if slot::is_live(word) && slot::transition(slot, word, slot::RETIRED) {
            quota::release(s, tenant, slot::state(word));
        }
        return Err(Reason::IdTableFull);
    }
    if open {
        opened(t, tenant, &new.flow.client, slot);
    } else {
        t.count(Reason::SessionTentative);
    }
    Ok(index)
}

#[inline(always)]
fn write_flow(slot: &Slot, flow: &Flow) {
    for (cell, half) in slot.client.iter().zip(flow.client.halves()) {
        cell.set(half);
    }
    slot.port_service.set(flow.port_service());
    slot.nexthop.set(0);
    slot.route_generation.set(0);
}

/// Publishes a slot, counted as one in `state`, as [`slot::publish`]. One that had to
/// give way is counted no more.
#[inline(always)]
fn publish<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    hash: u64,
    claim: Claim,
    state: u8,
) -> bool {
    if claim.probe >= slot::PROBES {
        t.count(Reason::Overflowed);
    }
    if slot::publish(t, hash, claim, state) {
        return true;
    }
    t.count(Reason::InsertRace);
    quota::release(s, tenant, state);
    false
}

/// Takes the flow from the session that has it: another is proven to be there.
#[inline(never)]
pub(super) fn displace<T: Tables>(t: &T, s: &Settings, tenant: &Tenant, slot: &Slot, word: u64) {
    if slot::state(word) == slot::OPEN {
        if slot::transition(slot, word, slot::OPEN | slot::ASIDE) {
            t.count(Reason::SessionDisplaced);
        }
    } else if slot::state(word) == slot::TENTATIVE && slot::transition(slot, word, slot::RETIRED) {
        quota::release(s, tenant, slot::TENTATIVE);
    }
}

/// Moves a session to another flow, by a data answer: the index of its new slot, to which the
/// caller has to [`carry_ids`].
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
    let word = old.state.load();
    if !slot::is_live(word) {
        return Err(Reason::OutStateless);
    }
    let was_open = slot::is_open(word);
    // The new slot is counted like any other until the old one is given back; a
    // move needs no room in any quota.
    if was_open {
        quota::again(s, tenant);
    } else {
        quota::open(t, new.endpoint)?;
    }
    s.used.add(1);
    let hash = hash::flow(s, &new.flow);
    let Some(claim) = slot::claim(t, hash) else {
        // No slot within reach: the session stays where it is, known by its ids.
        quota::release(s, tenant, slot::OPEN);
        t.count(Reason::MoveRefused);
        return Err(Reason::OutStateless);
    };
    let slot = t.slot(claim.index).ok_or(Reason::BadTable)?;
    copy(old, slot);
    write_flow(slot, &new.flow);
    let before = t.detail(from.index).ok_or(Reason::BadTable)?;
    let detail = t.detail(claim.index).ok_or(Reason::BadTable)?;
    copy_detail(before, detail);
    if was_open {
        detail.moves.set(before.moves.get().saturating_add(1));
    } else {
        detail.opened.set(new.now);
    }
    if !publish(t, s, tenant, hash, claim, slot::MOVING) {
        return Err(Reason::OutStateless);
    }
    // Who retires the old slot has the session.
    if !slot::transition(old, word, slot::RETIRED) {
        slot::settle(slot, slot::RETIRED);
        quota::release(s, tenant, slot::OPEN);
        return Err(Reason::OutStateless);
    }
    slot::settle(slot, slot::OPEN);
    quota::release(s, tenant, slot::state(word));
    if was_open {
        t.count(Reason::SessionMoved);
        let ordinal = u32::from(slot.endpoint.get()) % POOL_STRIDE;
        hints::note(t, &new.flow.client, slot.service(), 0, ordinal);
    } else {
        opened(t, tenant, &new.flow.client, slot);
    }
    Ok(claim.index)
}

/// Makes the ids that a slot holds lead to it, and no longer to the slot it was moved from: after
/// [`relocate`], and not by it, because the stack is short. Those of answers in both directions if they are a control
/// channel's.
#[inline(never)]
pub(super) fn carry_ids<T: Tables>(t: &T, from: u32, to: u32, control: bool) {
    let (Some(slot), Some(detail)) = (t.slot(to), t.detail(to)) else { return };
    // In the order in which a promotion shifts them: none is missed that is shifted meanwhile.
    for n in 0..8_u64 {
        if n == 6 && !control {
            break;
        }
        let (scope, id) = match n {
            0 => (Scope::inbound(slot.service()), detail.in_id_next.get()),
            1 => (Scope::inbound(slot.service()), slot.in_id.get()),
            2 => (Scope::inbound(slot.service()), detail.in_id_previous.get()),
            3 => (Scope::outbound(slot.endpoint.get()), detail.out_id_next.get()),
            4 => (Scope::outbound(slot.endpoint.get()), slot.out_id.get()),
            5 => (Scope::outbound(slot.endpoint.get()), detail.out_id_previous.get()),
            6 => (Scope::inbound(slot.service()), slot.out_id.get()),
            _ => (Scope::inbound(slot.service()), detail.out_id_previous.get()),
        };
        if id != 0 {
            ids::remove(t, scope, id, from);
            if !ids::insert(t, scope, id, to) {
                t.count(Reason::IdUnlearned);
            }
        }
    }
}

/// Copies what belongs to the session and not to its flow. Counters go along,
/// so that a session's are always whole in one slot; a packet that another
/// processor counts in the old one meanwhile is the price.
#[inline(always)]
fn copy(from: &Slot, to: &Slot) {
    to.endpoint.set(from.endpoint.get());
    to.last_seen.set(from.last_seen.get());
    to.rx_packets.set(from.rx_packets.get());
    to.rx_bytes.set(from.rx_bytes.get());
    to.tx_packets.set(from.tx_packets.get());
    to.tx_bytes.set(from.tx_bytes.get());
    to.in_id.set(from.in_id.get());
    to.out_id.set(from.out_id.get());
}

/// See [`copy`].
#[inline(always)]
fn copy_detail(from: &Detail, to: &Detail) {
    to.opened.set(from.opened.get());
    to.identity.set(from.identity.get());
    to.in_id_next.set(from.in_id_next.get());
    to.in_id_previous.set(from.in_id_previous.get());
    to.in_counter.set(from.in_counter.get());
    to.out_id_next.set(from.out_id_next.get());
    to.out_id_previous.set(from.out_id_previous.get());
    to.out_counter.set(from.out_counter.get());
    to.rx_packets_high.set(from.rx_packets_high.get());
    to.rx_bytes_high.set(from.rx_bytes_high.get());
    to.tx_packets_high.set(from.tx_packets_high.get());
    to.tx_bytes_high.set(from.tx_bytes_high.get());
    to.closing.set(from.closing.get());
    to.moves.set(from.moves.get());
    to.handshake.set(0);
}
