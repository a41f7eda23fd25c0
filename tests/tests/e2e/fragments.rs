//! Datagrams that are longer than a frame.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::plan::Family;
use lab::layout::{Kind, Site, Transport};
use lab::net::{Ns, RawSender};
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{fragment_flood, sessions_open};
use lab::traffic::{ECHO_PORT, EchoServer};
use lab::{Lab, Options, gate};

use crate::common::{PLENTY, farm, holds};

/// How long an answer may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);
const LENGTH: usize = 4000;
/// Servers that answer with what they were asked, and their number.
const ECHO: Kind = Kind { prefix: "echo", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };

/// A client's socket.
fn socket(ns: &Ns, at: SocketAddr) -> UdpSocket {
    let socket = ns.enter(|| UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// What the socket gets: the number of the server that says it.
#[track_caller]
fn answer(socket: &UdpSocket, vip: SocketAddr, request: &[u8]) -> u8 {
    let mut buffer = [0; 2 * LENGTH];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!((length, from), (LENGTH, vip));
    // The server's number is all that differs.
    let other: Vec<_> = (0..LENGTH).filter(|at| buffer[*at] != request[*at]).collect();
    assert!(other.len() <= 1, "{other:?}");
    other.first().map_or(0, |at| buffer[*at])
}

fn is_any(site: &Site, number: u8) -> bool {
    site.stations().iter().any(|station| station.number() == number)
}

#[test]
fn a_datagram_in_fragments_arrives_in_any_order_both_ways() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let site = lab.site("umwelt", ECHO, 3).unwrap();
    let mut servers = Vec::new();
    for station in site.stations() {
        for family in [Family::V4, Family::V6] {
            let at = station.address(family);
            servers.push(EchoServer::start(station.ns(), at, station.number()).unwrap());
        }
    }
    let gateway = Gateway::start(&lab, &Config::new(&lab).with_site(&site, PLENTY)).unwrap();
    let request: Vec<u8> = (0..LENGTH).map(|n| (n * 7 / 3) as u8 | 0x80).collect();
    for family in [Family::V4, Family::V6] {
        for _ in 0..3 {
            let host = lab.host().unwrap();
            let vip = site.vip(family);
            let from = SocketAddr::new(host.address(family), 40_000);
            // The first thing that is ever heard of this client comes the wrong way round.
            let client = socket(host.ns(), from);
            let backwards = RawSender::new(host.ns()).unwrap();
            backwards.send_backwards(from, vip, &request).unwrap();
            let number = answer(&client, vip, &request);
            assert!(is_any(&site, number), "{number}");
            // In order, and back in order: the kernel's own fragments.
            for _ in 0..5 {
                client.send_to(&request, vip).unwrap();
                assert_eq!(answer(&client, vip, &request), number);
            }
            let session = gateway.await_session(from, SOON).unwrap();
            // And the wrong way round on the way back.
            let station = site.stations().iter().find(|s| s.number() == number).unwrap();
            let own = SocketAddr::new(station.address(family), ECHO_PORT);
            let inside = RawSender::new(station.ns()).unwrap();
            for _ in 0..3 {
                inside.send_backwards(own, from, &request).unwrap();
                assert_eq!(answer(&client, vip, &request), 0);
            }
            assert_eq!(session.concentrator(), number, "{session:?}");
        }
    }
    let counters = gateway.counters().unwrap();
    assert!(counters.get("in_fragment") > 0 && counters.get("out_fragment") > 0, "{counters:?}");
    assert_eq!(counters.get("fragment"), 0, "{counters:?}");
}

#[test]
fn a_million_fragments_of_nothing_cost_no_established_session_a_packet() {
    let (_place, mut farm) = farm();
    for family in [Family::V4, Family::V6] {
        farm.join(0, WireguardGo, family).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&fragment_flood(&farm, 1_000_000).unwrap());
}
