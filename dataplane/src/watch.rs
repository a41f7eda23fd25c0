//! What an agent does: it watches the answers that leave its machine, and decides which of them the gateway is to know of.
//!
//! Those that teach something: a handshake, another id, more proof than there was, an end. Reports may be lost, so what was told is told again,
//! with more and more answers' time between: that is also how a gateway comes by sessions that it does not know.

use crate::abi::{Address, AddressKey, Profile, ticks};
use crate::header::{self, Obstacle, PROTO_TCP, PROTO_UDP};
use crate::packet::Packet;
use crate::profile::{self, Outbound, Proof};
use crate::reason::Reason;

/// Names of the maps.
pub mod maps {
    /// [`AddressKey`](crate::abi::AddressKey) to [`super::Service`]: whose answers are watched. Hash.
    pub const SERVICES: &str = "SERVICES";
    /// [`super::Flow`] to [`super::Known`]. LRU hash: what is lost is told anew.
    pub const FLOWS: &str = "FLOWS";
    /// [`super::Report`]s. Ring buffer.
    pub const REPORTS: &str = "REPORTS";
    /// How many reports there was no place for. Per-CPU array of one `u64`.
    pub const LOST: &str = "LOST";
}

/// Most services' listeners.
pub const MAX_SERVICES: u32 = 512;
/// Flows that are remembered.
pub const MAX_FLOWS: u32 = 1 << 17;
/// Bytes of the ring buffer.
pub const RING_BYTES: u32 = 1 << 21;
/// Most bytes of an answer that a report has: every profile reads less, and messages of a length of their own are shorter.
pub const COPY: usize = 256;

/// What was told is told again after this; in [`ticks`]: a quarter of a second.
const FIRST: u32 = ticks(250_000_000);
/// And at last no more often than this: ten seconds.
const LONGEST: u32 = ticks(10_000_000_000);

/// A listener: its profile's number, and a number of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// A [`Profile`] as its number.
    pub profile: u8,
    /// Zero.
    pub zero: u8,
    /// Tells listeners apart.
    pub number: u16,
}

impl Service {
    /// A listener with a profile.
    pub const fn new(profile: Profile, number: u16) -> Self {
        Self { profile: profile as u8, zero: 0, number }
    }
}

/// A client's flow at a listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client.
    pub client: Address,
    /// Its port, network order.
    pub port: u16,
    /// [`Service::number`].
    pub service: u16,
}

/// What the gateway was told of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// [`Outbound::in_id`].
    pub in_id: u32,
    /// [`Outbound::out_id`].
    pub out_id: u32,
    /// The most that was proven: a [`Proof`] as its number.
    pub proof: u32,
    /// When it was told, in [`ticks`].
    pub told: u32,
    /// How long nothing has to be told again, in [`ticks`].
    pub quiet: u32,
    /// Packets since then.
    pub packets: u32,
    /// Bytes since then.
    pub bytes: u32,
}

/// An entry of the ring buffer.
#[repr(C)]
pub struct Report {
    /// Packets to the client since the last report, this one among them.
    pub packets: u32,
    /// Bytes of them.
    pub bytes: u32,
    /// Bytes of the packet that follow.
    pub length: u32,
    /// The packet's beginning, from its IP header on.
    pub packet: [u8; COPY],
}

impl Known {
    /// Takes in an answer of so many bytes: packets and bytes to be told with it, if it is to be told.
    #[inline(always)]
    pub fn notice(&mut self, said: &Outbound, len: u32, now: u32) -> Option<(u32, u32)> {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len);
        let is_new = |id: u32, known: u32| id != 0 && id != known;
        let proof = said.proof as u32;
        let is_handshake = proof == Proof::Handshake as u32;
        let is_news = said.begins
            || said.closes
            || is_handshake
            || proof > self.proof
            || is_new(said.in_id, self.in_id)
            || is_new(said.out_id, self.out_id);
        if is_news {
            if said.in_id != 0 {
                self.in_id = said.in_id;
            }
            if said.out_id != 0 {
                self.out_id = said.out_id;
            }
            // What comes out of a handshake is to be told, too.
            if is_handshake || proof > self.proof {
                self.proof = proof;
            }
            self.quiet = FIRST;
        } else if proof == Proof::Nothing as u32 || now.wrapping_sub(self.told) < self.quiet {
            return None;
        } else {
            self.quiet = (4 * self.quiet).min(LONGEST);
        }
        let sums = (self.packets, self.bytes);
        (self.told, self.packets, self.bytes) = (now, 0, 0);
        Some(sums)
    }
}

/// An answer that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Whose it is.
    pub flow: Flow,
    /// What it says.
    pub said: Outbound,
    /// Offset of its IP header.
    pub l3: usize,
    /// Bytes of the IP packet.
    pub len: u32,
}

/// Why something that leaves is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is no answer of a service's.
    Other,
    /// It could not be read to where that shows, or what an answer says. It may be there and not where it can be read.
    Short,
}

/// Reads what leaves: an answer of a service's. `service` looks a source up.
///
/// # Errors
/// See [`Unread`].
#[inline(always)]
pub fn read<P: Packet>(
    packet: &P,
    service: impl Fn(&AddressKey) -> Option<Service>,
) -> Result<Answer, Unread> {
    let short = |reason| match reason {
        Reason::NotIp => Unread::Other,
        _ => Unread::Short,
    };
    let link = header::link(packet).map_err(short)?;
    let ip = if link.v6 {
        header::ipv6(packet, link.l3).map_err(short)?
    } else {
        header::ipv4(packet, link.l3).map_err(short)?
    };
    if !matches!(ip.protocol, PROTO_UDP | PROTO_TCP)
        || !matches!(ip.obstacle, Obstacle::None | Obstacle::FirstFragment)
    {
        return Err(Unread::Other);
    }
    let udp = header::udp(packet, ip.l4).ok_or(Unread::Short)?;
    let key = AddressKey { address: ip.source, port: udp.source, protocol: ip.protocol, zero: 0 };
    let service = service(&key).ok_or(Unread::Other)?;
    let payload_len = header::payload_len(&udp, &ip).map_err(short)?;
    let payload = ip.l4 + header::UDP;
    let said =
        profile::outbound_at(service.profile, packet, payload, payload_len).map_err(short)?;
    let flow = Flow { client: ip.destination, port: udp.destination, service: service.number };
    Ok(Answer { flow, said, l3: link.l3, len: ip.len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::site::{DIRECT, DIRECT6, Listener};
    use crate::fixture::{Frame, message};
    use crate::packet::Buffer;
    use core::net::SocketAddr;
    use std::vec::Vec;

    fn answer(l: &Listener, payload: Vec<u8>) -> Answer {
        let client: SocketAddr = if l.at.is_ipv4() {
            "198.18.0.1:4000".parse().unwrap()
        } else {
            "[2001:db8:c::1]:4000".parse().unwrap()
        };
        let bytes = Frame::of(l, l.at, client, payload).bytes();
        let key = AddressKey {
            address: l.at.ip().into(),
            port: l.at.port().to_be(),
            protocol: l.protocol(),
            zero: 0,
        };
        let service = |asked: &AddressKey| (*asked == key).then(|| Service::new(l.profile, 5));
        let answer = read(&Buffer::new(&bytes, 0), service).expect("an answer");
        let flow = Flow { client: client.ip().into(), port: 4000_u16.to_be(), service: 5 };
        assert_eq!((answer.flow, answer.l3, answer.len), (flow, 14, bytes.len() as u32 - 14));
        answer
    }

    #[test]
    fn what_teaches_is_told_at_once_and_the_rest_again_and_again_more_seldom() {
        for l in [DIRECT, DIRECT6] {
            let mut known = Known::default();
            let mut tell = |payload, now: u32| {
                let answer = answer(&l, payload);
                known.notice(&answer.said, answer.len, now)
            };
            let len =
                |payload: &Vec<u8>| payload.len() as u32 + if l.at.is_ipv4() { 28 } else { 48 };
            let (response, data) = (message::response(9, 7), message::data(7, 1));
            assert_eq!(tell(response.clone(), 1000), Some((1, len(&response))));
            // The first data prove more; then nothing is new.
            assert_eq!(tell(data.clone(), 1000), Some((1, len(&data))));
            let mut told = Vec::new();
            for now in 1001..60_000 {
                if let Some((packets, bytes)) = tell(data.clone(), now) {
                    assert_eq!(bytes, packets * len(&data));
                    told.push((now, packets));
                }
            }
            let gaps: Vec<u32> = told.iter().map(|(_, packets)| *packets).collect();
            assert_eq!(gaps[..4], [FIRST, 4 * FIRST, 16 * FIRST, LONGEST], "{told:?}");
            // A rekey is told at once.
            assert!(tell(message::response(19, 17), 60_000).is_some());
            assert!(tell(message::data(17, 0), 60_000).is_some());
            assert!(tell(message::data(17, 1), 60_000).is_none());
        }
    }

    #[test]
    fn what_proves_nothing_is_never_told() {
        let mut known = Known::default();
        for now in (0..100_000).step_by(1000) {
            let cookie = answer(&DIRECT, message::cookie(7));
            assert_eq!(known.notice(&cookie.said, cookie.len, now), None);
        }
    }

    #[test]
    fn only_answers_of_a_service_are_read() {
        let nobody = |_: &AddressKey| None;
        let frame =
            Frame::of(&DIRECT, DIRECT.at, "198.18.0.1:4000".parse().unwrap(), message::data(1, 1));
        let unread = |frame: &Frame| read(&Buffer::new(&frame.bytes(), 0), nobody).err();
        assert_eq!(unread(&frame), Some(Unread::Other));
        let everybody = |_: &AddressKey| Some(Service::new(Profile::WireGuard, 0));
        let unread = |bytes: &[u8]| read(&Buffer::new(bytes, 0), everybody).err();
        let malformed = Frame { payload: vec![9; 40], ..frame.clone() };
        assert_eq!(unread(&malformed.bytes()), Some(Unread::Short));
        let later = Frame { fragment: Some((5, false)), ..frame.clone() };
        assert_eq!(unread(&later.bytes()), Some(Unread::Other));
        let mut arp = frame.bytes();
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(unread(&arp), Some(Unread::Other));
        // What is not there yet may come.
        for len in 0..frame.bytes().len() {
            assert_eq!(unread(&frame.bytes()[..len]), Some(Unread::Short), "{len}");
        }
    }
}
