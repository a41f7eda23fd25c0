//! Real peers: clients on the Internet's hosts and the servers inside.
//!
//! Each protocol has a pool of servers that hold the same configuration, and a client
//! that dials it. What a gateway has to be told of a pool is its [`Site`](crate::layout::Site);
//! what clients have in common is [`Client`].

mod anyconnect;
mod client;
mod concentrator;
mod device;
mod in_kernel;
mod ipsec;
mod keys;
mod openvpn;
mod pki;
mod queues;
mod quic;
mod relay;
mod remote;
mod tcp;
mod tunnel_end;
pub(crate) mod uapi;
mod worker;

pub use anyconnect::{OcClient, OcPool, OcServer, OcSession};
pub use client::WgClient;
pub use concentrator::{Concentrator, Pool};
pub use device::{Device, Implementation};
pub use ipsec::{Esp, IkeClient, IkePool, IkeServer, IkeSession};
pub use keys::{Public, Secret};
pub use openvpn::{OvpnClient, OvpnPool, OvpnServer, OvpnSession};
pub use quic::{QuicClient, QuicIds, QuicPool, QuicServer};
pub use remote::Client;
pub use tcp::{RunningLoad, TcpClient, TcpLoad, TcpPool, TcpServer, TcpTally};
pub use tunnel_end::TunnelEnd;
pub use uapi::PeerState;
