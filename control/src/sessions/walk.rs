//! All sessions, one after the other, while they come, move and go.

use std::cmp::Reverse;
use std::vec::IntoIter;

use super::{Reader, Record};

/// Where the sessions lay when it began. Each is read when its turn comes; one that is somewhere else by then comes last, and one
/// that is gone not at all.
#[derive(Debug)]
pub struct Walk {
    /// Identities and slots.
    left: IntoIter<(u64, u32)>,
    /// Identities of those that were not where they had been; `None` once those were looked for.
    moved: Option<Vec<u64>>,
}

impl Walk {
    /// Begins one through the tables of a reader.
    pub fn new(reader: Reader<'_>) -> Self {
        Self { left: places(reader).into_iter(), moved: Some(Vec::new()) }
    }

    /// The next session, with a reader of the same tables.
    pub fn next(&mut self, reader: Reader<'_>) -> Option<Record> {
        loop {
            for (identity, index) in self.left.by_ref() {
                match reader.get(index).filter(|record| record.identity == identity) {
                    Some(record) => return Some(record),
                    None => self.moved.iter_mut().for_each(|moved| moved.push(identity)),
                }
            }
            // They are in order, as those were that were walked through.
            let moved = self.moved.take().filter(|moved| !moved.is_empty())?;
            let mut found = places(reader);
            found.retain(|(identity, _)| moved.binary_search(identity).is_ok());
            self.left = found.into_iter();
        }
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
