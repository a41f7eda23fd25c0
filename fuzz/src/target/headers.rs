//! Ethernet, VLAN tags, IPv4, IPv6, UDP and TCP, beside another parser.

use dataplane::abi::Address;
use dataplane::fixture::read;
use dataplane::header::{self, IPV4, IPV6, Ip, Link, Obstacle};
use dataplane::packet::{Buffer, Packet as _};

use crate::{Target, captures, pool};

pub(crate) const TARGET: Target = Target::new(
    "headers",
    "headers from Ethernet's to the ports, beside another parser",
    run,
    seeds,
);

fn run(data: &[u8]) {
    let packet = Buffer::new(data, 0);
    let parsed = header::link(&packet).and_then(|link| Ok((link, ip(&packet, &link)?)));
    if let Ok((link, ip)) = parsed {
        bounded(&packet, &link, &ip);
        assert!(usual(&packet, &link).is_none_or(|usual| usual == ip), "the usual header's reader");
    }
    // What another parser takes for a whole packet of a service, this one does, too.
    let tags_are_usual = |seen: &read::Seen| {
        matches!(seen.tags[..], [] | [(0x8100 | 0x88a8, _)] | [(0x8100 | 0x88a8, _), (0x8100, _)])
    };
    let Some(seen) = read::read(data).filter(|s| tags_are_usual(s) && !s.obstructed) else {
        return;
    };
    let (_, ip) = parsed.expect("another parser reads it");
    let udp = header::udp(&packet, ip.l4).expect("it has ports");
    assert_eq!(
        (ip.source, ip.destination),
        (Address::from(seen.source.ip()), Address::from(seen.destination.ip()))
    );
    assert_eq!((ip.protocol, ip.ttl, ip.obstacle), (seen.protocol, seen.ttl, Obstacle::None));
    assert_eq!(
        (u16::from_be(udp.source), u16::from_be(udp.destination)),
        (seen.source.port(), seen.destination.port())
    );
    assert_eq!(ip.len as usize, seen.ip_len);
    assert_eq!(header::payload_len(&udp, &ip), Ok(seen.payload.len() as u32));
}

fn ip(packet: &Buffer, link: &Link) -> Result<Ip, dataplane::reason::Reason> {
    if link.v6 { header::ipv6(packet, link.l3) } else { header::ipv4(packet, link.l3) }
}

/// Everything that was read is in the frame.
fn bounded(packet: &Buffer, link: &Link, ip: &Ip) {
    let end = link.l3 + ip.len as usize;
    assert!(end <= packet.len() && ip.l4 + ip.l4_len as usize == end, "{ip:?}");
    let is_fragment = matches!(ip.obstacle, Obstacle::FirstFragment | Obstacle::LaterFragment);
    if is_fragment {
        assert!(header::identification(packet, link.l3, link.v6).is_some());
    }
    if let Some(udp) = header::udp(packet, ip.l4)
        && ip.protocol == header::PROTO_UDP
        && ip.obstacle == Obstacle::None
        && let Ok(len) = header::payload_len(&udp, ip)
    {
        assert!(header::UDP as u32 + len <= ip.l4_len);
    }
}

fn usual(packet: &Buffer, link: &Link) -> Option<Ip> {
    if link.v6 {
        header::usual_ipv6(packet.view::<IPV6>(link.l3)?, link.l3, packet.len())
    } else {
        header::usual_ipv4(packet.view::<IPV4>(link.l3)?, link.l3, packet.len())
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let built = pool::ALL.iter().map(|packet| packet.bytes.clone());
    let captured = ["wireguard", "openvpn", "ikev2-esp"].into_iter().flat_map(captures::frames);
    built.chain(captured).collect()
}
