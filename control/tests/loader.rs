//! The loader against the real kernel: maps made, adopted, refused. Needs root.

mod scratch;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use aya::maps::{Array, Map, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use control::loader::{LoadError, PacketLog, Pins, Program, Sizes, Writer, adopt, create, shape};
use control::model::{Live, TableWriter as _, TenantLimits};
use dataplane::abi::{self, Address, AddressKey, NameKey, RouteKey};
use dataplane::table::directory;
use scratch::Scratch;

/// `XDP_PASS` (linux/bpf.h).
const XDP_PASS: u32 = 2;

/// The address and port of the `n`th backend.
fn key(n: u32) -> AddressKey {
    AddressKey {
        address: Address::v4((0x0a14_0000 | n).to_be()),
        port: 51820u16.to_be(),
        protocol: 17,
        zero: 0,
    }
}

/// The directory grows into its other table, and follows what cannot be changed in place.
#[test]
fn the_directory_grows_and_changes_and_another_daemon_reads_the_same() {
    let scratch = Scratch::new("directory");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let tables = Arc::new(create(&bpffs, &pins, SIZES).unwrap());
    let mut writer = Writer::open(&pins, Arc::clone(&tables)).unwrap();
    let entry = |index| abi::Directory { kind: abi::KIND_ENDPOINT, index, ..Default::default() };
    let mut wanted = BTreeMap::new();
    for n in 0..3_000 {
        writer.directory(key(n), Some(&entry(n))).unwrap();
        wanted.insert(key(n), entry(n));
    }
    // Away, changed in place, and changed by another table.
    for n in 0..100 {
        writer.directory(key(3 * n), None).unwrap();
        wanted.remove(&key(3 * n));
        let other = abi::Directory { service: 7, ..entry(3 * n + 1) };
        writer.directory(key(3 * n + 1), Some(&other)).unwrap();
        wanted.insert(key(3 * n + 1), other);
        let elsewhere = entry(10_000 + n);
        writer.directory(key(3 * n + 2), Some(&elsewhere)).unwrap();
        wanted.insert(key(3 * n + 2), elsewhere);
    }
    // Back, with another index.
    writer.directory(key(0), Some(&entry(5))).unwrap();
    wanted.insert(key(0), entry(5));
    assert!(writer.read().unwrap().directory == wanted);

    let again = Arc::new(adopt(&pins).unwrap().expect("the tables are there"));
    let mut writer = Writer::open(&pins, Arc::clone(&again)).unwrap();
    assert!(writer.read().unwrap().directory == wanted);
    writer.directory(key(9_999), Some(&entry(1))).unwrap();
    wanted.insert(key(9_999), entry(1));
    assert!(writer.read().unwrap().directory == wanted);
    pins.remove().unwrap();
}

/// Where all packets from outside ask first, there is their answer: others give way to a listener.
#[test]
fn a_listener_lies_where_it_is_looked_for_first_however_late_it_comes() {
    let scratch = Scratch::new("listener");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let tables = Arc::new(create(&bpffs, &pins, SIZES).unwrap());
    let mut writer = Writer::open(&pins, Arc::clone(&tables)).unwrap();
    let entry = |kind, index| abi::Directory { kind, index, ..Default::default() };
    let home = |key: &AddressKey| {
        let region = tables.settings().directory.get();
        (region >> 32) as u32 + (directory::hash(key) as u32 & region as u32)
    };
    let map = MapData::from_pin(pins.map(abi::maps::DIRECTORY)).unwrap();
    let map = Array::<_, [u64; 4]>::try_from(Map::Array(map)).unwrap();
    for n in 0..1_000 {
        writer.directory(key(n), Some(&entry(abi::KIND_ENDPOINT, n))).unwrap();
    }
    let taken = |key: &AddressKey| map.get(&home(key), 0).unwrap()[3] != 0;
    let vip = (1_000..).map(key).find(taken).unwrap();
    for ring in [0, 1, 2] {
        let listener = abi::Directory { ring, ..entry(abi::KIND_LISTENER, ring.into()) };
        writer.directory(vip, Some(&listener)).unwrap();
        let there = map.get(&home(&vip), 0).unwrap();
        assert_eq!(there[..2], vip.address.halves());
        assert_eq!(writer.read().unwrap().directory[&vip], listener);
    }
    assert_eq!(writer.read().unwrap().directory.len(), 1_001);
    pins.remove().unwrap();
}

const SIZES: Sizes = Sizes { slots: 1024, overflow: 64, ids: 512, hints: 128 };

#[test]
fn tables_are_made_whole_adopted_as_they_are_and_taken_away() {
    let scratch = Scratch::new("adopt");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    assert!(adopt(&pins).unwrap().is_none());

    let tables = Arc::new(create(&bpffs, &pins, SIZES).unwrap());
    assert_eq!(tables.sizes(), SIZES);
    assert_eq!(tables.slots.len(), 1024 + 64);
    let key = tables.settings().hash_key[0].get();
    assert_ne!(key, 0, "the hash key is random");
    assert!(!bpffs.path().join(format!("v{}-new", abi::ABI_VERSION)).exists());
    for (name, _) in shape::SHAPES {
        assert!(pins.map(name).exists(), "{name}");
    }

    let mut writer = Writer::open(&pins, Arc::clone(&tables)).unwrap();
    let name = NameKey { kind: abi::NAME_TENANT, index: 3 };
    let vip = AddressKey {
        address: Address::from(std::net::IpAddr::from([203, 0, 113, 10])),
        port: 51820u16.to_be(),
        protocol: 17,
        zero: 0,
    };
    let listener = abi::Directory { kind: abi::KIND_LISTENER, ring: 2, ..Default::default() };
    let route = RouteKey { prefix_len: 96, address: Address::v4(0) };
    writer.name(name, Some("justiz")).unwrap();
    writer
        .tenant(
            3,
            Some(TenantLimits {
                max_sessions: 7,
                max_tentative: 2,
                guaranteed: 3,
                ..TenantLimits::default()
            }),
        )
        .unwrap();
    writer.directory(vip, Some(&listener)).unwrap();
    writer.route(route, Some(5)).unwrap();
    writer.device(1, true).unwrap();
    writer
        .live(&Live {
            budget_cost: 9,
            budget_burst: 8,
            max_sessions: 100,
            guaranteed: 3,
            tentative: 20,
        })
        .unwrap();
    tables.tenants[3].sessions.add(4);

    // Another daemon finds all of it.
    let again = Arc::new(adopt(&pins).unwrap().expect("the tables are there"));
    assert_eq!(again.settings().hash_key[0].get(), key);
    assert_eq!(again.tenants[3].sessions.load(), 4);
    let mut writer = Writer::open(&pins, Arc::clone(&again)).unwrap();
    let held = writer.read().unwrap();
    assert_eq!(held.names[&name], "justiz");
    assert_eq!(held.tenants[&3].max_sessions, 7);
    assert_eq!(held.directory[&vip], listener);
    assert_eq!(held.routes[&route], 5);
    assert!(held.devices.contains(&1));
    assert_eq!(held.live.max_sessions, 100);
    assert_eq!(held.rings.keys().copied().collect::<Vec<_>>(), [2]);

    // Taking away what is not there is no error.
    for _ in 0..2 {
        writer.name(name, None).unwrap();
        writer.directory(vip, None).unwrap();
        writer.route(route, None).unwrap();
        writer.device(1, false).unwrap();
        writer.tenant(3, None).unwrap();
    }
    assert_eq!(tables.tenants[3].sessions.load(), 0);
    let held = writer.read().unwrap();
    assert!(held.names.is_empty() && held.directory.is_empty() && held.routes.is_empty());
    assert!(held.devices.is_empty() && held.tenants.is_empty());

    pins.remove().unwrap();
    assert!(adopt(&pins).unwrap().is_none());
}

#[test]
fn the_program_uses_the_pinned_maps_and_fits_the_verifier() {
    let scratch = Scratch::new("program");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    create(&bpffs, &pins, SIZES).unwrap();
    let program = Program::load(&pins, PacketLog::Off).unwrap();
    assert!(pins.program().exists());
    assert_eq!(pins.staged(), [program.id()]);
    // A second one takes the pin over, and no link has the first one.
    let second = Program::load(&pins, PacketLog::Off).unwrap();
    assert_ne!(second.id(), program.id());
    assert_eq!(pins.staged(), [second.id()]);
    // The stages stay when who loaded them is gone: a frame too short for the first one is passed by another.
    drop((program, second));
    let left = Xdp::from_pin(pins.program(), XdpAttachType::Interface).unwrap();
    let mut frame = [0; 42];
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
    let ran = left.test_run(TestRunOptions { data_in: Some(&frame), ..Default::default() });
    assert_eq!(ran.unwrap().return_value, XDP_PASS);

    for info in Program::examine(PacketLog::Off).unwrap() {
        assert!(info.instructions > 100, "{info:?}");
        assert!(info.verified_instructions <= 500_000, "{info:?}");
    }
}

#[test]
fn messages_about_packets_cost_nothing_until_they_are_asked_for() {
    let [off, dropped, all] = [PacketLog::Off, PacketLog::Dropped, PacketLog::All]
        .map(|log| Program::examine(log).unwrap());
    println!("{off:?}, {dropped:?}, {all:?}");
    for ((off, dropped), all) in off.iter().zip(&dropped).zip(&all) {
        assert!(off.instructions < dropped.instructions, "the messages are taken out");
        assert!(dropped.instructions < all.instructions);
        // A fifth more than without messages, and more in later kernels: Linux takes a million.
        assert!(all.verified_instructions <= 600_000, "{all:?}");
    }
}

#[test]
fn a_map_of_another_shape_is_named_and_nothing_is_changed() {
    let scratch = Scratch::new("shape");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    create(&bpffs, &pins, SIZES).unwrap();
    let path = pins.map("TENANTS");
    fs::remove_file(&path).unwrap();
    let array = aya::maps::Array::<_, [u8; 64]>::create(abi::MAX_TENANTS, 1 << 10).unwrap();
    array.pin(&path).unwrap();
    match adopt(&pins) {
        Err(e @ LoadError::Shape { .. }) => {
            let text = e.to_string();
            assert!(text.contains("TENANTS"), "{text}");
            assert!(text.contains("array of 4+64 bytes, 1024 entries"), "{text}");
            assert!(text.contains("array of 4+320 bytes, 1024 entries"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(pins.map("SLOTS").exists());

    fs::remove_file(&path).unwrap();
    let text = adopt(&pins).unwrap_err().to_string();
    assert!(text.contains("TENANTS"), "{text}");
}

#[test]
fn only_one_has_the_lock() {
    let scratch = Scratch::new("lock");
    let bpffs = scratch.bpffs();
    let lock = bpffs.lock().unwrap();
    let text = bpffs.lock().unwrap_err().to_string();
    assert!(text.contains("another fernpass daemon"), "{text}");
    drop(lock);
    bpffs.lock().unwrap();
}
