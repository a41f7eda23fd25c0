//! Probes by connecting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::probe::Failure;

/// Connects, and closes.
///
/// # Errors
/// Why it does not accept.
pub(super) async fn probe(to: SocketAddr, patience: Duration) -> Result<(), Failure> {
    match timeout(patience, connect(to)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Failure::of(to, &e)),
        Err(_) => Err(Failure::late(to, "answer", patience)),
    }
}

/// A connection that is closed by a reset instead of a farewell: a probe a second leaves no TIME_WAIT behind.
pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_zero_linger()?;
    Ok(stream)
}
