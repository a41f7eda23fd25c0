//! What of a packet's cost is reading it: Ethernet, IP and UDP headers, and the WireGuard message.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput};
use dataplane::abi::Profile;
use dataplane::fixture::site::{LAN, Listener, WAN, WG, WG6};
use dataplane::fixture::{Frame, message};
use dataplane::header::{self, Ip, Udp};
use dataplane::packet::{Buffer, Packet as _};
use dataplane::profile::{self, HEAD};
use dataplane::reason::Reason;

/// From the frame's begin to the payload.
fn headers(packet: &Buffer) -> Result<(Ip, Udp, u32), Reason> {
    let link = header::link(packet)?;
    let ip = if link.v6 { header::ipv6(packet, link.l3)? } else { header::ipv4(packet, link.l3)? };
    let udp = header::udp(packet, ip.l4).ok_or(Reason::UdpMalformed)?;
    let length = header::payload_len(&udp, &ip)?;
    Ok((ip, udp, length))
}

pub(crate) fn bench(criterion: &mut Criterion) {
    const WIREGUARD: u8 = Profile::WireGuard as u8;
    let mut group = criterion.benchmark_group("parsing");
    group.throughput(Throughput::Elements(1));
    for (family, listener, client) in
        [("ipv4", WG, "198.19.0.1:40000"), ("ipv6", WG6, "[2001:db8:c::1]:40000")]
    {
        let client: SocketAddr = client.parse().expect("an address");
        let to_service = Frame::new(client, listener.at, message::data(7, 1)).bytes();
        let answer = Frame::new(Listener::backend(&listener, 0), client, message::data(8, 1));
        let inbound = Buffer::new(&to_service, WAN);
        let outbound = Buffer::new(&answer.bytes(), LAN);
        group.bench_function(format!("headers, {family}"), |bencher| {
            bencher.iter(|| headers(black_box(&inbound)).expect("a right packet"));
        });
        let (ip, _, length) = headers(&inbound).expect("a right packet");
        let payload = ip.l4 + header::UDP;
        group.bench_function(format!("wireguard in, {family}"), |bencher| {
            bencher.iter(|| {
                profile::inbound(
                    WIREGUARD,
                    black_box(&inbound).view::<HEAD>(payload),
                    length,
                    || None,
                )
            });
        });
        group.bench_function(format!("wireguard out, {family}"), |bencher| {
            bencher.iter(|| {
                profile::outbound(WIREGUARD, black_box(&outbound).view::<HEAD>(payload), length)
            });
        });
    }
    group.finish();
}
