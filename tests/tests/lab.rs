//! The lab itself, without a gateway program: plain kernel forwarding between
//! real peers. What fails here is no fault of the gateway.

use std::process::{Command, Stdio};
use std::time::Duration;

use lab::layout::plan::{self, Family};
use lab::net::{Capture, RawSender};
use lab::peer::{Implementation, WgClient};
use lab::traffic::{EchoServer, Flood, Probe, Sequence, Target, ping};
use lab::wait::until;
use lab::{Lab, Options, record};

const SOON: Duration = Duration::from_secs(10);
const BOTH: [Implementation; 2] = [Implementation::WireguardGo, Implementation::Boringtun];

/// The endpoint of the only concentrator of a pool, without a gateway between.
fn direct(pool: &lab::peer::Pool, family: Family) -> std::net::SocketAddr {
    (pool.concentrators()[0].address(family), plan::WIREGUARD_PORT).into()
}

#[test]
fn tunnels_work_and_roam_with_both_implementations_and_families() {
    let lab = Lab::new(Options::default()).unwrap();
    for (server, family) in BOTH.into_iter().zip([Family::V4, Family::V6]) {
        let mut pool = lab.pool("direct", &[server]).unwrap();
        let number = pool.concentrators()[0].number();
        for client in BOTH {
            let host = lab.host().unwrap();
            let endpoint = direct(&pool, family);
            let mut wg = WgClient::dial(&lab, &host, &mut pool, client, endpoint, 0).unwrap();
            assert_eq!(wg.reach(SOON).unwrap(), number, "{client:?} to {server:?}");

            let sequence = Sequence::start(&wg.target(), 200, 64).unwrap();
            sequence.wait_for(50, SOON).unwrap();
            let before = host.address(family);
            sequence.between(|| wg.roam(&host)).unwrap();
            assert_ne!(host.address(family), before);
            sequence.wait_for(50, SOON).unwrap();
            let tally = sequence.stop();
            assert!(tally.lost <= 20, "{client:?} to {server:?}: {tally:?}");

            let seen = pool.concentrators()[0].peer(&wg.public()).unwrap().unwrap();
            let endpoint = seen.endpoint.unwrap();
            assert_eq!((endpoint.ip(), endpoint.port()), (host.address(family), wg.port()));
        }
    }
}

#[test]
fn a_one_armed_gateway_is_on_the_way_both_ways() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.make_one_armed().unwrap();
    let mut pool = lab.pool("direct", &BOTH[..1]).unwrap();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let endpoint = direct(&pool, family);
        let wg = WgClient::dial(&lab, &host, &mut pool, BOTH[0], endpoint, 0).unwrap();
        wg.reach(SOON).unwrap();
    }
    // What comes from a client through the VIP's route, and answers, pass the gateway's only arm.
    let capture = Capture::start(lab.gateway()).unwrap();
    let (host, vip) = (lab.host().unwrap(), plan::vip(0).v4);
    ping(host.ns(), vip.into(), SOON).unwrap();
    let source = "198.51.100.77:7".parse().unwrap();
    let to = plan::listener(0, Family::V4);
    RawSender::new(lab.inet()).unwrap().send(source, to, b"hello").unwrap();
    capture.find("the forged packet", SOON, |d| d.destination == to).unwrap();
}

#[test]
fn a_flood_with_forged_sources_arrives_at_the_gateway() {
    let lab = Lab::new(Options::default()).unwrap();
    let capture = Capture::start(lab.gateway()).unwrap();
    for family in [Family::V4, Family::V6] {
        let vip = plan::listener(0, family);
        Flood { count: 1000, rate: 20_000 }.run(lab.inet(), vip).unwrap();
        let more = || {
            capture.count(|d| {
                d.destination == vip && d.wireguard_type() == Some(1) && d.payload.len() == 148
            })
        };
        let mut arrived = 0;
        let all = until("the arrival of all", SOON, || {
            arrived += more()?;
            Ok((arrived >= 1000).then_some(()))
        });
        assert!(all.is_ok(), "{arrived} arrived");
        assert_eq!(arrived + more().unwrap(), 1000);
    }
    // And a packet of our choice, from an address of our choice.
    let source = "198.51.100.77:7".parse().unwrap();
    let to = plan::listener(1, Family::V4);
    RawSender::new(lab.inet()).unwrap().send(source, to, b"hello").unwrap();
    let seen = capture.find("the forged packet", SOON, |d| d.destination == to).unwrap();
    assert_eq!((seen.source, seen.payload.as_slice()), (source, b"hello".as_slice()));
}

#[test]
fn hosts_reach_the_outside_server_and_the_vips() {
    let lab = Lab::new(Options::default()).unwrap();
    let host = lab.host().unwrap();
    for family in [Family::V4, Family::V6] {
        let _server = EchoServer::start(lab.inet(), family.of(plan::SERVER), 77).unwrap();
        let target = Target::outside(host.ns(), family.of(plan::SERVER));
        assert_eq!(Probe::open(&target).unwrap().reach(SOON).unwrap(), 77);
        ping(host.ns(), family.of(plan::vip(0)), SOON).unwrap();
        ping(host.ns(), family.of(plan::LAN), SOON).unwrap();
    }
    lab.hide_inside().unwrap();
    for family in [Family::V4, Family::V6] {
        ping(host.ns(), family.of(plan::LAN), Duration::from_millis(200)).unwrap_err();
        ping(host.ns(), family.of(plan::vip(0)), SOON).unwrap();
    }
}

#[test]
fn an_address_can_be_handed_to_another_host() {
    let lab = Lab::new(Options::default()).unwrap();
    let (first, second) = (lab.host().unwrap(), lab.host().unwrap());
    let left = first.addresses();
    first.switch_uplink().unwrap();
    second.take_over(left).unwrap();
    for family in [Family::V4, Family::V6] {
        let _server = EchoServer::start(lab.inet(), family.of(plan::SERVER), 1).unwrap();
        assert_eq!(second.address(family), family.of(left));
        for host in [&first, &second] {
            let target = Target::outside(host.ns(), family.of(plan::SERVER));
            Probe::open(&target).unwrap().reach(SOON).unwrap();
        }
    }
}

#[test]
fn labs_stand_side_by_side_and_leave_nothing() {
    let labs = [Lab::new(Options::default()).unwrap(), Lab::new(Options::default()).unwrap()];
    let ids = [labs[0].id().to_owned(), labs[1].id().to_owned()];
    assert_ne!(ids[0], ids[1]);
    let mut pools = labs.each_ref().map(|lab| lab.pool("twin", &BOTH[..1]).unwrap());
    for (lab, pool) in labs.iter().zip(&mut pools) {
        let host = lab.host().unwrap();
        let endpoint = direct(pool, Family::V4);
        let wg = WgClient::dial(lab, &host, pool, BOTH[0], endpoint, 0).unwrap();
        wg.reach(SOON).unwrap();
    }
    let standing = record::standing().unwrap();
    for id in &ids {
        let lab = standing.iter().find(|lab| lab.id == *id).unwrap();
        assert!(lab.owned && !lab.kept && lab.namespaces.len() >= 5, "{lab:?}");
    }
    let pids = pools.iter().filter_map(|pool| pool.concentrators()[0].device().pid());
    let pids: Vec<u32> = pids.collect();
    drop((pools, labs));
    assert_gone(&ids[0], &pids);
    assert_gone(&ids[1], &pids);
}

fn assert_gone(id: &str, pids: &[u32]) {
    let left = record::standing().unwrap().into_iter().find(|lab| lab.id == id);
    assert_eq!(left, None);
    let list = |dir| std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in list("/run/netns").chain(list("/run/wireguard")) {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            !name.contains(&format!("fp-{id}-")) && !name.contains(&format!("fp{id}")),
            "{name}"
        );
    }
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&command).contains(&format!("fp{id}")), "pid {pid} lives");
    }
}

/// Set for the process that is to be killed.
const VICTIM: &str = "FERNPASS_LAB_VICTIM";

#[test]
fn a_killed_lab_is_taken_down_by_the_next() {
    if std::env::var_os(VICTIM).is_some() {
        // In the child process: build a lab, say so, wait for the end.
        let lab = Lab::new(Options::default()).unwrap();
        let pool = lab.pool("doomed", &BOTH).unwrap();
        let pids = pool.concentrators().iter().filter_map(|c| c.device().pid());
        let pids = pids.map(|pid| pid.to_string());
        println!("\nstanding {} {}", lab.id(), pids.collect::<Vec<_>>().join(" "));
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_lab_is_taken_down_by_the_next", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(victim.stdout.take().unwrap());
    let line = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .find(|line| line.starts_with("standing"))
        .expect("the other process builds a lab");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let pids: Vec<u32> = words[2..].iter().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    // Another lab that starts meanwhile may have been quicker; then there is nothing left to reap.
    record::reap_stale().unwrap();
    assert_gone(words[1], &pids);
}
