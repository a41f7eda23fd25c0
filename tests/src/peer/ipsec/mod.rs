//! IPsec with IKEv2 and MOBIKE: strongSwan 5.9 from Debian, with ESP in user space
//! (kernel-libipsec), always in UDP.

mod charon;
mod client;
mod pool;

pub use client::IkeClient;
pub use pool::{IkePool, IkeServer, IkeSession};
