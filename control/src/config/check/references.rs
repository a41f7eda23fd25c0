//! Every name that is referred to exists.

use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::reader::Field;
use crate::config::suggest::{all_of, did_you_mean};

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    let tenants: Vec<_> = draft.tenants.iter().map(|tenant| &tenant.name).collect();
    let pools: Vec<_> = draft.pools.iter().map(|pool| &pool.name).collect();
    for service in &draft.services {
        refers("tenant", &service.tenant, &tenants, out);
        refers("pool", &service.pool, &pools, out);
    }
}

fn refers(what: &str, reference: &Field<String>, names: &[&Field<String>], out: &mut Findings) {
    /// More are not worth listing.
    const FEW: usize = 6;
    let Some(reference) = reference else { return };
    let known: Vec<&str> =
        names.iter().filter_map(|name| Some(name.as_ref()?.get_ref().as_str())).collect();
    // One whose name could not be read may be the one that is meant.
    if known.contains(&reference.get_ref().as_str()) || known.len() < names.len() {
        return;
    }
    let help = did_you_mean(reference.get_ref(), known.iter().copied()).unwrap_or_else(|| {
        if known.is_empty() {
            format!("add `[[{what}]]` with `name = \"{}\"`", reference.get_ref())
        } else if known.len() <= FEW {
            format!("there is {}", all_of(&known))
        } else {
            format!("add `[[{what}]]` with this name, or use one of the {} there are", known.len())
        }
    });
    out.error(reference.span(), format!("there is no {what} `{}`", reference.get_ref()))
        .help(help)
        .absence();
}
