//! A service on QUIC: datagrams (RFC 9221) that come back with the tag of the server. Servers
//! and clients are quinn, in threads of this process.

mod client;
mod ids;
mod pool;

pub use client::QuicClient;
pub use ids::QuicIds;
pub use pool::{QuicPool, QuicServer};

use std::sync::Arc;
use std::time::Duration;

use quinn::{TransportConfig, VarInt};

/// A side that hears nothing for so long gives up, in milliseconds: longer than a gateway takes to start on a busy machine.
const IDLE: VarInt = VarInt::from_u32(15_000);

/// What both sides' connections have in common.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE.into()))
        .keep_alive_interval(Some(Duration::from_secs(2)))
        // No packets but those that were asked for, in frames of the size they have outside.
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    Arc::new(transport)
}
