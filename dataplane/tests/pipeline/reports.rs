//! Backends that answer their clients by themselves, and agents that tell the gateway so.

use super::{client, refused, untouched};
use dataplane::abi::REPORT_PORT;
use dataplane::fixture::site::{DIRECT, HEARD, HEARD6, LAN, Listener, TUNNEL4, TUNNEL6, WAN, WG};
use dataplane::fixture::{Frame, Outcome, World, message, report};
use dataplane::pipeline::Action;
use dataplane::reason::Reason;
use dataplane::table::slot;
use std::net::SocketAddr;

const BOTH: [Listener; 2] = [HEARD, HEARD6];

/// The report was taken in, and goes nowhere.
#[track_caller]
fn taken(outcome: &Outcome) {
    assert_eq!((outcome.verdict.action, outcome.reason()), (Action::Drop, Reason::Reported));
}

#[track_caller]
fn forwarded(outcome: &Outcome, reason: Reason) {
    assert_eq!(outcome.reason(), reason);
    assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
}

/// The ordinal of the backend whose MAC address a frame goes to.
fn goes_to(l: &Listener, outcome: &Outcome) -> u32 {
    use dataplane::fixture::site::{BACKENDS, mac};
    (0..BACKENDS).find(|n| outcome.frame[..6] == mac(l.hop(*n))).expect("a backend's")
}

/// A handshake as the gateway learns of it: its client is known by 7, the concentrator by 9.
fn shake_hands(world: &World, l: &Listener, at: SocketAddr) -> u32 {
    let first = world.inbound(l, at, message::initiation(7));
    forwarded(&first, Reason::InUnestablished);
    let ordinal = goes_to(l, &first);
    taken(&world.answer(l, ordinal, at, message::response(9, 7)));
    assert_eq!(world.count(Reason::SessionTentative), 1);
    forwarded(&world.inbound(l, at, message::keepalive(9, 0)), Reason::InEstablished);
    assert_eq!(world.sessions(), 1);
    taken(&world.answer(l, ordinal, at, message::data(7, 0)));
    ordinal
}

#[test]
fn a_reported_answer_proves_what_a_seen_one_does() {
    for l in BOTH {
        for n in 0..9 {
            let (world, at) = (World::new(), client(&l, n));
            let ordinal = shake_hands(&world, &l, at);
            let (_, slot) = world.slot(&l, at).expect("a session");
            assert!(slot::is_open(slot.state.load()));
            assert_eq!(u32::from(slot.endpoint.get()), l.endpoint(ordinal));
            assert_eq!((slot.in_id.get(), slot.out_id.get()), (9, 7));
            let again = world.inbound(&l, at, message::data(9, 1));
            forwarded(&again, Reason::InEstablished);
            assert_eq!(goes_to(&l, &again), ordinal);
        }
    }
}

#[test]
fn a_client_that_roams_is_carried_by_its_id_and_its_session_moves_with_the_report() {
    for l in BOTH {
        let (world, at) = (World::new(), client(&l, 1));
        let ordinal = shake_hands(&world, &l, at);
        for (n, counter) in [(40, 10), (41, 20), (1, 30)] {
            let roamed = client(&l, n);
            let carried = world.inbound(&l, roamed, message::data(9, counter));
            forwarded(&carried, Reason::InById);
            assert_eq!(goes_to(&l, &carried), ordinal);
            taken(&world.answer(&l, ordinal, roamed, message::data(7, counter)));
            let here = world.inbound(&l, roamed, message::data(9, counter + 1));
            forwarded(&here, Reason::InEstablished);
        }
        assert_eq!((world.sessions(), world.count(Reason::SessionMoved)), (1, 3));
    }
}

#[test]
fn what_an_agent_counted_is_counted() {
    let (l, at) = (HEARD, client(&HEARD, 1));
    let world = World::new();
    let ordinal = shake_hands(&world, &l, at);
    let slot = world.slot(&l, at).expect("a session").1;
    let before = (slot.tx_packets.get(), slot.tx_bytes.get());
    let answer = Frame::of(&l, l.at, at, message::data(7, 1));
    let report = report::frame(&l, ordinal, &answer, (1000, 1_400_000));
    taken(&world.receive(&report.bytes(), LAN));
    let after = (slot.tx_packets.get(), slot.tx_bytes.get());
    assert_eq!((after.0 - before.0, after.1 - before.1), (1000, 1_400_000));
}

/// The report has been unwrapped by then: what is left of it is not for the host's stack.
#[test]
fn an_answer_to_the_host_itself_that_is_reported_stays_here() {
    for l in BOTH {
        let (mut world, at) = (World::new(), client(&l, 1));
        world.own(at.ip());
        let outcome = world.answer(&l, 0, at, message::data(7, 1));
        assert_eq!(outcome.reason(), Reason::ReportMalformed);
        assert_eq!(outcome.verdict.action, Action::Drop);
        assert_eq!(world.sessions(), 0);
    }
}

/// Where answers are known, what is without a session is held to its source's budget, and to quotas.
#[test]
fn a_flood_is_held_to_budgets_where_answers_are_known() {
    let (l, at) = (HEARD, client(&HEARD, 1));
    let world = World::new();
    let s = &world.tables.settings;
    s.budget_cost.set(1_000_000);
    s.budget_burst.set(3_000_000);
    let passed =
        (0..100).filter(|_| world.inbound(&l, at, message::initiation(7)).is_forwarded()).count();
    assert!((2..6).contains(&passed), "{passed}");
    assert_eq!(world.sessions(), 0);
    world.tables.tenants[0].max_sessions.set(0);
    refused(&world.inbound(&l, client(&l, 2), message::initiation(7)), Reason::TenantQuota);
}

#[test]
fn only_agents_are_believed_and_only_of_their_own_pools() {
    let (l, at) = (HEARD, client(&HEARD, 1));
    let world = World::new();
    let answer = Frame::of(&l, l.at, at, message::data(7, 1));
    let report = report::frame(&l, 0, &answer, (1, 1));
    // From somebody else, from or to another port.
    for change in [
        |f: &mut Frame| f.source.set_ip([198, 18, 0, 9].into()),
        |f: &mut Frame| f.source.set_port(REPORT_PORT - 1),
        |f: &mut Frame| f.destination.set_port(REPORT_PORT - 1),
    ] {
        let mut frame = report.clone();
        change(&mut frame);
        untouched(&world, &frame.bytes(), LAN, Reason::NotOurs);
    }
    // An answer that claims to have come by the wire.
    untouched(&world, &answer.bytes(), LAN, Reason::NotOurs);
    // Another's backend without an agent.
    let other = report::frame(&DIRECT, 0, &answer, (1, 1));
    untouched(&world, &other.bytes(), LAN, Reason::NotOurs);
    // Not a report; too short for one; of what is not IP.
    for change in [
        |f: &mut Frame| f.payload[3] = 2,
        |f: &mut Frame| f.payload.truncate(12),
        |f: &mut Frame| f.payload[12] = 0x55,
    ] {
        let mut frame = report.clone();
        change(&mut frame);
        refused(&world.receive(&frame.bytes(), LAN), Reason::ReportMalformed);
    }
    // An answer of another pool's, of a service whose answers come by themselves, of nobody's.
    for from in [DIRECT.at, WG.at, "203.0.113.70:9".parse().unwrap()] {
        let answer = Frame::new(from, at, message::data(7, 1));
        let outcome = world.receive(&report::frame(&l, 0, &answer, (1, 1)).bytes(), LAN);
        assert_eq!(
            (outcome.verdict.action, outcome.reason()),
            (Action::Drop, Reason::ReportMalformed)
        );
    }
    assert_eq!(world.sessions(), 0);
}

/// They come by the way that agents have to the gateway, whatever family their answers are.
#[test]
fn reports_come_by_the_way_to_their_backend_over_either_family_with_tags_or_without() {
    for l in BOTH {
        for (ordinal, tags) in
            [(1, vec![]), (2, vec![(0x8100, 5)]), (1, vec![(0x88a8, 5), (0x8100, 6)])]
        {
            let (world, at) = (World::new(), client(&l, 1));
            let answer = Frame::of(&l, l.at, at, message::data(7, 1));
            let mut frame = report::frame(&l, ordinal, &answer, (1, 1));
            assert_eq!(frame.destination.ip(), if ordinal == 1 { TUNNEL4 } else { TUNNEL6 });
            frame.tags = tags;
            let arm = Listener::arm(ordinal);
            let elsewhere = world.receive(&frame.bytes(), LAN + WAN - arm);
            assert_eq!(elsewhere.reason(), Reason::ReportMalformed);
            assert_eq!(world.sessions(), 0);
            taken(&world.receive(&frame.bytes(), arm));
            assert_eq!(world.sessions(), 1);
        }
    }
}
