//! What is in a slot.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dataplane::abi::Slot;
use dataplane::table::slot;

use super::Clock;

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
    /// Tick of the last packet from the client.
    pub last_rx: u32,
    /// Tick of the last packet to the client.
    pub last_tx: u32,
    /// How often it moved.
    pub moves: u16,
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
        let last = now.since_tick(self.last_rx).min(now.since_tick(self.last_tx));
        // A slot may not have seen a packet of one direction yet.
        last.min(now.since(self.opened))
    }
}

/// Reads slots.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    slots: &'a [Slot],
}

impl<'a> Reader<'a> {
    /// A reader of these slots.
    pub fn new(slots: &'a [Slot]) -> Self {
        Self { slots }
    }

    /// The session in a slot, if there is one. A slot that changes hands while it is
    /// read holds none.
    pub fn get(&self, index: u32) -> Option<Record> {
        let slot = self.slots.get(index as usize)?;
        let word = slot.state.load();
        if !slot::is_live(word) {
            return None;
        }
        let client: IpAddr = slot::client(slot).into();
        let record = Record {
            index,
            word,
            identity: slot.identity.get(),
            client: SocketAddr::new(client, u16::from_be(slot.port.get())),
            endpoint: slot.endpoint.get(),
            rx_packets: slot.rx_packets.get(),
            rx_bytes: slot.rx_bytes.get(),
            tx_packets: slot.tx_packets.get(),
            tx_bytes: slot.tx_bytes.get(),
            opened: slot.opened.get(),
            last_rx: slot.last_rx.get(),
            last_tx: slot.last_tx.get(),
            moves: slot.moves.get(),
        };
        let after = slot.state.load();
        (slot::is_live(after) && slot::generation(after) == slot::generation(word))
            .then_some(Record { word: after, ..record })
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
