//! One frame of the catalogue, mutated, through the pipeline with open sessions: judged by what another parser says of it.

use std::cell::RefCell;

use arbitrary::Unstructured;
use dataplane::fixture::catalog::Scene;
use dataplane::fixture::{Image, judge, mutate};

use crate::{Target, pool};

pub(crate) const TARGET: Target = Target {
    longest: 128,
    ..Target::new(
        "frames",
        "mutated frames through the pipeline with open sessions, each judged",
        run,
        seeds,
    )
};

thread_local! {
    /// The scene, as long as no frame has changed it, and its tables' image.
    static SCENE: RefCell<Option<(Scene, Image)>> = const { RefCell::new(None) };
}

/// A frame's number in the catalogue, and the choices of its mutation.
fn run(data: &[u8]) {
    let Some((&[high, low], choices)) = data.split_first_chunk() else { return };
    let packet =
        &pool::CATALOGUE[usize::from(u16::from_be_bytes([high, low])) % pool::CATALOGUE.len()];
    let mut frame = packet.bytes.clone();
    // What was changed until the choices end is a frame as well.
    let _ = mutate(&mut Unstructured::new(choices), &mut frame, &pool::bytes(&pool::CATALOGUE));
    SCENE.with_borrow_mut(|scene| {
        let (set_up, image) = scene.get_or_insert_with(|| {
            let scene = Scene::new();
            let image = scene.world.image();
            (scene, image)
        });
        if let Err(wrong) = judge(set_up, &frame, packet.ingress) {
            panic!("{}: {wrong}\nof {:02x?}\nas {frame:02x?}", packet.name, packet.bytes);
        }
        if set_up.world.image() != *image {
            *scene = None;
        }
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let numbers = (0..pool::CATALOGUE.len() as u16).map(|number| number.to_be_bytes().to_vec());
    let mut random = fastrand::Rng::with_seed(1);
    let mutated = numbers.clone().map(|mut input| {
        input.extend(std::iter::repeat_with(|| random.u8(..)).take(40));
        input
    });
    numbers.chain(mutated.collect::<Vec<_>>()).collect()
}
