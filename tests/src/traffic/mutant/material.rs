//! Frames to be mutated.

use std::net::{IpAddr, SocketAddr};

use dataplane::fixture::{Frame, capture, dtls, icmp, ipsec, message, openvpn, quic, tcp};
use dataplane::header::{PROTO_TCP, PROTO_UDP};

/// What real clients and servers sent, and the ports of their servers.
const CAPTURES: [(&str, &[u16], &[u8]); 3] = [
    (
        "wireguard",
        &[51820],
        include_bytes!("../../../../control/tests/captures/wireguard-roam-outside.pcap"),
    ),
    (
        "openvpn",
        &[1194],
        include_bytes!("../../../../control/tests/captures/openvpn-roam-outside.pcap"),
    ),
    (
        "ipsec",
        &[500, 4500],
        include_bytes!("../../../../control/tests/captures/ikev2-esp-roam-outside.pcap"),
    ),
];
/// Bytes of each of a packet's fragments.
const FRAGMENT: u16 = 64;
/// MACs that [`Frame`] leaves to be set.
const MACS: usize = 12;

/// A service that mutated frames are for, with a backend of its.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// Its profile, as configurations call it.
    pub(crate) profile: &'static str,
    /// It is TCP's.
    pub(crate) is_tcp: bool,
    /// Where clients dial.
    pub(crate) vip: SocketAddr,
    /// Where the backend listens.
    pub(crate) backend: SocketAddr,
    /// One of its clients.
    pub(crate) client: SocketAddr,
}

/// Frames of one side, whole and right.
#[derive(Debug, Default)]
pub(crate) struct Material(pub(crate) Vec<Vec<u8>>);

impl Material {
    /// What clients send to a service.
    pub(crate) fn of_clients(&mut self, service: &Service) {
        self.add(service, service.client, service.vip);
    }

    /// What a service's backend answers.
    pub(crate) fn of_backends(&mut self, service: &Service) {
        self.add(service, service.backend, service.client);
    }

    /// All messages of a service, of both directions: those of the other one are as good as mutated. And errors about them, and fragments.
    fn add(&mut self, service: &Service, from: SocketAddr, to: SocketAddr) {
        for payload in payloads(service.profile, service.vip.port()) {
            let protocol = if service.is_tcp { PROTO_TCP } else { PROTO_UDP };
            let frame = Frame { protocol, ..Frame::new(from, to, payload) };
            self.0.extend(frame.fragments(FRAGMENT).into_iter().take(3));
            self.0.push(frame.bytes());
        }
        // About what the other side sent, from somebody on the way.
        let about = Frame::new(to, from, vec![0x50; 40]).bytes();
        let kind = icmp::TOO_BIG[usize::from(from.is_ipv6())];
        let addressed = if from == service.backend { service.client } else { service.vip };
        let error = icmp::error(kind, from.ip(), addressed.ip(), &about[14..], 100);
        self.0.push(error.bytes());
    }

    /// Gives all frames the MACs of a link: to the gateway, from its neighbour.
    pub(crate) fn addressed(mut self, to: [u8; 6], from: [u8; 6]) -> Self {
        for frame in &mut self.0 {
            frame[..MACS].copy_from_slice([to, from].as_flattened());
        }
        self
    }
}

fn payloads(profile: &str, port: u16) -> Vec<Vec<u8>> {
    let of_captures =
        CAPTURES.iter().filter(|(of, ports, _)| *of == profile && ports.contains(&port));
    let mut all: Vec<_> =
        of_captures.flat_map(|(.., bytes)| capture::payloads(bytes, port)).collect();
    let id = quic::id(0x5151);
    all.extend(match profile {
        "wireguard" => vec![
            message::initiation(7),
            message::response(8, 7),
            message::cookie(7),
            message::keepalive(8, 1),
            message::data(8, 2),
        ],
        "openvpn" => vec![
            openvpn::hard_reset_client(),
            openvpn::hard_reset_server(),
            openvpn::control(0),
            openvpn::soft_reset(1),
            openvpn::acknowledgement(),
            openvpn::data_v1(),
            openvpn::data(3, 5),
        ],
        "ipsec" => vec![ipsec::esp(0x1234_5678, 1), ipsec::keepalive()],
        "quic" => vec![
            quic::long(quic::Kind::Initial, quic::V1, &id, &id),
            quic::long(quic::Kind::Handshake, quic::V2, &id, &id),
            quic::long(quic::Kind::Retry, quic::V1, &id, &id),
            quic::short(&id),
        ],
        "dtls" => vec![
            dtls::client_hello(),
            dtls::hello_verify_request(),
            dtls::ServerHello::new(Some(&id)).record(),
            dtls::data(5),
            dtls::data_to(&id, 6),
            dtls::unified(&id, 3),
        ],
        "tcp" => vec![
            tcp::segment(tcp::SYN, &[]),
            tcp::segment_with(tcp::SYN | tcp::ACK, &[2, 4, 5, 0xb4], &[]),
            tcp::data(30),
            tcp::segment(tcp::FIN | tcp::ACK, &[]),
            tcp::segment(tcp::RST, &[]),
        ],
        _ => vec![vec![0x55; 40]],
    });
    all
}

/// An address as it lies in packets.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
