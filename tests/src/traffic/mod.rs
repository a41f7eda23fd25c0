//! Traffic, and what became of it.

mod echo;
mod flood;
mod icmp;
mod sequence;
mod target;

pub use echo::{EchoServer, TcpEchoServer, tcp_round_trip};
pub use flood::{Flood, initiation};
pub use icmp::ping;
pub use sequence::{Sequence, Tally};
pub use target::{Probe, Target};
