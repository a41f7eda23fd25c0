//! The gateway on network cards (virtio), whose driver runs the program: what it sends back and what it redirects from card to card.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::Lab;
use lab::peer::Implementation::{self, Boringtun, WireguardGo};
use lab::scenario::{FarmPlan, PoolPlan, drain, link_down, roam};

use crate::common::{PLENTY, holds, join, outlast_a_kill, start, unscathed};

const CONCENTRATORS: [Implementation; 3] = [WireguardGo, Boringtun, WireguardGo];

const POOLS: [PoolPlan<'_>; 1] =
    [PoolPlan { name: "justiz", concentrators: &CONCENTRATORS, max_sessions: PLENTY }];

/// What the driver has counted on a card of the gateway's, but for zeros.
fn counted(lab: &Lab, card: &str) -> BTreeMap<String, u64> {
    let text = lab.gateway().run("ethtool", &["-S", card]).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    let counters = lines.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    counters.filter(|(_, count)| *count > 0).collect()
}

/// What was counted since: a card outlives the labs that it is used in.
fn since(lab: &Lab, card: &str, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = counted(lab, card).into_iter().map(|(name, count)| {
        let more = count - before.get(&name).unwrap_or(&0);
        (name, more)
    });
    grown.filter(|(_, more)| *more > 0).collect()
}

/// The queues' counters whose names end like this: how many have counted a good part of all, and how much they have together.
fn sum(counters: &BTreeMap<String, u64>, ending: &str) -> (usize, u64) {
    let of_queue = |name: &str| name.contains(|c: char| c.is_ascii_digit());
    let those = counters.iter().filter(|(name, _)| of_queue(name) && name.ends_with(ending));
    let counts: Vec<_> = those.map(|(_, count)| count).collect();
    let sum = counts.iter().copied().sum();
    (counts.iter().filter(|count| **count * 20 > sum).count(), sum)
}

/// How many pairs of queues the cards must have (`cargo xtask test --vm` says it).
fn queues() -> usize {
    let told = std::env::var("FERNPASS_LAB_QUEUES").expect("FERNPASS_LAB_QUEUES is set");
    told.parse().expect("FERNPASS_LAB_QUEUES is a number")
}

#[test]
fn the_driver_forwards_from_card_to_card_on_all_queues() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    join(&mut farm, &[WireguardGo, Boringtun, WireguardGo, Boringtun]);
    for card in ["wan0", "lan0"] {
        let driver = farm.lab().gateway().run("ethtool", &["-i", card]).unwrap();
        assert!(driver.starts_with("driver: virtio_net"), "{driver}");
        let channels = farm.lab().gateway().run("ethtool", &["-l", card]).unwrap();
        let most = channels.lines().find_map(|line| line.strip_prefix("Combined:"));
        assert_eq!(most.map(|n| n.trim().parse()), Some(Ok(queues())), "{channels}");
    }
    let cards = ["wan0", "lan0"].map(|card| (card, counted(farm.lab(), card)));
    let traffic = (0..farm.members().len()).map(|member| farm.traffic(member, 50).unwrap());
    let traffic: Vec<_> = traffic.collect();
    for sequence in &traffic {
        sequence.wait_for(200, Duration::from_secs(30)).unwrap();
    }
    let tallies: Vec<_> = traffic.into_iter().map(|sequence| sequence.stop()).collect();
    let status = farm.gateway().show(&["status"]).unwrap();
    assert!(status.contains("native"), "{status}");
    for (card, before) in cards {
        let counters = since(farm.lab(), card, &before);
        println!("{card}: {counters:?}");
        let (on, redirected) = sum(&counters, "_xdp_redirects");
        assert!(redirected > 1600, "{card}: {counters:?}");
        // With one queue there is nothing to spread.
        assert!(on > 1 || queues() == 1, "{card}: {counters:?}");
        assert_eq!(sum(&counters, "_xdp_tx_drops").1, 0, "{card}: {counters:?}");
    }
    unscathed(&farm, &tallies);
    for member in 0..4 {
        holds(&roam(&mut farm, member).unwrap());
    }
    holds(&drain(&mut farm, 0, WireguardGo, 1).unwrap());
    outlast_a_kill(&mut farm, 0, 1);
}

#[test]
fn the_driver_sends_back_what_a_one_armed_gateway_forwards() {
    let (_place, mut farm) = start(&FarmPlan { one_armed: true, ..FarmPlan::new(&POOLS) });
    let before = counted(farm.lab(), "lan0");
    join(&mut farm, &[WireguardGo]);
    for member in 0..2 {
        holds(&roam(&mut farm, member).unwrap());
    }
    let counters = since(farm.lab(), "lan0", &before);
    println!("{counters:?}");
    assert!(sum(&counters, "_xdp_tx").1 > 300, "{counters:?}");
    assert_eq!(sum(&counters, "_xdp_redirects").1, 0, "{counters:?}");
    assert_eq!(sum(&counters, "_xdp_tx_drops").1, 0, "{counters:?}");
}

/// Onto the third cable, and its card.
#[test]
fn a_link_that_goes_down_is_left_for_another_card() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    join(&mut farm, &[WireguardGo]);
    holds(&link_down(&farm, 0).unwrap());
}
