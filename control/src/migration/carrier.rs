//! Carries sessions over, again and again, until nobody writes the old tables any more.

use std::collections::BTreeMap;

use dataplane::abi::POOL_STRIDE;
use dataplane::table::carry::Session;
use dataplane::table::{hints, slot};

use super::place::Place;
use super::translation::Translation;
use crate::loader::{Old, Tables};

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Sessions of the old tables.
    pub(crate) sessions: usize,
    /// Of them those that are new in the new tables, or on another flow there.
    pub(crate) put: usize,
    /// Those that are of nothing that is configured, and would have been ended.
    pub(crate) left_out: usize,
    /// Those for which there was no slot.
    pub(crate) refused: usize,
}

/// Knows what it has carried.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// Sessions as they were in the old tables at the last pass, by identity, with their tenants. In order, so that what is done twice
    /// is done alike: tests let whoever does it die at each write.
    carried: BTreeMap<u64, (Session, u32)>,
}

impl Carrier {
    /// One pass: whatever the new tables lack of the old ones' sessions, they have afterwards. What their own program did
    /// meanwhile stays.
    pub(super) fn pass(&mut self, old: &Old, to: &Tables, translation: &Translation) -> Passed {
        let place = Place::new(to);
        let (there, earlier) = place.by_identity();
        let olds = old.sessions();
        let now: BTreeMap<u64, (Session, u32)> = olds
            .iter()
            .filter_map(|session| translation.session(session))
            .map(|(session, tenant)| (session.identity, (session, tenant)))
            .collect();
        let mut passed =
            Passed { sessions: olds.len(), left_out: olds.len() - now.len(), ..Passed::default() };
        let lives = |identity| now.contains_key(&identity);
        for (identity, spot) in &earlier {
            let tenant = now.get(identity).and_then(|(_, index)| to.tenants.get(*index as usize));
            if let (Some(tenant), Some(there)) = (tenant, there.get(identity)) {
                place.leave(tenant, spot, there);
            }
        }
        for (identity, (session, tenant)) in &now {
            let Some(tenant) = to.tenants.get(*tenant as usize) else { continue };
            let before = self.carried.get(identity).map(|(before, _)| before);
            let put = match there.get(identity) {
                Some(spot) => place.follow(tenant, spot.index, (session, before), &lives),
                // It was carried, and the new program has ended it: another has its flow.
                None if before.is_some() => Ok(false),
                None => place.put(tenant, session, &lives),
            };
            match put {
                Ok(put) => passed.put += usize::from(put),
                Err(_) => passed.refused += 1,
            }
        }
        // Of what is gone only handshakes' sessions are over: others end by a daemon alone.
        for (identity, (before, tenant)) in &self.carried {
            if let (false, false, Some(spot), Some(tenant)) = (
                before.is_open(),
                lives(*identity),
                there.get(identity),
                to.tenants.get(*tenant as usize),
            ) {
                place.end_tentative(tenant, spot.index);
            }
        }
        self.carried = now;
        passed
    }
}

/// Carries the hints over: as they are, where the hashes are the same; and those that sessions tell of.
pub(super) fn hints(old: &Old, to: &Tables, same_hashes: bool) {
    if same_hashes {
        let (entries, buckets) = old.hints();
        for (bucket, entry) in entries {
            hints::carry(to, entry, bucket, buckets);
        }
    }
    let settings = to.settings();
    for (slot, word) in to.slots.iter().map(|slot| (slot, slot.state.load())) {
        if slot::is_open(word) {
            let client = slot::client(slot);
            if hints::find(to, settings, &client, slot.service(), 0).is_none() {
                let ordinal = u32::from(slot.endpoint.get()) % POOL_STRIDE;
                hints::note(to, &client, slot.service(), 0, ordinal);
            }
        }
    }
}
