//! Sessions, and what leads to them.

use super::service_index;
use crate::cell::{Cell, Word};

element! {
    /// One session on one flow: all that its packets read and write in both directions, in one cache
    /// line. Element of [`maps::SLOTS`](super::maps::SLOTS); see `table::slot` for its life and who may write what.
    #[repr(C, align(64))]
    #[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
    pub struct Slot {
        /// Generation (upper 32 bits) and `table::slot::State` (lower 8 bits).
        pub state: Word,
        /// The client's address: [`Address::halves`](super::Address::halves).
        pub client: [Cell<u64>; 2],
        /// The client's port (network order) in the lower half, above it the service index with [`SERVICE_TCP`](super::SERVICE_TCP).
        pub port_service: Cell<u32>,
        /// Endpoint index.
        pub endpoint: Cell<u16>,
        /// Next hop towards the client, valid while `route_generation` is the settings'.
        pub nexthop: Cell<u16>,
        /// `Settings::route_generation` modulo 32768, plus 32768, when `nexthop` was looked up; 0 is never.
        pub route_generation: Cell<u16>,
        /// Zero.
        pub zero: Cell<u16>,
        /// Time of the last packet on the flow, in either direction, in [`ticks`].
        pub last_seen: Cell<u32>,
        /// Lower halves of the counts; the upper ones are the [`Detail`]'s. Packets from the client,
        pub rx_packets: Cell<u32>,
        /// bytes from the client: IP packets as they came in,
        pub rx_bytes: Cell<u32>,
        /// packets to the client,
        pub tx_packets: Cell<u32>,
        /// and bytes to the client.
        pub tx_bytes: Cell<u32>,
        /// The current one of the ids by which inbound packets know the session: given back by the
        /// client. 0 is none.
        pub in_id: Cell<u32>,
        /// The current one of the ids by which answers know the session. 0 is none.
        pub out_id: Cell<u32>,
    }
}

impl Slot {
    /// The client's port, network order.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.port_service.get() as u16
    }

    /// Service index.
    #[inline(always)]
    pub fn service(&self) -> u16 {
        service_index((self.port_service.get() >> 16) as u16)
    }

    /// True for a TCP connection.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.port_service.get() >> 31 != 0
    }
}

element! {
    /// What few packets of a session need. Element of [`maps::DETAILS`](super::maps::DETAILS), by the index of its slot;
    /// written by whoever may write the slot.
    #[repr(C, align(64))]
    #[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
    pub struct Detail {
        /// CLOCK_MONOTONIC nanoseconds when the session was opened (tentative: was made).
        pub opened: Cell<u64>,
        /// The session's identity: generation and index of its first slot. It
        /// outlives moves.
        pub identity: Cell<u64>,
        /// The next inbound id: handed out and not yet given back. 0 is none.
        pub in_id_next: Cell<u32>,
        /// The inbound id before the current one.
        pub in_id_previous: Cell<u32>,
        /// The next id of answers.
        pub out_id_next: Cell<u32>,
        /// The id of answers before the current one.
        pub out_id_previous: Cell<u32>,
        /// Low 32 bits of an inbound packet counter, where the protocol has one: of the last packet whose counter
        /// [`is_noted`].
        pub in_counter: Cell<u32>,
        /// The same of answers.
        pub out_counter: Cell<u32>,
        /// Upper halves of the slot's counts.
        pub rx_packets_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub rx_bytes_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub tx_packets_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub tx_bytes_high: Cell<u32>,
        /// How often the session moved to another flow.
        pub moves: Cell<u16>,
        /// 1 while a handshake is under way on the flow whose outcome may be another id than the slot
        /// holds: until then the flow tells whose packet it is. Else 0.
        pub handshake: Cell<u16>,
        /// 1 if the connection is over or about to be: the session ends soon after its last packet. Else 0.
        pub closing: Cell<u16>,
        /// Zero.
        pub reserved: Cell<u16>,
    }
}

/// Whether a packet counter is written down, to tell sessions with the same id apart: the first
/// ones of a key, then each 64th. The others would cost a second cache line for each packet.
#[inline(always)]
pub const fn is_noted(counter: u32) -> bool {
    counter < 64 || counter & 63 == 0
}

/// Nanoseconds to the 32-bit tick of the tables: 2^20 ns, about 1.05 ms; compare by wrapping subtraction.
#[inline(always)]
pub const fn ticks(ns: u64) -> u32 {
    (ns >> 20) as u32
}

/// One cache line of eight entries; see `table::ids` and `table::hints`.
#[repr(C, align(64))]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Bucket(pub [Word; 8]);
