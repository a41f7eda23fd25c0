//! From a backend to a client: answers, which make, open, move and displace sessions.

use super::session::{self, New, count_tx};
use super::{Facts, Target, counter};
use crate::abi::{
    Address, AddressKey, Directory, ENDPOINT_RELEASED, KIND_HOST, NO_NEXTHOP, Settings, Slot,
    Tenant, is_noted, ticks,
};
use crate::profile::{Outbound, Proof};
use crate::reason::Reason;
use crate::table::Tables;
use crate::table::directory;
use crate::table::hash::{self, Flow};
use crate::table::ids::{self, Query, Scope};
use crate::table::slot::{self, Found};

/// Decides what an answer does to the sessions, and where it goes.
#[inline(always)]
pub(super) fn run<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Outbound,
) -> Result<Target, Reason> {
    let flow =
        Flow { client: facts.ip.destination, port: facts.udp.destination, service: d.service };
    let found = t.session::<false>(s, &flow, hash::flow(s, &flow));
    let own = found.slot.filter(|slot| u32::from(slot.endpoint.get()) == d.index);
    if let Some(slot) = own
        && (said.out_id == 0 || said.out_id == slot.out_id.get())
        && said.in_id == 0
        && !said.begins
        && !said.closes
        && (slot::state(found.word) == slot::OPEN || said.proof == Proof::Nothing)
    {
        // The hot path: nothing to learn.
        return Ok(answered(t, s, d, facts, said, &flow, (slot, found.index)));
    }
    if own.is_none() {
        let [high, low] = flow.client.halves();
        match bar(t, high, low, d.index.into()) {
            HOSTS => return Err(Reason::NotOurs),
            RELEASED => return Err(Reason::Released),
            _ => {}
        }
    }
    let index = match known(t, s, d, facts, said, &flow, &found, own) {
        Ok(index) => index,
        // A handshake that begins hands out no id: nothing has to be remembered.
        Err(reason) if said.begins || reason as u32 == Reason::OutStateless as u32 => {
            return Ok(Target {
                endpoint: d.index,
                nexthop: NO_NEXTHOP,
                reason: Reason::OutStateless,
            });
        }
        Err(reason) => return Err(reason),
    };
    let slot = t.slot(index).ok_or(Reason::BadTable)?;
    if said.both_ways {
        learn_both(t, facts, said, slot, index);
    }
    if said.control {
        session::learn_control(t, slot, index, said.out_id);
    }
    if (said.begins || said.closes)
        && let Some(detail) = t.detail(index)
    {
        detail.closing.set(u16::from(said.closes));
    }
    Ok(answered(t, s, d, facts, said, &flow, (slot, index)))
}

/// Why an answer to a client without a session on its backend is not looked at any further: 0 if there is nothing. Apart, and with plain integers,
/// because the stack is short.
#[inline(never)]
fn bar<T: Tables>(t: &T, high: u64, low: u64, endpoint: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let host = AddressKey::of_host(Address::from_halves([high, low]));
    if directory::find(t, s, &host).kind == KIND_HOST {
        return HOSTS;
    }
    match t.endpoint(endpoint as u32) {
        Some(e) if e.flags & ENDPOINT_RELEASED != 0 => RELEASED,
        _ => 0,
    }
}

/// It answers the gateway itself: a probe, or whatever else the host asked for.
const HOSTS: u64 = 1;
/// Its backend is released.
const RELEASED: u64 = 2;

#[inline(always)]
fn answered<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Outbound,
    flow: &Flow,
    (slot, index): (&Slot, u32),
) -> Target {
    note(
        t,
        counter(said.proof == Proof::Data, said.counter),
        slot,
        index,
        (facts.packets, facts.ip.len),
        ticks(facts.now),
    );
    Target {
        endpoint: d.index,
        nexthop: session::nexthop(t, s, slot, flow),
        reason: Reason::OutEstablished,
    }
}

/// Counts an answer of a session, with its [`counter`].
#[inline(always)]
pub(super) fn note<T: Tables>(
    t: &T,
    counter: u32,
    slot: &Slot,
    index: u32,
    packets_len: (u32, u32),
    ticks: u32,
) {
    count_tx(t, slot, index, packets_len);
    slot.last_seen.set(ticks);
    if is_noted(counter)
        && let Some(detail) = t.detail(index)
    {
        detail.out_counter.set(counter);
        // A handshake that came to nothing: the session goes on with the id that it has.
        detail.handshake.set(0);
    }
}

/// The slot that this answer belongs to, after all that it changes; or
/// [`Reason::OutStateless`] if it belongs to none.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one caller, inlined")]
fn known<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &Outbound,
    flow: &Flow,
    found: &Found<'_>,
    own: Option<&Slot>,
) -> Result<u32, Reason> {
    let tenant = t.tenant(u32::from(d.tenant)).ok_or(Reason::BadTable)?;
    if let Some(slot) = own
        && holds_or_learns_nothing(t, said, slot, found.index)
    {
        return own_flow(t, s, tenant, facts, said, slot, found);
    }
    let mut new = New {
        flow: *flow,
        endpoint: d.index as u16,
        in_id: said.in_id,
        // Many sessions may have an id of both ways: one for which there is no room is not refused.
        out_id: if said.both_ways || said.control { 0 } else { said.out_id },
        out_counter: said.counter,
        state: slot::OPEN,
        now: facts.now,
    };
    // Its flow is not known, or not as its own: the session may have moved here.
    let out_id = match said.proof {
        _ if said.follows => ids::of_flow(t, flow),
        Proof::Data => said.out_id,
        _ => 0,
    };
    if out_id != 0 {
        let query =
            Query { scope: Scope::outbound(d.index as u16), id: out_id, counter: said.counter };
        if let Some(m) = ids::find(t, &query, flow) {
            if m.several {
                t.count(Reason::IdCollision);
            }
            if let Some(slot) = own
                && is_another(t, said, found.index, m.index)
            {
                let left = t.slot(m.index).ok_or(Reason::BadTable)?;
                session::rename(t, left, m.index, 0);
                return own_flow(t, s, tenant, facts, said, slot, found);
            }
            if let Some(slot) = found.slot {
                session::displace(t, s, tenant, slot, found.word);
            }
            let index = session::relocate(t, s, tenant, &m, &new)?;
            session::carry_ids(t, m.index, index, said.control);
            return Ok(index);
        }
    }
    if let Some(slot) = own {
        return own_flow(t, s, tenant, facts, said, slot, found);
    }
    match said.proof {
        Proof::Nothing => return Err(Reason::OutStateless),
        Proof::Data => {
            if let Some(slot) = found.slot {
                session::displace(t, s, tenant, slot, found.word);
            }
        }
        Proof::Answer if found.slot.is_some() => return Err(Reason::OutStateless),
        Proof::Handshake if found.slot.is_some() && said.begins => {
            return Err(Reason::OutStateless);
        }
        Proof::Handshake if found.slot.is_some() => new.state = slot::TENTATIVE | slot::ASIDE,
        Proof::Answer | Proof::Handshake => new.state = slot::TENTATIVE,
    }
    session::make(t, s, tenant, &new)
}

/// What an answer of a protocol teaches whose ids are the same in both directions.
#[inline(always)]
fn learn_both<T: Tables>(t: &T, facts: &Facts, said: &Outbound, slot: &Slot, index: u32) {
    if said.out_id != 0 && said.out_id != slot.out_id.get() {
        session::rename(t, slot, index, said.out_id);
    }
    if said.begins
        && let Some(detail) = t.detail(index)
    {
        detail.handshake.set(1);
        if slot::state(slot.state.load()) == slot::TENTATIVE {
            // It lives on while the handshake does.
            detail.opened.set(facts.now);
        }
    }
}

/// True if the answer's id is the flow's by a handshake, and not that of the session that
/// has it, come here: a session that moves goes on with its packet counter.
#[inline(always)]
fn is_another<T: Tables>(t: &T, said: &Outbound, here: u32, there: u32) -> bool {
    let (Some(here), Some(there)) = (t.detail(here), t.detail(there)) else { return false };
    here.handshake.get() != 0 && said.counter <= there.out_counter.get()
}

/// True if the answer's id needs no lookup: it has none, the slot holds it, or
/// it belongs to a handshake.
#[inline(always)]
fn holds_or_learns_nothing<T: Tables>(t: &T, said: &Outbound, slot: &Slot, index: u32) -> bool {
    if said.proof != Proof::Data || said.out_id == 0 || said.out_id == slot.out_id.get() {
        return true;
    }
    t.detail(index).is_some_and(|detail| {
        said.out_id == detail.out_id_next.get() || said.out_id == detail.out_id_previous.get()
    })
}

/// An answer on a flow of its own backend: learn, and open if it proves enough.
#[inline(always)]
fn own_flow<T: Tables>(
    t: &T,
    s: &Settings,
    tenant: &Tenant,
    facts: &Facts,
    said: &Outbound,
    slot: &Slot,
    f: &Found<'_>,
) -> Result<u32, Reason> {
    if said.in_id != 0 {
        session::learn_in(t, slot, f.index, said.in_id);
    }
    if !said.both_ways && !said.control && said.out_id != 0 && said.out_id != slot.out_id.get() {
        session::learn_out(t, slot, f.index, said.out_id);
        if said.proof == Proof::Data
            && let Some(detail) = t.detail(f.index)
            && said.out_id == detail.out_id_next.get()
        {
            session::promote_out(t, slot, f.index);
        }
    }
    if slot::state(f.word) == slot::TENTATIVE && matches!(said.proof, Proof::Data | Proof::Answer) {
        session::open(t, s, tenant, slot, (f.index, f.word), facts.now)?;
    }
    Ok(f.index)
}
