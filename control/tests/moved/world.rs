//! A gateway with two interfaces, as the programs on them see it: packets are run by whatever program a link has.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{TestRun as _, TestRunOptions, Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use control::config::{Config, XdpMode};
use control::loader::{Bpffs, PacketLog, Pins, Program, Sizes, Tables, Writer, create};
use control::model::{self, HopKey, Inputs, Load, NextHop, Overrides, Prefix, RouteView, Wanted};
use dataplane::fixture::site::{LAN, WAN};
use dataplane::fixture::{Frame, message};
use dataplane::reason::Kind;

pub(crate) const SMALL: Sizes = Sizes { slots: 1024, overflow: 64, ids: 512, hints: 128 };
pub(crate) const LARGE: Sizes = Sizes { slots: 8192, overflow: 128, ids: 4096, hints: 1024 };

const CONFIG: &str = r#"
[gateway]
interfaces = ["wan", "lan"]
max_sessions = 2000
[[tenant]]
name = "justiz"
max_sessions = 2000
[[pool]]
name = "wg"
[[pool.backend]]
name = "wg-1"
address = "10.20.1.11"
[[pool.backend]]
name = "wg-2"
address = "10.20.1.12"
[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp"]
pool = "wg"
"#;

const BACKENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 20, 1, 11), Ipv4Addr::new(10, 20, 1, 12)];
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 51820);
/// What the tenant's limits have refused, each another number.
const LIMITED: [u64; 6] = [1, 2, 3, 4, 5, 6];
/// `XDP_REDIRECT` (linux/bpf.h).
const XDP_REDIRECT: u32 = 4;

pub(crate) fn config() -> Config {
    Config::parse(CONFIG, "a test's").unwrap_or_else(|e| panic!("{}", e.0.render(false)))
}

/// Clients behind one router, backends on the link.
pub(crate) fn routes() -> RouteView {
    let mut view = RouteView { devices: [WAN, LAN].into(), ..RouteView::default() };
    let mut hop = |interface: u32, neighbour: Ipv4Addr| {
        let key = HopKey { interface, neighbour: neighbour.into() };
        let hop = NextHop {
            ifindex: interface,
            mtu: 1500,
            dst_mac: [2, 0, 0, 1, 0, neighbour.octets()[3]],
            src_mac: [2, 0, 0, 0, 0, interface as u8],
            vlan: None,
            resolved: true,
        };
        view.hops.insert(key, hop);
        key
    };
    let router = hop(WAN, Ipv4Addr::new(198, 51, 100, 1));
    let backends = BACKENDS.map(|backend| (IpAddr::from(backend), hop(LAN, backend)));
    view.backends.extend(backends);
    let everywhere = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
    view.routes.insert(everywhere, router);
    view
}

/// Fills tables with the configuration: what they hold then.
pub(crate) fn fill(writer: &mut Writer) -> Wanted {
    let config = config();
    let mut current = writer.read().unwrap();
    let inputs = Inputs {
        config: &config,
        overrides: &Overrides::default(),
        health: &Default::default(),
        load: &Load::default(),
        routes: &routes(),
        current: &current,
        released: &BTreeSet::new(),
    };
    let wanted = model::compute(&inputs).unwrap();
    let steps = model::diff(&current, &wanted);
    model::apply(&mut current, &steps, writer).unwrap();
    current
}

/// A client of the gateway's, as client and concentrator know it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) at: SocketAddr,
    backend: usize,
    /// Who it is to the concentrator, and the concentrator to it.
    index: u32,
    server: u32,
    counter: u32,
    pub(crate) rx: u64,
    pub(crate) tx: u64,
    pub(crate) moves: u16,
}

/// The gateway.
pub(crate) struct Gateway {
    pub(crate) bpffs: Bpffs,
    pub(crate) pins: Pins,
    pub(crate) clients: Vec<Client>,
    /// Frames that came in.
    frames: u64,
    /// Programs by their numbers.
    programs: RefCell<BTreeMap<u32, Rc<Xdp>>>,
}

impl Gateway {
    /// A gateway that forwards, without a session.
    pub(crate) fn start(bpffs: Bpffs) -> Self {
        let pins = Pins::under(&bpffs);
        let tables = Arc::new(create(&bpffs, &pins, SMALL).unwrap());
        fill(&mut Writer::open(&pins, Arc::clone(&tables)).unwrap());
        for (meter, refused) in tables.tenants[0].meters().into_iter().zip(LIMITED) {
            meter.refused.add(refused);
        }
        let mut program = Program::load(&pins, PacketLog::Off).unwrap();
        for (name, index) in [("wan", WAN), ("lan", LAN)] {
            program.attach(name, index, XdpMode::Native).unwrap();
        }
        Self { bpffs, pins, clients: Vec::new(), frames: 0, programs: RefCell::default() }
    }

    /// The program that an interface has, wherever its link is pinned.
    fn on(&self, interface: u32) -> Rc<Xdp> {
        let dirs = std::fs::read_dir(self.bpffs.path()).unwrap();
        let links: Vec<PathBuf> = dirs
            .map(|dir| dir.unwrap().path().join(format!("links/if{interface}")))
            .filter(|path| path.exists())
            .collect();
        assert_eq!(links.len(), 1, "{links:?}");
        let link = FdLink::from(PinnedLink::from_pin(&links[0]).unwrap());
        let id = link.info().unwrap().program_id();
        let mut known = self.programs.borrow_mut();
        let program = known.entry(id).or_insert_with(|| {
            let info = loaded_programs().flatten().find(|info| info.id() == id).unwrap();
            let program = Xdp::from_program_info(info, "".into(), XdpAttachType::Interface);
            Rc::new(program.unwrap())
        });
        Rc::clone(program)
    }

    /// Runs a frame that comes in on an interface: it must be forwarded. What leaves.
    fn run(
        &mut self,
        interface: u32,
        from: SocketAddr,
        to: SocketAddr,
        message: Vec<u8>,
    ) -> Vec<u8> {
        let frame = Frame::new(from, to, message).bytes();
        let mut out = vec![0; 2048];
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let ran = self.on(interface).test_run(options).unwrap();
        assert_eq!(ran.return_value, XDP_REDIRECT, "from {from} to {to}");
        self.frames += 1;
        out.truncate(ran.data_size_out as usize);
        out
    }

    fn inbound(&mut self, n: usize, message: Vec<u8>) {
        let client = self.clients[n].clone();
        let out = self.run(WAN, client.at, VIP, message);
        assert_eq!(out[30..34], BACKENDS[client.backend].octets(), "{client:?} goes elsewhere");
        self.clients[n].rx += 1;
    }

    fn answer(&mut self, n: usize, message: Vec<u8>) {
        let client = self.clients[n].clone();
        let from = SocketAddr::new(BACKENDS[client.backend].into(), VIP.port());
        let out = self.run(LAN, from, client.at, message);
        let IpAddr::V4(at) = client.at.ip() else { panic!("{client:?}") };
        assert_eq!(out[30..34], at.octets());
        self.clients[n].tx += 1;
    }

    /// A new client. Established ones are on any backend: on the one that answered, wherever their packets were placed. One that
    /// comes while two programs are at work is on the one that it is placed on.
    pub(crate) fn join(&mut self, anywhere: bool) {
        let n = self.clients.len();
        let at = SocketAddr::new(Ipv4Addr::new(198, 18, (n >> 8) as u8, n as u8).into(), 4000);
        let (index, server) = (0x1000_0000 + n as u32, 0x2000_0000 + n as u32);
        let client =
            Client { at, backend: n % 2, index, server, counter: 0, rx: 0, tx: 0, moves: 0 };
        self.clients.push(client);
        if !anywhere {
            let out = self.run(WAN, at, VIP, message::initiation(index));
            let to = BACKENDS.iter().position(|backend| out[30..34] == backend.octets());
            self.clients[n].backend = to.expect("it is placed");
        }
        self.answer(n, message::data(index, 0));
        self.rekey(n);
        self.talk(n);
    }

    /// One packet each way.
    pub(crate) fn talk(&mut self, n: usize) {
        self.clients[n].counter += 1;
        let Client { index, server, counter, .. } = self.clients[n];
        self.inbound(n, message::data(server, counter));
        self.answer(n, message::data(index, counter));
    }

    /// A new key: the answer to its handshake hands out another index, which the client uses from then on.
    pub(crate) fn rekey(&mut self, n: usize) {
        self.clients[n].server += 0x1_0000;
        let Client { index, server, .. } = self.clients[n];
        self.answer(n, message::response(server, index));
    }

    /// The client is at another address, from where it is answered.
    pub(crate) fn roam(&mut self, n: usize) {
        let SocketAddr::V4(mut at) = self.clients[n].at else { panic!("{n}") };
        at.set_port(at.port() + 1);
        self.clients[n].at = at.into();
        self.clients[n].moves += 1;
        self.talk(n);
    }

    /// The sessions are those that there should be. If nobody died, nothing of what the first ones had is missing.
    pub(crate) fn is_whole(&mut self, tables: &Tables, before: &[Known], exact: bool) {
        let now = known(tables);
        assert_eq!(now.len(), self.clients.len());
        for (n, client) in self.clients.iter().enumerate() {
            let of = |all: &[Known]| all.iter().find(|s| s.client == client.at).copied();
            let session = of(&now).unwrap_or_else(|| panic!("{client:?} has no session"));
            let on = (session.moves, session.endpoint % 2);
            assert_eq!(on, (client.moves, client.backend as u32));
            assert!(session.rx <= client.rx && session.tx <= client.tx, "{session:?}, {client:?}");
            // One that opened meanwhile was not known to both programs at once.
            if exact && (before.is_empty() || n < before.len()) {
                assert_eq!((session.rx, session.tx), (client.rx, client.tx), "{client:?}");
            }
            // It may have roamed since.
            if let Some(old) = before.iter().find(|old| old.client.ip() == client.at.ip()) {
                assert_eq!((session.identity, session.opened), (old.identity, old.opened));
                assert!(session.rx >= old.rx && session.tx >= old.tx, "{old:?} became {session:?}");
            }
        }
        let counts = tables.counts().unwrap();
        let forwarded = counts.iter().filter(|count| count.reason.kind() == Kind::Forwarded);
        let forwarded: u64 = forwarded.map(|count| count.packets).sum();
        assert!(forwarded == self.frames || forwarded < self.frames && !exact, "{forwarded}");
        self.frames = forwarded;
        let had: u64 = before.iter().map(|old| old.rx + old.tx).sum();
        assert!(forwarded >= had, "{forwarded} of {had}");
        assert!(tables.tenants[0].opened.load() >= before.len() as u64);
        assert_eq!(tables.tenants[0].meters().map(|meter| meter.refused.load()), LIMITED);
        let identities: BTreeSet<u64> = now.iter().map(|session| session.identity).collect();
        assert_eq!(identities.len(), now.len());
        assert_eq!(tables.tenants[0].sessions.load(), now.len() as u64);
        assert_eq!(tables.settings().used.load(), now.len() as u64);
    }
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) identity: u64,
    client: SocketAddr,
    endpoint: u32,
    opened: u64,
    rx: u64,
    tx: u64,
    moves: u16,
}

pub(crate) fn known(tables: &Tables) -> Vec<Known> {
    let all = control::sessions::Reader::new(tables).list().into_iter();
    all.map(|s| Known {
        identity: s.identity,
        client: s.client,
        endpoint: s.endpoint,
        opened: s.opened,
        rx: s.rx_packets,
        tx: s.tx_packets,
        moves: s.moves,
    })
    .collect()
}
