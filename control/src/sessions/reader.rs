//! What is in a slot.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dataplane::abi::{Detail, Slot};
use dataplane::cell::Cell;
use dataplane::table::slot;

use super::Memory;
use crate::clock::Clock;

/// A session as its slot has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Index of the slot.
    pub index: u32,
    /// The slot's state word when it was read.
    pub word: u64,
    /// The session's identity, which outlives moves.
    pub identity: u64,
    /// The client's present address and port.
    pub client: SocketAddr,
    /// Endpoint index.
    pub endpoint: u32,
    /// Packets from the client.
    pub rx_packets: u64,
    /// Bytes from the client.
    pub rx_bytes: u64,
    /// Packets to the client.
    pub tx_packets: u64,
    /// Bytes to the client.
    pub tx_bytes: u64,
    /// When it was opened (tentative: made), CLOCK_MONOTONIC nanoseconds.
    pub opened: u64,
    /// Tick of the last packet, in either direction.
    pub last_seen: u32,
    /// How often it moved.
    pub moves: u16,
    /// It is a TCP connection that is over or about to be.
    pub is_closing: bool,
}

impl Record {
    /// True if it is open, false if it is tentative.
    pub fn is_open(&self) -> bool {
        slot::is_open(self.word)
    }

    /// True if it lost its flow to another session, and is known by its ids only.
    pub fn is_aside(&self) -> bool {
        slot::state(self.word) & slot::ASIDE != 0
    }

    /// How long no packet has come, in either direction.
    pub fn silence(&self, now: &Clock) -> Duration {
        now.since_tick(self.last_seen).min(now.since(self.opened))
    }
}

/// A count whose halves the kernel program raises one after the other: where the lower one has
/// wrapped and the upper one not yet been raised, two readings are half the range apart.
pub(super) fn count(low: &Cell<u32>, high: &Cell<u32>) -> u64 {
    let read = || u64::from(high.get()) << 32 | u64::from(low.get());
    let mut before = read();
    loop {
        let now = read();
        if now.wrapping_sub(before) < 1 << 31 {
            return now;
        }
        before = now;
    }
}

/// Reads slots.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    slots: &'a [Slot],
    details: &'a [Detail],
}

impl<'a> Reader<'a> {
    /// A reader of these tables' sessions.
    pub fn new(memory: impl Into<Memory<'a>>) -> Self {
        let memory = memory.into();
        Self { slots: memory.slots, details: memory.details }
    }

    /// The session in a slot, if there is one. A slot that changes hands while it is
    /// read holds none.
    pub fn get(&self, index: u32) -> Option<Record> {
        let slot = self.slots.get(index as usize)?;
        let detail = self.details.get(index as usize)?;
        let word = slot.state.load();
        if !slot::is_live(word) {
            return None;
        }
        let client: IpAddr = slot::client(slot).into();
        let record = Record {
            index,
            word,
            identity: detail.identity.get(),
            client: SocketAddr::new(client, u16::from_be(slot.port())),
            endpoint: slot.endpoint.get().into(),
            rx_packets: count(&slot.rx_packets, &detail.rx_packets_high),
            rx_bytes: count(&slot.rx_bytes, &detail.rx_bytes_high),
            tx_packets: count(&slot.tx_packets, &detail.tx_packets_high),
            tx_bytes: count(&slot.tx_bytes, &detail.tx_bytes_high),
            opened: detail.opened.get(),
            last_seen: slot.last_seen.get(),
            moves: detail.moves.get(),
            is_closing: detail.closing.get() != 0,
        };
        let after = slot.state.load();
        (slot::is_live(after) && slot::generation(after) == slot::generation(word))
            .then_some(Record { word: after, ..record })
    }

    /// How many slots there are.
    pub(super) fn slots(self) -> usize {
        self.slots.len()
    }

    /// All sessions, tentative ones included.
    pub fn all(self) -> impl Iterator<Item = Record> + use<'a> {
        (0..self.slots.len() as u32).filter_map(move |index| self.get(index))
    }

    /// All sessions, each once: one that moves while the table is read may lie in
    /// two slots or in none.
    pub fn list(self) -> Vec<Record> {
        let mut sessions: Vec<_> = self.all().collect();
        sessions.sort_unstable_by_key(|r| (r.identity, std::cmp::Reverse(r.moves)));
        sessions.dedup_by_key(|r| r.identity);
        sessions
    }

    /// The session of this identity.
    pub fn find(self, identity: u64) -> Option<Record> {
        self.all().filter(|r| r.identity == identity).max_by_key(|r| r.moves)
    }
}
