//! What an agent makes of what leaves its machine, and what the gateway makes of that.

use std::net::SocketAddr;

use control::fuzz::report;
use dataplane::abi::{AddressKey, Profile, REPORT_PORT};
use dataplane::fixture::site::{ALL, HEARD, HEARD6, LAN, Listener, TUNNEL4, TUNNEL6};
use dataplane::fixture::{Frame, World};
use dataplane::packet::Buffer;
use dataplane::reason::Reason;
use dataplane::table::host::Sizes;
use dataplane::watch::{self, Answer, COPY, Known, Service};

use crate::{Target, pool};

pub(crate) const TARGET: Target =
    Target::new("agent", "what an agent tells of what leaves, and the gateway's part", run, seeds);

/// A frame that leaves; or what the ring buffer holds.
fn run(data: &[u8]) {
    let _ = report(data);
    let listener = |key: &AddressKey| {
        ALL.iter().find(|l| {
            (l.at.ip().into(), l.at.port().to_be(), l.protocol())
                == (key.address, key.port, key.protocol)
        })
    };
    let service = |key: &AddressKey| listener(key).map(|l| Service::new(l.profile, l.index as u16));
    let Ok(answer) = watch::read(&Buffer::new(data, 0), service) else { return };
    let listener = ALL[usize::from(answer.flow.service)];
    assert!(answer.l3 + answer.len as usize <= data.len());
    noticed(&answer);
    let packet = &data[answer.l3..][..answer.len as usize];
    let datagram = report(&entry(packet)).expect("what was read can be told");
    assert_eq!(datagram.len(), 12 + packet.len().min(COPY));
    for heard in [HEARD, HEARD6] {
        if listener == heard {
            told(&heard, datagram.clone());
        }
    }
}

/// News are told at once, and the rest, at last, too.
fn noticed(answer: &Answer) {
    let mut known = Known::default();
    let mut told = 0;
    for now in (0..4_000_000_u32).step_by(10_000) {
        if let Some((packets, bytes)) = known.notice(&answer.said, answer.len, now) {
            assert_eq!(bytes, packets * answer.len);
            told += packets;
        }
    }
    let proves = answer.said.proof != dataplane::profile::Proof::Nothing;
    assert!(told > 0 || !proves, "{answer:?} is never told");
}

/// As the kernel program writes it.
fn entry(packet: &[u8]) -> Vec<u8> {
    let copied = &packet[..packet.len().min(COPY)];
    let mut out: Vec<u8> = [1, packet.len() as u32, copied.len() as u32]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    out.extend(copied);
    out.resize(12 + COPY, 0);
    out
}

/// The gateway takes it for the report that it is.
fn told(l: &Listener, datagram: Vec<u8>) {
    let world = World::with(Sizes { fragments: 0, budgets: 0, ..Sizes::default() });
    let from = SocketAddr::new(l.backend(0).ip(), REPORT_PORT);
    let to = if from.is_ipv4() { TUNNEL4 } else { TUNNEL6 };
    let frame = Frame::new(from, SocketAddr::new(to, REPORT_PORT), datagram).bytes();
    let reason = world.receive(&frame, LAN).reason();
    assert!(!matches!(reason, Reason::ReportMalformed | Reason::BadTable), "{reason:?}");
}

/// Answers of backends that answer by themselves, and entries about them.
fn seeds() -> Vec<Vec<u8>> {
    let clients = [("198.18.0.1:4000", "[2001:db8:c::1]:4000")];
    let mut seeds: Vec<Vec<u8>> = pool::ALL.iter().map(|packet| packet.bytes.clone()).collect();
    for l in ALL {
        for (v4, v6) in clients {
            let client = if l.at.is_ipv4() { v4 } else { v6 }.parse().expect("an address");
            let payloads = crate::payload::seeds(if l.profile == Profile::Udp {
                Profile::Tcp
            } else {
                l.profile
            });
            for payload in payloads.into_iter().step_by(5) {
                let frame = Frame::of(&l, l.at, client, payload).bytes();
                seeds.push(entry(&frame[14..]));
                seeds.push(frame);
            }
        }
    }
    seeds
}
