//! The hashes over flows, ids and addresses.
//!
//! Multiply and xor-shift, keyed: with a secret key nobody outside can choose
//! flows that fall together. The placement hash alone has a fixed key, because
//! two gateways must place alike.

use crate::abi::{Address, Settings};

const M: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn mix(h: u64, word: u64) -> u64 {
    let h = (h ^ word).wrapping_mul(M);
    h ^ (h >> 32)
}

#[inline(always)]
const fn halves(a: &Address) -> (u64, u64) {
    (a.0[0] as u64 | (a.0[1] as u64) << 32, a.0[2] as u64 | (a.0[3] as u64) << 32)
}

/// (client address, client port, service).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The client's address.
    pub client: Address,
    /// The client's port, network order.
    pub port: u16,
    /// Service index.
    pub service: u16,
}

/// The hash of a flow: the lower bits are its home slot.
#[inline(always)]
pub fn flow(s: &Settings, f: &Flow) -> u64 {
    let (a, b) = halves(&f.client);
    let h = mix(s.hash_key[0].get(), a);
    let h = mix(h, b);
    let h = mix(h, (f.port as u64) << 16 | f.service as u64);
    mix(h, s.hash_key[1].get())
}

/// The hash of an id in its scope; see `ids::Scope`.
#[inline(always)]
pub fn id(s: &Settings, scope: u32, id: u32) -> u64 {
    let h = mix(s.hash_key[1].get(), (scope as u64) << 32 | id as u64);
    mix(h, s.hash_key[0].get())
}

/// The hash of a client's address at a service, for the hints.
#[inline(always)]
pub fn hint(s: &Settings, client: &Address, service: u16) -> u64 {
    let (a, b) = halves(client);
    let h = mix(s.hash_key[1].get() ^ service as u64, a);
    mix(mix(h, b), s.hash_key[0].get())
}

/// The hash of a source prefix, for the budgets: an IPv4 address or an IPv6 /64.
#[inline(always)]
pub fn source(s: &Settings, client: &Address) -> u64 {
    let (a, b) = halves(client);
    let b = if client.is_v4() { b } else { 0 };
    mix(mix(s.hash_key[0].get() ^ M, a), b)
}

/// The placement of a client's address at a service: the same on every gateway.
#[inline(always)]
pub fn placement(client: &Address, service: u16) -> u64 {
    let (a, b) = halves(client);
    // The words are native; the multiplication is not endian-neutral, and all
    // machines that run this are little-endian.
    mix(mix(mix(M, a), b), service as u64) >> 16
}
