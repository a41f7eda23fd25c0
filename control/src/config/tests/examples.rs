//! The examples that are shown to people are right.

use std::time::Duration;

use crate::config::{Budget, Config, Probe, Sysctl, XdpMode};

const EXAMPLE: &str = include_str!("../../../../docs/fernpass.toml");

const SHORTEST: &str = r#"
[gateway]
interfaces = ["eth0"]

[[tenant]]
name = "justiz"
max_sessions = 10

[[pool]]
name = "wg"

  [[pool.backend]]
  name = "wg-1"
  address = "10.20.0.11"

[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp"]
pool = "wg"
"#;

#[test]
fn the_shipped_example_has_no_findings() {
    let (config, report) = Config::examine(EXAMPLE, "docs/fernpass.toml");
    assert_eq!(report.to_string(), "");
    let config = config.expect("no findings");
    assert_eq!(config.backends().count(), 6);
    assert_eq!(Config::parse(&config.to_toml(), "again").expect("reads back"), config);
}

#[test]
fn defaults_are_as_documented() {
    let (config, report) = Config::examine(SHORTEST, "shortest.toml");
    assert_eq!(report.to_string(), "");
    let config = config.expect("no findings");
    assert_eq!(config.gateway.xdp_mode, XdpMode::Native);
    assert_eq!(config.gateway.max_sessions, 131_072);
    assert_eq!(config.gateway.sysctl, Sysctl::Check);
    assert_eq!(config.gateway.bpffs.to_str(), Some("/sys/fs/bpf/fernpass"));
    assert_eq!(config.gateway.state_dir.to_str(), Some("/var/lib/fernpass"));
    assert_eq!(config.api.socket.to_str(), Some("/run/fernpass/api.sock"));
    assert_eq!((config.api.metrics, config.api.web), (None, None));
    let budget = config.limits.unestablished_per_source;
    assert_eq!(budget, Some(Budget { rate: 200, burst: 400 }));
    let pool = &config.pools[0];
    assert_eq!(pool.idle_timeout, Duration::from_secs(300));
    assert_eq!((pool.backends[0].weight, pool.backends[0].port), (100, None));
    let probing = pool.health.probing().expect("probed");
    let timing = probing.timing;
    assert_eq!((&probing.probe, probing.max_down.to_string()), (&Probe::Icmp, "75%".to_owned()));
    assert_eq!(timing.interval, Duration::from_secs(1));
    assert_eq!(timing.timeout, Duration::from_millis(500));
    assert_eq!((timing.rise, timing.fall), (2, 3));
    assert_eq!(config.tentative_limit(&config.tenants[0]), 256);
    assert_eq!(Config::parse(&config.to_toml(), "again").expect("reads back"), config);
}
