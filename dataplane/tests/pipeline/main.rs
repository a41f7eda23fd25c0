//! Packets in, packets out: the pipeline on the host, rule by rule of DESIGN.md.

mod direct;
mod dtls;
mod fairness;
mod fragments;
mod handshakes;
mod host_traffic;
mod icmp;
mod ipsec;
mod limits;
mod opening;
mod openvpn;
mod placement;
mod quic;
mod quic_lb;
mod refused;
mod reports;
mod reuse;
mod roaming;
mod routes;
mod tcp;
mod too_big;
mod translation;

use dataplane::abi::Profile;
use dataplane::fixture::ipsec::Exchange::{Auth, SaInit};
use dataplane::fixture::ipsec::{REQUEST, RESPONSE, marked};
use dataplane::fixture::quic::Kind::Initial;
use dataplane::fixture::quic::{V1, id, long};
use dataplane::fixture::site::Listener;
use dataplane::fixture::{self, Outcome, World, message};
use dataplane::pipeline::Action;
use dataplane::reason::Reason;
use std::net::{IpAddr, SocketAddr};

/// The `n`th client, of the listener's family, at one port for all.
fn client(l: &Listener, n: u16) -> SocketAddr {
    let ip: IpAddr = if l.at.is_ipv4() {
        [198, 18, (n >> 8) as u8, n as u8].into()
    } else {
        [0x2001, 0xdb8, 0xc, n, 0, 0, 0, 1].into()
    };
    SocketAddr::new(ip, 40_000)
}

/// What a client of the listener's says first.
fn beginning(l: &Listener) -> Vec<u8> {
    match l.profile {
        Profile::OpenVpn => fixture::openvpn::hard_reset_client(),
        Profile::Tcp => fixture::tcp::segment(fixture::tcp::SYN, &[]),
        Profile::Ike => fixture::ipsec::ike(SaInit, REQUEST, (1, 0)),
        Profile::Ipsec => marked(fixture::ipsec::ike(SaInit, REQUEST, (1, 0))),
        Profile::Quic => long(Initial, V1, &id(77), &id(78)),
        Profile::Dtls => fixture::dtls::client_hello(),
        Profile::WireGuard | Profile::Udp => message::initiation(1),
    }
}

/// An answer with data.
fn answer(l: &Listener) -> Vec<u8> {
    match l.profile {
        Profile::OpenVpn => fixture::openvpn::data(0, 1),
        Profile::Tcp => fixture::tcp::data(1),
        Profile::Ike => fixture::ipsec::ike(Auth, RESPONSE, (1, 1)),
        Profile::Ipsec => fixture::ipsec::esp(256, 1),
        Profile::Quic => fixture::quic::short(&id(78)),
        Profile::Dtls => fixture::dtls::data(1),
        Profile::WireGuard | Profile::Udp => message::data(1, 1),
    }
}

/// True where answers alone open a session.
fn answers_open(l: &Listener) -> bool {
    l.profile != Profile::Quic
}

/// The frame went on, for this reason.
#[track_caller]
fn forwarded(outcome: &Outcome, reason: Reason) {
    assert_eq!(outcome.reason(), reason);
    assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
}

/// The frame was dropped for this reason, and stayed as it was.
#[track_caller]
fn refused(outcome: &Outcome, reason: Reason) {
    assert_eq!(outcome.reason(), reason);
    assert_eq!(outcome.verdict.action, Action::Drop);
}

/// The frame was left to the host as it came in.
#[track_caller]
fn untouched(world: &World, frame: &[u8], ingress: u32, reason: Reason) {
    let outcome = world.receive(frame, ingress);
    assert_eq!(outcome.reason(), reason);
    assert_eq!(outcome.verdict.action, Action::Pass);
    assert_eq!(outcome.frame, frame);
}
