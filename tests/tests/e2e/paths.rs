//! Routes, links and neighbours change while the gateway forwards.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use lab::layout::plan::{self, Family};
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{
    Farm, FarmPlan, link_down, neighbour_change, route_change, sessions_open, unresolved,
};

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

/// One change, as `ip` takes it: of 12 kinds of routes, or 16 of neighbours, links and addresses, too. Some of them fail: what they are
/// about is gone.
fn change(random: &mut fastrand::Rng, kinds: u8) -> String {
    let (n, m) = (random.u8(1..250), random.u8(1..30));
    let wan = random.u8(..2);
    let net = format!("10.{}.{n}.0/24", 100 + m);
    let net6 = format!("2001:db8:a{m:02x}:{n:x}::/64");
    let peer = plan::wan_peer(wan);
    let (via, via6) = (peer.v4, peer.v6);
    let metric = random.u8(1..4);
    match random.u8(..kinds) {
        0..4 => format!("route replace {net} via {via} metric {metric}"),
        4..6 => format!("route replace {net6} via {via6} dev wan{wan} metric {metric}"),
        6 => format!(
            "route replace {net} nexthop via {via} nexthop via {}",
            plan::wan_peer(1 - wan).v4
        ),
        7 => format!("route replace blackhole {net} metric {metric}"),
        8 => format!(
            "route replace {net} via 192.0.2.{n} dev wan{wan} onlink mtu {}",
            1000 + u32::from(n)
        ),
        9 | 10 => format!("route del {net}"),
        11 => format!("route del {net6}"),
        12 => format!(
            "neigh replace 192.0.2.{n} lladdr 02:00:00:00:{m:02x}:{n:02x} dev wan{wan} nud permanent"
        ),
        13 => format!("neigh del 192.0.2.{n} dev wan{wan}"),
        14 => format!("addr replace 10.99.{n}.1/24 dev wan1"),
        _ => match random.u8(..4) {
            0 => "link set wan1 down".to_owned(),
            1 => format!("link set wan1 mtu {}", 1280 + u32::from(n)),
            2 => format!("addr del 10.99.{n}.1/24 dev wan1"),
            _ => "link set wan1 up".to_owned(),
        },
    }
}

/// Also where the kernel told more than the daemon could take in: it was stopped meanwhile.
#[test]
fn after_a_thousand_changes_of_the_network_the_tables_are_as_the_kernel_has_it() {
    let (_place, mut farm) = farm();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for overrun in [false, true] {
        let pid = farm.gateway().process_status("Pid").unwrap();
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        };
        if overrun {
            signal("-STOP");
        }
        let shell = |script: String| farm.gateway().ns().run("sh", &["-c", &script]).unwrap();
        if overrun {
            // Many more: its socket has room for thousands. Many in one process, which some failures would end: routes alone.
            for _ in 0..60 {
                let routes: Vec<_> = (0..1000).map(|_| change(&mut random, 12)).collect();
                let routes = routes.join("\n");
                shell(format!("ip -force -batch - >/dev/null 2>&1 <<'END'\n{routes}\nEND\ntrue"));
            }
        } else {
            let all = (0..1000).map(|_| change(&mut random, 16)).collect::<Vec<_>>().join("\n");
            shell(format!(
                "while read -r line; do ip $line; done >/dev/null 2>&1 <<'END'\n{all}\nEND\ntrue"
            ));
        }
        farm.gateway().ns().ip(&["link set wan1 up"]).unwrap();
        if overrun {
            signal("-CONT");
        }
        std::thread::sleep(Duration::from_secs(2));
        let told = believed(&farm);
        assert!(told.len() > 100, "{}", told.len());
        let verified = farm.gateway().call(&["verify"]).unwrap();
        assert_eq!(verified["drift"], serde_json::json!([]));
        // Who starts asks the kernel for all of it.
        farm.gateway_mut().kill();
        farm.gateway_mut().run().unwrap();
        let asked = believed(&farm);
        let differs: Vec<_> = told.symmetric_difference(&asked).collect();
        assert!(differs.is_empty(), "seed {seed}, overrun {overrun}: {differs:#?}");
    }
    assert!(farm.gateway().log().contains("dropped netlink notifications"), "nothing was overrun");
}
