//! A datagram to a backend, and what comes back.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::probe::Failure;

/// Sends a request from a port of its own, so that no late answer to another one comes to it, and waits for a datagram that is the answer.
///
/// # Errors
/// Why there is none: that nothing listens there is told at once.
pub(super) async fn exchange(
    to: SocketAddr,
    request: &[u8],
    what: &str,
    patience: Duration,
    is_answer: impl FnMut(&[u8]) -> bool,
) -> Result<(), Failure> {
    match timeout(patience, ask(to, request, is_answer)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {
            Err(Failure::Backend(format!("{to}: nothing listens there (ICMP port unreachable)")))
        }
        Ok(Err(e)) => Err(Failure::of(to, &e)),
        Err(_) => Err(Failure::late(to, what, patience)),
    }
}

async fn ask(
    to: SocketAddr,
    request: &[u8],
    mut is_answer: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    // Nobody else's datagrams, and ICMP's errors.
    socket.connect(to).await?;
    socket.send(request).await?;
    let mut answer = [0; 2048];
    loop {
        let length = socket.recv(&mut answer).await?;
        if is_answer(&answer[..length]) {
            return Ok(());
        }
    }
}
