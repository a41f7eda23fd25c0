//! Quotas, caps, budgets and full tables: refused by name, nothing established lost.

use crate::{client, forwarded, refused};
use dataplane::fixture::World;
use dataplane::fixture::message::{data, initiation, keepalive, response};
use dataplane::fixture::site::{UDP, WG, WG_OTHER, WG6};
use dataplane::reason::Reason;
use dataplane::table::host::Sizes;
use std::net::SocketAddr;

/// Sessions by a data answer each, the `n`th with ids `n`; those that were refused.
fn fill(world: &World, clients: impl Iterator<Item = u16>) -> Vec<(u16, Reason)> {
    let mut refused = Vec::new();
    for n in clients {
        let outcome =
            world.answer(&WG, u32::from(n) % 3, client(&WG, n), data(10_000 + u32::from(n), 0));
        if !outcome.is_forwarded() {
            refused.push((n, outcome.reason()));
        }
    }
    refused
}

/// Everyone but the refused is carried on, both ways, to its own backend.
#[track_caller]
fn established_all(world: &World, clients: impl Iterator<Item = u16>, refused: &[(u16, Reason)]) {
    for n in clients.filter(|n| refused.iter().all(|(r, _)| r != n)) {
        let outcome = world.inbound(&WG, client(&WG, n), data(50_000 + u32::from(n), 1));
        forwarded(&outcome, Reason::InEstablished);
        assert_eq!(outcome.backend(&WG), u32::from(n) % 3);
        let outcome =
            world.answer(&WG, u32::from(n) % 3, client(&WG, n), data(10_000 + u32::from(n), 1));
        forwarded(&outcome, Reason::OutEstablished);
    }
}

#[test]
fn a_tenant_at_its_quota_is_refused_and_the_others_are_not() {
    let world = World::new();
    world.tables.tenants[0].max_sessions.set(10);
    let lost = fill(&world, 0..15);
    assert_eq!(lost, (10..15).map(|n| (n, Reason::TenantQuota)).collect::<Vec<_>>());
    // New handshakes are refused where they come in, over both families.
    refused(&world.inbound(&WG, client(&WG, 50), initiation(1)), Reason::TenantQuota);
    refused(&world.inbound(&WG6, client(&WG6, 50), initiation(1)), Reason::TenantQuota);
    established_all(&world, 0..15, &lost);
    assert_eq!(world.tables.tenants[0].sessions.load(), 10);
    assert_eq!(world.tables.tenants[0].refused.load(), 7);
    // A rekey of an established session goes on.
    forwarded(&world.inbound(&WG, client(&WG, 1), initiation(1)), Reason::InEstablished);
    forwarded(&world.answer(&WG, 1, client(&WG, 1), response(7, 1)), Reason::OutEstablished);
    forwarded(&world.inbound(&WG_OTHER, client(&WG, 1), initiation(1)), Reason::InUnestablished);
    forwarded(&world.inbound(&UDP, client(&UDP, 1), vec![1]), Reason::InUnestablished);
}

#[test]
fn a_tentative_session_does_not_open_at_the_quota() {
    for by_answer in [false, true] {
        let world = World::new();
        world.tables.tenants[0].max_sessions.set(1);
        world.answer(&WG, 0, client(&WG, 1), response(501, 101));
        world.answer(&WG, 0, client(&WG, 2), response(502, 102));
        world.answer(&WG, 0, client(&WG, 1), data(101, 0));
        let outcome = if by_answer {
            world.answer(&WG, 0, client(&WG, 2), data(102, 0))
        } else {
            world.inbound(&WG, client(&WG, 2), keepalive(502, 0))
        };
        refused(&outcome, Reason::TenantQuota);
        assert_eq!(world.sessions(), 1);
        // Once there is room it does.
        world.tables.tenants[0].max_sessions.set(2);
        forwarded(&world.answer(&WG, 0, client(&WG, 2), data(102, 0)), Reason::OutEstablished);
        assert_eq!((world.sessions(), world.tables.tenants[0].tentative.load()), (2, 0));
    }
}

#[test]
fn tentative_sessions_are_capped_and_data_is_not_held_up_by_them() {
    let world = World::new();
    world.tables.tenants[0].max_tentative.set(5);
    for n in 0..5 {
        let outcome =
            world.answer(&WG, 0, client(&WG, n), response(500 + u32::from(n), 100 + u32::from(n)));
        forwarded(&outcome, Reason::OutEstablished);
    }
    // It is not remembered, nor is it refused: those who take the places are anybody.
    forwarded(&world.answer(&WG, 0, client(&WG, 9), response(509, 109)), Reason::OutStateless);
    assert_eq!(world.count(Reason::TentativeFull), 1);
    forwarded(&world.answer(&WG, 0, client(&WG, 9), data(1, 0)), Reason::OutEstablished);
    forwarded(&world.answer(&WG_OTHER, 0, client(&WG, 9), response(5, 1)), Reason::OutEstablished);
    assert_eq!(world.tables.tenants[0].tentative.load(), 5);
}

/// After 13 days the clock of the budgets has gone round, and after half of that it looked as if it went backwards.
#[test]
fn a_source_has_its_budget_again_after_any_time() {
    const DAY: u64 = 24 * 3600 * 1000;
    for days in 1..=40 {
        let world = World::new();
        world.tables.settings.budget_cost.set(977);
        world.tables.settings.budget_burst.set(9 * 977);
        for _ in 0..20 {
            world.inbound(&WG, client(&WG, 1), initiation(1));
        }
        world.advance(days * DAY);
        let outcome = world.inbound(&WG, client(&WG, 1), initiation(1));
        assert!(outcome.is_forwarded(), "{days} days later: {:?}", outcome.verdict);
    }
}

#[test]
fn a_source_has_a_budget_which_time_refills() {
    let world = World::new();
    let s = &world.tables.settings;
    // 1000 a second, 10 at once, in units of 1.024 microseconds.
    s.budget_cost.set(977);
    s.budget_burst.set(9 * 977);
    let send = |at: SocketAddr, times: u32| {
        let l = if at.is_ipv4() { WG } else { WG6 };
        (0..times).filter(|_| world.inbound(&l, at, initiation(1)).is_forwarded()).count()
    };
    assert_eq!(send(client(&WG, 1), 100), 10);
    assert_eq!(send(client(&WG, 2), 100), 10, "another address has its own");
    world.advance(5);
    let refilled = send(client(&WG, 1), 100);
    assert!((4..=5).contains(&refilled), "{refilled}");
    world.advance(60_000);
    assert_eq!(send(client(&WG, 1), 100), 10, "never more than the burst");
    // An IPv6 /64 is one source, whatever the lower half.
    let address = |low: u16| SocketAddr::from(([0x2001, 0xdb8, 0xc, 5, low, low, 0, low], 9));
    assert_eq!((0..100).map(|low| send(address(low), 1)).sum::<usize>(), 10);
    assert_eq!(send(client(&WG6, 6), 100), 10);
    // An established session does not draw on it.
    world.answer(&WG, 0, client(&WG, 1), data(100, 0));
    assert_eq!(send(client(&WG, 1), 100), 100);
    assert!(world.count(Reason::SourceBudget) > 0);
}

#[test]
fn a_flood_of_spoofed_initiations_takes_no_slot_and_costs_no_established_packet() {
    let world = World::new();
    world.tables.settings.budget_cost.set(4883);
    world.tables.settings.budget_burst.set(400 * 4883);
    let lost = fill(&world, 0..40);
    assert_eq!(lost, []);
    // Once to learn the ids of the other direction, once to give them back.
    for _ in 0..2 {
        established_all(&world, 0..40, &[]);
    }
    let before = world.image();
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..200_000_u32 {
        let at = SocketAddr::from((random.u32(..).to_be_bytes(), random.u16(1..)));
        world.inbound(&WG, at, initiation(random.u32(..)));
        if n % 5000 == 0 {
            established_all(&world, 0..40, &[]);
        }
    }
    assert_eq!(world.image(), before);
    assert_eq!(world.count(Reason::SessionOpened), 40);
}

#[test]
fn a_full_table_refuses_new_sessions_and_keeps_the_old() {
    // Slots fill up before the count does: a run of eight and a run of the overflow.
    let world = World::with(Sizes { slots: 16, overflow: 4, ..Sizes::default() });
    world.tables.settings.max_used.set(100);
    let lost = fill(&world, 0..60);
    assert!(lost.iter().all(|(_, reason)| *reason == Reason::TableFull), "{lost:?}");
    assert_eq!(world.sessions(), 60 - lost.len() as u64);
    assert_eq!(world.sessions(), 20, "the overflow is used to its last slot");
    assert!(world.count(Reason::Overflowed) >= 4);
    established_all(&world, 0..60, &lost);
    assert_eq!(world.tables.settings.used.load(), 20);
    let tentative = world.answer(&WG, 0, client(&WG, 100), response(5, 6));
    refused(&tentative, Reason::TableFull);
    assert_eq!(world.tables.tenants[0].tentative.load(), 0);
}

#[test]
fn a_full_count_refuses_new_sessions_and_keeps_the_old() {
    let world = World::new();
    world.tables.settings.max_used.set(30);
    let lost = fill(&world, 0..40);
    assert_eq!(lost, (30..40).map(|n| (n, Reason::TableFull)).collect::<Vec<_>>());
    established_all(&world, 0..40, &lost);
    assert_eq!(world.tables.settings.used.load(), 30);
}

#[test]
fn a_session_that_finds_no_slot_at_its_new_flow_stays_known_by_its_id() {
    let world = World::with(Sizes { slots: 16, overflow: 4, ..Sizes::default() });
    world.tables.settings.max_used.set(100);
    let at = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, at, (100, 500));
    let id = world.identity(&WG, at);
    fill(&world, 10..60);
    let train = client(&WG, 200);
    world.inbound(&WG, train, data(500, 3));
    forwarded(&world.answer(&WG, ordinal, train, data(100, 3)), Reason::OutStateless);
    assert_eq!(world.count(Reason::MoveRefused), 1);
    assert_eq!(world.identity(&WG, at), id);
    forwarded(&world.inbound(&WG, train, data(500, 4)), Reason::InById);
    assert_eq!(world.sessions(), 20);
    assert_eq!(world.tables.settings.used.load(), 20);
}

#[test]
fn a_full_id_table_refuses_new_sessions_and_keeps_the_old() {
    let world = World::with(Sizes { slots: 256, ids: 4, ..Sizes::default() });
    world.tables.tenants[0].max_sessions.set(1000);
    let lost = fill(&world, 0..100);
    assert!(lost.iter().all(|(_, reason)| *reason == Reason::IdTableFull), "{lost:?}");
    assert!((20..=32).contains(&world.sessions()), "{}", world.sessions());
    assert_eq!(world.sessions(), 100 - lost.len() as u64);
    established_all(&world, 0..100, &lost);
    assert_eq!(world.tables.settings.used.load(), world.sessions());
    // A rekey whose ids find no place costs the id, not the session.
    let n = (0..100).find(|n| lost.iter().all(|(r, _)| r != n)).expect("one that is there");
    for id in 0..20 {
        world.answer(&WG, u32::from(n) % 3, client(&WG, n), response(700 + id, 800 + id));
    }
    assert!(world.count(Reason::IdUnlearned) > 0);
    established_all(&world, n..n + 1, &[]);
}

#[test]
fn a_flow_in_the_overflow_is_found_after_its_run_has_room_again() {
    let world = World::with(Sizes { slots: 16, overflow: 4, ..Sizes::default() });
    world.tables.settings.max_used.set(100);
    let lost = fill(&world, 0..30);
    // Every session of the primary slots ends; those of the overflow stay.
    let slots = &world.tables.slots;
    for slot in &slots[..16] {
        let word = slot.state.load();
        assert!(dataplane::table::slot::transition(slot, word, dataplane::table::slot::DEAD));
    }
    for _ in 0..20 {
        dataplane::table::sweep::slots(slots, &world.tables.settings);
    }
    let alive = (0..30).filter(|n| world.slot(&WG, client(&WG, *n)).is_some()).count();
    assert_eq!(alive, 4);
    assert_eq!(lost.len(), 10);
}
