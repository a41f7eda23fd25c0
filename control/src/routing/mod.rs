//! How packets leave: the kernel's routes, mirrored.
//!
//! The kernel decides; this room follows. [`Mirror`] keeps a [`State`] (links,
//! routes of the main table, neighbours) up to date by netlink, and derives a
//! [`RouteView`](crate::model::RouteView) from it with a pure function
//! ([`State::view`]). Neighbours that packets go to are kept resolved by the kernel itself
//! (`NTF_EXT_MANAGED`, Linux 5.16; see `neighbours`).
//!
//! What XDP cannot do by itself (no neighbour yet, a policy rule, a tunnel) is left
//! out of the view or marked unresolved: then the kernel's stack forwards, translated but otherwise as
//! without Fernpass. Rules and tables other than the main one are not followed.
//!
//! * [`interfaces`]: names, indexes, and the XDP mode of interfaces.
//! * [`sysctl`]: kernel settings that stand in the way.
//! * [`vips`]: services' addresses on `lo`.

pub mod interfaces;
mod message;
mod mirror;
mod neighbours;
mod state;
pub mod sysctl;
mod view;
pub mod vips;

pub use mirror::{Mirror, MirrorError};
pub use state::{Hop, Link, Neighbour, Route, State};
pub use view::ViewSpec;

#[cfg(test)]
mod tests;
