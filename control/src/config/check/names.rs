//! No name twice, and not more of anything than the tables can hold.

use std::collections::BTreeMap;

use dataplane::abi::{MAX_LISTENERS, MAX_RINGS, MAX_SERVICES, MAX_TENANTS};

use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::reader::Field;

/// Each pool has two families with two buffers each.
const MAX_POOLS: u32 = MAX_RINGS / 4;

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    unique("tenant", draft.tenants.iter().map(|tenant| &tenant.name), out);
    unique("pool", draft.pools.iter().map(|pool| &pool.name), out);
    unique("service", draft.services.iter().map(|service| &service.name), out);
    for pool in &draft.pools {
        unique("backend of this pool", pool.backends.iter().map(|backend| &backend.name), out);
    }

    let mut most = |what: &str, places: Vec<_>, most: u32| {
        if let Some(span) = places.get(most as usize) {
            out.error(Clone::clone(span), format!("there are {} {what}", places.len()))
                .help(format!("the tables hold at most {most}; this is the first too many"));
        }
    };
    most("tenants", draft.tenants.iter().map(|tenant| tenant.span.clone()).collect(), MAX_TENANTS);
    most("pools", draft.pools.iter().map(|pool| pool.span.clone()).collect(), MAX_POOLS);
    let services = draft.services.iter().map(|service| service.span.clone()).collect();
    most("services", services, MAX_SERVICES);
    let listeners = draft.services.iter().flat_map(|service| &service.listen);
    most("listeners", listeners.map(|listener| listener.span()).collect(), MAX_LISTENERS);
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a Field<String>>, out: &mut Findings) {
    let mut seen = BTreeMap::new();
    for name in names.flatten() {
        match seen.get(name.get_ref()) {
            None => {
                seen.insert(name.get_ref(), name.span());
            }
            Some(first) => {
                let message = format!("another {what} is called `{}`", name.get_ref());
                out.error(name.span(), message).also(first.clone(), "this one").help("rename one");
            }
        }
    }
}
