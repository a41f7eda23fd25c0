//! The budget of packets without a session, per source: IPv4 /32 or IPv6 /64.
//!
//! The generic cell rate algorithm (ITU-T I.371): an entry holds the time until
//! which the source has used up its rate, in units of 2^10 ns, and may be at
//! most a burst ahead of the clock. Entries are shared by hash and tagged; a
//! source that takes another's entry starts with a full budget, so colliding
//! never refuses anybody. Updates may be lost between processors, which lets a
//! few more packets pass.

use super::{Tables, hash};
use crate::abi::{Address, BUDGET_SLOTS, Settings};

const TIME: u64 = (1 << 40) - 1;

/// True if the source may send this packet.
#[inline(always)]
pub fn take<T: Tables>(t: &T, s: &Settings, client: &Address, now: u64) -> bool {
    let cost = u64::from(s.budget_cost.get());
    if cost == 0 {
        return true;
    }
    let h = hash::source(s, client);
    let Some(entry) = t.budget(h as u32 & (BUDGET_SLOTS - 1)) else { return true };
    let tag = h & !TIME;
    // Never 0, so that an unused entry belongs to nobody.
    let now = (now >> 10) & TIME | 1;
    let e = entry.load();
    let mut until = now;
    if e & !TIME == tag && e != 0 {
        // No entry is written that is further ahead: it is an old one, and the clock has gone round, which takes 13 days.
        let (ahead, burst) = ((e & TIME).wrapping_sub(now) & TIME, u64::from(s.budget_burst.get()));
        if ahead <= burst + cost {
            until = now.wrapping_add(ahead);
            if ahead > burst {
                return false;
            }
        }
    }
    entry.store(tag | (until.wrapping_add(cost) & TIME));
    true
}
