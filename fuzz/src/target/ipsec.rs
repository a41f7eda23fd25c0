//! ESP in UDP, and IKEv2 on its port.

use dataplane::abi::Profile;

use crate::{Target, captures, payload};

pub(crate) const TARGET: Target =
    Target::new("ipsec", "ESP in UDP, and IKEv2 on its port, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::Ipsec, data);
}

fn seeds() -> Vec<Vec<u8>> {
    let captured = captures::payloads("ikev2-esp", 4500);
    payload::seeds(Profile::Ipsec).into_iter().chain(captured).collect()
}
