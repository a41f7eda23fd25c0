//! What gateways are told: see `dataplane::pipeline::report`.

use dataplane::pipeline::report::MAGIC;
use dataplane::watch::{COPY, Report};

/// Where a [`Report`] of the ring buffer has its fields.
const LENGTH: usize = std::mem::offset_of!(Report, length);
const PACKET: usize = std::mem::offset_of!(Report, packet);

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// The datagram of a report; `None` if the entry is none.
pub(crate) fn datagram(entry: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_ne_bytes(entry.get(at..at + 4)?.try_into().ok()?));
    let (packets, bytes, length) = (word(0)?, word(4)?, word(LENGTH)? as usize);
    let mut packet = entry.get(PACKET..PACKET + length.min(COPY))?.to_vec();
    shorten(&mut packet)?;
    let mut out = MAGIC.to_vec();
    out.extend(packets.to_be_bytes());
    out.extend(bytes.to_be_bytes());
    out.extend(packet);
    Some(out)
}

/// Makes the lengths in the headers those of what is there: a copy may be shorter than its packet. Sums are nobody's
/// concern behind the gateway.
fn shorten(packet: &mut [u8]) -> Option<()> {
    let len = u16::try_from(packet.len()).ok()?;
    let lower = |packet: &mut [u8], at: usize, to: u16| {
        let field = packet.get_mut(at..at + 2)?;
        if u16::from_be_bytes([field[0], field[1]]) > to {
            field.copy_from_slice(&to.to_be_bytes());
        }
        Some(())
    };
    let (protocol, header) = match packet.first()? >> 4 {
        4 => {
            lower(packet, 2, len)?;
            (*packet.get(9)?, 4 * u16::from(packet[0] & 0x0f))
        }
        6 => {
            lower(packet, 4, len.checked_sub(40)?)?;
            // A first fragment has its header between.
            match *packet.get(6)? {
                44 => (*packet.get(40)?, 48),
                protocol => (protocol, 40),
            }
        }
        _ => return None,
    };
    if protocol == UDP {
        lower(packet, usize::from(header) + 4, len.checked_sub(header)?)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dataplane::fixture::site::{DIRECT, DIRECT_TCP, HEARD, HEARD6, Listener};
    use dataplane::fixture::{Frame, World, message, tcp};
    use dataplane::reason::Reason;

    use super::*;

    fn entry(packet: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [3, 4500, packet.len().min(COPY) as u32] {
            out.extend(u32::to_ne_bytes(word));
        }
        out.extend(&packet[..packet.len().min(COPY)]);
        out.resize(PACKET + COPY, 0);
        out
    }

    fn answer(l: &Listener, payload: Vec<u8>) -> Vec<u8> {
        let client: SocketAddr = match l.at.is_ipv4() {
            true => "198.18.0.1:4000".parse().unwrap(),
            false => "[2001:db8:c::1]:4000".parse().unwrap(),
        };
        Frame::of(l, l.at, client, payload).bytes()[14..].to_vec()
    }

    /// However long an answer is, the gateway takes its report for what it is.
    #[test]
    fn the_gateway_takes_in_what_is_told() {
        for l in [HEARD, HEARD6] {
            for len in [32, 200, 256, 257, 1400] {
                let datagram = datagram(&entry(&answer(&l, message::data_of(7, 1, len)))).unwrap();
                let world = World::new();
                let from = SocketAddr::new(l.backend(0).ip(), dataplane::abi::REPORT_PORT);
                let to = match from.is_ipv4() {
                    true => dataplane::fixture::site::TUNNEL4,
                    false => dataplane::fixture::site::TUNNEL6,
                };
                let to = SocketAddr::new(to, dataplane::abi::REPORT_PORT);
                let frame = Frame::new(from, to, datagram).bytes();
                let outcome = world.receive(&frame, dataplane::fixture::site::LAN);
                assert_eq!(outcome.reason(), Reason::Reported, "{len}");
                assert_eq!(world.sessions(), 1);
            }
        }
    }

    #[test]
    fn lengths_are_those_of_what_is_there() {
        let whole = answer(&DIRECT, message::data_of(7, 1, 1000));
        let told = datagram(&entry(&whole)).unwrap();
        assert_eq!(told.len(), 12 + COPY);
        assert_eq!(told[..12], [b'F', b'R', 0, 1, 0, 0, 0, 3, 0, 0, 0x11, 0x94]);
        let packet = &told[12..];
        assert_eq!((packet[2..4].to_vec(), packet[24..26].to_vec()), (vec![1, 0], vec![0, 236]));
        // What is short enough stays as it is.
        let short = answer(&DIRECT_TCP, tcp::data(30));
        assert_eq!(datagram(&entry(&short)).unwrap()[12..], short);
    }

    #[test]
    fn what_is_no_entry_is_not_told() {
        assert_eq!(datagram(&[]), None);
        assert_eq!(datagram(&[0; 12]), None);
        assert_eq!(datagram(&entry(&[0x55; 60])), None);
        // A datagram that ends before its length.
        assert_eq!(datagram(&entry(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17])), None);
    }
}
