//! The Internet checksum, incrementally: RFC 1071 and RFC 1624.
//!
//! A checksum field holds the complement of the one's complement sum over
//! 16-bit words. If words change from `m` to `m'`, the new field is
//! `~(~HC + ~m + m')` (RFC 1624, equation 3). The part `~m + m'` does not
//! depend on the packet, so it is computed once for each endpoint: a *delta*.
//! All sums are over words as read from memory; one's complement addition does
//! not mind the byte order (RFC 1071, section 2).

/// Folds a sum of 16-bit words into 16 bits with end-around carry.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// `~old + new` over the two halves of a native word, to be summed up and folded.
#[inline(always)]
pub const fn change(old: u32, new: u32) -> u32 {
    let old = !old;
    (old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16)
}

/// The same of a word of 16 bits.
#[inline(always)]
pub const fn change16(old: u16, new: u16) -> u32 {
    !old as u32 + new as u32
}

/// The one's complement sum of `~old + new` over native words of 32 bits, as many of the one as of
/// the other.
fn delta(old: &[u32], new: &[u32]) -> u16 {
    fold(old.iter().zip(new).map(|(old, new)| u64::from(change(*old, *new))).sum())
}

/// The delta of a header's address and port: `(addresses alone, with the ports)`.
/// Addresses as in [`crate::abi::Address`], ports in network order.
pub fn endpoint_delta(
    old: crate::abi::Address,
    old_port: u16,
    new: crate::abi::Address,
    new_port: u16,
) -> (u16, u16) {
    let address = delta(&old.0, &new.0);
    let ports = change16(old_port, new_port);
    (address, fold(u64::from(address) + u64::from(ports)))
}

/// The one's complement sum of two words.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    (sum + (sum >> 16)) as u16
}

/// The checksum field after a change by `delta`.
#[inline(always)]
pub const fn update(field: u16, delta: u16) -> u16 {
    // As `!add(!field, delta)`, without the masks between.
    let sum = (field as u32 ^ 0xffff) + delta as u32;
    !(sum + (sum >> 16)) as u16
}

/// [`update`] for UDP: 0 means *no checksum* and stays, and a computed 0 is
/// sent as 0xffff (RFC 768).
#[inline(always)]
pub const fn update_udp(field: u16, delta: u16) -> u16 {
    if field == 0 {
        return 0;
    }
    match update(field, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(words: &[u16]) -> u16 {
        !fold(words.iter().map(|w| u64::from(*w)).sum())
    }

    proptest! {
        /// The incremental update is the full computation, up to the two forms of zero.
        #[test]
        fn incremental_is_full(mut words in prop::collection::vec(any::<u16>(), 8..40), new in any::<[u32; 2]>()) {
            let before = full(&words);
            let old = [
                u32::from(words[0]) | u32::from(words[1]) << 16,
                u32::from(words[2]) | u32::from(words[3]) << 16,
            ];
            let d = delta(&old, &new);
            for (i, w) in new.iter().enumerate() {
                words[2 * i] = *w as u16;
                words[2 * i + 1] = (*w >> 16) as u16;
            }
            let (a, b) = (update(before, d), full(&words));
            prop_assert!(a == b || (a ^ b) == 0xffff && (a == 0 || b == 0), "{a:04x} {b:04x}");
        }

        /// The way back is the complement.
        #[test]
        fn the_way_back(field in 1_u16..0xffff, d in any::<u16>()) {
            let there = update_udp(field, d);
            prop_assert_eq!(update_udp(there, !d), field);
        }
    }
}
