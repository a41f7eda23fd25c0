//! Captures of real clients and servers, replayed through the pipeline on the host, with tables as the model makes them from a
//! configuration: what came in on one side leaves on the other as it did then, byte for byte, and the session follows its client.
//!
//! The captures (`captures/`) are of a lab with another gateway: the Internet side and the concentrators' side of the same run, in which
//! the client changes its address. They are cut to what happens around the beginning and the change.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use control::config::{BackendId, Config};
use control::model::{
    Drain, HealthView, HopKey, Inputs, KnownHop, Live, Load, MeterLimits, NextHop, Overrides,
    Prefix, Ring, RouteView, TableWriter, TenantLimits, Wanted, Written, apply, compute, diff,
};
use dataplane::abi::{
    Address, AddressKey, Directory, Endpoint, NameKey, POOL_STRIDE, RING_WORDS, RouteKey,
};
use dataplane::packet::Buffer;
use dataplane::pipeline::{self, Action};
use dataplane::table::directory::Table;
use dataplane::table::host::{HostTables, Sizes};
use dataplane::table::slot;
use etherparse::{Ipv4Header, UdpHeader};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const WAN: u32 = 2;
const LAN: u32 = 3;
const ETHERNET: usize = 14;

/// The reconciler's writer, to tables in ordinary memory.
struct Writer(HostTables);

impl TableWriter for Writer {
    fn name(&mut self, _: NameKey, _: Option<&str>) -> Written {
        Ok(())
    }
    fn tenant(&mut self, index: u32, limits: Option<TenantLimits>) -> Written {
        let limits = limits.unwrap_or_default();
        let tenant = &self.0.tenants[index as usize];
        limits.write(&self.0.settings, tenant);
        Ok(())
    }
    fn device(&mut self, _: u32, _: bool) -> Written {
        Ok(())
    }
    fn nexthop(&mut self, index: u32, hop: Option<&KnownHop>) -> Written {
        let hop = hop.map_or(NextHop::default(), |known| known.hop);
        hop.write(&self.0.nexthops[index as usize]);
        Ok(())
    }
    fn route(&mut self, key: RouteKey, nexthop: Option<u32>) -> Written {
        match nexthop {
            Some(hop) => self.0.routes.insert(key, hop),
            None => self.0.routes.remove(&key),
        };
        Ok(())
    }
    fn endpoint(&mut self, index: u32, endpoint: Option<&Endpoint>) -> Written {
        self.0.endpoints[index as usize] = endpoint.copied().unwrap_or_default();
        Ok(())
    }
    fn source(&mut self, index: u16, source: Option<Address>) -> Written {
        self.0.sources[usize::from(index)] = source.unwrap_or_default();
        Ok(())
    }
    fn pace(&mut self, _: u32, _: Option<MeterLimits>) -> Written {
        Ok(())
    }
    fn ring(&mut self, number: u16, ring: Option<&Ring>) -> Written {
        let first = usize::from(number) * RING_WORDS as usize;
        for (cell, word) in
            self.0.rings[first..].iter_mut().zip(ring.iter().flat_map(|r| r.words()))
        {
            *cell = u64::from_ne_bytes(*word);
        }
        Ok(())
    }
    fn directory(&mut self, key: AddressKey, entry: Option<&Directory>) -> Written {
        let table = Table(&self.0.directory);
        match entry {
            Some(entry) => table.put(&key, entry).expect("room"),
            None => table.remove(&key),
        }
        Ok(())
    }
    fn live(&mut self, live: &Live) -> Written {
        live.write(&self.0.settings);
        Ok(())
    }
    fn raise_route_generation(&mut self) -> Written {
        let generation = &self.0.settings.route_generation;
        generation.set(generation.get() + 1);
        Ok(())
    }
}

/// A gateway in the lab's place.
struct Gateway {
    config: Config,
    overrides: Overrides,
    tables: Wanted,
    writer: Writer,
}

impl Gateway {
    fn new(profile: &str, ports: &[u16]) -> Self {
        let listen: Vec<_> = ports.iter().map(|port| format!("\"{VIP}:{port}/udp\"")).collect();
        let text = format!(
            r#"
[gateway]
interfaces = ["wan0", "lan0"]
[[tenant]]
name = "lab"
max_sessions = 10
[[pool]]
name = "lab"
[[pool.backend]]
name = "c-11"
address = "10.0.0.11"
[[pool.backend]]
name = "c-12"
address = "10.0.0.12"
[[service]]
name = "lab"
tenant = "lab"
profile = "{profile}"
listen = [{}]
pool = "lab"
"#,
            listen.join(", ")
        );
        let sizes = Sizes { nexthops: 4096, ..Sizes::default() };
        Self {
            config: Config::parse(&text, "lab").unwrap(),
            overrides: Overrides::default(),
            tables: Wanted::default(),
            writer: Writer(HostTables::new(sizes)),
        }
    }

    /// New sessions go to one concentrator alone.
    fn drain_but(&mut self, name: &str) {
        self.overrides.drained.clear();
        for other in ["c-11", "c-12"].into_iter().filter(|other| *other != name) {
            self.overrides.drained.insert(BackendId::new("lab", other), Drain::default());
        }
        let (health, load) = (HealthView::new(), Load::default());
        let wanted = compute(&Inputs {
            config: &self.config,
            overrides: &self.overrides,
            health: &health,
            load: &load,
            routes: &routes(),
            current: &self.tables,
            released: &BTreeSet::new(),
        })
        .unwrap();
        let steps = diff(&self.tables, &wanted);
        apply(&mut self.tables, &steps, &mut self.writer).unwrap();
    }

    /// A frame comes in: the IP packet that leaves, on the other side.
    fn pass(&self, frame: &[u8], ingress: u32) -> Vec<u8> {
        let mut packet = Buffer::new(frame, ingress);
        let verdict = pipeline::run(&mut packet, &self.writer.0);
        assert_eq!(verdict.action, Action::Redirect(LAN + WAN - ingress), "{verdict:?}");
        packet.bytes()[ETHERNET..].to_vec()
    }

    /// Slots in use: which endpoint each is of, and how often its session has moved.
    fn sessions(&self) -> Vec<(u32, u16)> {
        let t = &self.writer.0;
        let all = t.slots.iter().zip(&t.details);
        let open = all.filter(|(slot, _)| slot::is_open(slot.state.load()));
        open.map(|(slot, detail)| {
            (u32::from(slot.endpoint.get()) % POOL_STRIDE, detail.moves.get())
        })
        .collect()
    }
}

/// Everybody is reached by one router on each side.
fn routes() -> RouteView {
    let mut view = RouteView { devices: [WAN, LAN].into(), ..RouteView::default() };
    let mut hop = |interface: u32, neighbour: [u8; 4]| {
        let key = HopKey { interface, neighbour: neighbour.into() };
        let hop = NextHop {
            ifindex: interface,
            mtu: 1500,
            dst_mac: [2, 0, 0, 0, 0, interface as u8],
            src_mac: [2, 0, 0, 0, 1, interface as u8],
            vlan: None,
            resolved: true,
        };
        view.hops.insert(key, hop);
        key
    };
    let (outside, inside) = (hop(WAN, [198, 51, 100, 1]), hop(LAN, [10, 0, 0, 1]));
    view.routes.insert(Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 }, outside);
    for n in [11, 12] {
        view.backends.insert(IpAddr::from([10, 0, 0, n]), inside);
    }
    view
}

/// A captured frame.
struct Captured {
    /// Since the epoch.
    nanoseconds: u64,
    frame: Vec<u8>,
}

impl Captured {
    fn address(&self, at: usize) -> Ipv4Addr {
        let bytes: [u8; 4] = self.frame[ETHERNET + at..ETHERNET + at + 4].try_into().unwrap();
        bytes.into()
    }

    fn source(&self) -> Ipv4Addr {
        self.address(12)
    }

    fn destination(&self) -> Ipv4Addr {
        self.address(16)
    }

    /// Ports and what the datagram carries: on both sides the same.
    fn datagram(&self) -> (&[u8], &[u8]) {
        let udp = &self.frame[ETHERNET + 20..];
        (&udp[..4], &udp[8..])
    }
}

/// Reads a capture of Ethernet frames in the classic format, with microseconds and in little endian.
fn capture(file: &str) -> Vec<Captured> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(file);
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1));
    let (mut at, mut frames) = (24, Vec::new());
    while at < bytes.len() {
        let (begin, length) = (at + 16, word(at + 8) as usize);
        let nanoseconds = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * 1000;
        let mut frame = bytes[begin..begin + length].to_vec();
        finish(&mut frame);
        frames.push(Captured { nanoseconds, frame });
        at = begin + length;
    }
    frames
}

/// Computes the datagram's checksum: what local sockets sent in the lab was captured before a network card would have.
fn finish(frame: &mut [u8]) {
    let (ip, rest) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
    let (udp, payload) = UdpHeader::from_slice(rest).unwrap();
    let payload = &payload[..usize::from(udp.length) - UdpHeader::LEN];
    let sum = udp.calc_checksum_ipv4_raw(ip.source, ip.destination, payload).unwrap();
    frame[ETHERNET + 26..ETHERNET + 28].copy_from_slice(&sum.to_be_bytes());
}

/// Replays a run in which the client was on the concentrator that it says: new ones would go to the other
/// from the moment on in which the client changes its address.
fn replay(name: &str, profile: &str, ports: &[u16], on: u8) {
    let outside = capture(&format!("{name}-roam-outside.pcap"));
    let mut inside = capture(&format!("{name}-roam-inside.pcap"));
    let mut gateway = Gateway::new(profile, ports);
    let (own, other) = if on == 11 { ("c-11", "c-12") } else { ("c-12", "c-11") };
    gateway.drain_but(own);
    let (mut clients, mut both) = (BTreeSet::new(), [0, 0]);
    for there in &outside {
        let is_inbound = there.destination() == VIP;
        let client = if is_inbound { there.source() } else { there.destination() };
        if clients.insert(client) && clients.len() == 2 {
            assert_eq!(gateway.sessions().len(), 1);
            gateway.drain_but(other);
        }
        // The same packet on the other side: nearly always at the same place.
        let same = |here: &Captured| {
            (here.source() == client) == is_inbound && here.datagram() == there.datagram()
        };
        let found = inside.iter().position(same).expect("both sides of a packet");
        let here = inside.remove(found);
        gateway.writer.0.settings.test_clock.set(there.nanoseconds);
        let (from, to, ingress) =
            if is_inbound { (there, &here, WAN) } else { (&here, there, LAN) };
        let left = gateway.pass(&from.frame, ingress);
        assert_eq!(left, to.frame[ETHERNET..], "{name}: packet {}", both[0] + both[1]);
        both[usize::from(is_inbound)] += 1;
    }
    assert_eq!((inside.len(), clients.len()), (0, 2));
    println!("{name}: {} packets in and {} out, as they were", both[1], both[0]);
    assert!(both.iter().all(|packets| *packets > 150));
    // One session, that has followed its client.
    assert_eq!(gateway.sessions(), [(u32::from(on - 11), 1)]);
}

#[test]
fn wireguard_is_forwarded_as_it_was() {
    replay("wireguard", "wireguard", &[51820], 12);
}

#[test]
fn openvpn_is_forwarded_as_it_was() {
    replay("openvpn", "openvpn", &[1194], 12);
}

#[test]
fn ikev2_and_esp_are_forwarded_as_they_were() {
    replay("ikev2-esp", "ipsec", &[500, 4500], 11);
}
