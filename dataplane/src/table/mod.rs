//! The tables, behind a trait: BPF maps in the kernel, ordinary memory on the host.
//!
//! * [`directory`]: whose address and port this is.
//! * [`slot`]: the session table. Few writers, no locks: see there.
//! * [`ids`]: from a session id to the slots that may hold it.
//! * [`hints`]: from a client's address to the backend it used last.
//! * [`fragments`]: from a packet's first fragment to the others.
//! * [`ahead`]: what a new session will touch.
//! * [`budget`]: packets without a session, per source.
//! * [`quota`]: sessions per tenant.
//! * [`meter`]: rates of tenants, and of handshakes to backends.
//! * `carry` (host): sessions from one set of tables to another.
//! * `sweep` (host): the daemon's part of the slots' and ids' lives.

pub mod ahead;
pub mod budget;
#[cfg(any(test, feature = "host"))]
pub mod carry;
pub mod directory;
pub mod fragments;
pub mod hash;
pub mod hints;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod ids;
pub mod meter;
pub mod quota;
pub mod slot;
#[cfg(any(test, feature = "host"))]
pub mod sweep;

use crate::abi::{
    self, Address, Bucket, Detail, DirectoryEntry, Endpoint, Meter, NextHop, Settings, Slot, Tenant,
};
use crate::cell::Word;
use crate::reason::Reason;

/// The tables that hold sessions, and what is known of clients without one. `None` only for an index out of range.
pub trait Sessions {
    /// The settings.
    fn settings(&self) -> Option<&Settings>;
    /// A slot by index.
    fn slot(&self, index: u32) -> Option<&Slot>;
    /// A slot's details.
    fn detail(&self, index: u32) -> Option<&Detail>;
    /// A bucket of the id index.
    fn ids(&self, bucket: u32) -> Option<&Bucket>;
    /// A bucket of the hints.
    fn hints(&self, bucket: u32) -> Option<&Bucket>;
    /// CLOCK_MONOTONIC in its coarse form, nanoseconds.
    fn now(&self) -> u64;

    // The verifier follows every path through a loop for every place that calls it.
    // Loops that write are therefore functions that it verifies once, for all
    // arguments: those take and return plain integers. Each has its body in the
    // module of its table; the kernel program calls it through a global function.

    /// [`slot::find_apart`].
    #[inline(always)]
    fn find_flow(&self, hash: u64, port_service: u64, high: u64, low: u64) -> u64
    where
        Self: Sized,
    {
        slot::find_apart(self, hash, port_service, high, low)
    }
    /// [`slot::claim_apart`].
    #[inline(always)]
    fn claim(&self, hash: u64) -> u64
    where
        Self: Sized,
    {
        slot::claim_apart(self, hash)
    }
    /// [`slot::publish_apart`].
    #[inline(always)]
    fn publish(&self, hash: u64, index: u32, to: u8) -> u64
    where
        Self: Sized,
    {
        slot::publish_apart(self, hash, index, to)
    }
    /// [`ids::insert_apart`].
    #[inline(always)]
    fn insert_id(&self, scope: u32, id: u32, index: u32) -> u64
    where
        Self: Sized,
    {
        ids::insert_apart(self, scope, id, index)
    }
    /// [`ids::remove_apart`].
    #[inline(always)]
    fn remove_id(&self, scope: u32, id: u32, index: u32) -> u64
    where
        Self: Sized,
    {
        ids::remove_apart(self, scope, id, index)
    }
    /// [`hints::note_apart`].
    #[inline(always)]
    fn note_hint(&self, high: u64, low: u64, port_service_ordinal: u64) -> u64
    where
        Self: Sized,
    {
        hints::note_apart(self, high, low, port_service_ordinal)
    }
}

/// All tables, as packets are handled by them.
pub trait Tables: Sessions {
    /// A bucket of the fragments.
    fn fragments(&self, bucket: u32) -> Option<&Bucket>;
    /// A source's budget.
    fn budget(&self, index: u32) -> Option<&Word>;
    /// A tenant.
    fn tenant(&self, index: u32) -> Option<&Tenant>;
    /// A meter of handshakes, of [`abi::maps::PACES`].
    fn pace(&self, index: u32) -> Option<&Meter>;
    /// An entry of the directory.
    fn directory_entry(&self, index: u32) -> Option<&DirectoryEntry>;
    /// An endpoint.
    fn endpoint(&self, index: u32) -> Option<&Endpoint>;
    /// The address that a tunnel comes from.
    fn source(&self, index: u32) -> Option<Address>;
    /// Eight positions of a ring, as a native word of the bytes in memory.
    fn ring(&self, word: u32) -> Option<u64>;
    /// A next hop.
    fn nexthop(&self, index: u32) -> Option<&NextHop>;
    /// The next hop towards an address, by longest prefix.
    fn route(&self, to: &Address) -> Option<u32>;
    /// The same in [`abi::ticks`], for every packet.
    #[inline(always)]
    fn ticks(&self, _s: &Settings) -> u32 {
        abi::ticks(self.now())
    }
    /// Counts a reason.
    fn count(&self, reason: Reason);

    /// The session of a flow, [`slot::find`]; perhaps of [`slot::OPEN`] ones alone. To compare,
    /// a bench puts another table in its place.
    #[inline(always)]
    fn session<const OPEN: bool>(
        &self,
        s: &Settings,
        flow: &hash::Flow,
        hash: u64,
    ) -> slot::Found<'_>
    where
        Self: Sized,
    {
        slot::find::<_, OPEN>(self, s, flow, hash)
    }

    // Apart, as those of [`Sessions`].

    /// [`directory::find_apart`].
    #[inline(always)]
    fn find_directory(&self, hash: u64, high: u64, low: u64, port_protocol: u64) -> u64
    where
        Self: Sized,
    {
        directory::find_apart(self, hash, high, low, port_protocol)
    }
    /// [`ids::find_apart`].
    #[inline(always)]
    fn find_id(&self, scoped: u64, flow: u64, high: u64, low: u64) -> u64
    where
        Self: Sized,
    {
        ids::find_apart(self, scoped, flow, high, low)
    }
    /// [`ids::rate_apart`].
    #[inline(always)]
    fn rate_candidate(&self, index: u64, scoped: u64, flow: u64, high: u64, low: u64) -> u64
    where
        Self: Sized,
    {
        ids::rate_apart(self, index, scoped, flow, high, low)
    }
    /// [`fragments::find_apart`].
    #[inline(always)]
    fn find_fragment(&self, hash: u64) -> u64
    where
        Self: Sized,
    {
        fragments::find_apart(self, hash)
    }
    /// [`fragments::note_apart`].
    #[inline(always)]
    fn note_fragment(&self, hash: u64, endpoint: u64) -> u64
    where
        Self: Sized,
    {
        fragments::note_apart(self, hash, endpoint)
    }
    /// [`quota::open_apart`].
    #[inline(always)]
    fn open_session(&self, endpoint: u64) -> u64
    where
        Self: Sized,
    {
        quota::open_apart(self, endpoint)
    }
    /// [`meter::packet_apart`].
    #[inline(always)]
    fn take_packet(&self, tenant: u64, bytes: u64, class: u64) -> u64
    where
        Self: Sized,
    {
        meter::packet_apart(self, tenant, bytes, class)
    }
    /// [`meter::handshake_apart`].
    #[inline(always)]
    fn take_handshake(&self, endpoint: u64) -> u64
    where
        Self: Sized,
    {
        meter::handshake_apart(self, endpoint)
    }
    /// [`ahead::load_apart`].
    #[inline(always)]
    fn load_ahead(&self, in_out_id: u64, scopes: u64, high: u64, low: u64) -> u64
    where
        Self: Sized,
    {
        ahead::load_apart(self, in_out_id, scopes, high, low)
    }
}
