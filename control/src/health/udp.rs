//! Probes by a datagram that is written in the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use super::datagram::exchange;
use super::probe::Failure;
use crate::config::Udp;

/// Sends it, and waits for an answer.
///
/// # Errors
/// Why there is none.
pub(super) async fn probe(to: SocketAddr, udp: &Udp, patience: Duration) -> Result<(), Failure> {
    let expected = udp.expect.as_ref().map_or(&b""[..], |expect| expect.bytes());
    let what = if expected.is_empty() { "answer" } else { "answer that begins as expected" };
    exchange(to, udp.send.bytes(), what, patience, |answer| answer.starts_with(expected)).await
}
