//! Which backends answer.
//!
//! [`Monitor`] probes every backend at its pool's interval and reports changes. A backend that
//! serves both families is probed at both of its addresses, each for itself: if only one of
//! them answers, the clients of that family stay where they are, and those of the
//! other are sent elsewhere. An outage of IPv6 between gateway and farm is no reason to end
//! sessions over IPv4.
//!
//! * [`Streak`]: the pure state machine of `rise` and `fall`. How far its findings are believed is the model's to say, which sees
//!   whole pools (`model::guard`).
//! * `asker`: which probe it is.
//! * `icmp`: echo requests, all backends over one socket a family.
//! * `tcp`, `tls`, `http`: connections, and what is said on them.
//! * `datagram`, with `udp`, `wireguard`, `openvpn`, `ike`: the first message of a protocol, and its answer. None of them begins
//!   anything that a server would have to remember for long.
//!
//! What fails on the gateway's own side (no file descriptors, no memory, no right to send) says nothing about a
//! backend and does not count; everything else does, also that there is no route to it.

mod asker;
mod datagram;
mod http;
mod icmp;
mod ike;
#[cfg(test)]
mod live_tests;
mod monitor;
mod openvpn;
mod probe;
#[cfg(test)]
mod protocol_tests;
mod streak;
mod tcp;
mod tls;
mod udp;
mod wireguard;

#[cfg(feature = "fuzz")]
pub(crate) use icmp::token;
#[cfg(feature = "fuzz")]
pub(crate) use ike::answers as ike_answers;
pub use monitor::{Monitor, MonitorError, Target};
#[cfg(feature = "fuzz")]
pub(crate) use openvpn::{answers as openvpn_answers, of_server as openvpn_wrapped};
pub use streak::Streak;
