//! Servers that name themselves in QUIC's connection ids.

use dataplane::profile::quic_lb::{LAST_CONFIG, LONGEST, name, name_of};

use crate::Target;

pub(crate) const TARGET: Target =
    Target::new("quic_lb", "servers' names in QUIC's connection ids", run, seeds);

/// A length, and the beginning of a connection id.
fn run(data: &[u8]) {
    let &[length, first, one, two, three, ..] = data else { return };
    let length = length % LONGEST + 1;
    let (config, server) = (first >> 5, [one, two, three]);
    let head = |first: u8, server: [u8; 3]| {
        name(u32::from_be_bytes([first, server[0], server[1], server[2]]), length)
    };
    let said = head(first, server);
    let number = server[..usize::from(length)].iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
    assert_eq!(said, name_of(config, number, length));
    // Neither the first octet's lower bits nor the nonce are part of it; each bit of the name is.
    assert_eq!(said, head(first ^ 0x1f, server));
    for (at, byte) in server.iter().enumerate() {
        let mut other = server;
        other[at] = !byte;
        assert_eq!(said == head(first, other), at >= usize::from(length));
    }
    assert_ne!(said, head(first ^ 0x20, server));
    assert!(config <= LAST_CONFIG || said >> 29 == 7);
}

fn seeds() -> Vec<Vec<u8>> {
    (0..LONGEST).map(|length| vec![length, 0xa7, 0x5e, 0x10, 0x22]).collect()
}
