//! From the Internet to a service. A packet from there proves nothing: it is
//! counted, forwarded, or refused.

use super::session::{self, count_rx};
use super::{Facts, Target, counter};
use crate::abi::{
    Address, AddressKey, Directory, ENDPOINT_ACCEPTS, ENDPOINT_LIVE, ENDPOINT_RELEASED,
    KIND_SERVER, NO_NEXTHOP, NO_RING, POOL_STRIDE, RING_SIZE, RING_WORDS, Settings, Slot, is_noted,
    service_index, ticks,
};
use crate::profile::{Inbound, quic_lb};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::ids::{self, Query, Scope};
use crate::table::slot;
use crate::table::{Tables, budget, directory, hints, meter, quota};

#[inline(always)]
fn to(endpoint: u32, reason: Reason) -> Target {
    Target { endpoint, nexthop: NO_NEXTHOP, reason }
}

/// Decides where an inbound packet goes.
#[inline(always)]
pub(super) fn run<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Inbound,
) -> Result<Target, Reason> {
    let flow = Flow { client: facts.ip.source, port: facts.udp.source, service: d.service };
    // Without answers there are no sessions to look for: those are the backend's own affair.
    if d.is_blind() {
        let port = if d.is_by_flow() { flow.port } else { 0 };
        let named = named(t, s, d, said);
        if named != NOBODY {
            return Ok(to(named, Reason::InDirect));
        }
        let endpoint = place(t, s, d, &flow.client, port)?;
        if said.opens {
            begin(t, endpoint)?;
        }
        return Ok(to(endpoint, Reason::InDirect));
    }
    let found = t.session::<false>(s, &flow, hash::flow(s, &flow));
    if let Some(slot) = found.slot
        && (said.id == 0 || is_own(t, slot, &found, said))
    {
        return established(t, s, d, facts, said, slot, &found);
    }
    let named = named(t, s, d, said);
    // What an id says itself goes before what the tables know of it, of which they have a part.
    let is_at = |e: u32| named == NOBODY || named % POOL_STRIDE == e % POOL_STRIDE;
    // The id goes before the flow: behind carrier NAT an address and port are reused.
    if said.id != 0 {
        let query = Query { scope: Scope::inbound(d.service), id: said.id, counter: said.counter };
        if let Some(m) = ids::find(t, &query, &flow)
            && let slot = t.slot(m.index).ok_or(Reason::BadTable)?
            && is_at(slot.endpoint.get().into())
        {
            if m.several {
                t.count(Reason::IdCollision);
            }
            if said.unanswered && slot::is_open(slot.state.load()) {
                session::learn_out(t, slot, m.index, ids::of_flow(t, &flow));
            }
            count_rx(t, slot, m.index, facts.ip.len);
            let ordinal = u32::from(slot.endpoint.get()) % POOL_STRIDE;
            hints::note(t, &flow.client, service_index(d.service), 0, ordinal);
            return Ok(to(d.endpoint_like(ordinal), Reason::InById));
        }
    }
    if let Some(slot) = found.slot
        && is_at(slot.endpoint.get().into())
    {
        learn_where_nothing_is_known(t, said, slot, &found);
        return established(t, s, d, facts, said, slot, &found);
    }
    // As with an id that is known: neither the source's budget nor the tenant's quota is asked.
    if named != NOBODY {
        return Ok(to(named, Reason::InByServer));
    }
    unestablished(t, s, d, facts, said, &flow)
}

/// The endpoint of the server that a connection id names, if those of the listener do, and the backend is alive: also
/// one that takes no new sessions, until its drain is over. Else [`NOBODY`]: a number, which is never undefined, as the content of an `Option` may be.
#[inline(always)]
fn named<T: Tables>(t: &T, s: &Settings, d: &Directory, said: &Inbound) -> u32 {
    let length = d.server_id();
    if length == 0 || !said.renews {
        return NOBODY;
    }
    let service = service_index(d.service);
    let key = AddressKey::of_server(service, quic_lb::name(said.head, length));
    let server = directory::find(t, s, &key);
    if server.kind != KIND_SERVER {
        return NOBODY;
    }
    let index = d.endpoint_like(server.index);
    match t.endpoint(index) {
        Some(e)
            if e.flags & (ENDPOINT_LIVE | ENDPOINT_RELEASED) == ENDPOINT_LIVE
                && e.service == service =>
        {
            index
        }
        _ => NOBODY,
    }
}

/// [`named`] of what names no server that is there.
const NOBODY: u32 = u32::MAX;

/// True if the id is among the slot's, or may be. Giving the next one back makes it the current one.
#[inline(always)]
fn is_own<T: Tables>(t: &T, slot: &Slot, f: &slot::Found<'_>, said: &Inbound) -> bool {
    let (index, id) = (f.index, said.id);
    if slot.in_id.get() == id {
        return true;
    }
    let Some(detail) = t.detail(index) else { return false };
    if said.control {
        return slot.out_id.get() == id || detail.out_id_previous.get() == id;
    }
    if detail.in_id_next.get() == id {
        session::promote_in(t, slot, index);
        return true;
    }
    // Before it is looked up: two concentrators may have chosen the same.
    if said.begins && slot::is_open(f.word) && detail.in_id_previous.get() != id {
        session::learn_in(t, slot, index, id);
        return true;
    }
    // Another id may be coming out of a handshake, in which only the flow tells whose it is.
    detail.in_id_previous.get() == id || detail.handshake.get() != 0
}

/// Ids that a protocol hands out in secret are taken from whoever has the flow. And
/// a session that was rebuilt from answers alone has no inbound id until the
/// next handshake; the first one seen on its flow is taken, which leads nowhere
/// but to its own backend.
#[inline(always)]
fn learn_where_nothing_is_known<T: Tables>(
    t: &T,
    said: &Inbound,
    slot: &Slot,
    f: &slot::Found<'_>,
) {
    if said.renews && said.id != 0 && slot::is_open(f.word) {
        session::learn_in(t, slot, f.index, said.id);
        return;
    }
    if said.data
        && !said.both_ways
        && said.id != 0
        && slot::is_open(f.word)
        && slot.in_id.get() == 0
        && let Some(detail) = t.detail(f.index)
        && detail.in_id_next.get() | detail.in_id_previous.get() == 0
    {
        detail.in_counter.set(said.counter);
        session::learn_in(t, slot, f.index, said.id);
    }
}

#[inline(always)]
fn established<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Inbound,
    slot: &Slot,
    f: &slot::Found<'_>,
) -> Result<Target, Reason> {
    // An idle client sends only keepalives, and its concentrator may say nothing
    // for hours: giving back the id that the handshake handed out opens the session.
    if slot::state(f.word) == slot::TENTATIVE
        && said.data
        && said.id != 0
        && slot.in_id.get() == said.id
    {
        let tenant = t.tenant(u32::from(d.tenant)).ok_or(Reason::BadTable)?;
        session::open(t, s, tenant, slot, (f.index, f.word), facts.now)?;
    }
    note(t, counter(said.data, said.counter), slot, f.index, facts.ip.len, ticks(facts.now));
    if said.closes
        && let Some(detail) = t.detail(f.index)
    {
        detail.closing.set(1);
    }
    Ok(to(d.endpoint_like(slot.endpoint.get().into()), Reason::InEstablished))
}

/// Counts a packet of an established session, with its [`counter`].
#[inline(always)]
pub(super) fn note<T: Tables>(t: &T, counter: u32, slot: &Slot, index: u32, len: u32, ticks: u32) {
    count_rx(t, slot, index, len);
    slot.last_seen.set(ticks);
    if is_noted(counter)
        && let Some(detail) = t.detail(index)
    {
        detail.in_counter.set(counter);
    }
}

/// The beginning of something, perhaps. No session state is written: the next
/// packet of the same handshake finds the same backend.
#[inline(always)]
fn unestablished<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Inbound,
    flow: &Flow,
) -> Result<Target, Reason> {
    if !budget::take(t, s, &flow.client, facts.now) {
        return Err(Reason::SourceBudget);
    }
    let tenant = t.tenant(u32::from(d.tenant)).ok_or(Reason::BadTable)?;
    if let Err(reason) = quota::room(s, tenant) {
        tenant.refused.add(1);
        return Err(reason);
    }
    let port = if d.is_by_flow() { flow.port } else { 0 };
    let endpoint = place(t, s, d, &flow.client, port)?;
    if said.opens {
        begin(t, endpoint)?;
    }
    Ok(to(endpoint, Reason::InUnestablished))
}

/// Whether the tenant's clients may begin a handshake now, and the endpoint's backend be given it.
#[inline(always)]
fn begin<T: Tables>(t: &T, endpoint: u32) -> Result<(), Reason> {
    match t.take_handshake(endpoint.into()) {
        meter::NO_HANDSHAKES => Err(Reason::Handshakes),
        meter::NO_PACE => Err(Reason::Paced),
        _ => Ok(()),
    }
}

/// The endpoint of a listener's that takes what is new of a client's address; of its flow, if new sessions are placed
/// by that: then the port is not 0.
///
/// Where backends answer by themselves and nobody reports it, the hint is all that is known of a client's sessions: it keeps
/// them where they are while the ring changes, also on a backend that takes no new ones, until its drain is over, or nothing was heard of the
/// client for some time.
#[inline(always)]
pub(super) fn place<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    client: &Address,
    port: u16,
) -> Result<u32, Reason> {
    // TCP or UDP: the same backend.
    let service = service_index(d.service);
    let is_blind = d.is_blind();
    if (!d.is_by_flow() || is_blind)
        && let Some(hint) = hints::find(t, s, client, service, port)
    {
        let index = d.endpoint_like(hint.ordinal());
        let needed = ENDPOINT_LIVE | if is_blind { 0 } else { ENDPOINT_ACCEPTS };
        if let Some(e) = t.endpoint(index)
            && e.flags & (needed | ENDPOINT_RELEASED) == needed
            && e.service == service
        {
            if !is_blind {
                t.count(Reason::HintUsed);
                return Ok(index);
            }
            let age = hint.age(t.now());
            if age <= e.idle {
                // Once in a unit of the time is enough.
                if age != 0 {
                    hints::note(t, client, service, port, hint.ordinal());
                }
                return Ok(index);
            }
        }
    }
    if d.ring == NO_RING {
        return Err(Reason::NoBackend);
    }
    let position = hash::placement(client, service, port) % u64::from(RING_SIZE);
    let word = u32::from(d.ring) * RING_WORDS + (position / 8) as u32;
    let eight = t.ring(word).ok_or(Reason::BadTable)?;
    let ordinal = (eight >> (position % 8 * 8)) as u32 & 0xff;
    if is_blind {
        hints::note(t, client, service, port, ordinal);
    }
    Ok(d.endpoint_like(ordinal))
}
