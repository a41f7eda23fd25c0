//! The kernel program with maps of its own, and a fixture's world written into them.

use crate::memory::{Array, copy, words};
use aya::maps::{DevMapHash, LpmTrie, Map, MapData, PerCpuArray, lpm_trie};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use control::loader::{Sizes, load_programs};
use dataplane::abi::{
    self, Bucket, Detail, DirectoryEntry, Meter, NextHop, Settings, Slot, Tenant, maps,
};
use dataplane::cell::Word;
use dataplane::fixture::World;
use dataplane::fixture::check::Shared;
use dataplane::fixture::site::{self, LAN, WAN};
use dataplane::reason::Reason;
use dataplane::table::host::HostTables;
use libtest_mimic::Failed;
use std::fmt::Display;
use std::os::fd::AsFd;

/// The kernel program, as this build made it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FERNPASS_XDP_OBJECT"));

/// Sizes of the maps; a world may use less.
const SIZES: Sizes = Sizes { slots: 1024, overflow: 64, ids: 512, hints: 128 };
/// Entries of the directory that are mapped: as many as a world has.
const DIRECTORY: u32 = 256;
/// Listeners of a world.
const LISTENERS: u32 = site::ALL.len() as u32;

/// Bytes of `struct xdp_md` (linux/bpf.h): data, data_end, data_meta, ingress_ifindex,
/// rx_queue_index, egress_ifindex.
const CONTEXT: usize = 24;

/// A loaded program.
pub(crate) struct Gateway {
    ebpf: Ebpf,
    pub(crate) settings: Array<Settings>,
    pub(crate) slots: Array<Slot>,
    details: Array<Detail>,
    pub(crate) ids: Array<Bucket>,
    pub(crate) hints: Array<Bucket>,
    pub(crate) tenants: Array<Tenant>,
    pub(crate) fragments: Array<Bucket>,
    pub(crate) budgets: Array<Word>,
    pub(crate) paces: Array<Meter>,
    nexthops: Array<NextHop>,
    endpoints: Array<Word>,
    sources: Array<Word>,
    rings: Array<Word>,
    directory: Array<DirectoryEntry>,
    routes: LpmTrie<MapData, [u32; 4], u32>,
    counters: PerCpuArray<MapData, u64>,
}

/// What the kernel program did with a frame.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The XDP action.
    pub(crate) action: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
}

fn failed(what: &str) -> impl Fn(&dyn Display) -> Failed + '_ {
    move |e| format!("{what}: {e}").into()
}

fn array<T: crate::memory::Words>(
    ebpf: &mut Ebpf,
    name: &str,
    len: u32,
) -> Result<Array<T>, Failed> {
    let Some(Map::Array(map)) = ebpf.take_map(name) else {
        return Err(format!("{name} is not an array").into());
    };
    Array::new(map.fd().as_fd(), len as usize).map_err(|e| failed(name)(&e))
}

fn taken<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, Failed> {
    let map = ebpf.take_map(name).ok_or_else(|| format!("{name} is not there"))?;
    T::try_from(map).map_err(|_| format!("{name} is of another type").into())
}

impl Gateway {
    /// Loads the program; time is what the settings say.
    pub(crate) fn load() -> Result<Self, Failed> {
        let mut loader = EbpfLoader::new();
        loader.override_global("TEST_CLOCK", &1_u32, true);
        for (name, entries) in [
            (maps::SLOTS, SIZES.slots + SIZES.overflow),
            (maps::DETAILS, SIZES.slots + SIZES.overflow),
            (maps::IDS, SIZES.ids),
            (maps::HINTS, SIZES.hints),
        ] {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader.load(OBJECT).map_err(|e| failed("loading")(&e))?;
        // Before the maps are taken: what is taken closes.
        load_programs(&mut ebpf).map_err(|e| failed("the programs")(&e))?;
        let ebpf_mut = &mut ebpf;
        let mut devices: DevMapHash<MapData> = taken(ebpf_mut, maps::DEVICES)?;
        for interface in [WAN, LAN] {
            devices.insert(interface, interface, None, 0).map_err(|e| failed("devices")(&e))?;
        }
        Ok(Self {
            settings: array(ebpf_mut, maps::SETTINGS, 1)?,
            slots: array(ebpf_mut, maps::SLOTS, SIZES.slots + SIZES.overflow)?,
            details: array(ebpf_mut, maps::DETAILS, SIZES.slots + SIZES.overflow)?,
            ids: array(ebpf_mut, maps::IDS, SIZES.ids)?,
            hints: array(ebpf_mut, maps::HINTS, SIZES.hints)?,
            tenants: array(ebpf_mut, maps::TENANTS, site::TENANTS)?,
            fragments: array(ebpf_mut, maps::FRAGMENTS, abi::FRAGMENT_BUCKETS)?,
            budgets: array(ebpf_mut, maps::BUDGETS, abi::BUDGET_SLOTS)?,
            paces: array(ebpf_mut, maps::PACES, site::PACES)?,
            nexthops: array(ebpf_mut, maps::NEXTHOPS, site::HOPS)?,
            endpoints: array(ebpf_mut, maps::ENDPOINTS, 8 * LISTENERS * abi::POOL_STRIDE)?,
            sources: array(ebpf_mut, maps::SOURCES, 2 * abi::MAX_SOURCES)?,
            rings: array(ebpf_mut, maps::RINGS, site::RINGS * abi::RING_WORDS)?,
            directory: array(ebpf_mut, maps::DIRECTORY, DIRECTORY)?,
            routes: taken(ebpf_mut, maps::ROUTES)?,
            counters: taken(ebpf_mut, maps::COUNTERS)?,
            ebpf,
        })
    }

    /// Writes a world into the maps, over the one that was there.
    pub(crate) fn write(&mut self, world: &World) -> Result<(), Failed> {
        let t = &world.tables;
        copy(words(std::slice::from_ref(&t.settings)), words(&self.settings));
        copy(words(&t.slots), words(&self.slots));
        copy(words(&t.details), words(&self.details));
        copy(words(&t.ids), words(&self.ids));
        copy(words(&t.hints), words(&self.hints));
        copy(words(&t.tenants), words(&self.tenants));
        copy(words(&t.fragments), words(&self.fragments));
        copy(words(&t.budgets), words(&self.budgets));
        copy(words(&t.paces), words(&self.paces));
        copy(words(&t.nexthops), words(&self.nexthops));
        copy(words(&t.endpoints), words(&self.endpoints));
        copy(words(&t.sources), words(&self.sources));
        copy(words(&t.rings), words(&self.rings));
        copy(words(&t.directory), words(&self.directory));
        for (key, hop) in &t.routes {
            let key = lpm_trie::Key::new(key.prefix_len, key.address.0);
            self.routes.insert(&key, hop, 0).map_err(|e| failed("routes")(&e))?;
        }
        Ok(())
    }

    /// The shared tables, as far as a world of this size uses them.
    pub(crate) fn shared(&self, t: &HostTables) -> Shared<'_> {
        Shared {
            settings: &self.settings[0],
            slots: &self.slots[..t.slots.len()],
            details: &self.details[..t.details.len()],
            ids: &self.ids[..t.ids.len()],
            tenants: &self.tenants,
            nexthops: &self.nexthops,
        }
    }

    /// The program.
    pub(crate) fn program(&self) -> Result<&Xdp, Failed> {
        let program = self.ebpf.program("fernpass").ok_or("no program")?;
        program.try_into().map_err(|e| failed("the program")(&e))
    }

    /// All counters, in the order of [`Reason::ALL`].
    pub(crate) fn counters(&self) -> Result<Vec<u64>, Failed> {
        let read = |reason: &Reason| {
            let values = self.counters.get(&(*reason as u32), 0);
            values.map(|v| v.iter().sum()).map_err(|e| failed("counters")(&e))
        };
        Reason::ALL.iter().map(read).collect()
    }
}

/// Runs the program on a frame, before which lie `metadata` bytes of a driver's.
pub(crate) fn run(
    xdp: &Xdp,
    frame: &[u8],
    ingress: u32,
    metadata: usize,
    repeat: u32,
) -> Result<Ran, String> {
    let mut data = vec![0; metadata];
    data.extend_from_slice(frame);
    let mut context = [0; CONTEXT];
    for (field, value) in [(0, metadata as u32), (1, data.len() as u32), (3, ingress)] {
        context[4 * field..4 * field + 4].copy_from_slice(&value.to_ne_bytes());
    }
    // A tag may be put in front, and what a tunnel needs.
    let mut out = vec![0; data.len() + 60];
    let options = TestRunOptions {
        data_in: Some(&data),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        repeat,
        ..TestRunOptions::default()
    };
    let result = xdp.test_run(options).map_err(|e| {
        format!("{} bytes and {metadata} of metadata on {ingress}: {e:?}", frame.len())
    })?;
    out.truncate(result.data_size_out as usize);
    out.drain(..metadata);
    Ok(Ran { action: result.return_value, frame: out })
}
