//! The new tables, while old sessions are put into them and their own program may be at work.

use std::collections::HashMap;

use dataplane::abi::{Detail, Settings, Slot, Tenant};
use dataplane::table::carry::{self, Counts, Ids, Refused, Session};
use dataplane::table::{hash, slot};

use crate::loader::Tables;

/// The new tables.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    tables: &'a Tables,
    settings: &'a Settings,
}

/// A session where it lies.
#[derive(Clone, Copy)]
struct There<'a> {
    index: u32,
    word: u64,
    slot: &'a Slot,
    detail: &'a Detail,
    session: Session,
}

/// Where a session lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) index: u32,
    word: u64,
    moves: u16,
}

impl<'a> Place<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self { tables, settings: tables.settings() }
    }

    fn read(self, index: u32) -> Option<There<'a>> {
        let slot = self.tables.slots.get(index as usize)?;
        let detail = self.tables.details.get(index as usize)?;
        let (word, session) = Session::read(slot, detail)?;
        Some(There { index, word, slot, detail, session })
    }

    /// All sessions: where they lie, and, of those that were seen in two places, where the earlier one is. One that is moving lies where
    /// it moves to.
    pub(super) fn by_identity(self) -> (HashMap<u64, Spot>, HashMap<u64, Spot>) {
        let (mut all, mut earlier): (HashMap<u64, Spot>, _) = (HashMap::new(), HashMap::new());
        for (index, slot) in (0..).zip(self.tables.slots.iter()) {
            if slot::is_live(slot.state.load())
                && let Some(There { word, session, .. }) = self.read(index)
            {
                let mut spot = Spot { index, word, moves: session.moves };
                let there = all.entry(session.identity).or_insert(spot);
                if there.index != index {
                    if there.moves <= spot.moves {
                        std::mem::swap(there, &mut spot);
                    }
                    earlier.insert(session.identity, spot);
                }
            }
        }
        (all, earlier)
    }

    /// Takes a session out of the earlier of two places, if it is in both: somebody died when he had put it into one, and had not yet taken it
    /// out of the other. The kernel program, which may move it while the table is read, never has it in two at once.
    pub(super) fn leave(self, tenant: &Tenant, earlier: &Spot, there: &Spot) {
        let slot = |spot: &Spot| self.tables.slots.get(spot.index as usize);
        let is_still = slot(there).is_some_and(|slot| slot.state.load() == there.word);
        if let Some(slot) = slot(earlier).filter(|_| is_still) {
            carry::retire(self.settings, tenant, slot, earlier.word);
        }
    }

    /// Puts a session here that is not here yet: true if it has a slot of its own now. `lives` tells which sessions the old
    /// tables have.
    pub(super) fn put(
        self,
        tenant: &Tenant,
        session: &Session,
        lives: &impl Fn(u64) -> bool,
    ) -> Result<bool, Refused> {
        // Another has the flow as long as it takes to look; a packet may make one at any time.
        for _ in 0..8 {
            match carry::insert(self.tables, self.settings, tenant, session) {
                Ok(_) => return Ok(true),
                Err(Refused::Full) => return Err(Refused::Full),
                Err(Refused::Taken) => {}
            }
            let hash = hash::flow(self.settings, &session.flow);
            let found = slot::find::<_, false>(self.tables, self.settings, &session.flow, hash);
            let Some(there) = found.slot.and_then(|_| self.read(found.index)) else { continue };
            if there.session.identity >> 32 >= self.settings.first_generation.get() {
                // An answer opened it here, before its session came from where it was.
                unite(self.tables, &there, session);
                return Ok(false);
            }
            // In the old tables it has lost its flow, or ended.
            if there.session.is_open() && lives(there.session.identity) {
                slot::transition(there.slot, there.word, slot::OPEN | slot::ASIDE);
            } else {
                carry::retire(self.settings, tenant, there.slot, there.word);
            }
        }
        Err(Refused::Taken)
    }

    /// Brings a session that is here up to date with what it has become in the old tables since `before`, or since nobody knows when: true
    /// if it is in another slot now.
    pub(super) fn follow(
        self,
        tenant: &Tenant,
        index: u32,
        (now, before): (&Session, Option<&Session>),
        lives: &impl Fn(u64) -> bool,
    ) -> Result<bool, Refused> {
        let Some(there) = self.read(index) else { return Ok(false) };
        let more = more(now, before, &there.session);
        let is_later = is_later(now.last_seen, there.session.last_seen);
        let ids = |of: fn(&Session) -> Ids| {
            let (now, there) = (of(now), of(&there.session));
            let news = match before {
                Some(before) => now != of(before) && there == of(before),
                None => is_later,
            };
            if news { now } else { there }
        };
        let mut merged = Session {
            counts: std::array::from_fn(|n| there.session.counts[n] + more[n]),
            last_seen: if is_later { now.last_seen } else { there.session.last_seen },
            inbound: ids(|s| s.inbound),
            outbound: ids(|s| s.outbound),
            closing: now.closing | there.session.closing,
            ..*now
        };
        if now.flow != there.session.flow && now.moves > there.session.moves {
            if !self.put(tenant, &merged, lives)? {
                return Ok(false);
            }
            carry::retire(self.settings, tenant, there.slot, there.word);
            return Ok(true);
        }
        merged.flow = there.session.flow;
        carry::add(there.slot, there.detail, more);
        if (merged.inbound, merged.outbound) != (there.session.inbound, there.session.outbound) {
            carry::learn(self.tables, index, &there.session, &merged);
        } else if before.is_none() {
            // Who put it here may have died before its ids led to it.
            carry::lead(self.tables, index, &merged);
        }
        if is_later {
            there.slot.last_seen.set(now.last_seen);
            there.detail.in_counter.set(now.in_counter);
            there.detail.out_counter.set(now.out_counter);
        }
        there.detail.closing.set(merged.closing);
        if before.is_some_and(|before| before.handshake != now.handshake) {
            there.detail.handshake.set(now.handshake);
        }
        let mut word = there.word;
        if now.is_open() && !there.session.is_open() {
            carry::open(self.settings, tenant, there.slot, there.detail, (word, now.opened));
            word = there.slot.state.load();
        }
        let is_displaced = now.is_aside() && before.is_none_or(|before| !before.is_aside());
        if is_displaced && slot::state(word) == slot::OPEN {
            slot::transition(there.slot, word, slot::OPEN | slot::ASIDE);
        }
        Ok(false)
    }

    /// Ends a handshake's session that the old tables have no more, unless an answer has opened it here.
    pub(super) fn end_tentative(self, tenant: &Tenant, index: u32) {
        if let Some(there) = self.read(index).filter(|there| !there.session.is_open()) {
            carry::retire(self.settings, tenant, there.slot, there.word);
        }
    }
}

/// What the old tables have counted and the new ones lack. Where it is not known what of it was carried, at least none that was
/// told once is taken back.
fn more(now: &Session, before: Option<&Session>, there: &Session) -> Counts {
    let base = before.map_or(there.counts, |before| before.counts);
    std::array::from_fn(|n| now.counts[n].saturating_sub(base[n]))
}

fn is_later(tick: u32, other: u32) -> bool {
    (1..1 << 31).contains(&tick.wrapping_sub(other))
}

/// Makes one of two sessions of the same flow, of which each of two tables had one.
fn unite(tables: &Tables, there: &There<'_>, old: &Session) {
    let or = |there: u32, old: u32| if there == 0 { old } else { there };
    let ids = |there: Ids, old: Ids| Ids {
        next: or(there.next, old.next),
        current: or(there.current, old.current),
        previous: or(there.previous, old.previous),
    };
    let now = Session {
        inbound: ids(there.session.inbound, old.inbound),
        outbound: ids(there.session.outbound, old.outbound),
        control: old.control,
        ..there.session
    };
    there.detail.identity.set(old.identity);
    there.detail.opened.set(there.session.opened.min(old.opened));
    there.detail.moves.set(there.session.moves.max(old.moves));
    carry::add(there.slot, there.detail, old.counts);
    carry::learn(tables, there.index, &there.session, &now);
}
