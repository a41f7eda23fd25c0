//! The gateway's configuration for the day.

use std::fmt::Write as _;
use std::path::Path;

use super::authority::Region;
use super::timeline::Timeline;
use crate::gateway::{VIP4, VIP6, backend4, backend6};

/// Writes it. Limits that are not set have their usual values.
pub(super) fn write(region: &Region, day: &Timeline, bpffs: &Path, socket: &Path) -> String {
    let state = bpffs.with_extension("state");
    // Two more than come: a session that moves has two slots for a moment.
    let sessions = day.employees + 2;
    let idle = day.idle_timeout.as_secs();
    let mut text = format!(
        "[gateway]
interfaces = [\"wan\", \"lan\"]
max_sessions = {sessions}
bpffs = {bpffs:?}
state_dir = {state:?}
sysctl = \"set\"
manage_vips = true
[api]
socket = {socket:?}
"
    );
    for pool in &region.pools {
        let _ = write!(
            text,
            "[[pool]]
name = \"{}\"
idle_timeout = \"{idle}s\"
health = {{ probe = \"icmp\", interval = \"500ms\", timeout = \"400ms\", rise = 2, fall = 3 }}
",
            pool.name
        );
        for number in pool.concentrators.clone() {
            let (address, address6) = (backend4(number as u32), backend6(number as u32));
            let _ = write!(
                text,
                "[[pool.backend]]
name = \"{}\"
address = \"{address}\"
address6 = \"{address6}\"
",
                name(number)
            );
        }
    }
    for authority in &region.authorities {
        let port = authority.port;
        let _ = write!(
            text,
            "[[tenant]]
name = \"{0}\"
max_sessions = {1}
[[service]]
name = \"{0}\"
tenant = \"{0}\"
profile = \"wireguard\"
listen = [\"{VIP4}:{port}/udp\", \"[{VIP6}]:{port}/udp\"]
pool = \"{2}\"
",
            authority.name, authority.employees, region.pools[authority.pool].name
        );
    }
    text
}

/// A concentrator's name.
pub(super) fn name(concentrator: usize) -> String {
    format!("wg-{concentrator}")
}

#[cfg(test)]
mod tests {
    use control::config::Config;

    use super::*;

    #[test]
    fn the_daemon_takes_it() {
        for quick in [false, true] {
            let day = Timeline::new(quick);
            let region = Region::new(day.employees);
            let text = write(&region, &day, Path::new("/mnt/x"), Path::new("/mnt/x.sock"));
            let config = Config::parse(&text, "surge.toml").unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(config.backends().count(), region.concentrators());
            let quotas: u64 = config.tenants.iter().map(|t| t.max_sessions).sum();
            assert_eq!(quotas, u64::from(day.employees));
        }
    }
}
