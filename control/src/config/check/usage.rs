//! What is there and does nothing: allowed, but seldom meant.

use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::reader::Field;

use super::called;

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    if draft.services.is_empty() {
        out.warn(0..0, "there is no [[service]]: nothing is forwarded").absence();
        return;
    }
    let used =
        |name: &Field<String>,
         reference: fn(&crate::config::draft::DraftService) -> &Field<String>| {
            draft.services.iter().any(|service| called(reference(service)) == called(name))
        };
    for tenant in &draft.tenants {
        if !used(&tenant.name, |service| &service.tenant) {
            let message = format!("tenant `{}` has no service", called(&tenant.name));
            out.warn(tenant.span.clone(), message).absence();
        }
    }
    for pool in &draft.pools {
        if !used(&pool.name, |service| &service.pool) {
            let message = format!("pool `{}` is used by no service", called(&pool.name));
            out.warn(pool.span.clone(), message).absence();
        }
    }
}
