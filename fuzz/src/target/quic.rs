//! QUIC's datagrams.

use dataplane::abi::Profile;

use crate::{Target, payload};

pub(crate) const TARGET: Target =
    Target::new("quic", "QUIC's datagrams, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::Quic, data);
}

fn seeds() -> Vec<Vec<u8>> {
    payload::seeds(Profile::Quic)
}
