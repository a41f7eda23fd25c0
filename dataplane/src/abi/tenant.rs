//! Tenants: quotas, rates, counts.

use super::POOL_STRIDE;
use crate::cell::{Cell, Word};

/// A rate with a burst, and how much of it is used; see `table::meter`. The limits are written by the daemon, the rest by the kernel program.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Meter {
    /// What a unit (a packet, a handshake, a byte) costs, in 2^-16 ns; 0 is no limit.
    pub cost: Cell<u64>,
    /// How far ahead of the clock it may be, in [`meter_time`].
    pub burst: Cell<u64>,
    /// Until when the rate is used up, in [`meter_time`].
    pub until: Word,
    /// Packets that were refused.
    pub refused: Word,
}

/// The clock of [`Meter`]s, from nanoseconds: 2^-8 ns, so that a packet of the fastest link is many of them.
#[inline(always)]
pub const fn meter_time(ns: u64) -> u64 {
    ns << 8
}

/// Where [`maps::PACES`](super::maps::PACES) has a tenant's share of a backend's handshakes. The tenant goes by the index of one of its services at the pool.
#[inline(always)]
pub const fn share_index(service: u16, ordinal: u32) -> u32 {
    2 * (service as u32 * POOL_STRIDE + ordinal % POOL_STRIDE)
}

/// Where [`maps::PACES`](super::maps::PACES) has the handshakes of a backend, of all tenants together.
#[inline(always)]
pub const fn pace_index(pool: u32, ordinal: u32) -> u32 {
    2 * (pool * POOL_STRIDE + ordinal % POOL_STRIDE) + 1
}

/// A tenant's quota and its running counts. Element of [`maps::TENANTS`](super::maps::TENANTS).
/// The kernel program raises `sessions` and `tentative`, the daemon lowers them.
#[repr(C, align(64))]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Tenant {
    /// Sessions open now.
    pub sessions: Word,
    /// Tentative sessions now.
    pub tentative: Word,
    /// Quota of open sessions.
    pub max_sessions: Cell<u64>,
    /// Most tentative sessions.
    pub max_tentative: Cell<u64>,
    /// Sessions opened since the tables were made.
    pub opened: Word,
    /// Answers and handshakes refused because the quota was used up, or new sessions came too fast.
    pub refused: Word,
    /// Sessions that it can have whatever others have; beyond, it borrows from what nobody is guaranteed.
    pub guaranteed: Cell<u64>,
    /// Zero.
    pub zero: Cell<u64>,
    /// Sums over ended sessions, written by the daemon alone: sessions,
    pub ended: Cell<u64>,
    /// packets from clients,
    pub ended_rx_packets: Cell<u64>,
    /// bytes from clients,
    pub ended_rx_bytes: Cell<u64>,
    /// packets to clients,
    pub ended_tx_packets: Cell<u64>,
    /// and bytes to clients.
    pub ended_tx_bytes: Cell<u64>,
    /// The daemon's note of what it is just adding to them; zero first while it is nothing.
    pub ending: [Cell<u64>; 3],

    /// Handshakes that clients begin.
    pub handshakes: Meter,
    /// Sessions that open.
    pub new_sessions: Meter,

    /// Packets from clients,
    pub packets_in: Meter,
    /// and their bytes.
    pub bytes_in: Meter,

    /// Packets to clients,
    pub packets_out: Meter,
    /// and their bytes.
    pub bytes_out: Meter,
}

#[cfg(any(test, feature = "host"))]
impl Tenant {
    /// All of its meters.
    pub fn meters(&self) -> [&Meter; 6] {
        [
            &self.handshakes,
            &self.new_sessions,
            &self.packets_in,
            &self.bytes_in,
            &self.packets_out,
            &self.bytes_out,
        ]
    }
}
