//! Peers end with the process that started them, however it ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use lab::layout::plan::Family;
use lab::peer::{Client, IkeClient, IkePool, OcClient, OcPool, OvpnClient, OvpnPool};
use lab::wait::until;
use lab::{Lab, Options, record};

use crate::common::{SOON, assert_gone};

/// Set for the process that is to be killed.
const VICTIM: &str = "FERNPASS_LAB_VICTIM";

#[test]
fn all_peers_end_with_a_process_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        return stand_until_killed();
    }
    let _place = lab::gate::enter().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::all_peers_end_with_a_process_that_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("standing"));
    let Some(line) = line else {
        panic!("the other process builds no lab: {:?}", victim.wait());
    };
    let id = line.rsplit(' ').next().unwrap().to_owned();
    let pids = processes_of(&id);
    assert!(pids.len() >= 7, "{pids:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The kernel ends them; nobody has to come and look.
    until("the end of all processes", SOON, || Ok(processes_of(&id).is_empty().then_some(())))
        .unwrap();
    record::reap_stale().unwrap();
    assert_gone(&id, &pids);
}

/// In the process that is to be killed: builds a lab, says so, waits for the end.
fn stand_until_killed() {
    let lab = Lab::new(Options::default()).unwrap();
    let host = lab.host().unwrap();
    let mut ovpn = OvpnPool::start(&lab, "ovpn", 1).unwrap();
    let endpoint = ovpn.site().direct(Family::V4);
    let ovpn_client = OvpnClient::dial(&lab, &host, &mut ovpn, endpoint).unwrap();
    let mut ike = IkePool::start(&lab, "ike", 1).unwrap();
    let endpoint = ike.site().direct(Family::V4).ip();
    let ike_client = IkeClient::dial(&lab, &host, &mut ike, endpoint).unwrap();
    let mut oc = OcPool::start(&lab, "oc", 1).unwrap();
    let endpoint = oc.site().direct(Family::V4);
    let oc_client = OcClient::dial(&lab, &host, &mut oc, endpoint).unwrap();
    let clients: [&dyn Client; 3] = [&ovpn_client, &ike_client, &oc_client];
    for client in clients {
        client.reach(SOON).unwrap();
    }
    println!("\nstanding {}", lab.id());
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The living processes in the namespaces of a lab, but this one and its kind.
fn processes_of(id: &str) -> Vec<u32> {
    let mut pids = Vec::new();
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for entry in namespaces {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(&format!("fp-{id}-")) {
            let output = Command::new("ip").args(["netns", "pids", &name]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    pids
}
