//! Routes, links and neighbours change while the gateway forwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::layout::plan::{self, Family};
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{
    Farm, FarmPlan, link_down, neighbour_change, route_change, sessions_open, unresolved,
};
use lab::wait::until;
use serde_json::Value;

use crate::common::{PLENTY, farm, holds, one_pool, start};

fn one_client(farm: &mut Farm, family: Family) -> usize {
    let member = farm.join(0, WireguardGo, family).unwrap();
    holds(&sessions_open(farm).unwrap());
    member
}

#[test]
fn a_changed_route_is_followed() {
    for family in [Family::V4, Family::V6] {
        let (_place, mut farm) = farm();
        let member = one_client(&mut farm, family);
        holds(&route_change(&farm, member).unwrap());
    }
}

#[test]
fn a_link_that_goes_down_is_left() {
    let (_place, mut farm) = farm();
    let member = one_client(&mut farm, Family::V4);
    holds(&link_down(&farm, member).unwrap());
}

#[test]
fn a_neighbour_with_another_mac_address_is_found() {
    let (_place, mut farm) = farm();
    let member = one_client(&mut farm, Family::V4);
    holds(&neighbour_change(&farm, member).unwrap());
}

#[test]
fn an_unresolved_next_hop_is_left_to_the_kernel() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan { probes: false, ..FarmPlan::new(&pools) });
    let member = one_client(&mut farm, Family::V4);
    holds(&unresolved(&farm, member).unwrap());
}

/// What the daemon believes of the network: routes and next hops.
fn believed(farm: &Farm) -> BTreeSet<String> {
    let lines = |what: &str| {
        let list = farm.gateway().call(&[what, "list"]).unwrap();
        let list = list.as_array().unwrap().clone();
        list.into_iter().map(move |line| line.to_string())
    };
    lines("route").chain(lines("nexthop")).collect()
}

/// Changes of the network, as `ip` takes them: of routes, and of neighbours, links and addresses, too. What is deleted was added before;
/// what fails nevertheless is little.
struct Changes {
    random: fastrand::Rng,
    /// What can be deleted, and the uplink that takes it away with it, if it does.
    added: BTreeMap<String, Option<u8>>,
    /// What has to follow.
    next: Vec<String>,
    /// `wan1` is down.
    is_down: bool,
}

impl Changes {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, added: BTreeMap::new(), next: Vec::new(), is_down: false }
    }

    /// So many, of 12 kinds of routes, or 16 of all: a line each.
    fn lines(&mut self, count: usize, kinds: u8) -> String {
        (0..count).map(|_| self.change(kinds) + "\n").collect()
    }

    fn change(&mut self, kinds: u8) -> String {
        if let Some(next) = self.next.pop() {
            return next;
        }
        let random = &mut self.random;
        if self.is_down && random.u8(..4) == 0 {
            // Its IPv6 address is gone with the link.
            let [up, address] = self.end();
            self.next.push(address);
            return up;
        }
        let (n, m) = (random.u8(7..250), random.u8(1..30));
        let wan = if self.is_down { 0 } else { random.u8(..2) };
        let net = format!("10.{}.{n}.0/24", 100 + m);
        let net6 = format!("2001:db8:a{m:02x}:{n:x}::/64");
        let peer = plan::wan_peer(wan);
        let (via, via6) = (peer.v4, peer.v6);
        let metric = random.u8(1..4);
        match random.u8(..kinds) {
            0..4 => {
                let route = format!("route del {net} metric {metric}");
                self.added.insert(route, Some(wan));
                format!("route replace {net} via {via} metric {metric}")
            }
            4..6 => {
                let route = format!("route del {net6} metric {metric}");
                self.added.insert(route, Some(wan));
                format!("route replace {net6} via {via6} dev wan{wan} metric {metric}")
            }
            6 if !self.is_down => {
                self.added.insert(format!("route del {net} metric 0"), None);
                let other = plan::wan_peer(1 - wan).v4;
                format!("route replace {net} nexthop via {via} nexthop via {other}")
            }
            6 | 7 => {
                self.added.insert(format!("route del {net} metric {metric}"), None);
                format!("route replace blackhole {net} metric {metric}")
            }
            8 => {
                self.added.insert(format!("route del {net} metric 0"), Some(wan));
                let (mtu, far) = (1000 + u32::from(n), far(n));
                format!("route replace {net} via {far} dev wan{wan} onlink mtu {mtu}")
            }
            9..12 => self.delete("route"),
            // Fewer than are added, of the few that there are.
            12 if random.bool() => self.delete("neigh"),
            12 | 13 => {
                let far = far(n);
                self.added.insert(format!("neigh del {far} dev wan{wan}"), Some(wan));
                let lladdr = format!("02:00:00:00:{m:02x}:{n:02x}");
                format!("neigh replace {far} lladdr {lladdr} dev wan{wan} nud permanent")
            }
            14 => {
                self.added.insert(format!("addr del 10.99.{n}.1/24 dev wan1"), None);
                format!("addr replace 10.99.{n}.1/24 dev wan1")
            }
            _ => match self.random.u8(..3) {
                0 => {
                    self.is_down = true;
                    self.added.retain(|_, uplink| *uplink != Some(1));
                    "link set wan1 down".to_owned()
                }
                1 => format!("link set wan1 mtu {}", 1280 + u32::from(n)),
                _ => self.delete("addr"),
            },
        }
    }

    /// Deletes some of what was added; a route that is not there, if there is nothing.
    fn delete(&mut self, kind: &str) -> String {
        let nets = if self.random.u8(..3) == 0 { "2001:db8:a" } else { "10.1" };
        let about = match kind {
            "route" => format!("{nets}{}", self.random.u8(..30)),
            "neigh" => far(self.random.u8(7..250)),
            _ => format!("10.99.{}", self.random.u8(7..250)),
        };
        let (first, about) = (format!("{kind} del "), format!("{kind} del {about}"));
        let mut behind = self.added.range(about..).chain(self.added.range(first.clone()..));
        let some = behind.find(|(line, _)| line.starts_with(&first));
        let some =
            some.map_or_else(|| "route del 10.98.0.0/24".to_owned(), |(line, _)| line.clone());
        self.added.remove(&some);
        some
    }

    /// What puts the links in order again.
    fn end(&mut self) -> [String; 2] {
        (self.is_down, self.next) = (false, Vec::new());
        let own = format!("addr replace {}/64 dev wan1 nodad", plan::wan(1).v6);
        ["link set wan1 up".to_owned(), own]
    }
}

/// One of few neighbours that nobody has: most of those that routes lead to are given MAC addresses sometimes.
fn far(n: u8) -> String {
    format!("192.0.2.{}", 200 + n % 20)
}

/// A route as the daemon lists it.
struct Route {
    network: IpAddr,
    length: u32,
    via: String,
    interface: String,
}

impl Route {
    fn has(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= self.length
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= self.length
            }
            _ => false,
        }
    }
}

fn routes(farm: &Farm) -> Vec<Route> {
    let list = farm.gateway().call(&["route", "list"]).unwrap();
    let route = |line: &Value| {
        let word = |key: &str| line[key].as_str().unwrap();
        let (network, length) = word("prefix").split_once('/').unwrap();
        Route {
            network: network.parse().unwrap(),
            length: length.parse().unwrap(),
            via: word("via").to_owned(),
            interface: word("interface").to_owned(),
        }
    };
    list.as_array().unwrap().iter().map(route).collect()
}

/// What the kernel's tables say of addresses, by `ip route get`: the neighbours that they are reached by, or nothing.
fn asked(farm: &Farm, addresses: &[IpAddr]) -> Vec<Vec<(String, String)>> {
    let lines: String = addresses.iter().map(|a| format!("route get fibmatch {a}\n")).collect();
    let script = format!("ip -j -force -batch - 2>&1 <<'END'\n{lines}END\ntrue");
    let said = farm.gateway().ns().run("sh", &["-c", &script]).unwrap();
    let failed: BTreeSet<usize> = said
        .lines()
        .filter_map(|line| line.strip_prefix("Command failed -:")?.parse().ok())
        .collect();
    let mut found = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let hop = |hop: &Value| {
        let word = |key: &str| hop[key].as_str().unwrap_or_default().to_owned();
        (word("gateway"), word("dev"))
    };
    let one = |n: usize| {
        if failed.contains(&n) {
            return Vec::new();
        }
        let route = found.next().unwrap();
        match route[0]["nexthops"].as_array() {
            Some(hops) => hops.iter().map(hop).collect(),
            None => vec![hop(&route[0])],
        }
    };
    (1..=addresses.len()).map(one).collect()
}

/// What the kernel does with some hundred addresses, and the daemon believes otherwise; how many of them are reached, and how many not.
fn differences(farm: &Farm) -> (Vec<String>, [usize; 2]) {
    let routes = routes(farm);
    let inside = |route: &Route| match route.network {
        IpAddr::V4(net) => {
            let host = fastrand::u32(..) & u32::MAX.checked_shr(route.length).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from_bits(net.to_bits() | host))
        }
        IpAddr::V6(net) => {
            let host = fastrand::u128(..) & u128::MAX.checked_shr(route.length).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from_bits(net.to_bits() | host))
        }
    };
    let is_added = |route: &&Route| {
        let net = route.network.to_string();
        net.starts_with("10.1") || net.starts_with("2001:db8:a")
    };
    let added: Vec<_> = routes.iter().filter(is_added).collect();
    let mut addresses: Vec<_> = added.iter().map(|route| inside(route)).collect();
    fastrand::shuffle(&mut addresses);
    addresses.truncate(400);
    // Most of these have the default route alone.
    let other = |n| {
        let (m, n) = (fastrand::u8(101..130), fastrand::u8(n..250));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xa00 + u16::from(m), u16::from(n), 0, 0, 0, 9);
        [IpAddr::from([10, m, n, 9]), v6.into()]
    };
    addresses.extend([7; 50].into_iter().flat_map(other));
    let is_it = |address: IpAddr, hops: &[(String, String)]| {
        let ours =
            routes.iter().filter(|route| route.has(address)).max_by_key(|route| route.length);
        let ours = ours.filter(|route| route.via != "0.0.0.0");
        let hop = ours.map(|route| (route.via.clone(), route.interface.clone()));
        let same = hop.as_ref().map_or(hops.is_empty(), |hop| hops.contains(hop));
        (!same).then(|| format!("{address}: the kernel has {hops:?}, the daemon {hop:?}"))
    };
    let hops = asked(farm, &addresses);
    let reached = hops.iter().filter(|hops| !hops.is_empty()).count();
    let differ = addresses.iter().zip(&hops).filter_map(|(address, hops)| is_it(*address, hops));
    (differ.collect(), [reached, hops.len() - reached])
}

/// Where the kernel says something else than the daemon of the neighbours that next hops lead to and of their links; and how many of them
/// have a MAC address that [`Changes`] wrote.
fn hop_differences(farm: &Farm) -> (Vec<String>, usize) {
    let ip = |args: &str| -> Vec<Value> {
        let args: Vec<_> = ["-j"].into_iter().chain(args.split(' ')).collect();
        let said = farm.gateway().ns().run("ip", &args).unwrap();
        serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().clone()
    };
    let word = |line: &Value, key: &str| line[key].as_str().map(str::to_owned);
    let resolved = ["REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT", "NOARP"];
    let is_resolved = |line: &Value| {
        let states = line["state"].as_array().into_iter().flatten();
        states.filter_map(Value::as_str).any(|state| resolved.contains(&state))
    };
    let mut macs = BTreeMap::new();
    for line in ip("neigh show nud all").iter().filter(|line| is_resolved(line)) {
        macs.insert((word(line, "dst"), word(line, "dev")), word(line, "lladdr"));
    }
    let links: BTreeMap<_, _> =
        ip("link show").iter().map(|line| (word(line, "ifname"), line["mtu"].as_u64())).collect();
    // Of several routes to one neighbour the least MTU counts, if it is a route that is used.
    let mut least = BTreeMap::new();
    for line in ip("-4 route show table all").iter().chain(&ip("-6 route show table all")) {
        if let Some(mtu) = line["metrics"][0]["mtu"].as_u64() {
            let hop = (word(line, "gateway"), word(line, "dev"));
            least.entry(hop).and_modify(|least: &mut u64| *least = mtu.min(*least)).or_insert(mtu);
        }
    }
    let hops = farm.gateway().call(&["nexthop", "list"]).unwrap();
    let (mut differ, mut by_hand) = (Vec::new(), 0);
    for hop in hops.as_array().unwrap() {
        let key = (word(hop, "neighbour"), word(hop, "interface"));
        let mac = macs.get(&key).cloned().flatten();
        by_hand += usize::from(mac.as_ref().is_some_and(|mac| mac.starts_with("02:00:00:00")));
        // The loopback's is one more than there are packets for.
        let link = links[&key.1].unwrap().min(u64::from(u16::MAX));
        let mtus = least.get(&key).map_or(link, |least| link.min(*least))..=link;
        if word(hop, "mac") != mac || !mtus.contains(&hop["mtu"].as_u64().unwrap()) {
            differ.push(format!("the kernel has {mac:?} and an MTU of {mtus:?}, the daemon {hop}"));
        }
    }
    (differ, by_hand)
}

/// Routers that exist, and the daemon does not know their MAC addresses yet: they are asked, and answer.
fn unanswered(farm: &Farm) -> Vec<String> {
    let routers = [0, 1].map(plan::wan_peer);
    let routers: Vec<_> =
        routers.iter().flat_map(|of| [of.v4.to_string(), of.v6.to_string()]).collect();
    let hops = farm.gateway().call(&["nexthop", "list"]).unwrap();
    let is_asked = |hop: &&Value| {
        hop["resolved"] != true && routers.iter().any(|router| hop["neighbour"] == **router)
    };
    let asked = hops.as_array().unwrap().iter().filter(is_asked);
    asked.map(|hop| format!("not answered yet: {hop}")).collect()
}

/// Also where the kernel told more than the daemon could take in: it was stopped meanwhile.
#[test]
fn after_a_thousand_changes_of_the_network_the_tables_are_as_the_kernel_has_it() {
    let (_place, mut farm) = farm();
    let seed = fastrand::u64(..);
    let (mut changes, mut met) = (Changes::new(seed), 0);
    for overrun in [false, true] {
        let pid = farm.gateway().process_status("Pid").unwrap();
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        };
        if overrun {
            signal("-STOP");
        }
        let shell = |script: String| farm.gateway().ns().run("sh", &["-c", &script]).unwrap();
        let (mut made, mut failed) = (1000, 0);
        if overrun {
            // Many more: its socket has room for thousands. Neighbours, addresses and links are the last to change: nothing tells of them.
            made *= 60;
            for n in 0..60 {
                let all = changes.lines(1000, if n < 50 { 12 } else { 16 });
                let said = shell(format!(
                    "ip -force -batch - 2>&1 >/dev/null <<'END' | grep -c 'Command failed'; true\n{all}END\n"
                ));
                failed += said.trim().parse::<u32>().unwrap();
            }
        } else {
            let all = changes.lines(1000, 16);
            let said = shell(format!(
                "n=0; while read -r line; do ip $line || n=$((n + 1)); done >/dev/null 2>&1 <<'END'\n{all}END\necho $n"
            ));
            failed = said.trim().parse().unwrap();
        }
        farm.gateway().ns().ip(&changes.end()).unwrap();
        println!("seed {seed}, overrun {overrun}: {failed} of {made} changes failed");
        assert!(failed * 20 <= made, "seed {seed}: {failed} of {made} changes failed");
        let changed = Instant::now();
        if overrun {
            signal("-CONT");
        }
        // Neighbours that are asked meanwhile may answer between the one look and the other, and until nobody is asked any more.
        let (mut differs, mut reached, mut by_hand) = (Vec::new(), [0; 2], 0);
        let (mut told, mut settled) = (BTreeSet::new(), None);
        let same = until("tables as the kernel has them", Duration::from_secs(10), || {
            (differs, reached) = differences(&farm);
            let (more, met) = hop_differences(&farm);
            differs.extend(more);
            differs.extend(unanswered(&farm));
            by_hand = met;
            let before = std::mem::replace(&mut told, believed(&farm));
            settled = settled.filter(|_| told == before).or(Some(changed.elapsed()));
            Ok((differs.is_empty() && told == before).then_some(()))
        });
        assert!(same.is_ok(), "seed {seed}, overrun {overrun}: {differs:#?}");
        assert!(told.len() > 100, "{}", told.len());
        assert!(reached[0] > 100 && reached[1] > 0, "reached and not: {reached:?}");
        println!("the tables are as the kernel has it after {:?} at most", settled.unwrap());
        println!("{by_hand} next hops have a MAC address that was changed");
        met += by_hand;
        let verified = farm.gateway().call(&["verify"]).unwrap();
        assert_eq!(verified["drift"], serde_json::json!([]));
        // Who starts asks the kernel for all of it.
        let told = believed(&farm);
        farm.gateway_mut().kill();
        farm.gateway_mut().run().unwrap();
        let mut asked = BTreeSet::new();
        let same = until("the same after a start", Duration::from_secs(10), || {
            asked = believed(&farm);
            Ok((asked == told).then_some(()))
        });
        let differs: Vec<_> = told.symmetric_difference(&asked).collect();
        assert!(same.is_ok(), "seed {seed}, overrun {overrun}: {differs:#?}");
    }
    assert!(met > 0, "seed {seed}: no MAC address of a next hop was changed");
    assert!(farm.gateway().log().contains("dropped netlink notifications"), "nothing was overrun");
}
