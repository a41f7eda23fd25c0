//! The session table under two or three processors and a daemon at once, by model checking: the
//! whole pipeline on [shuttle](https://docs.rs/shuttle)'s atomics, which tries many orders
//! of their steps. No session may be lost, doubled or crossed with another.
//!
//! `cargo test -p fernpass-dataplane --features shuttle --test model`, which `cargo xtask
//! test` runs, too. A failure prints a schedule that `shuttle::replay` runs again.

use dataplane::abi::{Detail, Meter, Slot};
use dataplane::fixture::check::{Shared, consistency};
use dataplane::fixture::site::WG;
use dataplane::fixture::{Frame, World, message};
use dataplane::packet::Buffer;
use dataplane::pipeline;
use dataplane::reason::Reason;
use dataplane::table::host::Sizes;
use dataplane::table::{ids, meter, quota, slot, sweep};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner, thread};
use std::net::{IpAddr, SocketAddr};

/// Orders of steps that are tried, by each scheduler.
const ORDERS: usize = 3_000;
/// Packets that each processor handles.
const PACKETS: usize = 2;
/// Sessions that are open from the beginning.
const OPEN: u32 = 2;
/// Sessions that there may be.
const SESSIONS: u32 = 4;
/// Flows that they may be on.
const FLOWS: u8 = 3;

/// The backend of a session: one of them has two.
fn ordinal(session: u32) -> u32 {
    session % 3
}

fn flow(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 18, n, 1], 40_000))
}

/// The id that answers to a session carry: its session is its last digit.
fn out_id(session: u32) -> u32 {
    100 + session
}

/// The id that packets of a session carry, of its `n`th handshake.
fn in_id(session: u32, n: u32) -> u32 {
    200 + 10 * n + session
}

/// What a processor meets.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A data answer of a session's to a flow.
    Answer(u32, u8),
    /// A handshake response: session, flow, handshake.
    Response(u32, u8, u32),
    /// A keepalive: session, flow, handshake.
    Keepalive(u32, u8, u32),
}

impl Event {
    fn random() -> Self {
        let mut random = thread_rng();
        let (session, flow) = (random.gen_range(0..SESSIONS), random.gen_range(0..FLOWS));
        let handshake = random.gen_range(0..3);
        match random.gen_range(0..8) {
            0..=3 => Self::Answer(session, flow),
            4 | 5 => Self::Response(session, flow, handshake),
            _ => Self::Keepalive(session, flow, handshake),
        }
    }

    fn frame(self) -> Frame {
        let answer =
            |session, n, payload| Frame::new(WG.backend(ordinal(session)), flow(n), payload);
        match self {
            Self::Answer(session, n) => answer(session, n, message::data(out_id(session), 1)),
            Self::Response(session, n, handshake) => {
                let payload = message::response(in_id(session, handshake), out_id(session));
                answer(session, n, payload)
            }
            Self::Keepalive(session, n, handshake) => {
                let payload = message::keepalive(in_id(session, handshake), 1);
                Frame::new(flow(n), WG.at, payload)
            }
        }
    }

    fn happen(self, world: &World) {
        let mut packet = Buffer::new(&self.frame().bytes(), 2);
        pipeline::run(&mut packet, &world.tables);
    }
}

/// A world with [`OPEN`] sessions, each on its flow, and with slots that others have left.
fn world() -> World {
    let sizes = Sizes {
        slots: 8,
        overflow: 2,
        ids: 16,
        hints: 1,
        fragments: 0,
        budgets: 0,
        paces: 0,
        ..Sizes::default()
    };
    let world = World::with(sizes);
    let most = [2, 3, 100][thread_rng().gen_range(0..3)];
    world.tables.tenants[0].max_sessions.set(100);
    let moved = thread_rng().gen_bool(0.5);
    for session in 0..OPEN {
        for event in [
            // Its first flow was another; the slot is dead now.
            Event::Answer(session, if moved { 100 } else { session as u8 }),
            Event::Answer(session, session as u8),
            Event::Response(session, session as u8, 0),
            Event::Keepalive(session, session as u8, 0),
        ] {
            event.happen(&world);
        }
        if thread_rng().gen_bool(0.5) {
            // The client has not used what it was given.
            Event::Response(session, session as u8, 1).happen(&world);
        }
    }
    for slot in &world.tables.slots {
        let word = slot.state.load();
        let free = slot::state(word) == slot::EMPTY && thread_rng().gen_bool(0.3);
        if free || slot::state(word) == slot::RETIRED {
            slot::transition(slot, word, slot::DEAD);
        }
    }
    if thread_rng().gen_bool(0.3) {
        // Another is only half open.
        Event::Response(OPEN, OPEN as u8, 0).happen(&world);
    }
    world.tables.tenants[0].max_sessions.set(most);
    world
}

/// What the daemon does meanwhile: the identities of the sessions that it ended.
fn daemon(world: &World) -> Vec<u64> {
    let t = &world.tables;
    let mut ended = Vec::new();
    for _ in 0..2 {
        let choice = thread_rng().gen_range(0..4);
        match choice {
            0 => {
                let index = thread_rng().gen_range(0..t.slots.len());
                let slot = &t.slots[index];
                let word = slot.state.load();
                let identity = t.details[index].identity.get();
                if slot::is_live(word) && slot::transition(slot, word, slot::RETIRED) {
                    quota::release(&t.settings, &t.tenants[0], slot::state(word));
                    ended.push(identity);
                }
            }
            1 => {
                sweep::ids(&t.ids, &t.slots, &t.details, &t.settings);
            }
            _ => {
                sweep::slots(&t.slots, &t.settings);
            }
        }
    }
    ended
}

fn model() {
    let world = Arc::new(world());
    let identities: Vec<u64> =
        (0..OPEN).map(|session| world.identity(&WG, flow(session as u8))).collect();
    let events = Arc::new(Mutex::new(Vec::new()));
    let several = thread_rng().gen_range(2..=3);
    let processors = (0..several).map(|_| {
        let (world, events) = (world.clone(), events.clone());
        thread::spawn(move || {
            for _ in 0..PACKETS {
                let event = Event::random();
                events.lock().expect("nobody panics with it").push(event);
                event.happen(&world);
            }
        })
    });
    let processors: Vec<_> = processors.collect();
    let ended = {
        let world = world.clone();
        thread::spawn(move || daemon(&world))
    };
    for processor in processors {
        processor.join().expect("a processor");
    }
    let ended = ended.join().expect("the daemon");
    let wrong = consistency(&Shared::of(&world.tables))
        .and_then(|()| none_lost(&world, &identities, &ended))
        .and_then(|()| none_crossed(&world, &events.lock().expect("nobody panics with it")));
    if let Err(wrong) = wrong {
        let slots = world.tables.slots.iter().zip(&world.tables.details).map(describe);
        let slots = slots.collect::<Vec<_>>().join("\n");
        let events = events.lock().expect("nobody panics with it");
        panic!("{wrong}, after {events:?}\n{slots}");
    }
}

/// A slot, in a line.
fn describe((slot, detail): (&Slot, &Detail)) -> String {
    let inbound = [&slot.in_id, &detail.in_id_next, &detail.in_id_previous].map(|id| id.get());
    let outbound = [&slot.out_id, &detail.out_id_next, &detail.out_id_previous].map(|id| id.get());
    let client = IpAddr::from(slot::client(slot));
    format!(
        "{:x}: session {:x} of {client} on endpoint {}, in {inbound:?}, out {outbound:?}",
        slot.state.load(),
        detail.identity.get(),
        slot.endpoint.get()
    )
}

/// Sessions that were open, and were not ended, are there, each on its backend.
fn none_lost(world: &World, identities: &[u64], ended: &[u64]) -> Result<(), String> {
    for (session, identity) in (0..OPEN).zip(identities) {
        let endpoint = WG.endpoint(ordinal(session));
        let there = world.tables.slots.iter().zip(&world.tables.details).any(|(slot, detail)| {
            slot::is_open(slot.state.load())
                && detail.identity.get() == *identity
                && u32::from(slot.endpoint.get()) == endpoint
        });
        if !there && !ended.contains(identity) {
            return Err(format!("session {session} is lost"));
        }
    }
    let sessions = world.tables.tenants[0].sessions.load();
    let most = world.tables.tenants[0].max_sessions.get();
    if sessions > most { Err(format!("{sessions} sessions, of {most}")) } else { Ok(()) }
}

/// A session has ids of its own backend only, and each id leads to it.
fn none_crossed(world: &World, events: &[Event]) -> Result<(), String> {
    // A session that knows no inbound id takes what its client's flow says.
    let is_said = |id| {
        let mut said = events.iter();
        said.any(|e| matches!(e, Event::Keepalive(session, _, n) if in_id(*session, *n) == id))
    };
    let t = &world.tables;
    let all_learned = [Reason::IdUnlearned, Reason::IdTableFull].map(|r| world.count(r)) == [0; 2];
    for (index, slot) in t.slots.iter().enumerate() {
        if !slot::is_live(slot.state.load()) {
            continue;
        }
        let detail = &t.details[index];
        let inbound = ids::Scope::inbound(slot.service());
        let outbound = ids::Scope::outbound(slot.endpoint.get());
        for (scope, id) in [
            (inbound, &slot.in_id),
            (inbound, &detail.in_id_next),
            (inbound, &detail.in_id_previous),
            (outbound, &slot.out_id),
            (outbound, &detail.out_id_next),
            (outbound, &detail.out_id_previous),
        ] {
            let id = id.get();
            if id == 0 {
                continue;
            }
            if u32::from(slot.endpoint.get()) != WG.endpoint(ordinal(id % 10)) && !is_said(id) {
                return Err(format!("slot {index} has id {id}, another backend's"));
            }
            let place = ids::place(&t.settings, scope, id);
            let entry = ids::entry(&place, index as u32);
            let buckets = [place.first, place.second].map(|bucket| &t.ids[bucket as usize].0);
            let noted = buckets.iter().any(|bucket| bucket.iter().any(|e| e.load() == entry));
            if all_learned && !noted {
                return Err(format!("id {id} does not lead to slot {index}"));
            }
        }
    }
    Ok(())
}

/// A client takes up the id that it was given while it is given another.
fn rekeys() {
    let sizes = Sizes {
        slots: 8,
        overflow: 2,
        ids: 16,
        hints: 1,
        fragments: 0,
        budgets: 0,
        paces: 0,
        ..Sizes::default()
    };
    let world = Arc::new(World::with(sizes));
    for event in [
        Event::Answer(0, 0),
        Event::Response(0, 0, 0),
        Event::Keepalive(0, 0, 0),
        Event::Response(0, 0, 1),
    ] {
        event.happen(&world);
    }
    let events = [Event::Keepalive(0, 0, 1), Event::Response(0, 0, 2)];
    let processors = events.map(|event| {
        let world = world.clone();
        thread::spawn(move || event.happen(&world))
    });
    for processor in processors {
        processor.join().expect("a processor");
    }
    let right =
        consistency(&Shared::of(&world.tables)).and_then(|()| none_crossed(&world, &events));
    right.unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Processors take from one meter: nothing that one takes is lost, and each may only take one that another has just taken.
fn takes() {
    const COST: u64 = 1 << 10;
    let mut random = thread_rng();
    let (several, burst) = (random.gen_range(2..=3), random.gen_range(1..=4));
    let (start, later) = (5_000 * COST, random.gen_range(0..=2));
    let meter = Meter::default();
    meter.cost.set(COST << 8);
    meter.burst.set((burst - 1) * COST);
    // New, not used for long, or just used up.
    let until = [0, start - 1, start + (burst - 1) * COST][random.gen_range(0..3)];
    meter.until.store(until);
    let there = if until > start { 1 } else { burst };
    let meter = Arc::new(meter);
    let processors = (0..several).map(|_| {
        let (meter, now) = (meter.clone(), start + thread_rng().gen_range(0..=later) * COST);
        // The tables' nanoseconds have eight bits less than a meter's.
        thread::spawn(move || (0..2).filter(|_| meter::take(&meter, 1, now >> 8)).count() as u64)
    });
    let processors: Vec<_> = processors.collect();
    let passed: u64 = processors.into_iter().map(|p| p.join().expect("a processor")).sum();
    assert_eq!(passed + meter.refused.load(), 2 * several);
    assert!(passed < there + later + several, "{passed} of {there}");
    let from = until.max(start);
    let used = meter.until.load() - from;
    assert!(passed == 0 || (passed * COST..=(passed + later) * COST).contains(&used), "{used}");
}

fn check(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    // The pipeline is one function, without optimisation a wide one.
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(model);
}

#[test]
fn no_session_is_lost_doubled_or_crossed_in_random_orders() {
    check(RandomScheduler::new_from_seed(1, ORDERS), model);
}

#[test]
fn no_session_is_lost_doubled_or_crossed_with_few_switches() {
    check(PctScheduler::new_from_seed(2, 3, ORDERS), model);
}

#[test]
fn an_id_that_is_taken_up_while_another_is_learned_leads_to_its_session() {
    check(RandomScheduler::new_from_seed(3, ORDERS), rekeys);
    check(PctScheduler::new_from_seed(4, 3, ORDERS), rekeys);
}

#[test]
fn processors_take_from_a_meter_what_there_is_and_nothing_is_lost() {
    check(RandomScheduler::new_from_seed(5, ORDERS), takes);
    check(PctScheduler::new_from_seed(6, 3, ORDERS), takes);
}
