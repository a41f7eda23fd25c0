//! Interfaces that come and go by a reload.

use std::time::Duration;

use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{Farm, sessions_open};
use lab::wait::until;

use crate::common::{farm, holds};

const SOON: Duration = Duration::from_secs(20);

/// The gateway's interfaces, by its own words and by the kernel's.
fn attached(farm: &Farm) -> (Vec<String>, Vec<String>) {
    let status = farm.gateway().call(&["status"]).unwrap();
    let names = status["interfaces"].as_array().unwrap().iter();
    let said = names.map(|i| i["name"].as_str().unwrap().to_owned()).collect();
    let links = farm.gateway().ns().run("ip", &["-j", "link"]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    let running = links.as_array().unwrap().iter().filter(|link| link["xdp"].is_object());
    let mut running: Vec<_> = running.map(|l| l["ifname"].as_str().unwrap().to_owned()).collect();
    running.sort();
    (said, running)
}

#[test]
fn an_interface_is_taken_out_and_put_in_by_a_reload_and_nobody_notices() {
    let (_place, mut farm) = farm();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let all: Vec<String> = ["lan0", "wan0", "wan1"].map(str::to_owned).to_vec();
    let less: Vec<String> = ["lan0", "wan0"].map(str::to_owned).to_vec();
    assert_eq!(attached(&farm), (all.clone(), all.clone()));
    let traffic = farm.traffic(0, 200).unwrap();
    let before = farm.session(0).unwrap();
    let mut config = farm.config().clone();
    for _ in 0..3 {
        for interfaces in [&less, &all] {
            config.gateway.interfaces.clone_from(interfaces);
            farm.gateway().write(&config).unwrap();
            let shown = farm.gateway().show(&["diff"]).unwrap();
            assert!(shown.contains("gateway.interfaces"), "{shown}");
            farm.gateway().act(&["reload"]).unwrap();
            assert_eq!(&attached(&farm).0, interfaces);
            // The kernel takes a program off when it has the time.
            until("the kernel's own view", SOON, || {
                Ok((&attached(&farm).1 == interfaces).then_some(()))
            })
            .unwrap();
        }
    }
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    let after = farm.session(0).unwrap();
    assert_eq!((after.id, after.backend, after.moves), (before.id, before.backend, before.moves));
}
