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

/// (client address, client port, service).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The client's address.
    pub client: Address,
    /// The client's port, network order.
    pub port: u16,
    /// Service index, with [`SERVICE_TCP`](crate::abi::SERVICE_TCP).
    pub service: u16,
}

impl Flow {
    /// Port and service as a slot has them.
    #[inline(always)]
    pub const fn port_service(&self) -> u32 {
        self.port as u32 | (self.service as u32) << 16
    }
}

/// The hash of a flow: the lower bits are its home slot.
///
/// A sum of products with secret odd factors (multilinear hashing; Dietzfelbinger 1996): of two
/// flows that are chosen without knowing the factors, the chance that they fall together is
/// the least there can be. And the products do not wait for each other, as a chain of [`mix`]
/// would. One of those follows, because a sum alone keeps neighbours in step. Flows of one client's port to several services lie
/// at a distance that depends on the services alone: there are not many.
#[inline(always)]
pub fn flow(s: &Settings, f: &Flow) -> u64 {
    let term = |n: usize, word: u32| s.flow_key[n].get().wrapping_mul(word as u64);
    let [a, b, c, d] = f.client.0;
    let low = term(3, d).wrapping_add(term(4, f.port.into()));
    let high = term(0, a).wrapping_add(term(1, b)).wrapping_add(term(2, c));
    let sum = low.wrapping_add(high);
    // The service comes last, because it is known last: from the directory.
    mix(sum, sum >> 32).wrapping_add((f.service as u64).wrapping_mul(M))
}

/// The lower half of a hash as a fraction of so many buckets: their number need not be a power of two.
#[inline(always)]
pub const fn part(hash: u64, buckets: u32) -> u32 {
    (((hash & 0xffff_ffff) * buckets as u64) >> 32) as u32
}

/// The hash of an id in its scope; see `ids::Scope`.
#[inline(always)]
pub fn id(s: &Settings, scope: u32, id: u32) -> u64 {
    let h = mix(s.hash_key[1].get(), (scope as u64) << 32 | id as u64);
    mix(h, s.hash_key[0].get())
}

/// The hash of a client's address at a service, or, with its port, of its flow, for the hints.
#[inline(always)]
pub fn hint(s: &Settings, client: &Address, service: u16, port: u16) -> u64 {
    let [a, b] = client.halves();
    let h = mix(s.hash_key[1].get() ^ (service as u64 | (port as u64) << 16), a);
    mix(mix(h, b), s.hash_key[0].get())
}

/// The hash of a source prefix, for the budgets: an IPv4 address or an IPv6 /64.
#[inline(always)]
pub fn source(s: &Settings, client: &Address) -> u64 {
    let [a, b] = client.halves();
    let b = if client.is_v4() { b } else { 0 };
    // Mixed once more: the last byte of an IPv4 address, on top of `b`, would not reach the
    // lower half, and a whole /24 would share one entry.
    mix(mix(mix(s.hash_key[0].get() ^ M, a), b), s.hash_key[1].get())
}

/// The hash of what the fragments of a packet have in common.
#[inline(always)]
pub fn fragment(s: &Settings, source: &Address, destination: &Address, identification: u64) -> u64 {
    let ([a, b], [c, d]) = (source.halves(), destination.halves());
    let h = mix(mix(s.hash_key[0].get() ^ identification, a), b);
    mix(mix(mix(h, c), d), s.hash_key[1].get())
}

/// The placement of a client's address at a service, or, with its port, of its flow: the same on every gateway.
#[inline(always)]
pub fn placement(client: &Address, service: u16, port: u16) -> u64 {
    let [a, b] = client.halves();
    // The words are native; the multiplication is not endian-neutral, and all
    // machines that run this are little-endian.
    mix(mix(mix(M, a), b), service as u64 | (port as u64) << 16) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Neighbouring addresses, ports and ids fall on different places: in each 12 bits
    /// that a table uses there are about as many values as random ones would have.
    #[test]
    fn neighbours_are_far_apart_in_every_hash() {
        let s = Settings::default();
        s.hash_key[0].set(0x0123_4567_89ab_cdef);
        s.hash_key[1].set(0xfedc_ba98_7654_3210);
        for (n, key) in s.flow_key.iter().enumerate() {
            key.set(M.rotate_left(7 * n as u32) | 1);
        }
        let address = |n: u32| Address::v4((0xc612_0000 | n).to_be());
        let six = |n: u32| Address([1, n.to_be(), 3, 4]);
        let flow_at =
            |client, port: u16| flow(&s, &Flow { client, port: port.to_be(), service: 1 });
        let flow_to =
            |service| flow(&s, &Flow { client: address(1), port: 7, service: service as u16 });
        let hashes: [(&str, &dyn Fn(u32) -> u64); 10] = [
            ("flow by service", &flow_to),
            ("flow by address", &|n| flow_at(address(n), 7)),
            ("flow by port", &|n| flow_at(address(1), n as u16)),
            ("flow by IPv6 address", &|n| flow_at(Address([1, 2, 3, n.to_be()]), 7)),
            ("id", &|n| id(&s, 3, n)),
            ("hint", &|n| hint(&s, &address(n), 1, 0)),
            ("hint by port", &|n| hint(&s, &address(1), 1, n as u16)),
            ("source", &|n| source(&s, &address(n))),
            ("source of IPv6", &|n| source(&s, &six(n))),
            ("placement", &|n| placement(&address(n), 1, 0) % 8191 * 0x100_0010_0001),
        ];
        for (name, hash) in hashes {
            for shift in [0, 20, 40] {
                let seen: BTreeSet<u64> = (0..4096).map(|n| hash(n) >> shift & 0xfff).collect();
                // Random ones would have 4096 * (1 - 1/e) = 2589; a table can do with somewhat fewer.
                assert!(seen.len() > 1500, "{name}: {} values at bit {shift}", seen.len());
            }
        }
    }
}
