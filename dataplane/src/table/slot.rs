//! The session table: an array of 128-byte slots, open addressing, no locks.
//!
//! A flow's *home* is given by its hash. It lies in one of the [`PROBES`] slots
//! from there on (its *run*), or, if all of these were taken, in a run of the
//! *overflow*, a small region behind the primary slots. A lookup ends at the
//! first empty slot; only a run without an empty slot leads to the overflow.
//!
//! ```text
//!          claim (kernel)      publish            end, move
//!  EMPTY ───────────────▶ CLAIMED ───▶ TENTATIVE ──────────▶ RETIRED
//!    ▲  ▲                    ▲  │          │ open               │ ▲
//!    │  └─ sweep (daemon) ┐  │  │          ▼     end, move      │ │
//!    │                    │  │  └───────▶ OPEN ────────────────▶│ │
//!    │                    │  │ claim                            │ │
//!    └─────────────────── DEAD ◀────────────────────────────────┘ │
//!                           a scan later, at least 1 s (daemon)   │
//!                   TENTATIVE and OPEN may be set ASIDE: ids only ┘
//! ```
//!
//! * Every transition is a compare-and-swap of the state word, which also holds
//!   the *generation*: raised by each claim, so that a word never comes back.
//! * RETIRED is a quarantine: a packet in flight may still refer to the slot.
//! * After publishing, the writer looks again over the whole run: of two slots
//!   with the same flow (two processors inserted at once) the earlier stays. An
//!   empty slot before its own (the daemon swept at the same time) becomes DEAD
//!   again, so that the run has no hole.
//! * A session that lost its flow to another session, proven to be there now, is
//!   ASIDE: lookups by flow pass over it, its ids still lead to it.

use super::Tables;
use super::hash::Flow;
use crate::abi::{Address, Settings, Slot};

/// Slots that a lookup looks at, at most, in the primary table and again in the overflow.
pub const PROBES: u32 = 8;

/// Never used, or swept: a lookup ends here.
pub const EMPTY: u8 = 0;
/// Being written by the one who claimed it.
pub const CLAIMED: u8 = 1;
/// A handshake's session: not counted in the quota, dead after 15 s.
pub const TENTATIVE: u8 = 2;
/// A session.
pub const OPEN: u8 = 3;
/// Moved or ended; not to be touched for a while.
pub const RETIRED: u8 = 5;
/// Free to claim.
pub const DEAD: u8 = 6;
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
    matches!(state(word), TENTATIVE | OPEN)
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

/// All that a slot holds but its state: to write a new one, or the copy that a move makes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the fields of abi::Slot, which documents them")]
pub struct Record {
    pub client: Address,
    pub port: u16,
    pub service: u16,
    pub endpoint: u32,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub in_id: u32,
    pub in_id_next: u32,
    pub in_id_previous: u32,
    pub in_counter: u32,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub opened: u64,
    /// 0: the session begins here, and gets its identity from its slot.
    pub identity: u64,
    pub last_rx: u32,
    pub last_tx: u32,
    pub out_id: u32,
    pub out_id_next: u32,
    pub out_id_previous: u32,
    pub out_counter: u32,
    pub moves: u16,
}

impl Record {
    /// What the slot holds.
    #[inline(always)]
    pub fn of(slot: &Slot) -> Self {
        Self {
            client: client(slot),
            port: slot.port.get(),
            service: slot.service.get(),
            endpoint: slot.endpoint.get(),
            rx_packets: slot.rx_packets.get(),
            rx_bytes: slot.rx_bytes.get(),
            in_id: slot.in_id.get(),
            in_id_next: slot.in_id_next.get(),
            in_id_previous: slot.in_id_previous.get(),
            in_counter: slot.in_counter.get(),
            tx_packets: slot.tx_packets.get(),
            tx_bytes: slot.tx_bytes.get(),
            opened: slot.opened.get(),
            identity: slot.identity.get(),
            last_rx: slot.last_rx.get(),
            last_tx: slot.last_tx.get(),
            out_id: slot.out_id.get(),
            out_id_next: slot.out_id_next.get(),
            out_id_previous: slot.out_id_previous.get(),
            out_counter: slot.out_counter.get(),
            moves: slot.moves.get(),
        }
    }

    #[inline(always)]
    fn write(&self, slot: &Slot, index: u32, generation: u32) {
        for (cell, word) in slot.client.iter().zip(self.client.0) {
            cell.set(word);
        }
        slot.port.set(self.port);
        slot.service.set(self.service);
        slot.endpoint.set(self.endpoint);
        slot.rx_packets.set(self.rx_packets);
        slot.rx_bytes.set(self.rx_bytes);
        slot.in_id.set(self.in_id);
        slot.in_id_next.set(self.in_id_next);
        slot.in_id_previous.set(self.in_id_previous);
        slot.in_counter.set(self.in_counter);
        slot.tx_packets.set(self.tx_packets);
        slot.tx_bytes.set(self.tx_bytes);
        slot.opened.set(self.opened);
        let own = u64::from(generation) << 32 | u64::from(index);
        slot.identity.set(if self.identity == 0 { own } else { self.identity });
        slot.last_rx.set(self.last_rx);
        slot.last_tx.set(self.last_tx);
        slot.out_id.set(self.out_id);
        slot.out_id_next.set(self.out_id_next);
        slot.out_id_previous.set(self.out_id_previous);
        slot.out_counter.set(self.out_counter);
        slot.nexthop.set(crate::abi::NO_NEXTHOP);
        slot.route_generation.set(0);
        slot.moves.set(self.moves);
    }

    /// Its flow.
    #[inline(always)]
    pub fn flow(&self) -> Flow {
        Flow { client: self.client, port: self.port, service: self.service }
    }
}

/// The client's address.
#[inline(always)]
pub fn client(slot: &Slot) -> Address {
    Address([
        slot.client[0].get(),
        slot.client[1].get(),
        slot.client[2].get(),
        slot.client[3].get(),
    ])
}

/// True if the slot is for this flow.
#[inline(always)]
pub fn is_flow(slot: &Slot, flow: &Flow) -> bool {
    slot.port.get() == flow.port
        && slot.service.get() == flow.service
        && slot.client[3].get() == flow.client.0[3]
        && slot.client[2].get() == flow.client.0[2]
        && slot.client[1].get() == flow.client.0[1]
        && slot.client[0].get() == flow.client.0[0]
}

/// The `n`th slot at which a flow with this hash may lie: first its run, then
/// its run in the overflow.
#[inline(always)]
pub fn probe(s: &Settings, hash: u64, n: u32) -> u32 {
    let hash_low = hash as u32;
    if n < PROBES {
        hash_low.wrapping_add(n) & s.slot_mask.get()
    } else {
        let mask = s.overflow_mask.get();
        let home = (hash >> 40) as u32;
        s.slot_mask.get() + 1 + (home.wrapping_add(n - PROBES) & mask)
    }
}

/// Looks a flow up.
#[inline(always)]
pub fn find<'t, T: Tables>(t: &'t T, s: &Settings, flow: &Flow, hash: u64) -> Found<'t> {
    let nothing = Found { slot: None, index: 0, word: 0 };
    for n in 0..2 * PROBES {
        let index = probe(s, hash, n);
        let Some(slot) = t.slot(index) else { return nothing };
        let word = slot.state.load();
        if state(word) == EMPTY {
            return nothing;
        }
        if has_flow(word) && is_flow(slot, flow) {
            return Found { slot: Some(slot), index, word };
        }
    }
    nothing
}

/// How an insertion ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lies in the primary table.
    Inserted,
    /// It lies in the overflow.
    Overflowed,
    /// Another processor inserted the same flow earlier: that slot counts.
    Raced,
    /// No place.
    Full,
}

/// Where an insertion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// How.
    pub outcome: Outcome,
    /// The slot that has the flow now, unless `Full`.
    pub index: u32,
    /// A slot with the same flow that had to go since it lies later; its state
    /// (with flags) before that, or 0. The caller lowers the counts it was in.
    pub displaced: u8,
}

/// Takes a slot from a state to another: false if its word is no longer `word`.
#[inline(always)]
pub fn transition(slot: &Slot, word: u64, to: u8) -> bool {
    slot.state.replace(word, with_state(word, to))
}

/// Puts a record into the table in `state` ([`TENTATIVE`] or [`OPEN`], perhaps
/// with [`ASIDE`]). The caller has looked the flow up and not found it.
#[inline(always)]
pub fn insert<T: Tables>(t: &T, s: &Settings, hash: u64, record: &Record, to: u8) -> Insertion {
    let full = Insertion { outcome: Outcome::Full, index: 0, displaced: 0 };
    // Claim the first free slot.
    let mut own = 2 * PROBES;
    let mut index = 0;
    let mut word = 0;
    for n in 0..2 * PROBES {
        let i = probe(s, hash, n);
        let Some(slot) = t.slot(i) else { return full };
        let w = slot.state.load();
        if state(w) != EMPTY && state(w) != DEAD {
            continue;
        }
        let next = u64::from(generation(w).wrapping_add(1)) << 32;
        if slot.state.replace(w, next | u64::from(CLAIMED)) {
            own = n;
            index = i;
            word = next;
            break;
        }
    }
    let Some(slot) = t.slot(index) else { return full };
    if own == 2 * PROBES {
        return full;
    }
    record.write(slot, index, generation(word));
    slot.state.store(word | u64::from(to));
    let outcome = if own < PROBES { Outcome::Inserted } else { Outcome::Overflowed };
    let mut done = Insertion { outcome, index, displaced: 0 };
    if to & ASIDE != 0 {
        return done;
    }
    // Look again.
    let flow = record.flow();
    for n in 0..2 * PROBES {
        if n == own {
            continue;
        }
        let i = probe(s, hash, n);
        let Some(other) = t.slot(i) else { return done };
        let w = other.state.load();
        if state(w) == EMPTY {
            if n > own {
                return done;
            }
            transition(other, w, DEAD);
        } else if has_flow(w) && is_flow(other, &flow) {
            if n < own {
                // The caller lowers its own counts.
                if transition(slot, word | u64::from(to), RETIRED) {
                    return Insertion { outcome: Outcome::Raced, index: i, displaced: 0 };
                }
                return done;
            }
            if transition(other, w, RETIRED) {
                done.displaced = state(w);
            }
        }
    }
    done
}
