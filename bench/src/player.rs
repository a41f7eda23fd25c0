//! Packets through the gateway's program, by test runs that repeat it, and what they cost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{HashMap, Map, MapData, ProgramArray};

use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use bench_ebpf::{Arrived, FRAME, FRAME_WORDS, Play, Target};
use control::loader::shape::SHAPES;
use dataplane::table::slot;
use etherparse::PacketBuilder;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::gateway::{
    BACKEND4, BACKEND6, BACKENDS, DTLS_PORT, Gateway, IPSEC_PORT, OPENVPN_PORT, TCP_PORT, UDP_PORT,
    VIP4, VIP6, WIREGUARD_PORT,
};
use crate::memory::{Element, Plain, PlainSlot, words};
use crate::place::{LAN, WAN, WAN_PEER};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FERNPASS_BENCH_OBJECT"));

/// Bytes of `struct xdp_md` (linux/bpf.h): data, data_end, data_meta, ingress_ifindex,
/// rx_queue_index, egress_ifindex.
const CONTEXT: usize = 24;
/// Bytes of a payload, where nothing else is asked for: a keepalive of WireGuard.
const PAYLOAD: usize = 32;
/// Frames that are sent before what receives them runs; veth's ring holds 256.
const BATCH: u32 = 64;
/// Opcode and key of OpenVPN's `P_DATA_V2`.
const OPENVPN_DATA: u8 = 9 << 3;
/// First bytes of DTLS records: unified, with an id, of application data; with an id; of data.
const RECORD: u8 = 0x33;
const RECORD_WITH_ID: u8 = 25;
const RECORD_OF_DATA: u8 = 23;
/// The SPI of the first flow.
const FIRST_SPI: u32 = 0x0100_0000;
/// Factors of the ids that concentrators and clients hand out; odd.
const IN_FACTOR: u32 = 0x9e37_79b1;
const OUT_FACTOR: u32 = 0x85eb_ca77;

/// Whether IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A WireGuard client's data with the id that its concentrator handed out.
    Data,
    /// The same from an address that the session is not at.
    Roamed,
    /// A WireGuard client's handshake.
    Initiation,
    /// A datagram of a client of the `udp` service.
    Datagram,
    /// An OpenVPN client's data with the peer-id that its server gave it.
    OpenVpn,
    /// An OpenVPN server's data.
    OpenVpnAnswer,
    /// ESP of a client with the SPI that its concentrator chose.
    Esp,
    /// ESP of a concentrator.
    EspAnswer,
    /// A DTLS 1.3 client's record with the id that its server chose.
    Record,
    /// A DTLS 1.2 client's likewise.
    Record12,
    /// A DTLS 1.2 server's record of data.
    RecordAnswer,
    /// A segment of a client's TCP connection.
    Segment,
    /// A segment of a TCP server.
    SegmentAnswer,
    /// A datagram to the WireGuard service that is none of its messages.
    Malformed,
    /// A datagram to another address than a service's.
    Foreign,
    /// A concentrator's data.
    DataAnswer,
    /// A datagram of a backend of the `udp` service.
    DatagramAnswer,
}

impl Message {
    /// It comes from a backend.
    const fn is_answer(self) -> bool {
        matches!(
            self,
            Self::DataAnswer
                | Self::DatagramAnswer
                | Self::OpenVpnAnswer
                | Self::EspAnswer
                | Self::RecordAnswer
                | Self::SegmentAnswer
        )
    }

    /// The payload, with ids left out; of this length, if the message has no length of its own.
    fn payload(self, length: usize) -> Vec<u8> {
        let (kind, length) = match self {
            Self::Initiation => (1, 148),
            Self::Data | Self::Roamed | Self::DataAnswer => (4, length),
            Self::Malformed => (9, length),
            Self::OpenVpn | Self::OpenVpnAnswer => (OPENVPN_DATA, length),
            Self::Record => (RECORD, length),
            Self::Record12 => (RECORD_WITH_ID, length),
            Self::RecordAnswer => (RECORD_OF_DATA, length),
            Self::Datagram
            | Self::DatagramAnswer
            | Self::Foreign
            | Self::Esp
            | Self::EspAnswer
            | Self::Segment
            | Self::SegmentAnswer => (0, length),
        };
        let mut payload = vec![0; length];
        payload[0] = kind;
        if matches!(self, Self::Record12 | Self::RecordAnswer) {
            // The epoch.
            payload[4] = 1;
        }
        payload
    }
}

/// Which flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flows {
    /// The first one's number.
    pub(crate) first: u32,
    /// How many, from the first on.
    pub(crate) count: u32,
    /// Drawn at random, or in order.
    pub(crate) random: bool,
}

/// Bytes from the frame's begin at which fields are: those of a client's address that differ from
/// client to client (of an IPv6 address the /64's lower half: each home has its own), and a
/// backend's last four.
struct Offsets {
    checksum: u32,
    client_as_source: u32,
    client_as_destination: u32,
    backend_as_source: u32,
    ports: u32,
    payload: u32,
}

const OFFSETS4: Offsets = Offsets {
    checksum: 24,
    client_as_source: 26,
    client_as_destination: 30,
    backend_as_source: 26,
    ports: 34,
    payload: 42,
};
const OFFSETS6: Offsets = Offsets {
    checksum: 0,
    client_as_source: 26,
    client_as_destination: 42,
    backend_as_source: 34,
    ports: 54,
    payload: 62,
};

/// The first client's address, and those four bytes of it that count clients; a roamed one's is
/// far from all others.
fn client(family: Family, roamed: bool) -> (IpAddr, u32) {
    let first = match (family, roamed) {
        (Family::V4, false) => 0x6440_0000,
        (Family::V4, true) => 0x3c00_0000,
        (Family::V6, false) => 0x1000_0000,
        (Family::V6, true) => 0x2000_0000,
    };
    let address = match family {
        Family::V4 => Ipv4Addr::from(first).into(),
        Family::V6 => Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(first) << 64).into(),
    };
    (address, first)
}

/// The begin of a frame with a payload of this length.
fn frame(
    message: Message,
    length: usize,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 9, 9, 9], [2, 0, 0, 0, 0, 1]);
    let ip = match (source.0, destination.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("both addresses are of one family"),
    };
    let mut frame = Vec::new();
    let payload = message.payload(length);
    let written = if matches!(message, Message::Segment | Message::SegmentAnswer) {
        ip.tcp(source.1, destination.1, 1, 1024).ack(1).write(&mut frame, &payload)
    } else {
        ip.udp(source.1, destination.1).write(&mut frame, &payload)
    };
    written.expect("a vector takes it, and the payload is short");
    frame.resize(FRAME, 0);
    frame
}

/// What the player is to play, in frames with a payload of this length.
fn play(message: Message, family: Family, flows: Flows, target: Target, length: usize) -> Play {
    let (offsets, vip, backend, first_backend) = match family {
        Family::V4 => (OFFSETS4, IpAddr::from(VIP4), IpAddr::from(BACKEND4), BACKEND4.to_bits()),
        Family::V6 => {
            (OFFSETS6, IpAddr::from(VIP6), IpAddr::from(BACKEND6), BACKEND6.to_bits() as u32)
        }
    };
    let (client, first_client) =
        client(family, message == Message::Roamed || message == Message::Initiation);
    let port = match message {
        Message::Datagram | Message::DatagramAnswer => UDP_PORT,
        Message::OpenVpn | Message::OpenVpnAnswer => OPENVPN_PORT,
        Message::Esp | Message::EspAnswer => IPSEC_PORT,
        Message::Record | Message::Record12 | Message::RecordAnswer => DTLS_PORT,
        Message::Segment | Message::SegmentAnswer => TCP_PORT,
        _ => WIREGUARD_PORT,
    };
    let (bytes, client_at, port_at, backend_at) = if message.is_answer() {
        let bytes = frame(message, length, (backend, port), (client, 0));
        (bytes, offsets.client_as_destination, offsets.ports + 2, offsets.backend_as_source)
    } else {
        let to = if message == Message::Foreign { backend } else { vip };
        let bytes = frame(message, length, (client, 0), (to, port));
        (bytes, offsets.client_as_source, offsets.ports, 0)
    };
    let mut words = [0; FRAME_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut play = Play {
        frame: words,
        random: 0x2545_f491_4f6c_dd1d,
        is_random: flows.random.into(),
        first: flows.first,
        flows: flows.count,
        client_at,
        client: first_client,
        port_at,
        backend_at,
        backend: first_backend,
        backend_mask: BACKENDS - 1,
        target: target as u32,
        ..Play::default()
    };
    if family == Family::V4 && !message.is_answer() {
        // The header's other words: neither the checksum nor the client's address.
        let words = bytes[14..34].as_chunks::<2>().0.iter().enumerate();
        let others = words.filter(|(index, _)| !matches!(index, 5..=7));
        play.checksum_at = offsets.checksum;
        play.sum = others.map(|(_, word)| u32::from(u16::from_be_bytes(*word))).sum();
    }
    let ids = offsets.payload + 4;
    match message {
        Message::Data | Message::Roamed => (play.id_at, play.id_factor) = (ids, IN_FACTOR),
        Message::DataAnswer => (play.id_at, play.id_factor) = (ids, OUT_FACTOR),
        Message::OpenVpn | Message::OpenVpnAnswer => {
            // Opcode and peer-id are one word, and all integers are big-endian.
            (play.id_at, play.counter_at) = (offsets.payload, offsets.payload + 4);
            play.id_prefix = u32::from(OPENVPN_DATA) << 24;
        }
        Message::Esp | Message::EspAnswer => {
            (play.id_at, play.counter_at) = (offsets.payload, offsets.payload + 4);
            play.id_prefix = FIRST_SPI;
        }
        Message::Record => {
            (play.id_at, play.counter_at) = (offsets.payload + 1, offsets.payload + 9);
            play.id_prefix = FIRST_SPI;
        }
        Message::Record12 => {
            (play.id_at, play.counter_at) = (offsets.payload + 11, offsets.payload + 19);
            play.id_prefix = FIRST_SPI;
        }
        _ => {}
    }
    if matches!(message, Message::Data | Message::Roamed | Message::DataAnswer) {
        play.counter_at = ids + 4;
    }
    play.interface = if message.is_answer() { WAN } else { LAN };
    play
}

/// The bench's programs, upon a gateway's tables.
pub(crate) struct Player {
    ebpf: Ebpf,
    played: Element<Play>,
    arrived: Element<Arrived>,
    hash: HashMap<MapData, [u32; 5], PlainSlot>,
    given: u32,
    /// Without it the array would lose what it holds.
    _targets: ProgramArray<MapData>,
}

impl Player {
    /// Loads the programs; the hash has room for so many sessions.
    pub(crate) fn new(gateway: &Gateway, sessions: u32) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        for (name, _) in SHAPES {
            loader.map_pin_path(name, gateway.pins().map(name));
        }
        loader.map_max_entries("SESSIONS", sessions);
        let mut ebpf = loader.load(OBJECT).context("cannot load the bench's programs")?;
        // Before maps are taken: what is taken may close.
        let targets = [
            ("control", Target::Control),
            ("floor", Target::Floor),
            ("hashed", Target::Hash),
            ("given", Target::Given),
            ("line", Target::Line),
            ("redirected", Target::Redirect),
            ("lines", Target::Lines),
            ("tables", Target::Tables),
        ];
        let others = ["player", "shortcut", "receive"];
        for name in targets.iter().map(|(name, _)| *name).chain(others) {
            let loaded = program(&mut ebpf, name)?.load();
            loaded.with_context(|| format!("the kernel refuses the program `{name}`"))?;
        }
        let mut programs: ProgramArray<MapData> = taken(&mut ebpf, "TARGETS")?;
        let played = element(&mut ebpf, "PLAY")?;
        let arrived = element(&mut ebpf, "ARRIVED")?;
        let hash = taken(&mut ebpf, "SESSIONS")?;
        for (name, target) in targets {
            programs.set(target as u32, program(&mut ebpf, name)?.fd()?, 0)?;
        }
        let own = Xdp::from_pin(gateway.pins().program(), XdpAttachType::Interface)?;
        programs.set(Target::Gateway as u32, own.fd()?, 0)?;
        Ok(Self { ebpf, played, arrived, hash, given: 0, _targets: programs })
    }

    /// Copies the gateway's open sessions into the hash. One of them is given where none is looked up.
    pub(crate) fn copy_sessions(&mut self, gateway: &Gateway) -> anyhow::Result<()> {
        let slots = gateway.tables().slots.iter().zip(0..);
        for (slot, index) in slots.filter(|(slot, _)| slot::is_open(slot.state.load())) {
            self.given = index;
            let c = slot::client(slot).0;
            let last = slot.port_service.get();
            let key = [c[0], c[1], c[2], c[3], last];
            self.hash.insert(key, PlainSlot(words(slot)), 0).context("the hash is full")?;
        }
        Ok(())
    }

    /// Sets what [`Self::run`] plays.
    pub(crate) fn set(&mut self, message: Message, family: Family, flows: Flows, target: Target) {
        let play = play(message, family, flows, target, PAYLOAD);
        self.played.set(Play { given: self.given, ..play });
    }

    /// Attaches one of the programs to an interface of this network namespace, natively. It stays
    /// for as long as this is.
    pub(crate) fn attach(&mut self, name: &str, interface: u32) -> anyhow::Result<()> {
        let attached =
            program(&mut self.ebpf, name)?.attach_to_if_index(interface, XdpMode::Driver);
        attached.with_context(|| format!("cannot attach `{name}` to interface {interface}"))?;
        Ok(())
    }

    /// Says which frames are right where they arrive: those to addresses that begin as this one does.
    /// Forgets those that were.
    pub(crate) fn expect(&mut self, address: Ipv4Addr, length: u32) {
        let mask = u32::MAX << (32 - length);
        let network = u32::from(address) & mask;
        self.arrived.set(Arrived { mask, network, right: 0, others: 0 });
    }

    /// How many right ones arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.get().right
    }

    /// Sends so many frames of this length out of the other end of the gateway's cable to the
    /// Internet: how long it took, in nanoseconds. Nearly all of what becomes of them, up to where they
    /// arrive, is done when it returns, on this processor.
    pub(crate) fn send(
        &mut self,
        message: Message,
        flows: Flows,
        length: usize,
        frames: u32,
    ) -> anyhow::Result<f64> {
        const HEADERS: usize = 42;
        let play = play(message, Family::V4, flows, Target::Control, length - HEADERS);
        self.played.set(play);
        let data = vec![0; length];
        let context = context(length, WAN_PEER);
        let options = TestRunOptions {
            data_in: Some(&data),
            ctx_in: Some(&context),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let player = program(&mut self.ebpf, "player")?;
        let before = clock_gettime(ClockId::Monotonic);
        player.test_run(options).context("a test run with live frames failed")?;
        Ok(elapsed(before, clock_gettime(ClockId::Monotonic)))
    }

    /// Plays so many packets; the processor time that it took, in nanoseconds, and the verdict on the last one.
    pub(crate) fn run(&mut self, packets: u32, from: Side) -> anyhow::Result<Ran> {
        let context = context(FRAME, from as u32);
        let data = [0; FRAME];
        let options = TestRunOptions {
            data_in: Some(&data),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::default()
        };
        let player = program(&mut self.ebpf, "player")?;
        let before = clock_gettime(ClockId::ThreadCPUTime);
        let result = player.test_run(options).context("a test run failed")?;
        let after = clock_gettime(ClockId::ThreadCPUTime);
        Ok(Ran { ns: elapsed(before, after), action: result.return_value })
    }
}

/// Where packets come in.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Wan = WAN,
    Lan = LAN,
}

impl Side {
    pub(crate) const fn of(message: Message) -> Self {
        if message.is_answer() { Self::Lan } else { Self::Wan }
    }
}

/// What a run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// Processor time, in nanoseconds.
    pub(crate) ns: f64,
    /// The last packet's XDP action.
    pub(crate) action: u32,
}

/// The context of a frame that came in on an interface.
fn context(length: usize, from: u32) -> [u8; CONTEXT] {
    let mut context = [0; CONTEXT];
    for (field, value) in [(1, length as u32), (3, from)] {
        context[4 * field..4 * field + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// Nanoseconds between two times.
fn elapsed(before: Timespec, after: Timespec) -> f64 {
    (after.tv_sec - before.tv_sec) as f64 * 1e9 + (after.tv_nsec - before.tv_nsec) as f64
}

fn element<T: Plain>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Element<T>> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(Element::new(map.fd().as_fd())?),
        _ => bail!("the bench's object has no array {name}"),
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("there is no program {name}"))?;
    Ok(program.try_into()?)
}

fn taken<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<T> {
    let map = ebpf.take_map(name).ok_or_else(|| anyhow!("there is no map {name}"))?;
    T::try_from(map).map_err(|_| anyhow!("the map {name} has another type"))
}
