//! No quota is above the table.

use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::reader::Field;

use super::called;

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
    above("a tenant's handshakes".to_owned(), &draft.tentative);

    let quotas = draft.tenants.iter().filter_map(|tenant| tenant.max_sessions.as_ref());
    let sum = quotas.fold(0u64, |sum, quota| sum.saturating_add(*quota.get_ref()));
    let each_fits = draft
        .tenants
        .iter()
        .all(|tenant| tenant.max_sessions.as_ref().is_some_and(|quota| *quota.get_ref() <= max));
    if sum > max && each_fits {
        out.warn(table.span(), format!("all quotas together are {sum}, the table holds {max}"))
            .help("when the table is full, tenants below their quota are refused too");
    }
}
