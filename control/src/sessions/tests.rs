//! The scan, on tables in ordinary memory.

use std::time::{Duration, SystemTime};

use dataplane::abi::{Detail, SERVICE_TCP, Slot, ticks};
use dataplane::table::host::{HostTables, Sizes};
use dataplane::table::slot;

use super::keeper::Memory;
use super::*;
use crate::clock::Clock;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;

impl<'a> From<&'a HostTables> for Memory<'a> {
    fn from(t: &'a HostTables) -> Self {
        Self {
            settings: &t.settings,
            slots: &t.slots,
            details: &t.details,
            ids: &t.ids,
            tenants: &t.tenants,
        }
    }
}

/// Endpoint `n` is of tenant `n % 2`; sessions on endpoint 9 end.
struct Rules;

impl Policy for Rules {
    fn fate(&self, endpoint: u32) -> Fate {
        if endpoint == 9 { Fate::End } else { Fate::Idle(Duration::from_secs(60)) }
    }

    fn tenant(&self, endpoint: u32) -> Option<u32> {
        Some(endpoint % 2)
    }
}

fn at(seconds: u64) -> Clock {
    Clock { monotonic: START + seconds * SECOND, wall: SystemTime::now() }
}

/// Puts a session into a slot, and into the counts.
fn put(t: &HostTables, index: u32, state: u8, endpoint: u32) {
    let slot: &Slot = &t.slots[index as usize];
    let detail: &Detail = &t.details[index as usize];
    slot.endpoint.set(endpoint as u16);
    slot.port_service.set(1000 + index);
    detail.opened.set(START);
    slot.last_seen.set(ticks(START));
    slot.rx_packets.set(10);
    slot.tx_bytes.set(500);
    let word = 1 << 32 | u64::from(state);
    detail.identity.set(slot::identity(index, word));
    slot.state.store(word);
    t.settings.used.add(1);
    let tenant = &t.tenants[endpoint as usize % 2];
    if slot::is_open(word) {
        t.settings.borrowed.add(1);
        tenant.sessions.add(1)
    } else {
        tenant.tentative.add(1)
    };
}

fn state(t: &HostTables, index: u32) -> u8 {
    slot::state(t.slots[index as usize].state.load())
}

#[test]
fn silent_sessions_end_and_others_stay() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    put(&t, 5, slot::OPEN, 1);
    let mut keeper = Keeper::default();
    // The second is heard of again.
    t.slots[5].last_seen.set(ticks(START + 50 * SECOND));

    let scan = keeper.scan(&t, &at(59), &Rules);
    assert_eq!((scan.ended, scan.open[&0], scan.open[&1]), (0, 1, 1));
    let scan = keeper.scan(&t, &at(61), &Rules);
    assert_eq!(scan.ended, 1);
    assert_eq!(scan.open.get(&0), None);
    assert!(scan.referred.contains(&0), "a slot in quarantine still refers to its endpoint");
    assert_eq!((state(&t, 3), state(&t, 5)), (slot::RETIRED, slot::OPEN));
    assert_eq!(t.tenants[0].sessions.load(), 0);
    assert_eq!(t.tenants[1].sessions.load(), 1);
    assert_eq!(t.settings.used.load(), 1);
    assert_eq!((t.tenants[0].ended.get(), t.tenants[0].ended_rx_packets.get()), (1, 10));
    assert_eq!(t.tenants[0].ended_tx_bytes.get(), 500);
}

#[test]
fn closed_connections_end_soon_and_open_ones_with_the_silent() {
    let t = HostTables::new(Sizes::default());
    for (index, service, closing) in [(3, SERVICE_TCP, 1), (5, SERVICE_TCP, 0), (7, 0, 0)] {
        put(&t, index, slot::OPEN, 0);
        t.slots[index as usize].port_service.set(u32::from(service) << 16 | (1000 + index));
        t.details[index as usize].closing.set(closing);
    }
    let mut keeper = Keeper::default();
    assert_eq!(keeper.scan(&t, &at(29), &Rules).ended, 0);
    assert_eq!(keeper.scan(&t, &at(31), &Rules).ended, 1);
    let states = [3, 5, 7].map(|index| state(&t, index));
    assert_eq!(states, [slot::RETIRED, slot::OPEN, slot::OPEN]);
    assert_eq!(keeper.scan(&t, &at(61), &Rules).ended, 2);
}

#[test]
fn a_retired_slot_rests_for_a_second_and_becomes_empty() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 9);
    let mut keeper = Keeper::default();
    assert_eq!(keeper.scan(&t, &at(0), &Rules).ended, 1);
    let soon = Clock { monotonic: START + SECOND / 2, ..at(0) };
    let scan = keeper.scan(&t, &soon, &Rules);
    assert_eq!((state(&t, 3), scan.referred.len()), (slot::RETIRED, 1));
    let scan = keeper.scan(&t, &at(1), &Rules);
    assert_eq!((state(&t, 3), scan.freed, scan.referred.len()), (slot::EMPTY, 1, 0));
}

#[test]
fn a_slot_that_the_kernel_retired_rests_too_and_its_id_is_forgotten() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    // What a move leaves.
    let word = t.slots[3].state.load();
    assert!(slot::transition(&t.slots[3], word, slot::RETIRED));
    t.ids[0].0[2].store(7 << 32 | 4);
    let mut keeper = Keeper::default();
    let scan = keeper.scan(&t, &at(10), &Rules);
    assert_eq!((state(&t, 3), scan.unlearned), (slot::RETIRED, 1));
    // A slot that was given out again meanwhile is seen anew.
    t.slots[3].state.store(2 << 32 | u64::from(slot::RETIRED));
    keeper.scan(&t, &at(20), &Rules);
    assert_eq!(state(&t, 3), slot::RETIRED);
    keeper.scan(&t, &at(21), &Rules);
    assert_eq!(state(&t, 3), slot::EMPTY);
}

#[test]
fn tentative_sessions_live_fifteen_seconds() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::TENTATIVE, 1);
    let mut keeper = Keeper::default();
    let scan = keeper.scan(&t, &at(14), &Rules);
    assert_eq!((scan.ended, scan.tentative[&1]), (0, 1));
    assert_eq!(keeper.scan(&t, &at(15), &Rules).ended, 1);
    assert_eq!((t.tenants[1].tentative.load(), t.settings.used.load()), (0, 0));
    assert_eq!(t.tenants[1].ended.get(), 0, "it never was a session");
}

#[test]
fn counts_have_an_upper_half() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    t.details[3].rx_packets_high.set(2);
    t.details[3].tx_bytes_high.set(1);
    let record = Reader::new(&t).get(3).expect("a session");
    assert_eq!((record.rx_packets, record.tx_bytes), (2 << 32 | 10, 1 << 32 | 500));
    assert_eq!(Keeper::default().scan(&t, &at(100), &Rules).ended, 1);
    let ended = &t.tenants[0];
    assert_eq!(
        (ended.ended_rx_packets.get(), ended.ended_tx_bytes.get()),
        (2 << 32 | 10, 1 << 32 | 500)
    );
}

#[test]
fn a_session_that_moves_is_listed_once() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    put(&t, 8, slot::OPEN, 0);
    t.details[8].identity.set(t.details[3].identity.get());
    t.details[8].moves.set(1);
    let list = Reader::new(&t).list();
    assert_eq!(list.iter().map(|r| (r.index, r.moves)).collect::<Vec<_>>(), [(8, 1)]);
    assert_eq!(Reader::new(&t).find(list[0].identity).unwrap().index, 8);
}

#[test]
fn a_walk_meets_each_session_once_that_moves_or_ends_meanwhile() {
    let t = HostTables::new(Sizes::default());
    (3..8).for_each(|index| put(&t, index, slot::OPEN, 0));
    let identity = |index: u32| t.details[index as usize].identity.get();
    let all: Vec<u64> = (3..8).map(identity).collect();
    let mut walk = Walk::new(Reader::new(&t));
    let mut next = || {
        let mut met = std::iter::from_fn(|| walk.next(Reader::new(&t)));
        met.by_ref().flatten().map(|r| (r.identity, r.index)).next()
    };
    assert_eq!(next(), Some((all[0], 3)));
    // The first one, which was met, and the second one move; the third ends, and another has its slot; a new one comes.
    for (from, to) in [(3, 20), (4, 21)] {
        put(&t, to, slot::OPEN, 0);
        t.details[to as usize].identity.set(identity(from));
        t.slots[from as usize].state.store(0);
    }
    put(&t, 5, slot::OPEN, 0);
    t.details[5].identity.set(77);
    put(&t, 22, slot::OPEN, 0);
    assert_eq!(next(), Some((all[3], 6)));
    assert_eq!(next(), Some((all[4], 7)));
    assert_eq!(next(), Some((all[1], 21)));
    assert_eq!((next(), next()), (None, None));
}

#[test]
fn a_walk_meets_a_session_that_moves_behind_its_back() {
    let t = HostTables::new(Sizes::default());
    (3..5).for_each(|index| put(&t, index, slot::OPEN, 0));
    let both: Vec<u64> = (3..5).map(|index| t.details[index].identity.get()).collect();
    let mut walk = Walk::new(Reader::new(&t));
    let go = |n: usize, from: u32, to: u32| {
        put(&t, to, slot::OPEN, 0);
        t.details[to as usize].identity.set(both[n]);
        t.slots[from as usize].state.store(0);
    };
    let mut next = || {
        let mut met = std::iter::from_fn(|| walk.next(Reader::new(&t)));
        met.by_ref().flatten().map(|r| (r.identity, r.index)).next()
    };
    go(0, 3, 20);
    go(1, 4, 21);
    assert_eq!(next(), Some((both[0], 20)));
    go(1, 21, 5);
    assert_eq!((next(), next()), (Some((both[1], 5)), None));
}

#[test]
fn counts_that_a_crash_left_wrong_are_corrected() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    put(&t, 4, slot::TENTATIVE, 1);
    let tenant = |endpoint| Some(endpoint % 2);
    assert!(Recount::take(&t, &tenant).unwrap().is_right());
    // Ended by a daemon that was killed before it lowered the counts.
    t.tenants[0].sessions.add(2);
    t.tenants[1].tentative.add(1);
    t.settings.used.add(3);
    let recount = Recount::take(&t, &tenant).unwrap();
    assert_eq!(recount.tenants[&0], Drift { open: 2, tentative: 0 });
    recount.correct(&t);
    assert!(Recount::take(&t, &tenant).unwrap().is_right());
    assert_eq!((t.tenants[0].sessions.load(), t.tenants[1].tentative.load()), (1, 1));
    t.tenants[0].guaranteed.set(1);
    let recount = Recount::take(&t, &tenant).unwrap();
    assert_eq!((recount.tenants.len(), recount.borrowed), (0, 1));
    recount.correct(&t);
    assert_eq!(t.settings.borrowed.load(), 0);
    // While a slot is being written, nobody knows.
    t.slots[9].state.store(u64::from(slot::CLAIMED));
    assert_eq!(Recount::take(&t, &tenant), None);
}

#[test]
fn a_count_of_borrowed_sessions_that_stays_wrong_is_corrected() {
    let t = HostTables::new(Sizes::default());
    put(&t, 3, slot::OPEN, 0);
    put(&t, 5, slot::OPEN, 0);
    t.tenants[0].guaranteed.set(1);
    let mut keeper = Keeper::default();
    keeper.scan(&t, &at(0), &Rules);
    assert_eq!(t.settings.borrowed.load(), 2, "it may just be being counted");
    t.settings.borrowed.add(1);
    keeper.scan(&t, &at(1), &Rules);
    assert_eq!(t.settings.borrowed.load(), 3);
    keeper.scan(&t, &at(2), &Rules);
    assert_eq!(t.settings.borrowed.load(), 1);
    keeper.scan(&t, &at(3), &Rules);
    assert_eq!(t.settings.borrowed.load(), 1);
}

#[test]
fn a_scan_tells_how_many_sent_something_and_how_many_were_sent_something() {
    let t = HostTables::new(Sizes::default());
    for (index, endpoint) in [(3, 0), (5, 0), (7, 1)] {
        put(&t, index, slot::OPEN, endpoint);
    }
    put(&t, 8, slot::TENTATIVE, 0);
    for slot in [3, 5, 7].map(|index| &t.slots[index]) {
        slot.rx_packets.set(1000);
        slot.tx_packets.set(9);
    }
    let mut keeper = Keeper::default();
    assert!(keeper.scan(&t, &at(0), &Rules).heard.is_empty(), "what was before says nothing");
    assert!(keeper.scan(&t, &at(1), &Rules).heard.is_empty(), "nothing since");
    let sends = |index: usize| t.slots[index].rx_packets.set(t.slots[index].rx_packets.get() + 1);
    sends(3);
    sends(5);
    sends(8);
    t.slots[5].tx_packets.set(u32::MAX);
    t.slots[7].tx_packets.set(10);
    let heard = keeper.scan(&t, &at(2), &Rules).heard;
    assert_eq!(heard, [(0, (2, 1)), (1, (0, 1))].into());
    assert!(keeper.scan(&t, &at(3), &Rules).heard.is_empty());
}

#[test]
fn slots_that_somebody_died_over_are_given_back_and_those_of_packets_are_not() {
    let t = HostTables::new(Sizes::default());
    for (index, state) in
        [(1, slot::CLAIMED), (2, slot::OFFERED), (3, slot::MOVING), (4, slot::CLAIMED)]
    {
        t.slots[index].state.store(7 << 32 | u64::from(state));
    }
    put(&t, 5, slot::OPEN, 0);
    // A packet's own, which is done when it has gone.
    let packet = &t.slots[4].state;
    let wait = || {
        packet.store(slot::with_state(packet.load(), slot::OPEN));
        Ok(())
    };
    assert_eq!(give_back(&t, wait).unwrap(), 3);
    let states: Vec<_> = (1..6).map(|index| state(&t, index)).collect();
    assert_eq!(states, [slot::RETIRED, slot::RETIRED, slot::RETIRED, slot::OPEN, slot::OPEN]);
    let mut keeper = Keeper::default();
    (0..3).for_each(|n| drop(keeper.scan(&t, &at(n), &Rules)));
    assert!((1..4).all(|index| state(&t, index) == slot::DEAD), "they can be claimed");
    // Nothing is in making: nobody has to wait.
    assert_eq!(give_back(&t, || unreachable!()).unwrap(), 0);
    t.slots[1].state.store(8 << 32 | u64::from(slot::CLAIMED));
    assert!(give_back(&t, || Err(std::io::ErrorKind::Unsupported.into())).is_err());
    assert_eq!(state(&t, 1), slot::CLAIMED);
}
