//! Traffic, and what became of it.

mod crowd;
mod echo;
mod flood;
mod icmp;
pub(crate) mod mutant;
mod sequence;
mod target;

pub(crate) use crowd::SIZE as REQUEST;
pub use crowd::{Crowd, CrowdTally};
pub(crate) use echo::{BUFFER, SHORTEST, TAG};
pub use echo::{EchoServer, PORT as ECHO_PORT, TcpEchoServer, tcp_round_trip};
pub use flood::{Flood, FragmentFlood, SynFlood, initiation};
pub use icmp::ping;
pub use sequence::{Sequence, Tally};
pub use target::{Probe, Target};
