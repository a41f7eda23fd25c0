//! Every packet of the catalogue cut at every length, and with each header bit flipped:
//! no wrong verdict. What is right is told by [`oracle`], which reads packets with
//! another parser and knows the sessions from the catalogue, not from the tables.

mod oracle;

use dataplane::fixture::catalog::{Packet, Scene, cuts, flips};
use dataplane::fixture::check::{Shared, consistency};
use dataplane::fixture::{Outcome, World};
use dataplane::reason::{Kind, Reason};
use dataplane::table::slot;
use std::collections::BTreeMap;

/// Sends mutations of each packet to the scene, which is set up anew whenever one has
/// changed it.
fn each(mutations: impl Fn(&Packet) -> Vec<Vec<u8>>) -> u64 {
    let mut scene = Scene::new();
    let untouched = scene.world.image();
    let mut sent = 0;
    for packet in scene.packets() {
        for frame in mutations(&packet) {
            let judged = judge(&scene, &frame, packet.ingress);
            if let Err(wrong) = judged {
                panic!("{}: {wrong}\nof {:02x?}\nas {frame:02x?}", packet.name, packet.bytes);
            }
            sent += 1;
            if scene.world.image() != untouched {
                scene = Scene::new();
            }
        }
    }
    sent
}

/// Sends a frame and judges what became of it and of the tables.
fn judge(scene: &Scene, frame: &[u8], ingress: u32) -> Result<(), String> {
    let world = &scene.world;
    let (ends, image, before) = (ends(world), world.image(), identities(world));
    let outcome = world.receive(frame, ingress);
    let changes = oracle::judge(scene, frame, ingress, &outcome)
        .map_err(|wrong| format!("{wrong}: {:?}", outcome.verdict))?;
    counted_once(world, &ends, &outcome)?;
    consistency(&Shared::of(&world.tables))?;
    if !changes && world.image() != image {
        return Err(format!("changed the tables: {:?}", outcome.verdict));
    }
    let after = identities(world);
    match before.iter().find(|(identity, endpoint)| after.get(identity) != Some(endpoint)) {
        Some((identity, _)) => Err(format!("session {identity:x} is lost, or elsewhere")),
        None => Ok(()),
    }
}

/// How often each end was counted.
fn ends(world: &World) -> BTreeMap<Reason, u64> {
    let ends = Reason::ALL.iter().filter(|reason| reason.kind() != Kind::Event);
    ends.map(|reason| (*reason, world.count(*reason))).collect()
}

fn counted_once(
    world: &World,
    before: &BTreeMap<Reason, u64>,
    outcome: &Outcome,
) -> Result<(), String> {
    let mut expected = before.clone();
    *expected.entry(outcome.reason()).or_default() += 1;
    if ends(world) == expected { Ok(()) } else { Err("not counted once".into()) }
}

/// Sessions, and the endpoints they are on.
fn identities(world: &World) -> BTreeMap<u64, u16> {
    let all = world.tables.slots.iter().zip(&world.tables.details);
    let live = all.filter(|(slot, _)| slot::is_live(slot.state.load()));
    live.map(|(slot, detail)| (detail.identity.get(), slot.endpoint.get())).collect()
}

#[test]
fn whole_packets_are_judged_right() {
    assert!(each(|packet| vec![packet.bytes.clone()]) > 50);
}

#[test]
fn no_packet_is_mistaken_when_it_is_cut() {
    assert!(each(|packet| cuts(&packet.bytes, 0).collect()) > 5_000);
}

#[test]
fn no_packet_is_mistaken_when_a_header_bit_is_flipped() {
    assert!(each(|packet| flips(&packet.bytes).collect()) > 20_000);
}
