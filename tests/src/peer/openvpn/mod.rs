//! OpenVPN 2.6 over UDP, from Debian: concentrators of a pool and their clients.

mod client;
mod pool;
mod server;

pub use client::OvpnClient;
pub use pool::OvpnPool;
pub use server::{OvpnServer, OvpnSession};

use std::time::Duration;

/// How long a process may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// What both sides log when they are ready.
const READY: &str = "Initialization Sequence Completed";
