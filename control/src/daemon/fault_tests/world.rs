//! A gateway with clients, and daemons that come and go.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use dataplane::abi::{Address, AddressKey, Directory, Endpoint, NameKey, RouteKey};
use dataplane::fault;
use dataplane::fixture::{Frame, message};
use dataplane::table::ids::{self, ENTRIES};

use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::growth::{self, Begun};
use crate::daemon::start::recount;
use crate::daemon::state::{Kept, State};
use crate::daemon::store::Store;
use crate::loader::{Bpffs, LoadError, PacketLog, Pins, Program, Sizes, Tables, create, find};
use crate::model::{
    HopKey, KnownHop, Live, MeterLimits, NextHop, Prefix, Ring, RouteView, TableWriter,
    TenantLimits, Wanted, WriteError, Written,
};
use crate::sessions::Reader;

pub(super) const SIZES: Sizes = Sizes { slots: 256, overflow: 64, ids: 128, hints: 64 };

pub(super) const CONFIG: &str = r#"
[gateway]
interfaces = ["lo"]
max_sessions = 100
[[tenant]]
name = "justiz"
max_sessions = 90
guaranteed_sessions = 4
[[pool]]
name = "wg"
idle_timeout = "1h"
health = { probe = "icmp", max_down = "50%" }
[[pool.backend]]
name = "wg-1"
address = "10.20.1.11"
[[pool.backend]]
name = "wg-2"
address = "10.20.1.12"
[[pool]]
name = "other"
[[pool.backend]]
name = "other-1"
address = "10.20.1.14"
[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp"]
pool = "wg"
[[service]]
name = "old"
tenant = "justiz"
profile = "openvpn"
listen = ["203.0.113.20:1194/udp"]
pool = "other"
"#;

const BACKENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 20, 1, 11), Ipv4Addr::new(10, 20, 1, 12)];
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 51820);
/// The loopback interface, which is everywhere. Frames that are run for a test come by it, and do not leave.
const LO: u32 = 1;
/// `XDP_TX` (linux/bpf.h): back by the interface that it came by.
const XDP_TX: u32 = 3;

pub(super) fn parsed(text: &str) -> Config {
    Config::parse(text, "a test's").unwrap_or_else(|e| panic!("{}", e.0.render(false)))
}

/// Clients behind one router, backends on the link.
pub(super) fn routes() -> RouteView {
    let mut view = RouteView { devices: [LO].into(), ..RouteView::default() };
    let mut hop = |neighbour: Ipv4Addr| {
        let key = HopKey { interface: LO, neighbour: neighbour.into() };
        let hop = NextHop {
            ifindex: LO,
            mtu: 1500,
            dst_mac: [2, 0, 0, 1, 0, neighbour.octets()[3]],
            src_mac: [2, 0, 0, 0, 0, 1],
            vlan: None,
            resolved: true,
        };
        view.hops.insert(key, hop);
        key
    };
    let router = hop(Ipv4Addr::new(198, 51, 100, 1));
    // Another than those of today may be configured tomorrow.
    let backends = (11..20).map(|n| Ipv4Addr::new(10, 20, 1, n));
    let backends: Vec<_> = backends.map(|b| (IpAddr::from(b), hop(b))).collect();
    view.backends.extend(backends);
    let everywhere = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
    view.routes.insert(everywhere, router);
    view
}

/// The tables of a daemon under test: before each write it may die, and one of them may fail.
struct Faulty {
    writer: Box<dyn Kept>,
    until: Arc<AtomicUsize>,
}

impl Faulty {
    /// What comes before a write.
    fn may(&self, table: &'static str) -> Written {
        fault::point();
        let left = self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.wrapping_sub(usize::from(left != usize::MAX)))
        });
        match left {
            Ok(0) => Err(WriteError { table, source: "refused by the test".into() }),
            _ => Ok(()),
        }
    }
}

impl Kept for Faulty {
    fn look(&self) -> Result<Wanted, LoadError> {
        self.writer.look()
    }
}

macro_rules! faulty {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        impl TableWriter for Faulty {
            $(fn $name(&mut self, $($argument: $type),*) -> Written {
                self.may(stringify!($name))?;
                self.writer.$name($($argument),*)
            })*

            /// A ring that is half written is nobody's.
            fn ring(&mut self, number: u16, ring: Option<&Ring>) -> Written {
                self.may("ring")?;
                fault::as_one(|| self.writer.ring(number, ring))
            }
        }
    };
}
faulty! {
    name(key: NameKey, name: Option<&str>);
    tenant(index: u32, limits: Option<TenantLimits>);
    device(ifindex: u32, present: bool);
    nexthop(index: u32, hop: Option<&KnownHop>);
    route(key: RouteKey, nexthop: Option<u32>);
    endpoint(index: u32, endpoint: Option<&Endpoint>);
    source(index: u16, source: Option<Address>);
    pace(index: u32, limits: Option<MeterLimits>);
    directory(key: AddressKey, entry: Option<&Directory>);
    live(live: &Live);
    raise_route_generation();
}

/// A client whose session is on one of the backends.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) at: SocketAddr,
    pub(super) backend: usize,
    /// Who it is to the concentrator, and the concentrator to it.
    index: u32,
    server: u32,
    counter: u32,
}

pub(super) struct World {
    pub(super) bpffs: Bpffs,
    pub(super) pins: Pins,
    store: RefCell<Store>,
    pub(super) config: Config,
    pub(super) routes: Arc<RouteView>,
    /// Writes until the one that fails.
    pub(super) until: Arc<AtomicUsize>,
    /// What packets meet.
    pub(super) program: Xdp,
    pub(super) clients: Vec<Client>,
    joined: u32,
    /// Packets of sessions, from clients and to them.
    sent: [u64; 2],
    pub(super) now: RefCell<Clock>,
    scratch: Scratch,
}

impl World {
    /// A gateway that forwards, without a session.
    pub(super) fn new(name: &str) -> Self {
        Self::of(name, SIZES)
    }

    /// The same with tables of other sizes.
    pub(super) fn of(name: &str, sizes: Sizes) -> Self {
        let scratch = Scratch::new(name);
        let bpffs = scratch.bpffs();
        let pins = Pins::under(&bpffs);
        create(&bpffs, &pins, sizes).unwrap();
        drop(Program::load(&pins, PacketLog::Off).unwrap());
        let program = pinned_program(&pins);
        Self {
            store: RefCell::new(Store::open(&scratch.dir().join("state"))),
            config: parsed(CONFIG),
            routes: Arc::new(routes()),
            until: Arc::new(AtomicUsize::new(usize::MAX)),
            program,
            clients: Vec::new(),
            joined: 0,
            sent: [0; 2],
            now: RefCell::new(Clock::now()),
            bpffs,
            pins,
            scratch,
        }
    }

    /// A daemon as it starts, and has done its first work; from then on its writes may fail.
    pub(super) fn start(&self) -> State {
        let store = Store::open(&self.scratch.dir().join("state"));
        store.begin();
        let overrides = store.found().overrides.unwrap_or_default();
        assert_eq!((store.lost(), store.warnings()), (vec![], vec![]));
        self.store.replace(store);
        let (config, routes) = (self.config.clone(), Arc::clone(&self.routes));
        let inputs = growth::Inputs { config, overrides, routes };
        let found = find(&self.bpffs).unwrap();
        let begun = growth::begin(&self.bpffs, found, inputs, PacketLog::Off);
        let Begun { mut state, .. } = begun.unwrap();
        state.reconcile().unwrap();
        counted(&state);
        let writer = state.writer;
        state.writer = Box::new(Faulty { writer, until: Arc::clone(&self.until) });
        state
    }

    /// Keeps what operators said.
    pub(super) fn save(&self, state: &State) {
        self.store.borrow().note_overrides(&state.overrides).unwrap();
    }

    /// Time passes for the daemon.
    pub(super) fn pass(&self, seconds: u64) {
        let mut now = self.now.borrow_mut();
        now.monotonic += seconds * 1_000_000_000;
        now.wall += Duration::from_secs(seconds);
    }

    /// What a daemon does each second.
    pub(super) fn tick(&self, state: &mut State) {
        let now = *self.now.borrow();
        if state.release_drained(&now) {
            self.save(state);
            state.reconcile().unwrap();
        }
        let (_, _, changed) = state.scan(&now);
        if changed {
            state.reconcile().unwrap();
        }
    }

    /// Runs a frame: from which address it goes on to which, if it does.
    fn run(&self, from: SocketAddr, to: SocketAddr, message: Vec<u8>) -> Option<[IpAddr; 2]> {
        let frame = Frame::new(from, to, message).bytes();
        let mut out = vec![0; 2048];
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let ran = self.program.test_run(options).unwrap();
        let address = |at: usize| <[u8; 4]>::try_from(&out[at..at + 4]).unwrap().into();
        (ran.return_value == XDP_TX).then(|| [address(26), address(30)])
    }

    /// A new client, whose session opens on this backend.
    pub(super) fn join(&mut self, backend: usize) {
        let client = self.newcomer(backend);
        self.open(client);
    }

    /// A new client, whose handshake goes to the backend that it is placed on, and is answered: no more is known of it yet.
    pub(super) fn knock(&mut self) -> Client {
        let mut client = self.newcomer(0);
        client.backend = self.placed(&client).expect("it is placed");
        self.answer_to(&client, message::response(client.server, client.index));
        client
    }

    /// A client's backend answers, and its session opens.
    pub(super) fn open(&mut self, client: Client) {
        let (index, server) = (client.index, client.server);
        self.clients.push(client);
        let last = self.clients.len() - 1;
        self.answer(last, message::data(index, 0));
        self.answer(last, message::response(server, index));
        self.talk(last);
    }

    fn newcomer(&mut self, backend: usize) -> Client {
        self.joined += 1;
        let n = self.joined;
        let at = SocketAddr::new(Ipv4Addr::from(0xc612_0000 | n).into(), 4000);
        Client { at, backend, index: 0x1000_0000 + n, server: 0x2000_0000 + n, counter: 0 }
    }

    /// The client is at another address, from where it is answered.
    pub(super) fn roam(&mut self, n: usize) {
        let at = &mut self.clients[n].at;
        at.set_port(at.port() + 1);
        self.talk(n);
    }

    /// A new key: the answer to its handshake hands out another index, which the client uses from then on.
    pub(super) fn rekey(&mut self, n: usize) {
        self.clients[n].server += 0x1_0000;
        let Client { index, server, .. } = self.clients[n];
        self.answer(n, message::response(server, index));
        self.talk(n);
    }

    fn answer(&mut self, n: usize, message: Vec<u8>) {
        let clients = std::mem::take(&mut self.clients);
        self.answer_to(&clients[n], message);
        self.clients = clients;
    }

    fn answer_to(&mut self, client: &Client, message: Vec<u8>) {
        let from = SocketAddr::new(BACKENDS[client.backend].into(), VIP.port());
        let to = self.run(from, client.at, message);
        assert_eq!(to, Some([VIP.ip(), client.at.ip()]), "{client:?} is not answered");
        self.sent[1] += 1;
    }

    /// One packet each way, on the client's own backend.
    pub(super) fn talk(&mut self, n: usize) {
        self.clients[n].counter += 1;
        let client = &self.clients[n];
        let (index, counter) = (client.index, client.counter);
        let to = self.run(client.at, VIP, message::data(client.server, counter));
        let goal = [client.at.ip(), BACKENDS[client.backend].into()];
        assert_eq!(to, Some(goal), "{client:?} goes elsewhere");
        self.sent[0] += 1;
        self.answer(n, message::data(index, counter));
    }

    /// All clients of a backend talk.
    pub(super) fn talk_on(&mut self, backend: usize) {
        let all: Vec<_> =
            (0..self.clients.len()).filter(|n| self.clients[*n].backend == backend).collect();
        all.into_iter().for_each(|n| self.talk(n));
    }

    /// Where a client without a session is led to.
    pub(super) fn lead(&self, n: usize) -> Option<usize> {
        self.placed(&self.clients[n])
    }

    fn placed(&self, client: &Client) -> Option<usize> {
        let [_, to] = self.run(client.at, VIP, message::initiation(client.index))?;
        BACKENDS.iter().position(|backend| *backend == to)
    }

    /// Whether the backend that had a client still reaches it.
    pub(super) fn answers(&self, n: usize) -> bool {
        let client = &self.clients[n];
        let from = SocketAddr::new(BACKENDS[client.backend].into(), VIP.port());
        self.run(from, client.at, message::data(client.index, client.counter + 1)).is_some()
    }

    /// The accounts say what happened, each packet and each session once.
    pub(super) fn is_accounted(&self, state: &State) {
        let tenant = &state.tables.tenants[0];
        let live = Reader::new(&*state.tables).list();
        let sum = |of: fn(&crate::sessions::Record) -> u64| live.iter().map(of).sum::<u64>();
        let packets = [
            tenant.ended_rx_packets.get() + sum(|s| s.rx_packets),
            tenant.ended_tx_packets.get() + sum(|s| s.tx_packets),
        ];
        assert_eq!(packets, self.sent, "packets from clients and to them");
        let sessions = live.len() as u64;
        let counts = (tenant.sessions.load(), state.tables.settings().used.load());
        assert_eq!(counts, (sessions, sessions));
        assert_eq!(tenant.opened.load(), u64::from(self.joined));
        assert_eq!(tenant.ended.get() + sessions, u64::from(self.joined), "sessions ended");
        let borrowed = sessions.saturating_sub(tenant.guaranteed.get());
        assert_eq!(state.tables.settings().borrowed.load(), borrowed);
    }

    /// Nothing is left to be done, and no id leads to what is no session.
    pub(super) fn is_settled(&self, state: &mut State) {
        assert_eq!(state.reconcile().unwrap(), 0);
        let slots = learned(&state.tables);
        assert!(slots.iter().all(|at| Reader::new(&*state.tables).get(*at).is_some()), "{slots:?}");
    }
}

/// A program that is pinned.
pub(super) fn pinned_program(pins: &Pins) -> Xdp {
    Xdp::from_pin(pins.program(), XdpAttachType::Interface).unwrap()
}

/// Counts sessions anew, as a daemon does once it has started.
pub(super) fn counted(state: &State) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(recount(state));
}

/// Slots that the id index leads to.
fn learned(tables: &Tables) -> BTreeSet<u32> {
    let of = |bucket| (0..ENTRIES as usize).filter_map(move |n| ids::read(bucket, n));
    tables.ids.iter().flat_map(of).map(|(_, index)| index).collect()
}
