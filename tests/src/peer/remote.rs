//! What all clients have in common, whatever they speak.

use std::fmt;
use std::time::Duration;

use super::client::WgClient;
use crate::error::Result;
use crate::layout::Host;
use crate::traffic::{Probe, Target};

/// A client of a service. What it says goes through its tunnel or its connection to an
/// echo server behind the service, which tells who answered.
pub trait Client: fmt::Debug {
    /// The port it sends from: UDP, where it uses both.
    fn port(&self) -> u16;

    /// Waits until it may send, where that takes a dialogue before the first packet.
    fn connected(&self, deadline: Duration) -> Result<()>;

    /// The echo server behind the service, from this client's side.
    fn target(&self) -> Result<Target>;

    /// Changes the address (and the port, where the protocol's programs can) in the middle of
    /// whatever the client does. `host` is the one it was started on.
    fn roam(&mut self, host: &Host) -> Result<()>;

    /// Most pings, of twenty a second, that a change of its address may cost by itself.
    fn most_lost(&self) -> u64 {
        2
    }

    /// Connects, and sends until something comes back: which machine it was.
    fn reach(&self, deadline: Duration) -> Result<u8> {
        self.connected(deadline)?;
        Probe::open(&self.target()?)?.reach(deadline)
    }
}

impl Client for WgClient {
    fn port(&self) -> u16 {
        WgClient::port(self)
    }

    /// WireGuard shakes hands when there is something to say.
    fn connected(&self, _deadline: Duration) -> Result<()> {
        Ok(())
    }

    fn target(&self) -> Result<Target> {
        Ok(WgClient::target(self))
    }

    fn roam(&mut self, host: &Host) -> Result<()> {
        WgClient::roam(self, host)
    }
}
