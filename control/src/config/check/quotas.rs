//! No quota is above the table.

use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::reader::Field;

use toml::Spanned;

use super::called;
use crate::config::types::tentative_room;

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    let Some(table) = &draft.max_sessions else { return };
    let max = *table.get_ref();
    let mut above = |what: String, quota: &Field<u64>| {
        let Some(quota) = quota else { return };
        if *quota.get_ref() > max {
            let message =
                format!("{what} may have {} sessions, the table holds {max}", quota.get_ref());
            out.error(quota.span(), message)
                .also(table.span(), "the table")
                .help("lower it, or raise `max_sessions` in [gateway]");
        }
    };
    for tenant in &draft.tenants {
        above(format!("tenant `{}`", called(&tenant.name)), &tenant.max_sessions);
    }
    for pool in &draft.pools {
        for backend in &pool.backends {
            above(format!("backend `{}`", called(&backend.name)), &backend.max_sessions);
        }
    }
    let guarantees_fit = guarantees(draft, table, out);
    if let Some(tentative) = &draft.tentative {
        let all = tentative.get_ref().saturating_mul(draft.tenants.len() as u64);
        let room = tentative_room(max);
        if all > room {
            let message = format!("handshakes in progress of all tenants together are {all}");
            out.warn(tentative.span(), message)
                .also(table.span(), "the table")
                .help(format!("beside the table's sessions there is room for {room}: each tenant gets its part of that"));
        }
    }

    let quotas = draft.tenants.iter().filter_map(|tenant| tenant.max_sessions.as_ref());
    let sum = quotas.fold(0u64, |sum, quota| sum.saturating_add(*quota.get_ref()));
    let each_fits = draft
        .tenants
        .iter()
        .all(|tenant| tenant.max_sessions.as_ref().is_some_and(|quota| *quota.get_ref() <= max));
    if sum > max && each_fits && guarantees_fit {
        out.warn(table.span(), format!("all quotas together are {sum}, the table holds {max}"))
            .help("when the table is full, tenants below their quota are refused too, but for their `guaranteed_sessions`");
    }
}

/// No tenant is guaranteed more than its quota, and all together no more than the table: whether that is so.
fn guarantees(draft: &Draft, table: &Spanned<u64>, out: &mut Findings) -> bool {
    let mut all = 0_u64;
    let mut fit = true;
    for tenant in &draft.tenants {
        let Some(guaranteed) = &tenant.guaranteed else { continue };
        all = all.saturating_add(*guaranteed.get_ref());
        if let Some(quota) = &tenant.max_sessions
            && guaranteed.get_ref() > quota.get_ref()
        {
            fit = false;
            let (name, guaranteed_sessions) = (called(&tenant.name), guaranteed.get_ref());
            let message = format!(
                "tenant `{name}` is guaranteed {guaranteed_sessions} sessions, and may have {}",
                quota.get_ref()
            );
            out.error(guaranteed.span(), message)
                .also(quota.span(), "the quota")
                .help("lower it, or raise the tenant's `max_sessions`");
        }
    }
    let last = draft.tenants.iter().rev().find_map(|tenant| tenant.guaranteed.as_ref());
    if let Some(last) = last
        && fit
        && all > *table.get_ref()
    {
        let message =
            format!("tenants are guaranteed {all} sessions, the table holds {}", table.get_ref());
        out.error(last.span(), message)
            .also(table.span(), "the table")
            .help("lower `guaranteed_sessions`, or raise `max_sessions` in [gateway]");
        fit = false;
    }
    fit
}
