//! Which backends answer.
//!
//! [`Monitor`] probes every backend at its pool's interval and reports changes. A backend that
//! serves both families is probed at both of its addresses, each for itself: if only one of
//! them answers, the clients of that family stay where they are, and those of the
//! other are sent elsewhere. An outage of IPv6 between gateway and farm is no reason to end
//! sessions over IPv4.
//!
//! * [`Streak`]: the pure state machine of `rise` and `fall`.
//! * `icmp`: echo requests, all backends over one socket a family.
//! * `tcp`: connecting.
//!
//! What fails on the gateway's own side (no file descriptors, no memory) says nothing about a
//! backend and does not count; everything else does, also that there is no route to it.

mod icmp;
#[cfg(test)]
mod live_tests;
mod monitor;
mod probe;
mod streak;
mod tcp;

#[cfg(feature = "fuzz")]
pub(crate) use icmp::token;
pub use monitor::{Monitor, MonitorError, Target};
pub use streak::Streak;
