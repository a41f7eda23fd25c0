//! Which backends answer.
//!
//! [`Monitor`] probes every backend at its pool's interval and reports changes. A
//! backend that serves both families is probed at both of its addresses, and is up only
//! if both answer: half of a concentrator would strand half of the clients.
//!
//! * [`Streak`]: the pure state machine of `rise` and `fall`.
//! * `icmp`: echo requests, all backends over one socket a family.
//! * `tcp`: connecting.

mod icmp;
mod monitor;
mod streak;
mod tcp;

pub use monitor::{Monitor, MonitorError, Target};
pub use streak::Streak;
