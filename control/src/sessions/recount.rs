//! Corrects the counts of sessions. The kernel program raises them and the daemon lowers
//! them; a daemon that was killed between ending a session and lowering its counts
//! leaves them too high.

use std::collections::BTreeMap;

use dataplane::abi::Tenant;
use dataplane::cell::Word;
use dataplane::table::slot;

use super::Reader;
use super::keeper::Memory;

/// By how much a count was wrong: what it says, less what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Open sessions.
    pub open: i64,
    /// Tentative sessions.
    pub tentative: i64,
}

/// Differences between counts and sessions, of a moment when the counts stood still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// By tenant index, where there is a difference.
    pub tenants: BTreeMap<u32, Drift>,
    /// Of the slots in use.
    pub used: i64,
    /// Of the sessions that are borrowed.
    pub borrowed: i64,
}

impl Recount {
    /// Counts. `None` if sessions were opened or ended meanwhile: try again.
    ///
    /// `tenant` gives the tenant index of an endpoint.
    pub fn take<'a>(
        memory: impl Into<Memory<'a>>,
        tenant: &dyn Fn(u32) -> Option<u32>,
    ) -> Option<Self> {
        let memory = memory.into();
        let before = counts(memory);
        let mut there: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for session in Reader::new(memory).all() {
            let index = tenant(session.endpoint)?;
            let (open, tentative) = there.entry(index).or_default();
            *(if session.is_open() { open } else { tentative }) += 1;
        }
        let in_making = memory.slots.iter().any(|s| slot::is_in_making(s.state.load()));
        if in_making || counts(memory) != before {
            return None;
        }
        let (mut all, mut borrowed) = (0, 0);
        let mut tenants = BTreeMap::new();
        for (index, (open, tentative)) in before.tenants.iter().enumerate() {
            let (is_open, is_tentative) = there.get(&(index as u32)).copied().unwrap_or_default();
            all += is_open + is_tentative;
            let guaranteed = memory.tenants[index].guaranteed.get();
            borrowed += is_open.saturating_sub(guaranteed);
            let drift = Drift {
                open: open.wrapping_sub(is_open) as i64,
                tentative: tentative.wrapping_sub(is_tentative) as i64,
            };
            if drift != Drift::default() {
                tenants.insert(index as u32, drift);
            }
        }
        Some(Self {
            tenants,
            used: before.used.wrapping_sub(all) as i64,
            borrowed: before.borrowed.wrapping_sub(borrowed) as i64,
        })
    }

    /// Whether all counts are right.
    pub fn is_right(&self) -> bool {
        self.tenants.is_empty() && self.used == 0 && self.borrowed == 0
    }

    /// Corrects the counts by the differences: right also if they have moved on since.
    pub fn correct<'a>(&self, memory: impl Into<Memory<'a>>) {
        let memory = memory.into();
        let lower = |count: &Word, by: i64| count.add((by as u64).wrapping_neg());
        for (index, drift) in &self.tenants {
            let tenant: &Tenant = &memory.tenants[*index as usize];
            lower(&tenant.sessions, drift.open);
            lower(&tenant.tentative, drift.tentative);
        }
        lower(&memory.settings.used, self.used);
        lower(&memory.settings.borrowed, self.borrowed);
    }
}

#[derive(PartialEq, Eq)]
struct Counts {
    tenants: Vec<(u64, u64)>,
    used: u64,
    borrowed: u64,
}

fn counts(memory: Memory<'_>) -> Counts {
    let tenants = memory.tenants.iter().map(|t| (t.sessions.load(), t.tentative.load())).collect();
    let (used, borrowed) = (memory.settings.used.load(), memory.settings.borrowed.load());
    Counts { tenants, used, borrowed }
}
