//! Metrics for Prometheus: what alerts and dashboards need, and nothing for each session.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

use crate::daemon::view::{Backend, Counter, Status, Tenant};
use crate::daemon::{Handle, Refusal};
use crate::model::Status as Health;

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TenantLabel {
    tenant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    tenant: String,
    limit: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BackendLabels {
    pool: String,
    backend: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AddressLabels {
    pool: String,
    backend: String,
    family: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    kind: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: String,
    abi: u32,
}

/// All metrics as text.
pub(super) async fn collect(handle: &Handle) -> Result<String, Refusal> {
    let status = handle.status().await?;
    let tenants = handle.tenants().await?;
    let backends = handle.backends().await?;
    let counters = handle.counters().await?;
    render(&status, &tenants, &backends, &counters).map_err(|e| Refusal::Failed(e.to_string()))
}

fn render(
    status: &Status,
    tenants: &[Tenant],
    backends: &[Backend],
    counters: &[Counter],
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("fernpass");
    gateway(&mut registry, status);
    by_reason(&mut registry, counters);
    by_tenant(&mut registry, tenants);
    by_backend(&mut registry, backends);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gateway(registry: &mut Registry, status: &Status) {
    let build = Family::<BuildLabels, Gauge>::default();
    let labels = BuildLabels { version: status.version.clone(), abi: status.abi };
    build.get_or_create(&labels).set(1);
    registry.register("build_info", "The daemon's version", build);
    let uptime = Float::default();
    uptime.set(status.uptime);
    registry.register_with_unit("uptime", "How long the daemon has run", Unit::Seconds, uptime);
    let max = Gauge::<i64>::default();
    max.set(status.max_sessions as i64);
    registry.register("table_max_sessions", "Sessions that the table takes", max);
    let warnings = Gauge::<i64>::default();
    warnings.set(status.warnings.len() as i64);
    registry.register("warnings", "Warnings in `fernpass status`", warnings);
}

fn by_reason(registry: &mut Registry, counters: &[Counter]) {
    use prometheus_client::metrics::counter::Counter as Metric;
    let packets = Family::<ReasonLabels, Metric>::default();
    let events = Family::<ReasonLabels, Metric>::default();
    for counter in counters {
        let labels = ReasonLabels { kind: counter.kind.clone(), reason: counter.name.clone() };
        let family = if counter.kind == "event" { &events } else { &packets };
        family.get_or_create(&labels).inc_by(counter.packets);
    }
    registry.register("packets", "Packets received, by what became of them and why", packets);
    registry.register("events", "Events beside a packet's end", events);
}

fn by_tenant(registry: &mut Registry, tenants: &[Tenant]) {
    use prometheus_client::metrics::counter::Counter as Metric;
    let mut gauges = |name: &str, help: &str, value: fn(&Tenant) -> u64| {
        let family = Family::<TenantLabel, Gauge>::default();
        for tenant in tenants {
            let labels = TenantLabel { tenant: tenant.name.clone() };
            family.get_or_create(&labels).set(value(tenant) as i64);
        }
        registry.register(name, help, family);
    };
    gauges("tenant_sessions", "Open sessions", |t| t.sessions);
    gauges("tenant_max_sessions", "Quota of open sessions", |t| t.max_sessions);
    gauges("tenant_guaranteed_sessions", "Sessions guaranteed", |t| t.guaranteed_sessions);
    gauges("tenant_tentative_sessions", "Handshakes in progress", |t| t.tentative);
    let mut counters = |name: &str, help: &str, value: fn(&Tenant) -> u64| {
        let family = Family::<TenantLabel, Metric>::default();
        for tenant in tenants {
            let labels = TenantLabel { tenant: tenant.name.clone() };
            family.get_or_create(&labels).inc_by(value(tenant));
        }
        registry.register(name, help, family);
    };
    counters("tenant_opened", "Sessions opened", |t| t.opened);
    counters(
        "tenant_refused",
        "Packets refused at the quota, at what others are guaranteed, or by the rate of new sessions",
        |t| t.refused,
    );
    counters("tenant_rx_packets", "Packets from clients", |t| t.rx_packets);
    counters("tenant_rx_bytes", "Bytes from clients", |t| t.rx_bytes);
    counters("tenant_tx_packets", "Packets to clients", |t| t.tx_packets);
    counters("tenant_tx_bytes", "Bytes to clients", |t| t.tx_bytes);
    let limited = Family::<LimitLabels, Metric>::default();
    for tenant in tenants {
        for (limit, packets) in tenant.limited.named() {
            let labels = LimitLabels { tenant: tenant.name.clone(), limit: limit.to_owned() };
            limited.get_or_create(&labels).inc_by(packets);
        }
    }
    registry.register("tenant_limited", "Packets refused by a tenant's rates", limited);
}

fn by_backend(registry: &mut Registry, backends: &[Backend]) {
    let mut gauges = |name: &str, help: &str, value: fn(&Backend) -> i64| {
        let family = Family::<BackendLabels, Gauge>::default();
        for backend in backends {
            let labels =
                BackendLabels { pool: backend.pool.clone(), backend: backend.name.clone() };
            family.get_or_create(&labels).set(value(backend));
        }
        registry.register(name, help, family);
    };
    gauges("backend_sessions", "Open sessions", |b| b.sessions as i64);
    gauges("backend_up", "Whether it answers the probes at any address, or is not probed", |b| {
        i64::from(b.health != Health::Down)
    });
    gauges("backend_draining", "Whether an operator keeps new sessions away", |b| {
        i64::from(b.drained)
    });
    gauges("backend_silent", "Whether it does not answer its sessions any more", |b| {
        i64::from(b.silent)
    });
    gauges("backend_held", "Whether it stays in service although its probes fail", |b| {
        i64::from(b.held)
    });
    gauges("backend_weight", "Its share of new sessions", |b| b.weight.into());
    let family = Family::<AddressLabels, Gauge>::default();
    for backend in backends {
        for (name, health) in [("ipv4", backend.health4), ("ipv6", backend.health6)] {
            let Some(health) = health else { continue };
            let labels = AddressLabels {
                pool: backend.pool.clone(),
                backend: backend.name.clone(),
                family: name,
            };
            family.get_or_create(&labels).set(i64::from(health != Health::Down));
        }
    }
    let help = "Whether it answers the probes at its address of a family, or is not probed";
    registry.register("backend_address_up", help, family);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::daemon::view::Limited;

    #[test]
    fn names_types_and_labels_are_as_documented() {
        let status = Status {
            version: "1.2.3".to_owned(),
            abi: 1,
            pid: 1,
            started: String::new(),
            uptime: 1.5,
            adopted: false,
            config: String::new(),
            interfaces: Vec::new(),
            sessions: 0,
            tentative: 0,
            max_sessions: 65536,
            rx_pps: 0.0,
            drop_pps: 0.0,
            received: 0,
            forwarded: 0,
            passed: 0,
            dropped: 0,
            taken: 0,
            warnings: vec!["w".to_owned()],
        };
        let tenant = Tenant {
            name: "ju\"stiz".to_owned(),
            sessions: 3,
            max_sessions: 5,
            guaranteed_sessions: 2,
            tentative: 1,
            max_tentative: 2,
            opened: 9,
            refused: 4,
            limited: Limited { packets_in: 8, ..Limited::default() },
            rx_packets: 10,
            rx_bytes: 11,
            tx_packets: 12,
            tx_bytes: 13,
        };
        let counter = Counter {
            name: "no_route".to_owned(),
            kind: "dropped".to_owned(),
            packets: 7,
            description: String::new(),
        };
        let event = Counter {
            name: "session_opened".to_owned(),
            kind: "event".to_owned(),
            ..counter.clone()
        };
        let backend = Backend {
            name: "wg-1".to_owned(),
            pool: "p".to_owned(),
            address: [10, 20, 0, 11].into(),
            address6: None,
            state: crate::daemon::view::BackendState::Impaired,
            health: Health::Up,
            health4: Some(Health::Up),
            health6: Some(Health::Down),
            drained: true,
            silent: false,
            held: true,
            last_error: None,
            weight: 100,
            configured_weight: 100,
            sessions: 2,
            max_sessions: None,
            drain_deadline: None,
            drain_rate: None,
            drain_empty_at: None,
        };
        let text = render(&status, &[tenant], &[backend], &[counter, event]).unwrap();
        for line in [
            "# TYPE fernpass_packets counter",
            "fernpass_packets_total{kind=\"dropped\",reason=\"no_route\"} 7",
            "fernpass_tenant_sessions{tenant=\"ju\\\"stiz\"} 3",
            "fernpass_tenant_rx_bytes_total{tenant=\"ju\\\"stiz\"} 11",
            "fernpass_tenant_limited_total{tenant=\"ju\\\"stiz\",limit=\"packets_in\"} 8",
            "fernpass_backend_up{pool=\"p\",backend=\"wg-1\"} 1",
            "fernpass_backend_address_up{pool=\"p\",backend=\"wg-1\",family=\"ipv4\"} 1",
            "fernpass_backend_address_up{pool=\"p\",backend=\"wg-1\",family=\"ipv6\"} 0",
            "fernpass_backend_held{pool=\"p\",backend=\"wg-1\"} 1",
            "fernpass_build_info{version=\"1.2.3\",abi=\"1\"} 1",
            "fernpass_uptime_seconds 1.5",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        // Those that exist are those that are explained.
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let there: BTreeSet<_> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
        let word = |c: char| !c.is_ascii_lowercase() && c != '_';
        let explained: BTreeSet<_> = include_str!("../../../docs/operations.md")
            .split(word)
            .filter(|name| name.starts_with("fernpass_"))
            .collect();
        assert_eq!(there, explained);
    }
}
