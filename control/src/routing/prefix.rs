//! What can be asked of prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Prefix;

/// Bits of an address of the same family.
pub(super) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address of a family that stands for none.
pub(super) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The prefix of an address alone.
pub(super) fn host(address: IpAddr) -> Prefix {
    Prefix { address, length: width(address) }
}

/// The prefix of that length around an address. A length beyond the address is the address.
pub(super) fn around(address: IpAddr, length: u8) -> Prefix {
    let length = length.min(width(address));
    let address = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    };
    Prefix { address, length }
}

/// Whether routes to the prefix say anything about packets to clients: link-local
/// and multicast destinations are not forwarded.
pub(super) fn is_forwardable(prefix: Prefix) -> bool {
    match prefix.address {
        IpAddr::V4(address) => prefix.length == 0 || !address.is_multicast(),
        IpAddr::V6(address) => {
            prefix.length < 8 || !(address.is_multicast() || address.is_unicast_link_local())
        }
    }
}

/// Which prefix lengths a table has, so that a lookup tries no others.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    v4: BTreeSet<u8>,
    v6: BTreeSet<u8>,
}

impl Lengths {
    /// The lengths in a table.
    pub(super) fn of<T>(table: &BTreeMap<Prefix, T>) -> Self {
        let mut lengths = Self::default();
        for prefix in table.keys() {
            let set = if prefix.address.is_ipv4() { &mut lengths.v4 } else { &mut lengths.v6 };
            set.insert(prefix.length);
        }
        lengths
    }

    /// The longest match for an address.
    pub(super) fn lookup<'a, T>(
        &self,
        table: &'a BTreeMap<Prefix, T>,
        address: IpAddr,
    ) -> Option<(Prefix, &'a T)> {
        let set = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        set.iter().rev().find_map(|&length| {
            let prefix = around(address, length);
            table.get(&prefix).map(|value| (prefix, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').expect("a prefix");
        Prefix {
            address: address.parse().expect("an address"),
            length: length.parse().expect("a length"),
        }
    }

    #[test]
    fn masks() {
        let around = |address: &str, length| around(address.parse().unwrap(), length);
        assert_eq!(around("10.1.2.3", 24), prefix("10.1.2.0/24"));
        assert_eq!(around("10.1.2.3", 0), prefix("0.0.0.0/0"));
        assert_eq!(around("10.1.2.3", 32), prefix("10.1.2.3/32"));
        assert_eq!(around("10.1.2.3", 200), prefix("10.1.2.3/32"));
        assert_eq!(around("2001:db8::1", 64), prefix("2001:db8::/64"));
        assert_eq!(around("2001:db8::1", 0), prefix("::/0"));
    }

    #[test]
    fn knows_what_is_forwarded() {
        for (text, forwarded) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("10.0.0.0/8", true),
            ("2001:db8::/32", true),
            ("fe80::/64", false),
            ("ff00::/8", false),
            ("224.0.0.0/4", false),
        ] {
            assert_eq!(is_forwardable(prefix(text)), forwarded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            table in proptest::collection::btree_map(
                (0_u32..64, 20_u8..=32).prop_map(|(low, length)| {
                    around(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low << 6)), length)
                }),
                any::<u8>(),
                0..20,
            ),
            low in 0_u32..4096,
        ) {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low));
            let scan = table
                .iter()
                .filter(|(prefix, _)| around(address, prefix.length) == **prefix)
                .max_by_key(|(prefix, _)| prefix.length)
                .map(|(prefix, value)| (*prefix, value));
            prop_assert_eq!(Lengths::of(&table).lookup(&table, address), scan);
        }
    }
}
