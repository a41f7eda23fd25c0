//! Backends that stay in service although their probes fail, for people.

use std::collections::BTreeSet;

use crate::config::{BackendId, Config};
use crate::model::Held;

/// Whether a backend is held at one of its addresses.
pub(super) fn is_held(held: &Held, id: &BackendId) -> bool {
    held.iter().any(|(of, _)| of == id)
}

/// What an operator should know of: a sentence for each pool.
pub(super) fn warnings(config: &Config, held: &Held) -> Vec<String> {
    let warning = |pool: &crate::config::Pool| {
        let max_down = pool.health.probing()?.max_down;
        let of_pool: BTreeSet<_> =
            held.iter().filter(|(id, _)| id.pool == pool.name).map(|(id, _)| id).collect();
        (!of_pool.is_empty()).then(|| {
            format!(
                "the probes of more backends of pool `{}` fail than its `max_down` of {max_down} lets go: {} of {} are held in service; \
                 the fault is rather somewhere else, look at the gateway's own way to them",
                pool.name,
                of_pool.len(),
                pool.backends.len(),
            )
        })
    };
    config.pools.iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;

    #[test]
    fn a_pool_is_told_of_once() {
        let config = Config::parse(include_str!("../../../docs/fernpass.toml"), "test").unwrap();
        let id = BackendId::new("wg-justiz", "wg-1");
        let held = Held::from([(id.clone(), Family::V4), (id.clone(), Family::V6)]);
        let [warning] = &warnings(&config, &held)[..] else { panic!("one") };
        assert!(warning.contains("`wg-justiz` fail than its `max_down` of 75%"), "{warning}");
        assert!(warning.contains("1 of 2 are held"), "{warning}");
        assert!(is_held(&held, &id) && !is_held(&held, &BackendId::new("wg-justiz", "wg-2")));
        assert_eq!(warnings(&config, &Held::new()), Vec::<String>::new());
    }
}
