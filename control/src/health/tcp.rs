//! Probes by connecting.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::probe::Failure;

/// Connects, and closes.
///
/// # Errors
/// Why it does not accept.
pub(super) async fn probe(address: IpAddr, port: u16, patience: Duration) -> Result<(), Failure> {
    let to = SocketAddr::new(address, port);
    match timeout(patience, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => {
            // A reset instead of a farewell: a probe a second leaves no TIME_WAIT behind.
            let _ = stream.set_zero_linger();
            Ok(())
        }
        Ok(Err(e)) => Err(Failure::of(to, &e)),
        Err(_) => Err(Failure::late(to, "answer", patience)),
    }
}
