//! Counts of sessions: raised here, lowered by the daemon (and here where an
//! insertion comes to nothing).

use super::slot;
use crate::abi::{Settings, Tenant};
use crate::cell::Word;

#[inline(always)]
fn raise(count: &Word, most: u64) -> bool {
    if count.add(1) >= most {
        count.add(u64::MAX);
        return false;
    }
    true
}

/// Takes one more open session into account; false at the tenant's quota.
#[inline(always)]
pub fn open(tenant: &Tenant) -> bool {
    raise(&tenant.sessions, tenant.max_sessions.get())
}

/// Takes one more tentative session into account; false at the tenant's limit.
#[inline(always)]
pub fn tentative(tenant: &Tenant) -> bool {
    raise(&tenant.tentative, tenant.max_tentative.get())
}

/// Takes one more slot into account; false if the table holds `max_sessions`.
#[inline(always)]
pub fn slot(s: &Settings) -> bool {
    raise(&s.used, s.max_sessions.get())
}

/// True if the tenant could open one more.
#[inline(always)]
pub fn has_room(tenant: &Tenant) -> bool {
    tenant.sessions.load() < tenant.max_sessions.get()
}

/// Gives back what a session in this state (perhaps with its flag) was counted in; one that
/// moves is counted as an open one.
#[inline(always)]
pub fn release(s: &Settings, tenant: &Tenant, state: u8) {
    s.used.add(u64::MAX);
    if matches!(state & !slot::ASIDE, slot::OPEN | slot::MOVING) {
        tenant.sessions.add(u64::MAX);
    } else {
        tenant.tentative.add(u64::MAX);
    }
}
