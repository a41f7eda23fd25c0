//! What holds for every profile's reader.

use dataplane::abi::Profile;
use dataplane::fixture::oracle::{inbound_id, malformed};
use dataplane::fixture::read;
use dataplane::fixture::site::ALL;
use dataplane::packet::Buffer;
use dataplane::profile::{Inbound, Outbound, inbound_at, outbound_at};
use dataplane::reason::Reason;

use crate::pool;

/// Where payloads begin: behind IPv4 and UDP, and behind two tags, IPv6, a fragment's header and UDP.
const NEAR: usize = 42;
const FAR: usize = 78;
/// What Ethernet pads short frames with, or anybody long ones.
const PADDING: [u8; 64] = [0xff; 64];

/// What a payload was read as, from a client and to one.
type Read = (Result<Inbound, Reason>, Result<Outbound, Reason>);

/// Reads a payload both ways. It is read alike wherever it lies, is refused by the profile's own reason, if at all, and, from a client,
/// exactly if it is not of the protocol; the id is the one that another reader finds.
pub(crate) fn check(profile: Profile, payload: &[u8]) {
    let (inbound, outbound) = read(profile, payload, NEAR);
    assert_eq!((inbound, outbound), read(profile, payload, FAR), "read otherwise elsewhere");
    let wrong = malformed(profile, payload);
    assert_eq!(inbound.err(), wrong, "inbound");
    if let Err(reason) = outbound {
        assert_eq!(malformed(profile, &[]), Some(reason), "outbound, for another's reason");
    }
    if let (Ok(said), false) = (inbound, matches!(profile, Profile::Ike | Profile::Ipsec)) {
        assert_eq!(said.id, inbound_id(profile, payload), "another id");
    }
    padded(profile, payload);
}

fn read(profile: Profile, payload: &[u8], offset: usize) -> Read {
    let headers = vec![0; offset];
    let len = payload.len() as u32;
    let packet = Buffer::new(&[&headers, payload].concat(), 0);
    let number = profile as u8;
    (inbound_at(number, &packet, offset, len), outbound_at(number, &packet, offset, len))
}

/// The same with something behind the payload that does not belong to it. It may be taken for what is missing of a message that
/// was cut: who forges one can as well put that into it.
fn padded(profile: Profile, payload: &[u8]) {
    let packet = Buffer::new(&[&[0; NEAR], payload, &PADDING].concat(), 0);
    let (number, len) = (profile as u8, payload.len() as u32);
    let (inbound, outbound) =
        (inbound_at(number, &packet, NEAR, len), outbound_at(number, &packet, NEAR, len));
    // What is right without it stays right.
    let bare = read(profile, payload, NEAR);
    assert!(inbound.is_ok() || bare.0.is_err(), "inbound, refused for its padding");
    assert!(outbound.is_ok() || bare.1.is_err(), "outbound, refused for its padding");
}

/// The payloads of a profile in the catalogue and the random streams.
pub(crate) fn seeds(profile: Profile) -> Vec<Vec<u8>> {
    let of: Vec<_> = ALL.iter().filter(|l| l.profile == profile).collect();
    let mut seeds: Vec<_> = pool::ALL
        .iter()
        .filter_map(|packet| read::read(&packet.bytes))
        .filter(|seen| {
            of.iter().any(|l| {
                let backends = (0..3).map(|n| l.backend(n));
                l.protocol() == seen.protocol
                    && (l.at == seen.destination || backends.into_iter().any(|b| b == seen.source))
            })
        })
        .map(|seen| seen.payload)
        .collect();
    seeds.sort();
    seeds.dedup();
    seeds
}
