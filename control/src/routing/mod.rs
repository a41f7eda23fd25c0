//! How packets leave: a mirror of the kernel's interfaces, neighbours and main routing table,
//! and what the gateway needs set up around it.
//!
//! - [`Mirror`] is the task: [`Mirror::start`] with the interfaces that have the program and the
//!   backends' addresses, then [`Mirror::changed`] to wait for
//!   [`RouteView`](crate::model::RouteView)s. A change in the kernel is in a view some ten
//!   milliseconds later.
//! - [`State`] is the mirror as plain data, [`State::view`] the pure function to the view.
//!   Policy routing rules and other tables than the main one are not looked at.
//! - [`interfaces`] finds interfaces by name, [`sysctl`] checks or sets what the kernel's
//!   stack needs to forward what XDP hands it, [`features`] asks drivers what they can do, [`vips`] puts service addresses on `lo`,
//!   [`addresses`] tells the host's own.
//!
//! The mirror also has the kernel keep the neighbours resolved that XDP sends to:
//! routers, and backends on an interface's own link.
//!
//! Everything happens in the network namespace of the calling thread; the daemon asks on the threads of [`Netlink`].

pub mod addresses;
pub mod features;
mod hops;
pub mod interfaces;
mod keep;
#[cfg(test)]
mod live_tests;
mod mirror;
mod netlink;
#[cfg(test)]
pub(crate) mod netns;
mod prefix;
mod socket;
mod state;
pub mod sysctl;
#[cfg(test)]
mod tests;
mod view;
pub mod vips;

pub use mirror::{Mirror, MirrorError};
pub use netlink::Netlink;
pub use state::{
    Condition, Effect, Identity, Link, Neighbour, OUR_PROTOCOL, Path, Route, State, Tagged,
};
pub use view::{STACK, ViewSpec};

/// See [`crate::fuzz::hear`].
#[cfg(feature = "fuzz")]
pub(crate) fn hear(state: &mut State, datagram: &[u8]) -> Effect {
    let effects = socket::events(datagram).into_iter().map(|event| match event {
        socket::Event::Message(flags, message) => state.apply(flags, &message),
        socket::Event::Lost => Effect::Stale,
    });
    effects.max().unwrap_or(Effect::Nothing)
}
