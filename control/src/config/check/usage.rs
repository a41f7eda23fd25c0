//! What is there and does nothing: allowed, but seldom meant.

use crate::config::draft::{Draft, DraftService};
use crate::config::finding::Findings;
use crate::config::reader::Field;

use super::called;

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    if draft.services.is_empty() {
        out.warn(0..0, "there is no [[service]]: nothing is forwarded").absence();
        return;
    }
    let tenants: Vec<_> = draft.tenants.iter().map(|tenant| &tenant.name).collect();
    let pools: Vec<_> = draft.pools.iter().map(|pool| &pool.name).collect();
    for tenant in &draft.tenants {
        if unused(draft, &tenant.name, &tenants, |service| &service.tenant) {
            let message = format!("tenant `{}` has no service", called(&tenant.name));
            out.warn(tenant.span.clone(), message).absence();
        }
    }
    for pool in &draft.pools {
        if unused(draft, &pool.name, &pools, |service| &service.pool) {
            let message = format!("pool `{}` is used by no service", called(&pool.name));
            out.warn(pool.span.clone(), message).absence();
        }
    }
}

/// Whether no service refers to a name. Not where one refers to nothing that is known:
/// this may be what it means, and its mistake has been told.
fn unused(
    draft: &Draft,
    name: &Field<String>,
    names: &[&Field<String>],
    reference: fn(&DraftService) -> &Field<String>,
) -> bool {
    let text = |field: &Field<String>| field.as_ref().map(|field| field.get_ref().clone());
    let known: Vec<_> = names.iter().filter_map(|name| text(name)).collect();
    let Some(name) = text(name) else { return false };
    draft.services.iter().map(|service| text(reference(service))).all(|reference| {
        reference.is_some_and(|reference| reference != name && known.contains(&reference))
    })
}
