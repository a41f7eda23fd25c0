//! OpenVPN's messages.

use dataplane::abi::Profile;

use crate::{Target, captures, payload};

pub(crate) const TARGET: Target =
    Target::new("openvpn", "OpenVPN's messages, as profiles read them", run, seeds);

fn run(data: &[u8]) {
    payload::check(Profile::OpenVpn, data);
}

fn seeds() -> Vec<Vec<u8>> {
    let captured = captures::payloads("openvpn", 1194);
    payload::seeds(Profile::OpenVpn).into_iter().chain(captured).collect()
}
