//! TCP's headers, from their ninth byte on.

use dataplane::abi::Profile;

use crate::{Target, payload};

pub(crate) const TARGET: Target = Target::new(
    "tcp",
    "TCP's headers, from their ninth byte on, as profiles read them",
    run,
    seeds,
);

fn run(data: &[u8]) {
    payload::check(Profile::Tcp, data);
}

fn seeds() -> Vec<Vec<u8>> {
    payload::seeds(Profile::Tcp)
}
