//! DTLS' records.

use dataplane::abi::Profile;

use crate::{Target, payload};

pub(crate) const TARGET: Target =
    Target::new("dtls", "DTLS' records, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::Dtls, data);
}

fn seeds() -> Vec<Vec<u8>> {
    payload::seeds(Profile::Dtls)
}
