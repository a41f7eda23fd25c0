//! What fuzz targets reach, and nobody else: readers of what comes from outside that are private elsewhere.

use crate::routing::{Effect, State};

/// Takes in a datagram of the kernel's netlink notifications, as the mirror does: the greatest effect of its messages.
pub fn hear(state: &mut State, datagram: &[u8]) -> Effect {
    crate::routing::hear(state, datagram)
}

/// The datagram that tells a gateway of an entry of the agent's ring buffer; `None` if the entry is none.
pub fn report(entry: &[u8]) -> Option<Vec<u8>> {
    crate::agent::datagram(entry)
}

/// The token of what a health probe's raw socket was given, if it is an echo reply.
pub fn echo_token(is_v6: bool, packet: &[u8]) -> Option<u64> {
    crate::health::token(is_v6, packet)
}

/// Whether a daemon that starts goes by its configuration file, of this text, when this was kept of a trial.
pub fn goes_by_file(kept: &[u8], file: &str, now: u64) -> bool {
    crate::daemon::goes_by_file(kept, file, now)
}
