//! WireGuard's messages.

use dataplane::abi::Profile;

use crate::{Target, captures, payload};

pub(crate) const TARGET: Target =
    Target::new("wireguard", "WireGuard's messages, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::WireGuard, data);
}

fn seeds() -> Vec<Vec<u8>> {
    let captured = captures::payloads("wireguard", 51820);
    payload::seeds(Profile::WireGuard).into_iter().chain(captured).collect()
}
