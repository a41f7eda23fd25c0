//! The session table in the kernel, under two processors and a daemon at once: packets
//! that open sessions and move them to and fro, while sessions are ended and slots swept.
//! No session may be lost, doubled or crossed with another, and each packet is counted once.

use crate::gateway::{Gateway, run};
use aya::programs::Xdp;
use dataplane::abi::{Detail, Slot};
use dataplane::cell::Cell;
use dataplane::fixture::check::{Shared, consistency};
use dataplane::fixture::site::{WAN, WG};
use dataplane::fixture::{Frame, World, message};
use dataplane::reason::{Kind, Reason};
use dataplane::table::host::Sizes;
use dataplane::table::{ids, quota, slot, sweep};
use fastrand::Rng;
use libtest_mimic::Failed;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long it goes on.
const LASTS: Duration = Duration::from_secs(8);
/// Packets of each processor between two checks.
const TURNS: u64 = 4_000;
/// Sessions that packets belong to, and the flows that they are on.
const SESSIONS: u32 = 6;
const FLOWS: u32 = 30;
/// Handshakes of a session, each with an id of its own.
const HANDSHAKES: u32 = 4;
/// Sessions in the table from which on one is ended now and then.
const MANY: usize = 8;
/// Turns after which the daemon looks at the table again.
const SCAN: u64 = 32;
/// What a processor says when it has finished.
const FINISHED: u64 = u64::MAX;

/// The frames of the sessions, from and to each flow.
struct Frames {
    /// Data answers and handshake responses.
    answers: Vec<[Vec<u8>; 1 + HANDSHAKES as usize]>,
    /// Clients' packets, with each id.
    inbound: Vec<[Vec<u8>; HANDSHAKES as usize]>,
}

fn ordinal(session: u32) -> u32 {
    session % 3
}

impl Frames {
    fn new() -> Self {
        let (mut answers, mut inbound) = (Vec::new(), Vec::new());
        for (session, n) in (0..SESSIONS).flat_map(|s| (0..FLOWS).map(move |n| (s, n))) {
            let flow = SocketAddr::from(([198, 19, n as u8, 1], 40_000));
            let answer = |payload| Frame::new(WG.backend(ordinal(session)), flow, payload).bytes();
            let (out_id, in_id) = (100 + session, |h: usize| 1000 + 10 * h as u32 + session);
            answers.push(std::array::from_fn(|h| match h {
                0 => answer(message::data(out_id, 1)),
                _ => answer(message::response(in_id(h - 1), out_id)),
            }));
            inbound.push(std::array::from_fn(|h| {
                Frame::new(flow, WG.at, message::keepalive(in_id(h), 1)).bytes()
            }));
        }
        Self { answers, inbound }
    }

    /// The frames that both processors take at once: mostly about the same session or flow.
    /// `random` gives both the same numbers.
    fn choose(&self, processor: usize, clients: bool, random: &mut Rng) -> &[u8] {
        let (session, flow) = (random.u32(..SESSIONS), random.u32(..FLOWS));
        let (other, elsewhere) = (random.u32(..SESSIONS), random.u32(..FLOWS));
        let handshake = random.usize(..HANDSHAKES as usize);
        let kind = random.u8(..16);
        let at = |session, flow| (session * FLOWS + flow) as usize;
        let data = |session, flow| &self.answers[at(session, flow)][0];
        if processor == 0 {
            return data(session, flow);
        }
        match kind {
            0..8 => data(session, flow),
            8..10 => data(session, elsewhere),
            10..12 => data(other, flow),
            12 => &self.answers[at(session, flow)][1 + handshake],
            13 => &self.answers[at(other, flow)][1 + handshake],
            _ if clients => &self.inbound[at(session, flow)][handshake],
            _ => data(session, flow),
        }
    }
}

/// Where two threads meet: each turn begins for both at once.
#[derive(Debug, Default)]
struct Start(AtomicU64);

impl Start {
    /// Waits for the other's `turn`, too.
    fn meet(&self, turn: u64) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0;
        while self.0.load(Ordering::SeqCst) < 2 * (turn + 1) {
            spins += 1;
            // The other may be waiting for this very processor.
            if spins % 1000 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Lets the other go on alone.
    fn leave(&self) {
        self.0.fetch_add(1 << 40, Ordering::SeqCst);
    }
}

/// What both processors share in a round.
struct Round<'a> {
    xdp: &'a Xdp,
    frames: &'a Frames,
    seed: u64,
    clients: bool,
    start: Start,
    /// The turns that each has finished, or [`FINISHED`].
    progress: [AtomicU64; 2],
}

/// Runs packets on one processor: how many. Says so when the daemon may look again.
fn processor(number: usize, round: &Round<'_>, scan: &SyncSender<()>) -> Result<u64, String> {
    let mut only = CpuSet::new();
    only.set(number);
    // Where there is but one, they take turns.
    let _ = sched_setaffinity(None, &only);
    let mut random = Rng::with_seed(round.seed);
    let mut own = Rng::with_seed(round.seed + 1 + number as u64);
    let mut result = Ok(TURNS);
    for turn in 0..TURNS {
        let frame = round.frames.choose(number, round.clients, &mut random);
        round.start.meet(turn);
        // Now one is a little earlier, now the other.
        for _ in 0..own.u8(..16) {
            std::hint::spin_loop();
        }
        if let Err(e) = run(round.xdp, frame, WAN, 0, 1) {
            result = Err(e);
            break;
        }
        round.progress[number].store(turn, Ordering::SeqCst);
        if turn % SCAN == 0 {
            // If it is still looking, it will look again.
            let _ = scan.try_send(());
        }
    }
    round.start.leave();
    round.progress[number].store(FINISHED, Ordering::SeqCst);
    result
}

/// What the daemon does until the processors have finished: the identities of the
/// sessions that it ended.
fn daemon(
    t: &Shared<'_>,
    round: &Round<'_>,
    scan: &Receiver<()>,
    random: &mut Rng,
) -> BTreeSet<u64> {
    let mut retired: BTreeMap<usize, (u64, [u64; 2])> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    // Until both have gone.
    while scan.recv().is_ok() {
        let at = [0, 1].map(|p| round.progress[p].load(Ordering::SeqCst));
        let mut live = Vec::new();
        for (index, slot) in t.slots.iter().enumerate() {
            let word = slot.state.load();
            if slot::is_live(word) {
                live.push((slot, &t.details[index]));
            }
            if slot::state(word) != slot::RETIRED {
                continue;
            }
            // A packet in flight may refer to it: each processor must have gone on twice.
            let (seen, since) = retired.get(&index).copied().unwrap_or((0, at));
            let is_over = |p: usize| at[p] == FINISHED || at[p] > since[p] + 2;
            if seen != word {
                retired.insert(index, (word, at));
            } else if is_over(0) && is_over(1) {
                slot::transition(slot, word, slot::DEAD);
            }
        }
        if live.len() >= MANY {
            let (slot, detail) = live[random.usize(..live.len())];
            let (word, identity) = (slot.state.load(), detail.identity.get());
            if slot::is_live(word) && slot::transition(slot, word, slot::RETIRED) {
                quota::release(t.settings, &t.tenants[0], slot::state(word));
                ended.insert(identity);
            }
        }
        sweep::slots(t.slots, t.settings);
        sweep::ids(t.ids, t.slots, t.details, t.settings);
    }
    ended
}

/// Open sessions, by identity.
fn open(t: &Shared<'_>) -> BTreeSet<u64> {
    let open = t.slots.iter().zip(t.details).filter(|(slot, _)| slot::is_open(slot.state.load()));
    open.map(|(_, detail)| detail.identity.get()).collect()
}

/// A session has ids of its own backend only, and, if all could be noted, they lead to it.
/// Of inbound ids a session that knows none takes its client's: with `clients` they may be any.
fn own_ids(t: &Shared<'_>, clients: bool, all_noted: bool) -> Result<(), String> {
    let live = t.slots.iter().enumerate().filter(|(_, slot)| slot::is_live(slot.state.load()));
    for (index, slot) in live {
        let inbound = ids::Scope::inbound(slot.service());
        let outbound = ids::Scope::outbound(slot.endpoint.get());
        let detail = &t.details[index];
        for (scope, id) in in_ids(slot, detail).map(|id| (inbound, id)).into_iter().chain(
            [&slot.out_id, &detail.out_id_next, &detail.out_id_previous].map(|id| (outbound, id)),
        ) {
            let id = Cell::get(id);
            let is_own = u32::from(slot.endpoint.get()) == WG.endpoint(ordinal(id % 10));
            if id != 0 && !is_own && !(clients && scope == inbound) {
                return Err(format!("slot {index} has id {id}, another backend's"));
            }
            let place = ids::place(t.settings, scope, id);
            let entry = ids::entry(&place, index as u32);
            let mut buckets = [place.first, place.second].map(|b| &t.ids[b as usize].0).into_iter();
            if id != 0 && all_noted && !buckets.any(|b| b.iter().any(|e| e.load() == entry)) {
                return Err(format!("id {id} does not lead to slot {index}"));
            }
        }
    }
    Ok(())
}

fn in_ids<'a>(slot: &'a Slot, detail: &'a Detail) -> [&'a Cell<u32>; 3] {
    [&slot.in_id, &detail.in_id_next, &detail.in_id_previous]
}

/// Runs it.
pub(crate) fn two_processors() -> Result<(), Failed> {
    let mut gateway = Gateway::load()?;
    let sizes = Sizes { slots: 256, overflow: 16, ids: 256, hints: 16, ..Sizes::default() };
    let world = World::with(sizes);
    // All of them may know one id: its buckets have 16 entries.
    world.tables.tenants[0].max_sessions.set(9);
    world.tables.tenants[0].max_tentative.set(5);
    gateway.write(&world)?;
    let before = gateway.counters()?;
    let shared = gateway.shared(&world.tables);
    let (xdp, frames) = (gateway.program()?, Frames::new());
    let (started, mut random) = (Instant::now(), Rng::with_seed(1));
    let (mut packets, mut rounds, mut ended) = (0, 0, 0);
    while started.elapsed() < LASTS {
        // First without clients' packets: no session learns an id from them.
        let clients = started.elapsed() > LASTS / 2;
        let open_before = open(&shared);
        let round = Round {
            xdp,
            frames: &frames,
            seed: random.u64(..1 << 60),
            clients,
            start: Start::default(),
            progress: [const { AtomicU64::new(0) }; 2],
        };
        let gone = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            let workers = [0, 1].map(|number| {
                let (round, sender) = (&round, sender.clone());
                scope.spawn(move || processor(number, round, &sender))
            });
            drop(sender);
            let gone = daemon(&shared, &round, &receiver, &mut random);
            for worker in workers {
                packets += worker.join().map_err(|_| "a processor panicked")??;
            }
            Ok::<_, String>(gone)
        })?;
        rounds += 1;
        ended += gone.len();
        let now = gateway.counters()?;
        let count = |reason: Reason| now[reason as usize] - before[reason as usize];
        consistency(&shared)?;
        own_ids(&shared, clients, [Reason::IdUnlearned, Reason::IdTableFull].map(count) == [0; 2])?;
        let open_after = open(&shared);
        let mut lost = open_before.difference(&open_after).filter(|id| !gone.contains(id));
        if let Some(identity) = lost.next() {
            return Err(format!("round {rounds}: session {identity:x} is lost").into());
        }
        let ends = Reason::ALL.iter().filter(|reason| reason.kind() != Kind::Event);
        let counted: u64 = ends.map(|reason| count(*reason)).sum();
        if counted != packets {
            return Err(format!("{packets} packets, counted {counted}").into());
        }
    }
    let now = gateway.counters()?;
    let count = |reason: Reason| now[reason as usize] - before[reason as usize];
    println!(
        "{packets} packets in {rounds} rounds: {} sessions opened, {} moves, {} of them refused, \
         {} displaced, {} races, {} ids not noted, {ended} ended",
        count(Reason::SessionOpened),
        count(Reason::SessionMoved),
        count(Reason::MoveRefused),
        count(Reason::SessionDisplaced),
        count(Reason::InsertRace),
        count(Reason::IdUnlearned) + count(Reason::IdTableFull),
    );
    if count(Reason::SessionMoved) == 0 || ended == 0 {
        return Err("nothing moved, or nothing ended".into());
    }
    Ok(())
}
