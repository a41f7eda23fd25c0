//! Real WireGuard peers: clients on the Internet's hosts and the concentrators inside.

mod client;
mod concentrator;
mod device;
mod keys;
pub(crate) mod uapi;

pub use client::WgClient;
pub use concentrator::{Concentrator, Pool};
pub use device::{Device, Implementation};
pub use keys::{Public, Secret};
pub use uapi::PeerState;
