//! Frames that fuzzed ones are made of: one of each kind of the catalogue, and some of the random streams.

use std::sync::LazyLock;

use dataplane::fixture::catalog::{self, Packet, Scene};
use dataplane::fixture::stream::{Step, Stream};

/// Frames of random streams in the pool.
const RANDOM: usize = 600;

/// The catalogue's.
pub(crate) static CATALOGUE: LazyLock<Vec<Packet>> = LazyLock::new(|| Scene::new().packets());

/// All.
pub(crate) static ALL: LazyLock<Vec<Packet>> = LazyLock::new(|| {
    let random = Stream::new(1).filter_map(|step| match step {
        Step::Frame { bytes, ingress, .. } => {
            Some(Packet { name: "of a stream".to_owned(), bytes, ingress })
        }
        Step::Change(_) => None,
    });
    let mut all = CATALOGUE.clone();
    all.extend(catalog::answered_elsewhere());
    all.extend(random.take(RANDOM));
    all
});

/// The bytes of frames, to take parts of.
pub(crate) fn bytes(packets: &[Packet]) -> Vec<&[u8]> {
    packets.iter().map(|packet| packet.bytes.as_slice()).collect()
}
