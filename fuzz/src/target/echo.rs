//! What health probes take for the reply to their echo request.

use control::fuzz::echo_token;

use crate::Target;

pub(crate) const TARGET: Target =
    Target::new("echo", "what health probes take for an echo reply", run, seeds);

fn run(data: &[u8]) {
    for is_v6 in [false, true] {
        let Some(token) = echo_token(is_v6, data) else { continue };
        assert!(data.windows(8).any(|bytes| bytes == token.to_be_bytes()), "it is not there");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let reply = |kind: u8| [&[kind, 0, 0, 0, 1, 2, 3, 4][..], &[0x5a; 8]].concat();
    let with = |ip: &[u8]| [ip, &reply(0)].concat();
    vec![with(&[0x45; 20]), with(&[0x4f; 60]), reply(129)]
}
