//! The session table: an array of slots of one cache line each, open addressing, no locks. What few
//! packets need of a session lies beside it, in the array of details.
//!
//! A flow's *home* is given by its hash. It lies in one of the [`PROBES`] slots
//! from there on (its *run*), or, if all of these were taken, in a run of the
//! *overflow*, a small region behind the primary slots. A lookup ends at the
//! first empty slot; only a run without an empty slot leads to the overflow.
//!
//! ```text
//!          claim (kernel)      publish             end, move
//!  EMPTY ───────────────▶ CLAIMED ──▶ OFFERED ──▶ TENTATIVE ─────────────▶ RETIRED
//!    ▲  ▲                    ▲          │ │ │          │ open                │ ▲
//!    │  └─ sweep (daemon) ┐  │          │ │ │          ▼       end, move     │ │
//!    │                    │  │ claim    │ │ ├────────▶ OPEN ────────────────▶│ │
//!    └─────────────────── DEAD          │ │ └─▶ MOVING ─┘                    │ │
//!                           ▲           │ └────────── give way ──────────────┼─┘
//!                           └───────────┼────────────────────────────────────┘
//!                                       │    a scan later, at least 1 s (daemon)
//!           TENTATIVE and OPEN may be set ASIDE: ids only
//! ```
//!
//! * Every transition is a compare-and-swap of the state word, which also holds
//!   the *generation*: raised by each claim, so that a word never comes back.
//! * RETIRED is a quarantine: a packet in flight may still refer to the slot.
//! * Two processors may insert the same flow at once. So a slot that was written is
//!   OFFERED first: no lookup finds it, and its writer looks over the whole run.
//!   It gives way to a slot that has the flow, and to an earlier offer; a later
//!   offer has to give way to it. What was published is never taken back for a newcomer.
//! * An empty slot before its own (the daemon swept at the same time) becomes DEAD
//!   again, so that the run has no hole.
//! * A session that moves is MOVING in its new slot until its old one is RETIRED:
//!   lookups by flow find it, but it cannot move on, and whoever retires the old
//!   slot has the session. So two moves at once end with one.
//! * A session that lost its flow to another session, proven to be there now, is
//!   ASIDE: lookups by flow pass over it, its ids still lead to it.

use super::Sessions;
use super::hash::Flow;
use crate::abi::{Address, Settings, Slot};

/// Slots that a lookup looks at, at most, in the primary table and again in the overflow.
pub const PROBES: u64 = 8;

/// Never used, or swept: a lookup ends here.
pub const EMPTY: u8 = 0;
/// Being written by the one who claimed it.
pub const CLAIMED: u8 = 1;
/// A handshake's session: not counted in the quota, dead after 15 s.
pub const TENTATIVE: u8 = 2;
/// A session.
pub const OPEN: u8 = 3;
/// Written, and not yet found by lookups: its writer looks whether another has the flow.
pub const OFFERED: u8 = 4;
/// Moved or ended; not to be touched for a while.
pub const RETIRED: u8 = 5;
/// Free to claim.
pub const DEAD: u8 = 6;
/// An open session's new slot, while its old one has it too.
pub const MOVING: u8 = 7;
/// Flag on [`TENTATIVE`] and [`OPEN`]: known by ids only.
pub const ASIDE: u8 = 8;

/// The state in a state word, with the [`ASIDE`] flag.
#[inline(always)]
pub const fn state(word: u64) -> u8 {
    word as u8
}

/// The state word with another state and the same generation.
#[inline(always)]
pub const fn with_state(word: u64, state: u8) -> u64 {
    word & !0xff | state as u64
}

/// The generation in a state word.
#[inline(always)]
pub const fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// True if a lookup by flow may find it.
#[inline(always)]
pub const fn has_flow(word: u64) -> bool {
    matches!(state(word), TENTATIVE | OPEN | MOVING)
}

/// True if a processor is making a session of it, or moving one to it.
#[inline(always)]
pub const fn is_in_making(word: u64) -> bool {
    matches!(state(word), CLAIMED | OFFERED | MOVING)
}

/// True if it is a session, tentative or open, aside or not.
#[inline(always)]
pub const fn is_live(word: u64) -> bool {
    matches!(state(word) & !ASIDE, TENTATIVE | OPEN)
}

/// True if it is open, aside or not.
#[inline(always)]
pub const fn is_open(word: u64) -> bool {
    state(word) & !ASIDE == OPEN
}

/// What a lookup found. Not an `Option` of the whole: the verifier would be shown
/// the payload of a `None`, which nobody wrote.
#[derive(Clone, Copy)]
pub struct Found<'t> {
    /// The slot, if there is one.
    pub slot: Option<&'t Slot>,
    /// Its index.
    pub index: u32,
    /// Its state word when it was found.
    pub word: u64,
}

/// True if the slots are for the same flow.
#[inline(always)]
fn is_same_flow(a: &Slot, b: &Slot) -> bool {
    a.port_service.get() == b.port_service.get()
        && a.client[1].get() == b.client[1].get()
        && a.client[0].get() == b.client[0].get()
}

/// The flow that the slot is for.
#[inline(always)]
pub fn flow(slot: &Slot) -> Flow {
    let service = (slot.port_service.get() >> 16) as u16;
    Flow { client: client(slot), port: slot.port(), service }
}

/// The identity of a session that begins in this slot, in the generation of its state word.
#[inline(always)]
pub fn identity(index: u32, word: u64) -> u64 {
    u64::from(generation(word)) << 32 | u64::from(index)
}

/// The client's address.
#[inline(always)]
pub fn client(slot: &Slot) -> Address {
    Address::from_halves([slot.client[0].get(), slot.client[1].get()])
}

/// True if the slot is for this flow.
#[inline(always)]
pub fn is_flow(slot: &Slot, flow: &Flow) -> bool {
    let [high, low] = flow.client.halves();
    slot.port_service.get() == flow.port_service()
        && slot.client[1].get() == low
        && slot.client[0].get() == high
}

/// The `n`th slot at which a flow with this hash may lie: first its run, then
/// its run in the overflow.
#[inline(always)]
pub fn probe(s: &Settings, hash: u64, n: u64) -> u32 {
    let hash_low = hash as u32;
    if n < PROBES {
        hash_low.wrapping_add(n as u32) & s.slot_mask.get()
    } else {
        let mask = s.overflow_mask.get();
        let home = (hash >> 40) as u32;
        s.slot_mask.get() + 1 + (home.wrapping_add((n - PROBES) as u32) & mask)
    }
}

/// Probes of a lookup that are made in place: nine of ten flows of a table that is half full lie
/// there, and the slots are neighbours in memory.
const NEAR: u64 = 2;

/// Looks a flow up. The first slots of its run are looked at here, the rest in a function apart.
/// Of the flow's slots at most one is found by lookups; if it is wanted only when it is
/// [`OPEN`], another state than that need not be understood.
#[inline(always)]
pub fn find<'t, T: Sessions, const IS_OPEN: bool>(
    t: &'t T,
    s: &Settings,
    flow: &Flow,
    hash: u64,
) -> Found<'t> {
    let nothing = Found { slot: None, index: 0, word: 0 };
    for n in 0..NEAR {
        let index = probe(s, hash, n);
        let Some(slot) = t.slot(index) else { return nothing };
        let word = slot.state.load();
        let found = if IS_OPEN { state(word) == OPEN } else { has_flow(word) };
        if found && is_flow(slot, flow) {
            return Found { slot: Some(slot), index, word };
        }
        if state(word) == EMPTY {
            return nothing;
        }
    }
    let [high, low] = flow.client.halves();
    let found = t.find_flow(hash, flow.port_service().into(), high, low);
    if found == NOT_FOUND {
        return nothing;
    }
    let index = found as u32;
    let Some(slot) = t.slot(index) else { return nothing };
    let word = slot.state.load();
    if IS_OPEN && state(word) != OPEN {
        return nothing;
    }
    Found { slot: Some(slot), index, word }
}

const NOT_FOUND: u64 = u64::MAX;

/// The rest of [`find`]; see [`Sessions`] for why it is apart.
#[inline(always)]
pub fn find_apart<T: Sessions>(t: &T, hash: u64, port_service: u64, high: u64, low: u64) -> u64 {
    let Some(s) = t.settings() else { return NOT_FOUND };
    let client = Address::from_halves([high, low]);
    let flow = Flow { client, port: port_service as u16, service: (port_service >> 16) as u16 };
    for n in NEAR..2 * PROBES {
        let index = probe(s, hash, n);
        let Some(slot) = t.slot(index) else { return NOT_FOUND };
        let word = slot.state.load();
        if state(word) == EMPTY {
            return NOT_FOUND;
        }
        if has_flow(word) && is_flow(slot, &flow) {
            return u64::from(index);
        }
    }
    NOT_FOUND
}

/// A slot that was claimed, to be written and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its index.
    pub index: u32,
    /// Which probe it is; from [`PROBES`] on it lies in the overflow.
    pub probe: u64,
}

const NO_CLAIM: u64 = u64::MAX;

/// Takes a slot from a state to another: false if its word is no longer `word`.
#[inline(always)]
pub fn transition(slot: &Slot, word: u64, to: u8) -> bool {
    slot.state.replace(word, with_state(word, to))
}

/// Claims a free slot for a flow with this hash, which the caller has looked up
/// and not found: `None` if there is none. A claimed slot must be published.
#[inline(always)]
pub fn claim<T: Sessions>(t: &T, hash: u64) -> Option<Claim> {
    match t.claim(hash) {
        NO_CLAIM => None,
        word => Some(Claim { index: word as u32, probe: word >> 32 }),
    }
}

/// Publishes a claimed slot in `state` ([`TENTATIVE`] or [`OPEN`], perhaps with [`ASIDE`],
/// or [`MOVING`]). False if it had to give way to another with the same flow: then it is
/// retired, and the caller lowers the counts that it was in.
#[inline(always)]
pub fn publish<T: Sessions>(t: &T, hash: u64, claim: Claim, state: u8) -> bool {
    t.publish(hash, claim.index, state) != 0
}

/// Takes a slot out of [`MOVING`], in which it is its mover's alone.
#[inline(always)]
pub fn settle(slot: &Slot, state: u8) {
    slot.state.store(with_state(slot.state.load(), state));
}

/// The body of [`claim`]; see [`Sessions`] for why it is apart.
#[inline(always)]
pub fn claim_apart<T: Sessions>(t: &T, hash: u64) -> u64 {
    let Some(s) = t.settings() else { return NO_CLAIM };
    for n in 0..2 * PROBES {
        let index = probe(s, hash, n);
        let Some(slot) = t.slot(index) else { return NO_CLAIM };
        let word = slot.state.load();
        if state(word) != EMPTY && state(word) != DEAD {
            continue;
        }
        let next = u64::from(generation(word).wrapping_add(1)) << 32 | u64::from(CLAIMED);
        if slot.state.replace(word, next) {
            return n << 32 | u64::from(index);
        }
    }
    NO_CLAIM
}

/// The body of [`publish`]; see [`Sessions`] for why it is apart. 1 if published, else 0.
///
/// Two loops rather than one with a flag: of what is alive in a loop, each value is
/// eight bytes of a stack that has 512 for all frames, each rounded up to 32 (Linux 6.1).
#[inline(always)]
pub fn publish_apart<T: Sessions>(t: &T, hash: u64, index: u32, to: u8) -> u64 {
    let (Some(s), Some(slot)) = (t.settings(), t.slot(index)) else { return 0 };
    if to & ASIDE != 0 {
        settle(slot, to);
        return 1;
    }
    settle(slot, OFFERED);
    // Look over the whole run. First what comes before: an earlier offer stays, too.
    let mut n = 0;
    while n < 2 * PROBES {
        let i = probe(s, hash, n);
        n += 1;
        if i == index {
            break;
        }
        let Some(other) = t.slot(i) else { return give_way(slot) };
        let w = other.state.load();
        if state(w) == EMPTY {
            transition(other, w, DEAD);
        } else if (has_flow(w) || state(w) == OFFERED) && is_same_flow(other, slot) {
            return give_way(slot);
        }
    }
    // Then what comes behind: a later offer goes.
    while n < 2 * PROBES {
        let i = probe(s, hash, n);
        n += 1;
        // The run of a small region passes over a slot twice.
        if i == index {
            continue;
        }
        let Some(other) = t.slot(i) else { return give_way(slot) };
        let w = other.state.load();
        if state(w) == EMPTY {
            break;
        }
        if (has_flow(w) || state(w) == OFFERED)
            && is_same_flow(other, slot)
            && !(state(w) == OFFERED && transition(other, w, RETIRED))
            // Published meanwhile, if it did not give way by itself.
            && has_flow(other.state.load())
        {
            return give_way(slot);
        }
    }
    // Unless an earlier offer has made it give way.
    let word = slot.state.load();
    u64::from(state(word) == OFFERED && transition(slot, word, to))
}

/// Retires an offer, unless somebody has.
#[inline(always)]
fn give_way(slot: &Slot) -> u64 {
    settle(slot, RETIRED);
    0
}
