//! Fair shares: what a tenant is guaranteed nobody takes, and what it may not exceed it does not; backends are given handshakes at their
//! pace.

use crate::{beginning, client, forwarded, refused};
use dataplane::abi::{
    ENDPOINT_METERED_IN, ENDPOINT_METERED_OUT, ENDPOINT_PACED, Meter, meter_time, pace_index,
    share_index,
};
use dataplane::fixture::check::Shared;
use dataplane::fixture::message::{data, initiation, keepalive, response};
use dataplane::fixture::site::{
    ALL, BACKENDS, DIRECT, DTLS, IKE, IPSEC, Listener, OVPN, QUIC, TCP, UDP, WG, WG_OTHER,
};
use dataplane::fixture::stream::Change;
use dataplane::fixture::{self, World};
use dataplane::reason::Reason;
use std::net::SocketAddr;

const SECOND: u64 = 1_000_000_000;

/// So many a second, so many at once.
fn limit(meter: &Meter, rate: u64, burst: u64) {
    meter.cost.set((SECOND << 16) / rate);
    meter.burst.set(meter_time((burst - 1) * SECOND / rate));
}

/// Sets flags of all endpoints of a listener.
fn flag(world: &mut World, l: &Listener, flags: u8) {
    for ordinal in 0..BACKENDS {
        world.tables.endpoints[l.endpoint(ordinal) as usize].flags |= flags;
    }
}

/// How many of these clients of a service open a session by an answer.
fn open(world: &World, l: &Listener, clients: std::ops::Range<u16>) -> usize {
    let opens = |n: &u16| {
        let ordinal = u32::from(*n) % BACKENDS;
        world.answer(l, ordinal, client(l, *n), data(10_000 + u32::from(*n), 0)).is_forwarded()
    };
    clients.filter(opens).count()
}

/// The daemon ends a client's session.
fn end(world: &World, l: &Listener, client: SocketAddr) {
    let (index, _) = world.slot(l, client).expect("it is there");
    Change::End(index).apply(&Shared::of(&world.tables));
}

#[test]
fn what_is_guaranteed_is_there_whatever_others_borrow() {
    let world = World::new();
    let t = &world.tables;
    // Of 30 sessions one tenant is guaranteed 10, the other 5.
    t.tenants[0].guaranteed.set(10);
    t.tenants[1].guaranteed.set(5);
    t.settings.max_borrowed.set(15);
    assert_eq!(open(&world, &WG_OTHER, 0..40), 20, "its own and all that can be borrowed");
    assert_eq!(world.count(Reason::Guaranteed), 20);
    refused(&world.inbound(&WG_OTHER, client(&WG, 50), initiation(1)), Reason::Guaranteed);
    assert_eq!(open(&world, &WG, 100..120), 10, "what it is guaranteed");
    refused(&world.inbound(&WG, client(&WG, 150), initiation(1)), Reason::Guaranteed);
    assert_eq!((t.settings.borrowed.load(), t.tenants[1].refused.load()), (15, 21));
    // What is given back can be borrowed by the other.
    end(&world, &WG_OTHER, client(&WG, 0));
    assert_eq!(t.settings.borrowed.load(), 14);
    assert_eq!(open(&world, &WG, 120..122), 1);
    // A session that was guaranteed and ends is not the other's to take.
    end(&world, &WG, client(&WG, 100));
    end(&world, &WG, client(&WG, 101));
    assert_eq!(t.settings.borrowed.load(), 14);
    assert_eq!(open(&world, &WG_OTHER, 50..53), 1);
    assert_eq!(open(&world, &WG, 130..133), 1);
}

#[test]
fn a_session_that_moves_is_borrowed_once() {
    let world = World::new();
    let t = &world.tables;
    t.settings.max_borrowed.set(1);
    world.shake_hands(&WG, client(&WG, 1), (101, 501));
    for n in 2..20_u16 {
        let at = SocketAddr::new(client(&WG, n).ip(), 41_000);
        let ordinal = world.inbound(&WG, at, keepalive(501, n.into())).backend(&WG);
        forwarded(&world.answer(&WG, ordinal, at, data(101, n.into())), Reason::OutEstablished);
        assert_eq!((t.settings.borrowed.load(), t.tenants[0].sessions.load()), (1, 1));
    }
    refused(&world.answer(&WG, 0, client(&WG, 50), data(102, 0)), Reason::Guaranteed);
}

#[test]
fn new_sessions_are_limited_and_open_a_little_later() {
    let world = World::new();
    limit(&world.tables.tenants[0].new_sessions, 10, 5);
    assert_eq!(open(&world, &WG, 0..20), 5);
    assert_eq!(world.count(Reason::NewSessions), 15);
    assert_eq!(world.tables.tenants[0].new_sessions.refused.load(), 15);
    assert_eq!(world.sessions(), 5);
    assert_eq!(world.tables.settings.borrowed.load(), 5);
    assert_eq!(open(&world, &WG_OTHER, 100..120), 20, "the other tenant is not limited");
    // Those that are open go on; the others come when it is their turn.
    for turn in 1..=4 {
        world.advance(500);
        assert_eq!(open(&world, &WG, 0..20), 20.min(5 * turn + 5), "turn {turn}");
    }
}

#[test]
fn the_first_packet_of_a_handshake_counts_and_no_other() {
    for l in &ALL {
        let world = World::new();
        let tenant = &world.tables.tenants[usize::from(l.tenant)];
        limit(&tenant.handshakes, 1, 3);
        if l.is_heard() {
            // Handshakes of clients without sessions are all alike.
            continue;
        }
        for n in 0..3 {
            assert!(world.inbound(l, client(l, n), beginning(l)).is_forwarded(), "{l:?}");
        }
        refused(&world.inbound(l, client(l, 9), beginning(l)), Reason::Handshakes);
        assert_eq!(tenant.handshakes.refused.load(), 1, "{l:?}");
    }
    // What is no beginning is no handshake.
    let world = World::new();
    for tenant in &world.tables.tenants {
        limit(&tenant.handshakes, 1, 1);
    }
    let more: [(&Listener, Vec<u8>); 7] = [
        (&WG, data(1, 1)),
        (&OVPN, fixture::openvpn::control(0)),
        (
            &IKE,
            fixture::ipsec::ike(fixture::ipsec::Exchange::Auth, fixture::ipsec::REQUEST, (1, 7)),
        ),
        (&IPSEC, fixture::ipsec::esp(300, 70)),
        (&TCP, fixture::tcp::data(1)),
        (&DTLS, fixture::dtls::data(1)),
        (
            &QUIC,
            fixture::quic::long(
                fixture::quic::Kind::Handshake,
                fixture::quic::V1,
                &fixture::quic::id(77),
                &fixture::quic::id(78),
            ),
        ),
    ];
    for (l, payload) in more {
        for n in 0..5 {
            let outcome = world.inbound(l, client(l, n), payload.clone());
            assert_ne!(outcome.reason(), Reason::Handshakes, "{l:?}");
        }
    }
}

#[test]
fn handshakes_over_the_limit_cost_no_established_session_a_packet() {
    let world = World::new();
    world.shake_hands(&WG, client(&WG, 1), (101, 501));
    limit(&world.tables.tenants[0].handshakes, 1, 1);
    for n in 0..1000 {
        world.inbound(&WG, client(&WG, 100 + n % 50), initiation(n.into()));
        let counter = u32::from(n) + 1;
        forwarded(&world.inbound(&WG, client(&WG, 1), data(501, counter)), Reason::InEstablished);
        // Its own rekey is not a new one's.
        forwarded(&world.inbound(&WG, client(&WG, 1), initiation(7)), Reason::InEstablished);
    }
    assert!(world.count(Reason::Handshakes) >= 998);
    forwarded(&world.inbound(&WG_OTHER, client(&WG, 9), initiation(1)), Reason::InUnestablished);
}

/// A packet from a client is so long: IP, UDP, and what data are here.
fn length(payload: &[u8]) -> u64 {
    28 + payload.len() as u64
}

#[test]
fn packets_and_bits_are_limited_in_each_direction() {
    let small = length(&data(501, 1));
    for (by_bytes, reason) in [(false, Reason::RatePackets), (true, Reason::RateBits)] {
        let mut world = World::new();
        let ordinal = world.shake_hands(&WG, client(&WG, 1), (101, 501));
        flag(&mut world, &WG, ENDPOINT_METERED_IN | ENDPOINT_METERED_OUT);
        let tenant = &world.tables.tenants[0];
        let (inwards, outwards) = if by_bytes {
            (&tenant.bytes_in, &tenant.bytes_out)
        } else {
            (&tenant.packets_in, &tenant.packets_out)
        };
        let unit = if by_bytes { small } else { 1 };
        limit(inwards, 100 * unit, 10 * unit);
        limit(outwards, 200 * unit, 20 * unit);
        let send = |first: u32, times: u32| {
            (first..first + times)
                .filter(|n| {
                    let outcome = world.inbound(&WG, client(&WG, 1), data(501, *n));
                    if !outcome.is_forwarded() {
                        refused(&outcome, reason);
                    }
                    outcome.is_forwarded()
                })
                .count()
        };
        let answer = |first: u32, times: u32| {
            (first..first + times)
                .filter(|n| {
                    world.answer(&WG, ordinal, client(&WG, 1), data(101, *n)).is_forwarded()
                })
                .count()
        };
        // The last of a burst of bytes may go over it by less than itself.
        let near = |n: usize, wanted: usize| assert!((wanted..=wanted + 1).contains(&n), "{n}");
        near(send(1, 50), 10);
        near(answer(1, 50), 20);
        for second in 1..=5 {
            world.advance(1000);
            near(send(100 * second, 50), 10);
            near(answer(100 * second, 50), 20);
        }
        let passed: usize = (0..100)
            .map(|step| {
                world.advance(50);
                send(10_000 + 20 * step, 20)
            })
            .sum();
        assert!((500..=511).contains(&passed), "{passed} of 500 and a burst");
        assert_eq!(inwards.refused.load(), world.count(reason) - outwards.refused.load());
        // The session counts what came, each packet once, whichever stage refused it.
        let (_, slot) = world.slot(&WG, client(&WG, 1)).expect("it is there");
        assert_eq!(slot.rx_packets.get(), 1 + 6 * 50 + 100 * 20);
    }
}

#[test]
fn what_has_no_session_takes_nothing_from_what_has() {
    let mut world = World::new();
    world.shake_hands(&WG, client(&WG, 1), (101, 501));
    flag(&mut world, &WG, ENDPOINT_METERED_IN);
    limit(&world.tables.tenants[0].packets_in, 1000, 100);
    let mut forged = 0;
    // For ten seconds: 100,000 forged packets a second, and 900 of the session.
    for step in 0..10_000_u32 {
        world.advance(1);
        for n in 0..100 {
            let at = client(&WG, 100 + (step.wrapping_mul(31).wrapping_add(n) % 5000) as u16);
            forged += u32::from(world.inbound(&WG, at, initiation(n)).is_forwarded());
        }
        if step % 10 != 0 {
            let outcome = world.inbound(&WG, client(&WG, 1), data(501, step + 1));
            forwarded(&outcome, Reason::InEstablished);
        }
    }
    // What the session leaves is used.
    assert!((900..1200).contains(&forged), "{forged}");
}

#[test]
fn a_limit_of_one_tenant_is_none_of_anothers() {
    let mut world = World::new();
    for l in [&WG, &WG_OTHER] {
        flag(&mut world, l, ENDPOINT_METERED_IN | ENDPOINT_METERED_OUT);
    }
    let other = world.shake_hands(&WG_OTHER, client(&WG, 2), (201, 601));
    world.shake_hands(&WG, client(&WG, 1), (101, 501));
    limit(&world.tables.tenants[0].packets_in, 100, 1);
    for n in 1..1000 {
        world.inbound(&WG, client(&WG, 1), data(501, n));
        forwarded(&world.inbound(&WG_OTHER, client(&WG, 2), data(601, n)), Reason::InEstablished);
        let outcome = world.answer(&WG_OTHER, other, client(&WG, 2), data(201, n));
        forwarded(&outcome, Reason::OutEstablished);
    }
    assert!(world.count(Reason::RatePackets) >= 990);
}

/// A world in which the first backend of a listener gets everything, of so many handshakes a second.
fn paced(l: &Listener, rate: u64, burst: u64) -> World {
    let mut world = World::new();
    world.place(l, |_| 0);
    flag(&mut world, l, ENDPOINT_PACED);
    for at in [share_index(l.service, 0), pace_index(l.pool.into(), 0)] {
        limit(&world.tables.paces[at as usize], rate, burst);
    }
    world
}

#[test]
fn a_backend_is_given_handshakes_at_its_pace() {
    for l in [&WG, &OVPN, &IKE, &TCP, &QUIC, &DTLS, &UDP, &DIRECT] {
        let world = paced(l, 100, 10);
        let mut passed = 0;
        // More come than pass, for ten seconds.
        for step in 0..10_000_u32 {
            world.advance(1);
            let outcome = world.inbound(l, client(l, (step % 997) as u16), beginning(l));
            passed += u32::from(outcome.is_forwarded());
            if !outcome.is_forwarded() {
                refused(&outcome, Reason::Paced);
            }
        }
        assert!((1005..=1011).contains(&passed), "{passed} at {l:?}");
        let pace = &world.tables.paces[pace_index(l.pool.into(), 0) as usize];
        assert_eq!(pace.refused.load(), 10_000 - u64::from(passed));
    }
}

#[test]
fn who_is_established_is_not_paced() {
    let world = paced(&WG, 1, 1);
    assert_eq!(world.shake_hands(&WG, client(&WG, 1), (101, 501)), 0);
    for n in 0..100 {
        let outcome = world.inbound(&WG, client(&WG, 200 + n), initiation(1));
        refused(&outcome, Reason::Paced);
        let counter = u32::from(n) + 1;
        forwarded(&world.inbound(&WG, client(&WG, 1), data(501, counter)), Reason::InEstablished);
        // A rekey, also from a new address: that is carried by its id as soon as it has one.
        forwarded(&world.inbound(&WG, client(&WG, 1), initiation(1)), Reason::InEstablished);
        let at = client(&WG, 2);
        forwarded(&world.inbound(&WG, at, data(501, 1000 + counter)), Reason::InById);
    }
    // The answer to a handshake that was let through, and what follows.
    forwarded(&world.answer(&WG, 0, client(&WG, 9), response(7, 8)), Reason::OutEstablished);
    forwarded(&world.inbound(&WG, client(&WG, 9), keepalive(7, 0)), Reason::InEstablished);
}

#[test]
fn tenants_share_a_backends_handshakes_and_borrow_what_is_left() {
    // Two services of two tenants at one pool: 100 a second, 50 for each.
    let mut world = paced(&WG, 100, 10);
    let own = &world.tables.paces;
    limit(&own[share_index(WG.service, 0) as usize], 50, 5);
    limit(&own[share_index(WG_OTHER.service, 0) as usize], 50, 5);
    world.place(&WG_OTHER, |_| 0);
    flag(&mut world, &WG_OTHER, ENDPOINT_PACED);
    let at = WG_OTHER.endpoint(0) as usize;
    world.tables.endpoints[at].source = world.tables.endpoints[WG.endpoint(0) as usize].source;
    let begin = |l: &Listener, n: u32| {
        u32::from(world.inbound(l, client(l, (n % 5000) as u16), initiation(n)).is_forwarded())
    };
    // One floods, the other comes with 40 a second: it gets all of them.
    let (mut flood, mut few) = (0, 0);
    for step in 0..10_000_u32 {
        world.advance(1);
        for n in 0..20 {
            flood += begin(&WG, step * 20 + n);
        }
        if step % 25 == 0 {
            assert_eq!(begin(&WG_OTHER, step), 1, "step {step}");
            few += 1;
        }
    }
    assert_eq!(few, 400);
    assert!((595..=620).contains(&flood), "{flood}");
    // Both flood: each has its half.
    let (mut one, mut other) = (0, 0);
    for step in 0..10_000_u32 {
        world.advance(1);
        for n in 0..5 {
            one += begin(&WG, step * 5 + n);
            other += begin(&WG_OTHER, step * 5 + n);
        }
    }
    assert!((490..=530).contains(&one) && (490..=530).contains(&other), "{one} and {other}");
    assert!(one + other <= 1020, "{one} and {other}");
}
