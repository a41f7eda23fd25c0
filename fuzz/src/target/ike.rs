//! IKEv2 by itself.

use dataplane::abi::Profile;

use crate::{Target, captures, payload};

pub(crate) const TARGET: Target =
    Target::new("ike", "IKEv2 by itself, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::Ike, data);
}

fn seeds() -> Vec<Vec<u8>> {
    let captured = captures::payloads("ikev2-esp", 500);
    payload::seeds(Profile::Ike).into_iter().chain(captured).collect()
}
