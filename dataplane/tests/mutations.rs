//! Every packet of the catalogue cut at every length, and with each header bit flipped:
//! no wrong verdict. What is right is told by [`judge`].

use arbitrary::Unstructured;
use dataplane::fixture::catalog::{Packet, Scene, cuts, flips};
use dataplane::fixture::{judge, mutate};
use fastrand::Rng;

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

/// `cargo xtask fuzz frames` looks further, and knows where it has been.
#[test]
fn no_packet_is_mistaken_when_its_fields_are_changed() {
    let others: Vec<_> = Scene::new().packets().into_iter().map(|p| p.bytes).collect();
    let mutated = |packet: &Packet| {
        let mut random = Rng::with_seed(packet.bytes.len() as u64);
        let make = |_| {
            let mut frame = packet.bytes.clone();
            let mut choices = [0; 64];
            random.fill(&mut choices);
            // What was changed until the choices end is a frame as well.
            let _ = mutate(&mut Unstructured::new(&choices), &mut frame, &others);
            frame
        };
        (0..200).map(make).collect()
    };
    assert!(each(mutated) > 20_000);
}
