//! Somebody else writes to the tables of a running daemon: `fernpass verify` finds what, mends it, and the log has it.

use std::mem::offset_of;
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use dataplane::abi::{
    ABI_VERSION, Address, DirectoryEntry, ENDPOINT_LIVE, Endpoint, NAME_LISTENER, NAME_POOL,
    NAME_TENANT, Name, NameKey, NextHop, POOL_STRIDE, RING_WORDS, Settings, Tenant, maps,
};
use lab::gateway::{Caller, invoke};
use lab::layout::plan::{self, Family};
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::scenario::{FarmPlan, PoolPlan, sessions_open};
use lab::wait::until;
use serde_json::json;

use crate::common::{PLENTY, holds, one_pool, start};

const SOON: Duration = Duration::from_secs(20);

/// The pinned tables, as bytes.
struct Pins(PathBuf);

impl Pins {
    fn open<T: TryFrom<Map, Error = MapError>>(&self, name: &str) -> T {
        let data = MapData::from_pin(self.0.join(name)).unwrap();
        T::try_from(Map::from_map_data(data).unwrap()).unwrap()
    }

    fn array<const N: usize>(&self, name: &str) -> Array<MapData, [u8; N]> {
        self.open(name)
    }

    /// Changes an element.
    fn change<const N: usize>(&self, name: &str, index: u32, change: impl FnOnce(&mut [u8; N])) {
        let mut array = self.array(name);
        let mut element = array.get(&index, 0).unwrap();
        change(&mut element);
        array.set(index, element, 0).unwrap();
    }

    fn names(&self) -> HashMap<MapData, [u8; size_of::<NameKey>()], [u8; size_of::<Name>()]> {
        self.open(maps::NAMES)
    }

    /// The index of a name.
    fn index(&self, kind: u32, name: &str) -> u32 {
        let is_it = |value: &[u8]| value.split(|byte| *byte == 0).next() == Some(name.as_bytes());
        let found = self.names().iter().map(Result::unwrap).find_map(|(key, value)| {
            let (of, index) = key.split_at(4);
            (of == kind.to_ne_bytes() && is_it(&value)).then(|| index.to_vec())
        });
        u32::from_ne_bytes(found.unwrap().try_into().unwrap())
    }
}

#[test]
fn an_interface_that_somebody_takes_the_program_off_gets_it_again() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let before = farm.session(0).unwrap();
    let interfaces = || farm.gateway().call(&["status"]).unwrap()["interfaces"].clone();
    let listed = interfaces();
    let links = PathBuf::from(&farm.config().gateway.bpffs).join(format!("v{ABI_VERSION}/links"));
    let take_off = || {
        for interface in listed.as_array().unwrap() {
            std::fs::remove_file(links.join(format!("if{}", interface["index"]))).unwrap();
        }
    };
    let all = listed.as_array().unwrap().len();
    let attached = || std::fs::read_dir(&links).unwrap().count();

    take_off();
    until("the program", SOON, || Ok((attached() == all).then_some(()))).unwrap();
    farm.reach(0).unwrap();
    assert_eq!(farm.session(0).unwrap().id, before.id);
    assert!(farm.gateway().log().contains("somebody had taken the program off"));

    // Who asks before the daemon looks by itself is told.
    let told = until("being told", SOON, || {
        if attached() < all {
            return Ok(None);
        }
        take_off();
        // The kernel takes its time to let a link go.
        std::thread::sleep(Duration::from_millis(50));
        let verified = farm.gateway().call(&["verify"])?;
        let found = verified["drift"].as_array().and_then(|drift| drift.first()).cloned();
        Ok(found.filter(|drift| drift["missing"] == json!(all)))
    });
    let told = told.unwrap();
    assert_eq!(told["table"], json!("interfaces"), "{told}");
    assert!(told["entries"][0].as_str().unwrap().ends_with("attached again"), "{told}");
    assert_eq!((attached(), &interfaces()), (all, &listed));
    farm.reach(0).unwrap();
    assert_eq!(farm.session(0).unwrap().id, before.id);
}

#[test]
fn an_interface_that_another_program_has_is_named_and_taken_when_it_is_free() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let before = farm.session(0).unwrap();
    let status = || farm.gateway().call(&["status"]).unwrap();
    let hops = || farm.gateway().call(&["route", "list"]).unwrap();
    let (interfaces, known) = (status()["interfaces"].clone(), hops());
    let index = |name: &str| {
        let all = interfaces.as_array().unwrap().iter();
        all.clone().find(|interface| interface["name"] == name).unwrap()["index"].clone()
    };
    let link = PathBuf::from(&farm.config().gateway.bpffs)
        .join(format!("v{ABI_VERSION}/links/if{}", index("lan0")));
    let other = farm.lab().dir().join("other.bpf").display().to_string();
    let by_hand = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--bpffs", &other]).collect();
        let said = invoke(farm.gateway().ns(), Caller::Root, &args, SOON).unwrap();
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    };

    by_hand(&["load"]);
    farm.gateway().hold(|| {
        std::fs::remove_file(&link).unwrap();
        // The kernel takes its time to let a link go.
        std::thread::sleep(Duration::from_millis(200));
        by_hand(&["attach", "lan0"]);
    });
    let warned = || status()["warnings"].to_string().contains("lan0 does not run the program");
    until("a warning", SOON, || Ok(warned().then_some(()))).unwrap();
    let drift = farm.gateway().call(&["verify"]).unwrap()["drift"].clone();
    assert_eq!(drift[0]["table"], json!("interfaces"), "{drift}");
    assert!(drift.to_string().contains("lan0 has another XDP program"), "{drift}");
    // What leads there is still known: it is tried again each second.
    assert_eq!((hops(), link.exists()), (known.clone(), false));

    by_hand(&["detach", "lan0"]);
    until("the program", SOON, || Ok((!warned()).then_some(()))).unwrap();
    farm.reach(0).unwrap();
    assert_eq!(farm.session(0).unwrap().id, before.id);
    assert_eq!((hops(), status()["interfaces"].clone()), (known, interfaces.clone()));
    by_hand(&["unload"]);
}

#[test]
fn what_others_write_to_the_tables_is_found_named_and_mended() {
    let pools = [
        PoolPlan { name: "justiz", concentrators: &[WireguardGo], max_sessions: PLENTY },
        PoolPlan { name: "finanz", concentrators: &[WireguardGo, Boringtun], max_sessions: PLENTY },
    ];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    for (pool, family) in [(0, Family::V4), (0, Family::V6), (1, Family::V4), (1, Family::V6)] {
        farm.join(pool, WireguardGo, family).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let before: Vec<_> = (2..4).map(|member| farm.session(member).unwrap()).collect();
    // One tenant's sessions are busy while what belongs to the other is damaged.
    let traffic: Vec<_> = (0..2).map(|member| farm.traffic(member, 200).unwrap()).collect();

    let pins = Pins(PathBuf::from(&farm.config().gateway.bpffs).join(format!("v{ABI_VERSION}")));
    let [v4, v6] = [Family::V4, Family::V6].map(|family| plan::listener(1, family));
    let listener = pins.index(NAME_LISTENER, &format!("{v4}/udp"));
    let tenant = pins.index(NAME_TENANT, "finanz");
    let endpoint = listener * POOL_STRIDE;
    let hop = pins.array::<{ size_of::<Endpoint>() }>(maps::ENDPOINTS).get(&endpoint, 0).unwrap();
    let hop = &hop[offset_of!(Endpoint, nexthop)..][..4];
    let hop = u32::from_ne_bytes(hop.try_into().unwrap());

    pins.change::<{ size_of::<Endpoint>() }>(maps::ENDPOINTS, endpoint, |e| {
        e[offset_of!(Endpoint, flags)] ^= ENDPOINT_LIVE;
        let copy = *e;
        pins.change(maps::ENDPOINTS, endpoint + 1, |other| *other = [0; size_of::<Endpoint>()]);
        pins.change(maps::ENDPOINTS, 300 * POOL_STRIDE, |other| *other = copy);
    });
    pins.change::<{ size_of::<Tenant>() }>(maps::TENANTS, tenant, |t| {
        t[offset_of!(Tenant, max_sessions)] ^= 1;
    });
    pins.change::<{ size_of::<NextHop>() }>(maps::NEXTHOPS, hop, |hop| {
        hop[offset_of!(NextHop, dst_mac_low)] ^= 1;
    });
    let pool = pins.index(NAME_POOL, "pool-finanz");
    for buffer in 0..2 {
        pins.change::<8>(maps::RINGS, (4 * pool + buffer) * RING_WORDS + 5, |word| word[3] ^= 1);
    }
    // An entry of the directory leads somewhere else, and one is another's.
    let settings = pins.array::<{ size_of::<Settings>() }>(maps::SETTINGS).get(&0, 0).unwrap();
    let region = settings[offset_of!(Settings, directory)..][..8].try_into().unwrap();
    let region = u64::from_ne_bytes(region);
    for index in (region >> 32) as u32..=(region >> 32) as u32 + region as u32 {
        pins.change::<{ size_of::<DirectoryEntry>() }>(maps::DIRECTORY, index, |entry| {
            let is_of = |at: std::net::SocketAddr| {
                let halves = Address::from(at.ip()).halves().map(u64::to_ne_bytes);
                entry[..16] == *halves.as_flattened() && entry[16..18] == at.port().to_be_bytes()
            };
            if is_of(v4) {
                entry[offset_of!(DirectoryEntry, index)] ^= 1;
            } else if is_of(v6) {
                entry[15] ^= 0x80;
            }
        });
    }
    let mut names = pins.names();
    let gone = NameKey { kind: NAME_LISTENER, index: listener };
    let gone = [gone.kind.to_ne_bytes(), gone.index.to_ne_bytes()].concat();
    names.remove(&gone.try_into().unwrap()).unwrap();
    let mut routes: LpmTrie<MapData, [u8; 16], u32> = pins.open(maps::ROUTES);
    let foreign = Address::from(std::net::IpAddr::from([192, 0, 2, 0])).bytes();
    routes.insert(&Key::new(96 + 24, foreign), 0, 0).unwrap();
    pins.change::<{ size_of::<Settings>() }>(maps::SETTINGS, 0, |s| {
        s[offset_of!(Settings, budget_cost)] ^= 1;
        s[offset_of!(Settings, hash_key)] ^= 1;
    });

    let verified = farm.gateway().call(&["verify"]).unwrap();
    let found: std::collections::BTreeMap<_, _> = verified["drift"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["table"].as_str().unwrap(), (d, d["entries"].to_string())))
        .collect();
    let (listener4, index) = (format!("{v4}/udp"), listener);
    for (table, counts, named) in [
        (maps::SETTINGS, [0, 0, 2], vec!["hash_key[0]".to_owned(), "budget_cost".to_owned()]),
        (maps::NAMES, [1, 0, 0], vec![format!("missing: listener {index}")]),
        (maps::TENANTS, [0, 0, 1], vec![format!("different: {tenant}, finanz")]),
        (maps::NEXTHOPS, [0, 0, 1], vec![format!("different: {hop}, ")]),
        (maps::ROUTES, [0, 1, 0], vec!["foreign: 192.0.2.0/24".to_owned()]),
        (
            maps::ENDPOINTS,
            [1, 1, 1],
            vec![
                format!("missing: {}, {listener4} at pool-finanz/", endpoint + 1),
                format!("foreign: {}", 300 * POOL_STRIDE),
                format!("different: {endpoint}, {listener4} at pool-finanz/"),
            ],
        ),
        (maps::RINGS, [0, 0, 1], vec![format!("different: {pool}, pool-finanz")]),
        (
            maps::DIRECTORY,
            [1, 1, 1],
            vec![format!("missing: {v6} protocol 17"), format!("different: {v4} protocol 17")],
        ),
    ] {
        let (drift, entries) = found.get(table).unwrap_or_else(|| panic!("{table}: {verified}"));
        let [missing, foreign, different] = counts;
        for (kind, count) in [("missing", missing), ("foreign", foreign), ("different", different)]
        {
            assert_eq!(drift[kind], json!(count), "{table} {kind}: {verified}");
        }
        for name in named {
            assert!(entries.contains(&name), "{name}: {entries}");
            assert!(farm.gateway().log().contains(&name), "{name} is not in the log");
        }
    }
    assert_eq!(found.len(), 8, "{verified}");
    let log = farm.gateway().log();
    assert!(log.contains("tables mended") && log.contains("/v1/verify"), "{log}");

    // All is as it was, for them and for the others.
    let verified = farm.gateway().call(&["verify"]).unwrap();
    assert_eq!((&verified["drift"], &verified["writes"]), (&json!([]), &json!(0)));
    for (member, before) in (2..4).zip(&before) {
        farm.reach(member).unwrap();
        let now = farm.session(member).unwrap();
        assert_eq!((&now.id, &now.backend), (&before.id, &before.backend));
    }
    for sequence in traffic {
        sequence.wait_for(400, Duration::from_secs(30)).unwrap();
        let tally = sequence.stop();
        assert_eq!((tally.lost, tally.reordered), (0, 0), "{tally:?}");
    }
    let said = farm.gateway().show(&["verify"]).unwrap();
    assert!(said.contains("hold what was written"), "{said}");
}
