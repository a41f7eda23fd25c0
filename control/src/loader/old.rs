//! Tables whose sessions are taken over: another version's, or this version's smaller ones. Read by their own description,
//! by this version's names; the program on the interfaces goes on writing them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use dataplane::abi::{
    Address, NAME_BACKEND, NAME_LISTENER, NAME_LISTENER_POOL, NAME_POOL, NAME_RETIRED,
    NAME_SERVICE, NAME_TENANT, NameKey, SERVICE_TCP, maps,
};
use dataplane::cell::Cell;
use dataplane::reason::Reason;
use dataplane::table::carry::{Ids, Session};
use dataplane::table::hash::Flow;
use dataplane::table::slot;

use super::layout::{Field, Layout};
use super::mapped::Mapped;
use super::pod::{PodName, PodNameKey};
use super::tables::{open_words, typed};
use super::{LoadError, Pins};

/// An array map's elements, read by fields.
struct Elements {
    words: Mapped<Cell<u64>>,
    /// Words of an element.
    stride: usize,
}

impl Elements {
    fn open(pins: &Pins, name: &str) -> Result<Self, LoadError> {
        let (words, stride) = open_words(pins, name)?;
        Ok(Self { words, stride })
    }

    fn len(&self) -> usize {
        self.words.len() / self.stride
    }

    /// The `n`th number of so many bytes of a field; 0 if there is none.
    fn part(&self, element: usize, field: Option<Field>, n: usize, bytes: usize) -> u64 {
        let word = |word: usize| {
            let index = element * self.stride + word;
            self.words.get(index).filter(|_| word < self.stride).map(Cell::get)
        };
        field.map_or(0, |field| field.read(n, bytes, word))
    }

    /// A field that is one number.
    fn number(&self, element: usize, field: Option<Field>) -> u64 {
        self.part(element, field, 0, field.map_or(8, Field::size))
    }
}

macro_rules! fields {
    ($($name:ident: $map:literal { $($must:ident)* | $($may:ident)* })*) => {$(
        #[derive(Clone, Copy)]
        struct $name {
            $($must: Option<Field>,)*
            $($may: Option<Field>,)*
        }

        impl $name {
            fn of(layout: &Layout) -> Result<Self, String> {
                let field = |name| layout.field($map, name);
                Ok(Self {
                    $($must: Some(field(stringify!($must)).ok_or(concat!($map, ".", stringify!($must)))?),)*
                    $($may: field(stringify!($may)),)*
                })
            }

            #[cfg(feature = "fuzz")]
            fn named(&self) -> Vec<(&'static str, Option<Field>)> {
                vec![
                    $((concat!($map, ".", stringify!($must)), self.$must),)*
                    $((concat!($map, ".", stringify!($may)), self.$may),)*
                ]
            }
        }
    )*};
}

// Without those before the bar there is no session; without the others there is a bit less of it.
fields! {
    SlotFields: "SLOTS" {
        state client port_service endpoint
        | last_seen rx_packets rx_bytes tx_packets tx_bytes in_id out_id
    }
    DetailFields: "DETAILS" {
        opened identity
        | in_id_next in_id_previous out_id_next out_id_previous in_counter out_counter
          rx_packets_high rx_bytes_high tx_packets_high tx_bytes_high moves handshake closing
    }
    TenantFields: "TENANTS" {
        | opened refused ended ended_rx_packets ended_rx_bytes ended_tx_packets ended_tx_bytes
          handshakes new_sessions packets_in bytes_in packets_out bytes_out
    }
    MeterFields: "METER" { | refused }
    EndpointFields: "ENDPOINTS" { | backend flags }
}

/// Numbers by which the tables say what they say.
#[derive(Clone, Copy)]
struct Numbers {
    state_mask: u64,
    tentative: u64,
    open: u64,
    aside: u64,
    service_tcp: u64,
    pool_stride: u32,
    endpoint_live: u64,
}

impl Numbers {
    fn of(layout: &Layout) -> Result<Self, String> {
        let number = |name: &str| layout.number(name).ok_or_else(|| name.to_owned());
        Ok(Self {
            state_mask: (1 << number("state_bits")?.min(32)) - 1,
            tentative: number("state_tentative")?,
            open: number("state_open")?,
            aside: number("state_aside")?,
            service_tcp: number("service_tcp")?,
            pool_stride: u32::try_from(number("pool_stride")?).unwrap_or(0).max(1),
            endpoint_live: layout.number("endpoint_live").unwrap_or(0),
        })
    }
}

impl Numbers {
    /// The state of a session in this version's numbers; `None` if it is none.
    fn state(&self, word: u64) -> Option<u8> {
        let state = word & self.state_mask;
        let aside = if state & self.aside != 0 { slot::ASIDE } else { 0 };
        match state & !self.aside {
            state if state == self.open => Some(slot::OPEN | aside),
            state if state == self.tentative => Some(slot::TENTATIVE | aside),
            _ => None,
        }
    }
}

/// See [`crate::fuzz::described`].
#[cfg(feature = "fuzz")]
pub(crate) fn described(
    entries: &[(dataplane::abi::LayoutKey, dataplane::abi::Layout)],
    element: &[u64],
) -> Result<crate::fuzz::Described, String> {
    let layout = Layout::of(entries);
    let numbers = Numbers::of(&layout)?;
    let mut fields = SlotFields::of(&layout)?.named();
    fields.extend(DetailFields::of(&layout)?.named());
    let (tenant, meter) = (TenantFields::of(&layout)?, MeterFields::of(&layout)?);
    fields.extend(tenant.named());
    fields.extend(meter.named());
    fields.extend(EndpointFields::of(&layout)?.named());
    let inner = tenant.handshakes.zip(meter.refused).and_then(|(meter, inner)| meter.inner(inner));
    fields.push(("", inner));
    let word = |word: usize| element.get(word).copied();
    let read = |(name, field): (&'static str, Option<Field>)| {
        [(0, field.map_or(8, Field::size)), (0, 8), (1, 8)].map(|(n, bytes)| {
            let value = field.map_or(0, |field| field.read(n, bytes, word));
            crate::fuzz::Reading { name, n, bytes, value }
        })
    };
    let readings = fields.into_iter().flat_map(read).collect();
    let states = element.iter().map(|word| numbers.state(*word)).collect();
    Ok(crate::fuzz::Described { readings, states })
}

/// What a tenant has had, of sessions that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    /// What its limits refused, in the order of [`Tenant::meters`](dataplane::abi::Tenant::meters).
    pub(crate) limited: [u64; 6],
    /// Sessions; packets and bytes from clients and to them.
    pub(crate) sums: [u64; 5],
}

/// Tables whose sessions are taken over.
pub struct Old {
    pins: Pins,
    layout: Layout,
    slots: Elements,
    details: Elements,
    tenants: Elements,
    endpoints: Elements,
    settings: Elements,
    hints: Elements,
    counters: PerCpuArray<MapData, u64>,
    names: BTreeMap<NameKey, String>,
    numbers: Numbers,
    slot: SlotFields,
    detail: DetailFields,
    tenant: TenantFields,
    meter: MeterFields,
    endpoint: EndpointFields,
}

impl fmt::Debug for Old {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Old").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Old {
    /// Opens pinned tables.
    ///
    /// # Errors
    /// They do not describe themselves, or not enough; or a map cannot be opened.
    pub(crate) fn open(pins: Pins) -> Result<Self, LoadError> {
        let path = || pins.dir().to_owned();
        let layout = Layout::read(&pins)?.ok_or_else(|| LoadError::Foreign { path: path() })?;
        let missing = |missing: String| LoadError::Layout { path: path(), missing };
        Ok(Self {
            slots: Elements::open(&pins, maps::SLOTS)?,
            details: Elements::open(&pins, maps::DETAILS)?,
            tenants: Elements::open(&pins, maps::TENANTS)?,
            endpoints: Elements::open(&pins, maps::ENDPOINTS)?,
            settings: Elements::open(&pins, maps::SETTINGS)?,
            hints: Elements::open(&pins, maps::HINTS)?,
            counters: typed(&pins, maps::COUNTERS)?,
            names: names(&pins, &layout)?,
            numbers: Numbers::of(&layout).map_err(missing)?,
            slot: SlotFields::of(&layout).map_err(missing)?,
            detail: DetailFields::of(&layout).map_err(missing)?,
            tenant: TenantFields::of(&layout).map_err(missing)?,
            meter: MeterFields::of(&layout).map_err(missing)?,
            endpoint: EndpointFields::of(&layout).map_err(missing)?,
            layout,
            pins,
        })
    }

    /// Where they are pinned.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// They are pinned somewhere else now.
    pub(crate) fn moved_to(&mut self, pins: Pins) {
        self.pins = pins;
    }

    /// What indexes mean, in this version's kinds.
    pub(crate) fn names(&self) -> &BTreeMap<NameKey, String> {
        &self.names
    }

    /// Endpoint index = listener index * this + the backend's ordinal.
    pub(crate) fn pool_stride(&self) -> u32 {
        self.numbers.pool_stride
    }

    /// Sessions, tentative ones included, each once. Endpoints and services are the tables' own.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        let mut all: Vec<_> =
            (0..self.slots.len()).filter_map(|index| self.session(index)).collect();
        all.sort_unstable_by_key(|s| (s.identity, std::cmp::Reverse(s.moves)));
        all.dedup_by_key(|s| s.identity);
        all
    }

    fn session(&self, index: usize) -> Option<Session> {
        let (slots, details) = (&self.slots, &self.details);
        let (slot, detail) = (&self.slot, &self.detail);
        let word = slots.number(index, slot.state);
        let state = self.numbers.state(word)?;
        let client = Address::from_halves([0, 1].map(|n| slots.part(index, slot.client, n, 8)));
        let port_service = slots.number(index, slot.port_service);
        let service = port_service >> 16 & 0xffff;
        let tcp = if service & self.numbers.service_tcp != 0 { SERVICE_TCP } else { 0 };
        let service = (service & !self.numbers.service_tcp) as u16 | tcp;
        let count = |low, high| {
            // As long as the lower half has wrapped and the upper one was not yet raised, readings differ.
            let read = || details.number(index, high) << 32 | slots.number(index, low);
            let mut before = read();
            loop {
                let now = read();
                if now.wrapping_sub(before) < 1 << 31 {
                    return now;
                }
                before = now;
            }
        };
        let of_slot = |field| slots.number(index, field) as u32;
        let of_detail = |field| details.number(index, field) as u32;
        let session = Session {
            identity: details.number(index, detail.identity),
            state,
            flow: Flow { client, port: port_service as u16, service },
            endpoint: of_slot(slot.endpoint) as u16,
            opened: details.number(index, detail.opened),
            last_seen: of_slot(slot.last_seen),
            counts: [
                count(slot.rx_packets, detail.rx_packets_high),
                count(slot.rx_bytes, detail.rx_bytes_high),
                count(slot.tx_packets, detail.tx_packets_high),
                count(slot.tx_bytes, detail.tx_bytes_high),
            ],
            inbound: Ids {
                next: of_detail(detail.in_id_next),
                current: of_slot(slot.in_id),
                previous: of_detail(detail.in_id_previous),
            },
            outbound: Ids {
                next: of_detail(detail.out_id_next),
                current: of_slot(slot.out_id),
                previous: of_detail(detail.out_id_previous),
            },
            in_counter: of_detail(detail.in_counter),
            out_counter: of_detail(detail.out_counter),
            moves: of_detail(detail.moves) as u16,
            handshake: of_detail(detail.handshake) as u16,
            closing: of_detail(detail.closing) as u16,
            control: false,
        };
        // One that changed hands while it was read is none.
        let after = slots.number(index, slot.state);
        let state = self.numbers.state(after)?;
        (slot::generation(after) == slot::generation(word)).then_some(Session { state, ..session })
    }

    /// A generation that no slot had, nor will have: until its tables are kept by a daemon, no slot is used twice.
    pub(crate) fn next_generation(&self) -> u32 {
        let generation = |index| slot::generation(self.slots.number(index, self.slot.state));
        (0..self.slots.len()).map(generation).max().unwrap_or(0) + 2
    }

    /// The keys of its hashes, if they are this version's hashes: over flows, and over ids and addresses.
    pub(crate) fn hash_keys(&self) -> Option<([u64; 5], [u64; 2])> {
        let own = Layout::own();
        if self.layout.number("hashes") != own.number("hashes") {
            return None;
        }
        let field = |name| self.layout.field(maps::SETTINGS, name);
        let (flow, hash) = (field("flow_key")?, field("hash_key")?);
        let key = |field, n| self.settings.part(0, Some(field), n, 8);
        (flow.size() == 40 && hash.size() == 16)
            .then(|| (std::array::from_fn(|n| key(flow, n)), std::array::from_fn(|n| key(hash, n))))
    }

    /// All hints, with their buckets, and how many buckets there are.
    pub(crate) fn hints(&self) -> (impl Iterator<Item = (u32, u64)> + '_, u32) {
        let stride = self.hints.stride.max(1);
        let entries = self.hints.words.iter().enumerate();
        let hints = entries.map(move |(n, cell)| ((n / stride) as u32, cell.get()));
        (hints.filter(|(_, entry)| *entry != 0), self.hints.len() as u32)
    }

    /// What a tenant has had.
    pub(crate) fn ended(&self, tenant: u32) -> Ended {
        let number = |field| self.tenants.number(tenant as usize, field);
        let t = &self.tenant;
        let refused = |meter: Option<Field>| {
            let inner = self.meter.refused;
            meter.zip(inner).map_or(0, |(meter, inner)| number(meter.inner(inner)))
        };
        Ended {
            opened: number(t.opened),
            refused: number(t.refused),
            limited: [
                t.handshakes,
                t.new_sessions,
                t.packets_in,
                t.bytes_in,
                t.packets_out,
                t.bytes_out,
            ]
            .map(refused),
            sums: [
                number(t.ended),
                number(t.ended_rx_packets),
                number(t.ended_rx_bytes),
                number(t.ended_tx_packets),
                number(t.ended_tx_bytes),
            ],
        }
    }

    /// How often something happened, on each processor.
    pub(crate) fn counted(&self, reason: Reason) -> Result<Vec<u64>, LoadError> {
        let Some(number) = self.layout.reason(reason.as_str()) else { return Ok(Vec::new()) };
        let values = self.counters.get(&number, 0);
        let values = values.map_err(|e| LoadError::kernel("reading the counters", &e))?;
        Ok(values.to_vec())
    }

    /// Endpoints that were declared dead, with their backends' addresses.
    pub(crate) fn dead_endpoints(&self) -> impl Iterator<Item = (u32, Address)> + '_ {
        let known = self.endpoint.flags.is_some() && self.endpoint.backend.is_some();
        let all = if known { self.endpoints.len() } else { 0 };
        (0..all).filter_map(|index| {
            let half = |n| self.endpoints.part(index, self.endpoint.backend, n, 8);
            let address = Address::from_halves([half(0), half(1)]);
            let flags = self.endpoints.number(index, self.endpoint.flags);
            let dead = address != Address::default() && flags & self.numbers.endpoint_live == 0;
            dead.then_some((index as u32, address))
        })
    }
}

/// The names of another version's tables, by this version's kinds; those that it does not know are left out.
fn names(pins: &Pins, layout: &Layout) -> Result<BTreeMap<NameKey, String>, LoadError> {
    let map: HashMap<MapData, PodNameKey, PodName> = typed(pins, maps::NAMES)?;
    let kinds = [
        ("name_tenant", NAME_TENANT),
        ("name_service", NAME_SERVICE),
        ("name_pool", NAME_POOL),
        ("name_backend", NAME_BACKEND),
        ("name_listener", NAME_LISTENER),
        ("name_listener_pool", NAME_LISTENER_POOL),
    ];
    let retired = layout.number("name_retired").unwrap_or(0) as u32;
    let kinds: BTreeMap<u32, u32> = kinds
        .into_iter()
        .filter_map(|(name, own)| Some((layout.number(name)? as u32, own)))
        .collect();
    let mut names = BTreeMap::new();
    for entry in map.iter() {
        let (key, name) =
            entry.map_err(|e: MapError| LoadError::kernel("reading the names", &e))?;
        let (kind, is_retired) = (key.0.kind & !retired, key.0.kind & retired != 0);
        if let Some(kind) = kinds.get(&kind) {
            let kind = kind | if is_retired { NAME_RETIRED } else { 0 };
            let text = CStr::from_bytes_until_nul(&name.0.0).map(CStr::to_string_lossy);
            let key = NameKey { kind, index: key.0.index };
            names.insert(key, text.unwrap_or_default().into_owned());
        }
    }
    Ok(names)
}
