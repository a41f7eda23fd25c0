//! Frames with as much of WireGuard as the gateway and the peers here look at. What would be
//! encrypted says who sent it, and the how manieth it is: so that every loss can be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the messages (WireGuard's whitepaper, 5.4); data with a payload of some size.
const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const DATA: usize = 96;
const ETHERNET: usize = 14;
const UDP: usize = 8;
const PROTOCOL_UDP: u8 = 17;
/// TTL of what is sent. It arrives with one less.
const TTL: u8 = 64;

/// Room for a frame: an initiation over IPv6.
pub(super) const ROOM: usize = ETHERNET + 40 + UDP + INITIATION;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Type 1. `employee` stands for the static key.
    Initiation { sender: u32, employee: u32 },
    /// Type 2.
    Response { sender: u32, receiver: u32, employee: u32 },
    /// Type 4.
    Data { receiver: u32, counter: u64, employee: u32, concentrator: u32, number: u32 },
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) message: Message,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Good(Datagram),
    /// Not UDP: it is the stack's.
    Other,
    /// A checksum, a length or the TTL is wrong.
    Damaged,
}

impl Message {
    fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut words = |words: &[u32]| words.iter().for_each(|w| out.extend(w.to_le_bytes()));
        let length = match *self {
            Self::Initiation { sender, employee } => {
                words(&[1, sender, employee]);
                INITIATION
            }
            Self::Response { sender, receiver, employee } => {
                words(&[2, sender, receiver, employee]);
                RESPONSE
            }
            Self::Data { receiver, counter, employee, concentrator, number } => {
                let (low, high) = (counter as u32, (counter >> 32) as u32);
                words(&[4, receiver, low, high, employee, concentrator, number]);
                DATA
            }
        };
        out.resize(begin + length, 0);
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let word = |index: usize| -> Option<u32> {
            Some(u32::from_le_bytes(payload.get(index * 4..index * 4 + 4)?.try_into().ok()?))
        };
        Some(match (word(0)?, payload.len()) {
            (1, INITIATION) => Self::Initiation { sender: word(1)?, employee: word(2)? },
            (2, RESPONSE) => {
                Self::Response { sender: word(1)?, receiver: word(2)?, employee: word(3)? }
            }
            (4, DATA) => Self::Data {
                receiver: word(1)?,
                counter: u64::from(word(2)?) | u64::from(word(3)?) << 32,
                employee: word(4)?,
                concentrator: word(5)?,
                number: word(6)?,
            },
            _ => return None,
        })
    }
}

/// One's complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8], begin: u32) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    begin + whole + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Sum over UDP's pseudo header (RFC 768, RFC 8200 8.1), from the addresses as they lie in the frame.
fn pseudo(addresses: &[u8], length: usize) -> u32 {
    sum(addresses, u32::from(PROTOCOL_UDP) + length as u32)
}

impl Datagram {
    /// Writes its frame over what is there.
    pub(super) fn write(&self, link: &[u8; 12], out: &mut Vec<u8>) {
        out.clear();
        out.extend(link);
        let addresses = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0]);
                out.extend(from.octets());
                out.extend(to.octets());
                8
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                out.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, PROTOCOL_UDP, TTL]);
                out.extend(from.octets());
                out.extend(to.octets());
                32
            }
            _ => unreachable!("both ends are of one family"),
        };
        let udp = out.len();
        out.extend(self.from.port().to_be_bytes());
        out.extend(self.to.port().to_be_bytes());
        out.extend([0; 4]);
        self.message.write(out);
        let length = (out.len() - udp) as u16;
        out[udp + 4..udp + 6].copy_from_slice(&length.to_be_bytes());
        let whole = sum(&out[udp..], pseudo(&out[udp - addresses..udp], length.into()));
        // Zero would mean that there is none.
        let check = match !folded(whole) {
            0 => 0xffff,
            check => check,
        };
        out[udp + 6..udp + 8].copy_from_slice(&check.to_be_bytes());
        if addresses == 8 {
            out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(length + 20).to_be_bytes());
            let check = !folded(sum(&out[ETHERNET..udp], 0));
            out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&check.to_be_bytes());
        } else {
            out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Reads the frame of one that the gateway forwarded.
    pub(super) fn read(frame: &[u8]) -> Read {
        let Some((kind, packet)) = frame.get(12..).and_then(|rest| rest.split_at_checked(2)) else {
            return Read::Other;
        };
        let (protocol, head, length) = match (kind, packet.first()) {
            ([0x08, 0x00], Some(0x45)) if packet.len() >= 20 => {
                (packet[9], 20, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
            }
            ([0x86, 0xdd], Some(_)) if packet.len() >= 40 => {
                (packet[6], 40, usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40)
            }
            _ => return Read::Other,
        };
        if protocol != PROTOCOL_UDP {
            return Read::Other;
        }
        let packet = packet.get(..length);
        packet.and_then(|packet| Self::of(packet, head)).map_or(Read::Damaged, Read::Good)
    }

    /// A packet of UDP whose header of IP has `head` bytes.
    fn of(packet: &[u8], head: usize) -> Option<Self> {
        let (ip, udp) = packet.split_at_checked(head)?;
        let (ttl, addresses) = if head == 20 { (ip[8], &ip[12..]) } else { (ip[7], &ip[8..]) };
        let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
        let is_right = ttl == TTL - 1
            && usize::from(word(4)?) == udp.len()
            && word(6)? != 0
            && folded(sum(udp, pseudo(addresses, udp.len()))) == 0xffff
            && (head == 40 || folded(sum(ip, 0)) == 0xffff);
        let (from, to) = addresses.split_at(addresses.len() / 2);
        is_right.then_some(Self {
            from: SocketAddr::new(address(from)?, word(0)?),
            to: SocketAddr::new(address(to)?, word(2)?),
            message: Message::read(&udp[UDP..])?,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const LINK: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 9, 9, 9];

    fn datagrams() -> Vec<Datagram> {
        let messages = [
            Message::Initiation { sender: 0xdead_beef, employee: 59_999 },
            Message::Response { sender: 7, receiver: 0xffff_ffff, employee: 1 },
            Message::Data {
                receiver: 3,
                counter: 1 << 40 | 5,
                employee: 0xffff,
                concentrator: 44,
                number: 12,
            },
        ];
        let ends = [
            ("100.64.1.2:40000", "203.0.113.10:51820"),
            ("[2001:db8:c::7]:1", "[2001:db8::10]:51859"),
        ];
        let both = ends.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        let all = both.into_iter().flat_map(|(from, to)| {
            messages.into_iter().map(move |message| Datagram { from, to, message })
        });
        all.collect()
    }

    /// As a router would: one off the TTL.
    fn routed(frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if frame[12] == 0x08 {
            frame[22] -= 1;
            frame[24..26].fill(0);
            let check = !folded(sum(&frame[14..34], 0));
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        } else {
            frame[21] -= 1;
        }
        frame
    }

    #[test]
    fn another_parser_reads_what_is_written() {
        for datagram in datagrams() {
            let mut frame = Vec::new();
            datagram.write(&LINK, &mut frame);
            assert!(frame.len() <= ROOM);
            let sliced = SlicedPacket::from_ethernet(&frame).expect("it is a frame");
            let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("not UDP") };
            assert_eq!(udp.source_port(), datagram.from.port());
            assert_eq!(udp.destination_port(), datagram.to.port());
            let header = udp.to_header();
            let check = match sliced.net.expect("it is IP") {
                NetSlice::Ipv4(ip) => {
                    let ip4 = ip.header().to_header();
                    assert_eq!(ip4.header_checksum, ip4.calc_header_checksum());
                    assert_eq!(ip4.protocol, IpNumber::UDP);
                    header.calc_checksum_ipv4(&ip4, udp.payload())
                }
                NetSlice::Ipv6(ip) => {
                    header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
                }
                NetSlice::Arp(_) => panic!("not IP"),
            };
            assert_eq!(header.checksum, check.expect("it is short enough"));
            assert_eq!(Message::read(udp.payload()), Some(datagram.message));
        }
    }

    #[test]
    fn what_was_forwarded_is_read_and_every_flipped_bit_is_seen() {
        for datagram in datagrams() {
            let mut frame = Vec::new();
            datagram.write(&LINK, &mut frame);
            assert_eq!(Datagram::read(&frame), Read::Damaged, "nobody forwarded it");
            let frame = routed(&frame);
            assert_eq!(Datagram::read(&frame), Read::Good(datagram));
            for byte in 14..frame.len() {
                let mut flipped = frame.clone();
                flipped[byte] ^= 0x10;
                // IPv6 has no checksum over its first bytes.
                let flow = frame[12] == 0x86 && byte < 18;
                let read = Datagram::read(&flipped);
                assert!(flow || !matches!(read, Read::Good(_)), "byte {byte}: {read:?}");
            }
        }
    }

    #[test]
    fn what_is_not_udp_is_not_ours() {
        assert_eq!(Datagram::read(&[]), Read::Other);
        assert_eq!(Datagram::read(&[0; 60]), Read::Other);
    }
}
