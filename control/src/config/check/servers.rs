//! Servers that are named in connection ids: no name twice, and not for nothing.

use std::collections::BTreeMap;

use super::{called, placed};
use crate::config::Profile;
use crate::config::draft::Draft;
use crate::config::finding::Findings;

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    for pool in &draft.pools {
        let mut seen = BTreeMap::new();
        for id in pool.backends.iter().filter_map(|backend| backend.server_id.as_ref()) {
            if let Some(first) = seen.insert(*id.get_ref(), id.span()) {
                let message =
                    format!("another backend of this pool has the `server_id` {}", id.get_ref());
                out.error(id.span(), message)
                    .also(first, "this one")
                    .help("write what this server's connection ids call it: each has its own");
            }
        }
        let Some(quic_lb) = &pool.quic_lb else { continue };
        let mut profiles = placed(draft)
            .filter(|(_, of)| std::ptr::eq(*of, pool))
            .map(|(service, _)| service.profile)
            .peekable();
        // That it has no service is told elsewhere, and a profile that was wrong may be the one.
        if profiles.peek().is_some()
            && profiles.all(|profile| profile.is_some_and(|it| it != Profile::Quic))
        {
            let message =
                format!("pool `{}` has `quic_lb`, and no service of QUIC", called(&pool.name));
            out.warn(quic_lb.span(), message)
                .help("leave it out, or write `profile = \"quic\"` in the service");
        }
    }
}
