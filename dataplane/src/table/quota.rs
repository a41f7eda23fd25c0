//! Counts of sessions: raised here, lowered by the daemon (and here where an
//! insertion comes to nothing).
//!
//! A tenant's sessions up to what it is guaranteed are its own; each beyond is *borrowed* from what nobody is guaranteed, of which
//! there is only so much. Raising a tenant's count over a level, and lowering it under the level again, each count that level once,
//! whoever does it: so what is borrowed is right whenever nobody is just counting.

use super::{Tables, meter, slot};
use crate::abi::{Endpoint, Settings, Tenant};
use crate::cell::Word;
use crate::reason::Reason;

#[inline(always)]
fn raise(count: &Word, most: u64) -> bool {
    if count.add(1) >= most {
        count.add(u64::MAX);
        return false;
    }
    true
}

/// Takes one more open session of an endpoint's tenant into account, which opens now.
///
/// # Errors
/// The tenant may have no more, or opens them too fast: then it is counted as refused, and nothing else.
#[inline(always)]
pub fn open<T: Tables>(t: &T, endpoint: u16) -> Result<(), Reason> {
    match t.open_session(endpoint.into()) {
        ADMITTED => Ok(()),
        QUOTA => Err(Reason::TenantQuota),
        GUARANTEED => Err(Reason::Guaranteed),
        _ => Err(Reason::NewSessions),
    }
}

const ADMITTED: u64 = 0;
const QUOTA: u64 = 1;
const GUARANTEED: u64 = 2;
const TOO_FAST: u64 = 3;

/// The body of [`open`]; see [`Tables`] for why it is apart.
#[inline(always)]
pub fn open_apart<T: Tables>(t: &T, endpoint: u64) -> u64 {
    let Some(&Endpoint { tenant, .. }) = t.endpoint(endpoint as u32) else { return QUOTA };
    let (Some(s), Some(tenant)) = (t.settings(), t.tenant(tenant.into())) else { return QUOTA };
    let refused = match admit(s, tenant) {
        Ok(()) if meter::take(&tenant.new_sessions, 1, t.now()) => return ADMITTED,
        Ok(()) => {
            close(s, tenant);
            TOO_FAST
        }
        Err(Reason::TenantQuota) => QUOTA,
        Err(_) => GUARANTEED,
    };
    tenant.refused.add(1);
    refused
}

#[inline(always)]
fn admit(s: &Settings, tenant: &Tenant) -> Result<(), Reason> {
    let before = tenant.sessions.add(1);
    // Others may be lowering what they had not yet raised: it may be below 0.
    let is_lent = before < tenant.guaranteed.get()
        || (s.borrowed.add(1) as i64) < s.max_borrowed.get() as i64;
    let is_quota = before < tenant.max_sessions.get();
    if is_quota && is_lent {
        return Ok(());
    }
    close(s, tenant);
    Err(if is_quota { Reason::Guaranteed } else { Reason::TenantQuota })
}

/// Takes one more open session into account, whatever the limits: it stands for one that is.
#[inline(always)]
pub fn again(s: &Settings, tenant: &Tenant) {
    if tenant.sessions.add(1) >= tenant.guaranteed.get() {
        s.borrowed.add(1);
    }
}

/// Takes an open session out of account.
#[inline(always)]
pub fn close(s: &Settings, tenant: &Tenant) {
    if tenant.sessions.add(u64::MAX) > tenant.guaranteed.get() {
        s.borrowed.add(u64::MAX);
    }
}

/// Takes one more tentative session into account; false at the tenant's limit.
#[inline(always)]
pub fn tentative(tenant: &Tenant) -> bool {
    raise(&tenant.tentative, tenant.max_tentative.get())
}

/// Takes one more slot into account; false if as many are in use as may be.
#[inline(always)]
pub fn slot(s: &Settings) -> bool {
    raise(&s.used, s.max_used.get())
}

/// Whether the tenant could open one more.
///
/// # Errors
/// Why not.
#[inline(always)]
pub fn room(s: &Settings, tenant: &Tenant) -> Result<(), Reason> {
    let sessions = tenant.sessions.load();
    if sessions >= tenant.max_sessions.get() {
        return Err(Reason::TenantQuota);
    }
    if sessions >= tenant.guaranteed.get()
        && s.borrowed.load() as i64 >= s.max_borrowed.get() as i64
    {
        return Err(Reason::Guaranteed);
    }
    Ok(())
}

/// Gives back what a session in this state (perhaps with its flag) was counted in; one that
/// moves is counted as an open one.
#[inline(always)]
pub fn release(s: &Settings, tenant: &Tenant, state: u8) {
    s.used.add(u64::MAX);
    if matches!(state & !slot::ASIDE, slot::OPEN | slot::MOVING) {
        close(s, tenant);
    } else {
        tenant.tentative.add(u64::MAX);
    }
}
