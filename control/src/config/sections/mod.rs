//! The keys of each table of the file, with their ranges and defaults.

mod gateway;
mod health;
mod pool;
mod rate;
mod service;

use toml::de::DeTable;

use super::draft::Draft;
use super::finding::Findings;
use super::reader::Section;

/// Reads the whole file.
pub(super) fn read(root: &DeTable<'_>, out: &mut Findings) -> Draft {
    let mut file = Section::new("the file", root, 0..0);
    let gateway = file.table("gateway", "[gateway]", out);
    let (gateway, max_sessions) = match gateway {
        Some(section) => gateway::gateway(section, out),
        None => {
            if !file.has("gateway") {
                file.missing("gateway", "add `[gateway]` with `interfaces = [ … ]`");
            }
            (None, None)
        }
    };
    let empty = DeTable::new();
    let api =
        file.table("api", "[api]", out).unwrap_or_else(|| Section::new("[api]", &empty, 0..0));
    let api = gateway::api(api, out);
    let limits = file
        .table("limits", "[limits]", out)
        .unwrap_or_else(|| Section::new("[limits]", &empty, 0..0));
    let (limits, tentative) = gateway::limits(limits, out);
    let tenants = file.tables("tenant", "[[tenant]]", out);
    let pools = file.tables("pool", "[[pool]]", out);
    let services = file.tables("service", "[[service]]", out);
    let draft = Draft {
        gateway,
        max_sessions,
        api,
        limits,
        tentative,
        tenants: tenants.into_iter().map(|section| service::tenant(section, out)).collect(),
        pools: pools.into_iter().map(|section| pool::pool(section, out)).collect(),
        services: services.into_iter().map(|section| service::service(section, out)).collect(),
    };
    file.finish(out);
    draft
}
