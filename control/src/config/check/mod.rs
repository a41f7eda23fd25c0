//! Compares the tables of the file with each other.

mod direct;
mod endpoints;
mod listeners;
mod names;
mod probes;
mod quotas;
mod references;
mod servers;
mod usage;

use super::draft::{Draft, DraftPool, DraftService};
use super::finding::Findings;

/// Finds everything that is wrong between tables.
pub(super) fn check(draft: &Draft, out: &mut Findings) {
    names::check(draft, out);
    references::check(draft, out);
    listeners::check(draft, out);
    endpoints::check(draft, out);
    direct::check(draft, out);
    probes::check(draft, out);
    servers::check(draft, out);
    quotas::check(draft, out);
    usage::check(draft, out);
}

/// The services with the pools they name, as far as both are known.
fn placed(draft: &Draft) -> impl Iterator<Item = (&DraftService, &DraftPool)> + Clone {
    draft.services.iter().filter_map(|service| {
        let name = service.pool.as_ref()?.get_ref();
        let pool = draft
            .pools
            .iter()
            .find(|pool| pool.name.as_ref().is_some_and(|field| field.get_ref() == name))?;
        Some((service, pool))
    })
}

/// A name for messages, also where it is missing.
fn called(field: &super::reader::Field<String>) -> &str {
    field.as_ref().map_or("?", |name| name.get_ref().as_str())
}
