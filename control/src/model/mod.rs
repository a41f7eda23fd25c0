//! What the tables should hold: a pure function, and the steps that lead there.
//!
//! [`compute`](fn@compute) takes everything the daemon knows ([`Inputs`]) and returns the
//! wanted contents of all tables ([`Wanted`]); [`diff`](fn@diff) compares them with what
//! the tables hold and returns the [`Step`]s in an order in which it is safe to
//! stop anywhere; [`apply`](fn@apply) carries them out on a [`TableWriter`].
//!
//! The tables themselves are the memory of what an index means: `compute` reads
//! it from [`Inputs::current`] (through a [`Registry`]), so a daemon that was
//! killed half-way, or that adopts the tables of another, goes on from what is
//! really there. An index whose sessions may still live is kept, *retired*, until
//! the daemon lists its endpoints in [`Inputs::released`].

mod apply;
mod compute;
mod diff;
mod drift;
mod fixed;
mod guard;
mod indexes;
pub mod maglev;
mod nexthop;
mod paths;
mod registry;
#[cfg(test)]
mod tests;
mod view;
mod wanted;
mod writer;

pub use apply::{ApplyError, apply};
pub use compute::compute;
pub use diff::{Step, diff};
pub use drift::{Drift, drift};
pub use fixed::Fixed;
pub use guard::{Guard, Held, Judgement, Probed, ProbedView};
pub use indexes::ModelError;
pub use nexthop::{NextHop, Vlan};
pub use registry::{EndpointNames, Registry};
pub use view::{
    AddressHealth, Drain, HealthView, HopKey, Inputs, Load, Overrides, Prefix, RouteView, Silent,
    Status,
};
pub use wanted::{KnownHop, Live, MeterLimits, Ring, TenantLimits, Wanted, ring_number};
pub use writer::{TableWriter, WriteError, Written};
