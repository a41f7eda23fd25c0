//! The mirror against real kernel tables, in namespaces of the tests' own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::netns::{Namespace, ip};
use super::{Mirror, interfaces, vips};
use crate::model::{HopKey, NextHop, Prefix, RouteView};

/// How long a change may take to be in use, on a busy machine: that it is within a second is measured in the end-to-end tests.
const PROMPT: Duration = Duration::from_secs(20);
/// Neighbours need an answer of the other side first, and detection of duplicates.
const PATIENT: Duration = Duration::from_secs(40);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    let (first, length) = text.split_once('/').expect("a prefix");
    Prefix { address: address(first), length: length.parse().expect("a length") }
}

fn key(interface: &str, neighbour: &str) -> HopKey {
    HopKey {
        interface: interfaces::index(interface).expect("it exists"),
        neighbour: address(neighbour),
    }
}

fn indexes(names: &[&str]) -> BTreeSet<u32> {
    names.iter().map(|name| interfaces::index(name).expect("it exists")).collect()
}

/// A mirror, and what it said last.
struct Follower {
    mirror: Mirror,
    view: Arc<RouteView>,
}

impl Follower {
    async fn start(interfaces: &[&str], backends: &[&str]) -> Self {
        let backends = backends.iter().copied().map(address).collect();
        let mut mirror = Mirror::start(indexes(interfaces), backends).await.expect("netlink");
        let view = mirror.first(PATIENT).await.expect("the kernel's tables");
        Self { mirror, view }
    }

    /// Waits until the view is as it should be.
    async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        is: impl Fn(&RouteView) -> bool,
    ) -> Arc<RouteView> {
        let deadline = tokio::time::Instant::now() + limit;
        while !is(&self.view) {
            let next = tokio::time::timeout_at(deadline, self.mirror.changed()).await;
            self.view = next
                .unwrap_or_else(|_| panic!("{what}: not in time; the view is {:#?}", self.view));
        }
        Arc::clone(&self.view)
    }
}

fn hop<'a>(view: &'a RouteView, key: &HopKey) -> Option<&'a NextHop> {
    view.hops.get(key)
}

fn resolved(view: &RouteView, key: &HopKey) -> bool {
    hop(view, key).is_some_and(|hop| hop.resolved)
}

/// A gateway with `wan` and `lan`, and the other ends in a second namespace.
fn gateway() -> (Namespace, Namespace) {
    let (gateway, peer) = (Namespace::new(), Namespace::new());
    for name in ["wan", "lan"] {
        gateway.ip(&format!("link add {name} type veth peer name {name} netns {}", peer.id()));
    }
    for (namespace, host) in [(&gateway, 1), (&peer, 2)] {
        namespace.ip(&format!("address add 198.51.100.{host}/24 dev wan"));
        namespace.ip(&format!("address add 10.20.0.{host}/24 dev lan"));
        namespace.ip(&format!("address add 2001:db8:20::{host}/64 dev lan nodad"));
        namespace.ip("link set wan up");
        namespace.ip("link set lan up");
    }
    (gateway, peer)
}

#[test]
fn follows_routes_neighbours_and_links() {
    let (gateway, _peer) = gateway();
    gateway.run_async(|| async {
        let mut follower = Follower::start(&["wan", "lan"], &["10.20.0.2"]).await;

        // The backend is asked for without any packet to it.
        let backend = key("lan", "10.20.0.2");
        let view = follower.until(PATIENT, "backend resolved", |v| resolved(v, &backend)).await;
        assert_eq!(view.backends.get(&address("10.20.0.2")), Some(&backend));
        assert_eq!(view.devices, indexes(&["wan", "lan"]));
        assert_eq!(view.routes.get(&prefix("10.20.0.2/32")), Some(&backend));
        let connected = view.routes[&prefix("198.51.100.0/24")];
        assert_eq!(connected, key("wan", "0.0.0.0"));
        assert!(!resolved(&view, &connected));

        // A router is asked for, too.
        ip("route add default via 198.51.100.2");
        let router = key("wan", "198.51.100.2");
        let view = follower.until(PATIENT, "router resolved", |v| resolved(v, &router)).await;
        assert_eq!(view.routes.get(&prefix("0.0.0.0/0")), Some(&router));
        assert_eq!(hop(&view, &router).expect("it is there").mtu, 1500);

        // A client that is a neighbour gets a route of its own as soon as it is known.
        ip("neighbour add 198.51.100.77 lladdr 02:00:00:00:00:77 dev wan");
        let client = key("wan", "198.51.100.77");
        let host = prefix("198.51.100.77/32");
        let view = follower.until(PROMPT, "client known", |v| v.routes.contains_key(&host)).await;
        assert_eq!(hop(&view, &client).expect("it is there").dst_mac, [2, 0, 0, 0, 0, 0x77]);

        // Routes change.
        ip("route add 203.0.113.0/24 via 198.51.100.2 mtu 1400");
        let more = prefix("203.0.113.0/24");
        let view = follower.until(PROMPT, "route added", |v| v.routes.contains_key(&more)).await;
        assert_eq!(hop(&view, &router).expect("it is there").mtu, 1400);
        ip("route replace 203.0.113.0/24 via 10.20.0.2");
        follower.until(PROMPT, "route changed", |v| v.routes.get(&more) == Some(&backend)).await;
        ip("route del 203.0.113.0/24");
        follower.until(PROMPT, "route deleted", |v| !v.routes.contains_key(&more)).await;
        ip("link set wan mtu 1300");
        let small = |v: &RouteView| hop(v, &router).is_some_and(|hop| hop.mtu == 1300);
        follower.until(PROMPT, "MTU changed", small).await;

        // The kernel flushes the routes of an interface that goes down, and says nothing.
        ip("link set wan down");
        let gone = |v: &RouteView| {
            !v.routes.contains_key(&prefix("0.0.0.0/0"))
                && !v.routes.contains_key(&prefix("198.51.100.0/24"))
                && !v.devices.contains(&router.interface)
        };
        follower.until(PROMPT, "interface down", gone).await;
        ip("link set wan up");
        ip("route add default via 198.51.100.2");
        follower.until(PATIENT, "interface up again", |v| resolved(v, &router)).await;

        // An interface that the program is not on is the stack's.
        follower.mirror.set_interfaces(indexes(&["lan"]));
        let left = |v: &RouteView| !resolved(v, &router) && resolved(v, &backend);
        follower.until(PROMPT, "interface left", left).await;
    });
}

#[test]
fn ipv6_backends_and_routes_over_ipv6_routers() {
    let (gateway, _peer) = gateway();
    gateway.run_async(|| async {
        let backends = ["2001:db8:20::2"];
        let mut follower = Follower::start(&["wan", "lan"], &backends).await;
        let backend = key("lan", "2001:db8:20::2");
        follower.until(PATIENT, "backend resolved", |v| resolved(v, &backend)).await;
        ip("route add 203.0.113.0/24 via inet6 2001:db8:20::2");
        let via = |v: &RouteView| v.routes.get(&prefix("203.0.113.0/24")) == Some(&backend);
        follower.until(PROMPT, "IPv4 over an IPv6 router", via).await;
        ip("-6 route add 2001:db8:99::/48 via 2001:db8:20::2 metric 10");
        let wide = prefix("2001:db8:99::/48");
        follower.until(PROMPT, "route added", |v| v.routes.get(&wide) == Some(&backend)).await;
        ip("-6 route add blackhole 2001:db8:99::/48 metric 5");
        let stack = |v: &RouteView| v.routes.get(&wide) == Some(&super::STACK);
        follower.until(PROMPT, "blackhole in front", stack).await;
        ip("-6 route del blackhole 2001:db8:99::/48 metric 5");
        follower.until(PROMPT, "and away", |v| v.routes.get(&wide) == Some(&backend)).await;
    });
}

#[test]
fn keeps_neighbours_and_gives_them_back() {
    let (gateway, peer) = gateway();
    peer.ip("address add 10.20.0.3/24 dev lan");
    gateway.run_async(|| async {
        ip("neighbour add 10.20.0.9 lladdr 02:00:00:00:00:09 dev lan nud permanent");
        let backends = ["10.20.0.2", "10.20.0.3", "10.20.0.9"];
        let mut follower = Follower::start(&["lan"], &backends).await;
        let keys = backends.map(|backend| key("lan", backend));
        let all = |v: &RouteView| keys.iter().all(|key| resolved(v, key));
        follower.until(PATIENT, "all resolved", all).await;
        assert!(entry("10.20.0.2").contains("managed"), "{}", entry("10.20.0.2"));
        assert!(entry("10.20.0.9").contains("PERMANENT"), "{}", entry("10.20.0.9"));
        assert!(!entry("10.20.0.9").contains("managed"), "{}", entry("10.20.0.9"));

        // One that is deleted comes back.
        ip("neighbour del 10.20.0.3 dev lan");
        poll("asked for again", || entry("10.20.0.3").contains("managed")).await;
        follower.until(PATIENT, "resolved again", all).await;

        // A next daemon knows what the last one asked for, and what nobody needs any more.
        drop(follower);
        assert!(entry("10.20.0.3").contains("managed"), "{}", entry("10.20.0.3"));
        let _follower = Follower::start(&["lan"], &backends[..1]).await;
        poll("given back", || !entry("10.20.0.3").contains("managed")).await;
        assert!(entry("10.20.0.2").contains("managed"), "{}", entry("10.20.0.2"));
        assert!(entry("10.20.0.9").contains("PERMANENT"), "{}", entry("10.20.0.9"));
    });
}

#[test]
fn notices_a_backend_that_goes_and_comes_back() {
    let (gateway, peer) = gateway();
    // Give up within a second rather than three.
    gateway.run(|| {
        for setting in ["retrans_time_ms", "base_reachable_time_ms", "delay_first_probe_time"] {
            let value = if setting == "delay_first_probe_time" { "0" } else { "200" };
            let path = format!("/proc/sys/net/ipv4/neigh/lan/{setting}");
            std::fs::write(path, value).expect("root may");
        }
    });
    gateway.run_async(move || async move {
        let mut follower = Follower::start(&["lan"], &["10.20.0.2"]).await;
        let backend = key("lan", "10.20.0.2");
        follower.until(PATIENT, "resolved", |v| resolved(v, &backend)).await;
        peer.ip("address del 10.20.0.2/24 dev lan");
        follower.until(PATIENT, "given up", |v| !resolved(v, &backend)).await;
        peer.ip("address add 10.20.0.2/24 dev lan");
        follower.until(PATIENT, "back", |v| resolved(v, &backend)).await;
    });
}

#[test]
fn adds_and_removes_vips() {
    let namespace = Namespace::new();
    namespace.ip("link add wan type veth peer name lan");
    namespace.ip("address add 203.0.113.1/24 dev wan");
    namespace.run_async(|| async {
        let set = |texts: &[&str]| texts.iter().copied().map(address).collect::<BTreeSet<_>>();
        let wanted = set(&["203.0.113.1", "203.0.113.10", "2001:db8::10"]);
        let added = vips::ensure(&wanted).await.expect("root may");
        assert_eq!(added, ["203.0.113.10", "2001:db8::10"].map(address));
        assert!(vips::ensure(&wanted).await.expect("root may").is_empty());
        let on_loopback = show("address show dev lo");
        assert!(on_loopback.contains("inet 203.0.113.10/32 "), "{on_loopback}");
        assert!(on_loopback.contains("inet6 2001:db8::10/128 "), "{on_loopback}");
        vips::remove(&wanted).await.expect("that some are not there is no error");
        let on_loopback = show("address show dev lo");
        assert!(!on_loopback.contains("203.0.113.10"), "{on_loopback}");
        assert!(!on_loopback.contains("2001:db8::10"), "{on_loopback}");
        assert!(show("address show dev wan").contains("203.0.113.1/24"));
    });
}

#[test]
fn reads_many_routes_and_survives_a_flood_of_changes() {
    const ROUTES: u32 = 20_000;
    let (gateway, _peer) = gateway();
    gateway.run_async(|| async {
        let mut follower = Follower::start(&["wan", "lan"], &[]).await;
        let batch = |word: &str| {
            let lines: String = (0..ROUTES)
                .map(|n| format!("route {word} 20.{}.{}.0/24 via 198.51.100.2\n", n >> 8, n & 255))
                .collect();
            let path = std::env::temp_dir().join(format!("routes-{word}-{}", std::process::id()));
            std::fs::write(&path, lines).expect("a temporary file");
            ip(&format!("-batch {}", path.display()));
            std::fs::remove_file(&path).expect("it is ours");
        };
        batch("add");
        let count = |v: &RouteView| {
            let inside = prefix("20.0.0.0/24")..prefix("21.0.0.0/24");
            v.routes.range(inside).count()
        };
        follower.until(PATIENT, "all there", |v| count(v) == ROUTES as usize).await;
        batch("del");
        follower.until(PATIENT, "all gone", |v| count(v) == 0).await;
    });
}

/// Whatever happens to routes, addresses and interfaces, the mirror that heard of it comes
/// to say the same as one that reads everything afresh.
#[test]
fn hearing_is_as_good_as_reading() {
    let (gateway, _peer) = gateway();
    gateway.run_async(|| async {
        // Without interfaces to send on no neighbours are asked for: nothing else is going on.
        let mut follower = Follower::start(&[], &[]).await;
        let mut dice = Dice(6);
        for round in 0..60 {
            let commands: Vec<String> = (0..12).map(|_| command(&mut dice)).collect();
            for command in &commands {
                attempt(command);
            }
            let mut requester = super::socket::Requester::open().expect("netlink");
            let read = super::mirror::dump(&mut requester).await.expect("netlink");
            let read = read.view(&super::ViewSpec::default());
            let what = format!("round {round}: {commands:#?}; expected {:#?}", read.routes);
            follower.until(PATIENT, &what, |view| view.routes == read.routes).await;
        }
    });
}

/// Repeatable chance (a linear congruential generator, Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[(self.0 >> 33) as usize % from.len()]
    }
}

/// Something that an operator or a routing daemon may do; it may fail.
fn command(dice: &mut Dice) -> String {
    let metric = dice.pick(&["", "metric 7", "metric 9"]);
    let verb = dice.pick(&["add", "add", "append", "prepend", "replace", "replace", "del", "del"]);
    match dice.pick(&["4", "4", "4", "6", "6", "6", "link", "address"]) {
        "4" => {
            let to = dice.pick(&["203.0.113.0/24", "203.0.113.0/25", "default"]);
            let way = dice.pick(&[
                "via 198.51.100.2",
                "via 198.51.100.3 src 198.51.100.1",
                "via 10.20.0.2",
                "dev lan",
                "via inet6 2001:db8:20::2",
                "nexthop via 198.51.100.2 nexthop via 10.20.0.2",
                "nexthop via 10.20.0.3 weight 3 nexthop via 198.51.100.3",
            ]);
            let kind = dice.pick(&["", "", "", "blackhole", "unreachable"]);
            let way = if kind.is_empty() { way } else { "" };
            format!("-4 route {verb} {kind} {to} {way} {metric}")
        }
        "6" => {
            let to = dice.pick(&["2001:db8:1::/48", "2001:db8:1:2::/64", "default"]);
            let way = dice.pick(&[
                "via 2001:db8:20::2",
                "via 2001:db8:20::3",
                "via 2001:db8:20::4",
                "dev wan",
                "dev lan",
                "nexthop via 2001:db8:20::2 nexthop via 2001:db8:20::3",
                "nexthop via 2001:db8:20::3 nexthop via 2001:db8:20::5",
            ]);
            let kind = dice.pick(&["", "", "", "blackhole"]);
            let way = if kind.is_empty() { way } else { "" };
            format!("-6 route {verb} {kind} {to} {way} {metric}")
        }
        "link" => {
            let name = dice.pick(&["wan", "lan"]);
            format!("link set {name} {}", dice.pick(&["up", "up", "down", "mtu 1400", "mtu 1500"]))
        }
        _ => format!("address {} 198.51.100.1/24 dev wan", dice.pick(&["add", "del"])),
    }
}

/// Runs `ip`, which may refuse.
fn attempt(arguments: &str) {
    std::process::Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
}

/// What `ip` says of a neighbour.
fn entry(address: &str) -> String {
    show(&format!("neighbour show {address}"))
}

fn show(arguments: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Looks until something is so, with a limit.
async fn poll(what: &str, is: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let looked = tokio::time::timeout(PATIENT, async {
        while !is() {
            tick.tick().await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("{what}: not in time"));
}
