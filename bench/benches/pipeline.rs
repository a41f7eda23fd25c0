//! What does the pipeline itself cost for a packet, from its headers to the verdict, where tables are
//! ordinary memory? For a session's packets in, its answers, and those of a client that has moved.

use std::net::{IpAddr, SocketAddr};

use criterion::{BatchSize, Criterion, Throughput};
use dataplane::fixture::site::{Listener, WAN, WG, WG6};
use dataplane::fixture::{Frame, World, message};
use dataplane::packet::Buffer;
use dataplane::pipeline;
use dataplane::reason::Reason;
use dataplane::table::host::Sizes;

/// Sessions, of each family.
const SESSIONS: u16 = 1_000;
const SIZES: (u32, u32) = (4_096, 256);

fn client(listener: &Listener, number: u16, port: u16) -> SocketAddr {
    let ip: IpAddr = if listener.at.is_ipv4() {
        [198, 19, (number >> 8) as u8, number as u8].into()
    } else {
        [0x2001, 0xdb8, 0xc, number, 0, 0, 0, 1].into()
    };
    SocketAddr::new(ip, port)
}

/// A packet of each session, with the interface it comes in on.
type Packets = Vec<(Vec<u8>, u32)>;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1));
    for (family, l) in [("ipv4", WG), ("ipv6", WG6)] {
        let (slots, overflow) = SIZES;
        let world = World::with(Sizes { slots, overflow, ids: 2_048, ..Sizes::default() });
        for tenant in &world.tables.tenants {
            tenant.max_sessions.set(SESSIONS.into());
        }
        let (mut inbound, mut outbound, mut roamed) = (Packets::new(), vec![], vec![]);
        for number in 0..SESSIONS {
            let at = client(&l, number, 40_000);
            let (own, its) = (u32::from(number) + 1, u32::from(number) + 100_001);
            let ordinal = world.shake_hands(&l, at, (own, its));
            let to_service = |from| Frame::new(from, l.at, message::data(its, 2)).bytes();
            inbound.push((to_service(at), WAN));
            roamed.push((to_service(client(&l, number, 50_000)), WAN));
            let answer = Frame::new(l.backend(ordinal), at, message::data(own, 2));
            outbound.push((answer.bytes(), Listener::arm(ordinal)));
        }
        for (what, packets, reason) in [
            ("established in", inbound, Reason::InEstablished),
            ("established out", outbound, Reason::OutEstablished),
            ("roamed in", roamed, Reason::InById),
        ] {
            let mut order = packets.iter().cycle();
            group.bench_function(format!("{what}, {family}"), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        order
                            .next()
                            .map(|(frame, from)| Buffer::new(frame, *from))
                            .expect("a cycle")
                    },
                    |packet| {
                        let verdict = pipeline::run(packet, &world.tables);
                        assert_eq!(verdict.reason, reason);
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}
