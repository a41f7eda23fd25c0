//! QUIC-LB: connection ids that name their server, in clear text.
//!
//! Source: draft-ietf-quic-load-balancers-21, *First CID octet* and *CID format*, without a key. Integers are big-endian.
//!
//! ```text
//! the configuration's id: 3 bits, the length of what follows or noise: 5 bits | the server's id | nonce, of four bytes or more
//! ```
//!
//! Sessions are told apart by the first eight bytes of their ids (see [`super::quic`]). So that those have a whole nonce, a
//! server's id has at most [`LONGEST`] bytes.

/// Most bytes of a server's id.
pub const LONGEST: u8 = 3;
/// Ids of configurations go up to this. Connection ids with the next one, the last, name no server.
pub const LAST_CONFIG: u8 = 6;

/// Where the configuration's id is in the first four bytes of a connection id.
const CONFIG: u32 = 29;

/// What the first four bytes of a connection id say of its server, whose id has `length` bytes: configuration and
/// server, without the rest.
#[inline(always)]
pub const fn name(head: u32, length: u8) -> u32 {
    const FIRST: u32 = 0xff00_0000;
    let server = !FIRST & !(!FIRST >> (8 * length as u32));
    head & (!0 << CONFIG | server)
}

/// The [`name`] of a server with this id, of `length` bytes as one number.
pub const fn name_of(config: u8, server_id: u32, length: u8) -> u32 {
    (config as u32) << CONFIG | server_id << (8 * (LONGEST - length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_configuration_and_the_servers_id_alone() {
        // Its length in the first octet, or noise; and the nonce: both are left out.
        for first in [0b101_00111, 0b101_10101] {
            let head = u32::from_be_bytes([first, 0x12, 0x34, 0x56]);
            assert_eq!(name(head, 1), name_of(5, 0x12, 1));
            assert_eq!(name(head, 2), name_of(5, 0x1234, 2));
            assert_eq!(name(head, 3), name_of(5, 0x12_3456, 3));
            assert_ne!(name(head, 2), name_of(4, 0x1234, 2));
        }
        assert_eq!(name(0, 2), name_of(0, 0, 2));
    }
}
