//! The AnyConnect protocol, TLS on TCP and DTLS on UDP: ocserv 1.1 and openconnect 9 from Debian.

mod client;
mod pool;
mod server;

pub use client::OcClient;
pub use pool::OcPool;
pub use server::{OcServer, OcSession};
