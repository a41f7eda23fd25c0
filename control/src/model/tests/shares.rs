//! Tenants' shares, and the pace of backends.

use dataplane::abi::{
    ENDPOINT_METERED_IN, ENDPOINT_METERED_OUT, ENDPOINT_PACED, Settings, Tenant, meter_time,
    pace_index, share_index,
};

use super::World;
use crate::config::{Rate, TenantRates};
use crate::model::{Live, MeterLimits, TenantLimits};

const EXAMPLE: &str = include_str!("../../../../docs/fernpass.toml");

#[test]
fn a_rate_in_the_tables_units() {
    // A packet each millisecond, in 2^-16 ns; ten at once are nine ahead, in 2^-8 ns.
    let packets = MeterLimits::new(Rate { rate: 1000, burst: 10 }, 1);
    assert_eq!(packets, MeterLimits { cost: 1_000_000 << 16, burst: meter_time(9_000_000) });
    // A byte takes eight bits' time.
    let bits = MeterLimits::new(Rate { rate: 8_000_000, burst: 80_008 }, 8);
    assert_eq!(bits, MeterLimits { cost: 1000 << 16, burst: meter_time(10_000_000) });
    let fastest = MeterLimits::new(Rate { rate: 1_000_000_000_000, burst: 20_000_000_000 }, 8);
    assert_eq!((fastest.cost, fastest.burst >> 8), (524, 19_999_999));
    let slowest = MeterLimits::new(Rate { rate: 1, burst: 1 }, 1);
    assert_eq!(slowest, MeterLimits { cost: 1_000_000_000 << 16, burst: 0 });
}

/// Flags of the endpoints of the backends at an address' net.
fn flags(world: &World, net: u8) -> Vec<u8> {
    let is_there = |e: &&dataplane::abi::Endpoint| e.backend.bytes()[14] == net;
    let all = world.tables.endpoints.values().filter(|e| e.backend.is_v4()).filter(is_there);
    all.map(|e| e.flags & (ENDPOINT_METERED_IN | ENDPOINT_METERED_OUT | ENDPOINT_PACED)).collect()
}

#[test]
fn packets_are_metered_where_the_tenant_has_a_rate_in_their_direction() {
    let mut world = World::new(EXAMPLE);
    world.settle();
    let all = ENDPOINT_METERED_IN | ENDPOINT_METERED_OUT | ENDPOINT_PACED;
    assert_eq!(flags(&world, 0)[..2], [all, all], "justiz");
    assert!(flags(&world, 1).iter().all(|flags| *flags == 0), "finanz has none");
    let rate = Rate { rate: 1_000_000, burst: 100_000 };
    world.config.tenants[0].rates = TenantRates { bits_out: Some(rate), ..TenantRates::default() };
    world.config.pools[0].handshakes = None;
    world.settle();
    let tenant = &world.tables.tenants[&0];
    assert_eq!(tenant.bytes_out, MeterLimits::new(rate, 8));
    assert_eq!(tenant.packets_in, MeterLimits::default());
    // The one has a pace of its own.
    assert_eq!(
        flags(&world, 0)[..2],
        [ENDPOINT_METERED_OUT | ENDPOINT_PACED, ENDPOINT_METERED_OUT]
    );
    world.config.pools[0].backends[0].handshakes = None;
    world.settle();
    assert!(world.tables.paces.is_empty());
}

#[test]
fn tenants_at_a_pool_have_equal_shares_of_its_backends_handshakes() {
    let mut world = World::new(EXAMPLE);
    let rate = Rate { rate: 100, burst: 31 };
    world.config.pools[0].handshakes = Some(rate);
    world.config.pools[0].backends[0].handshakes = None;
    // The other tenant and the first one's second service come to the pool.
    let first = world.config.services[0].clone();
    for (name, tenant, port) in [("second", "justiz", 51821), ("other", "finanz", 51822)] {
        let mut service = first.clone();
        (service.name, service.tenant) = (name.to_owned(), tenant.to_owned());
        service.listen = vec![format!("203.0.113.10:{port}/udp").parse().unwrap()];
        world.config.services.push(service);
    }
    for backend in &mut world.config.pools[0].backends {
        backend.port = None;
    }
    world.settle();
    let paces = &world.tables.paces;
    let half = MeterLimits::new(Rate { rate: 50, burst: 16 }, 1);
    for ordinal in 0..2 {
        assert_eq!(paces[&pace_index(0, ordinal)], MeterLimits::new(rate, 1));
    }
    let mut shares: Vec<u16> = world
        .tables
        .endpoints
        .values()
        .filter(|e| e.flags & ENDPOINT_PACED != 0)
        .inspect(|e| assert_eq!(e.source >> 1, 0))
        .map(|e| e.share)
        .collect();
    shares.sort_unstable();
    shares.dedup();
    assert_eq!(shares.len(), 2, "one for each tenant: {shares:?}");
    for share in &shares {
        assert_eq!(paces[&share_index(*share, 1)], half);
    }
    assert_eq!(paces.len(), 2 * (1 + 2));
}

#[test]
fn guarantees_are_kept_apart_from_what_can_be_borrowed() {
    let mut world = World::new(EXAMPLE);
    world.settle();
    let settings = Settings::default();
    world.tables.live.within(1 << 20).write(&settings);
    assert_eq!(settings.max_sessions.get(), 131_072);
    assert_eq!(settings.max_borrowed.get(), 131_072 - 8000);
    // Two tenants with 4096 handshakes each.
    assert_eq!(settings.max_used.get(), 131_072 + 2 * 4096);
    assert_eq!(Live::read(&settings), world.tables.live);
    // Tables that are too small for it: what is guaranteed goes before.
    world.tables.live.within(9000).write(&settings);
    assert_eq!((settings.max_sessions.get(), settings.max_borrowed.get()), (9000, 1000));
}

#[test]
fn what_is_borrowed_changes_with_what_is_guaranteed() {
    let (settings, tenant) = (Settings::default(), Tenant::default());
    let limits = |guaranteed| TenantLimits { max_sessions: 100, guaranteed, ..Default::default() };
    limits(0).write(&settings, &tenant);
    tenant.sessions.add(10);
    settings.borrowed.add(10);
    for (guaranteed, borrowed) in [(4, 6), (10, 0), (50, 0), (9, 1), (0, 10)] {
        limits(guaranteed).write(&settings, &tenant);
        assert_eq!(settings.borrowed.load(), borrowed, "{guaranteed} guaranteed");
        assert_eq!(TenantLimits::read(&tenant), limits(guaranteed));
    }
}
