//! All sessions, one after the other, while they come, move and go.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::vec::IntoIter;

use super::{Reader, Record};

/// So many slots are looked at in one step.
const STEP: u32 = 1024;
/// A session that moves again behind the back of who looks for it is met in the next round.
const ROUNDS: u64 = 2;

/// Where the sessions lay when it began. Each is read when its turn comes; one that is somewhere else by then comes last, and one
/// that is gone not at all.
#[derive(Debug)]
pub struct Walk {
    /// Identities and slots.
    left: IntoIter<(u64, u32)>,
    /// Identities of those that were not where they had been.
    moved: HashSet<u64>,
    /// The slot that is looked at next for these, once all others were met: all slots [`ROUNDS`] times.
    slot: u64,
}

impl Walk {
    /// Begins one through the tables of a reader.
    pub fn new(reader: Reader<'_>) -> Self {
        Self { left: places(reader).into_iter(), moved: HashSet::new(), slot: 0 }
    }

    /// The next session, with a reader of the same tables; nothing where none was found among many slots, so that others get their turn.
    pub fn next(&mut self, reader: Reader<'_>) -> Option<Option<Record>> {
        for _ in 0..STEP {
            if let Some((identity, index)) = self.left.next() {
                match reader.get(index).filter(|record| record.identity == identity) {
                    Some(record) => return Some(Some(record)),
                    None => self.moved.insert(identity),
                };
            } else if self.moved.is_empty() || self.slot >= ROUNDS * reader.slots() as u64 {
                return None;
            } else {
                let there = reader.get((self.slot % reader.slots() as u64) as u32);
                self.slot += 1;
                if let Some(record) = there.filter(|record| self.moved.remove(&record.identity)) {
                    return Some(Some(record));
                }
            }
        }
        Some(None)
    }
}

/// Identities and slots of all sessions, each once, by identity.
fn places(reader: Reader<'_>) -> Vec<(u64, u32)> {
    let moved = |r: Record| (r.identity, Reverse(r.moves), r.index);
    let mut places: Vec<_> = reader.all().map(moved).collect();
    places.sort_unstable();
    places.dedup_by_key(|(identity, ..)| *identity);
    places.into_iter().map(|(identity, _, index)| (identity, index)).collect()
}
