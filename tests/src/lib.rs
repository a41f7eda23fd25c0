//! The lab: network namespaces and real peers for the end-to-end tests and the demo.
//!
//! - [`Lab`] lays out a simulated Internet, a gateway and an inside network ([`layout`]).
//! - [`peer`] starts real clients and servers, of every protocol.
//! - [`gateway`] configures, starts, kills and asks the gateway under test.
//! - [`traffic`] measures what gets through, and floods.
//! - [`scenario`] plays what Fernpass claims, one function for each claim.
//! - [`gate`] lets only so many labs work at once.
//! - [`lateness`] tells how late this machine is.
//! - [`record`] finds and takes down labs that others left behind.
//!
//! It needs root, and says so otherwise ([`preflight`](mod@preflight)). It starts no shell,
//! touches nothing outside its own namespaces but `/run/fernpass-lab`, and ends
//! only processes it started.

#![deny(unsafe_code)]

mod error;
pub mod gate;
pub mod gateway;
pub mod lateness;
pub mod layout;
pub mod net;
pub mod peer;
mod preflight;
mod process;
pub mod record;
pub mod scenario;
pub mod traffic;
pub mod wait;

pub use error::{LabError, Result};
pub use layout::{Host, Lab, Options};
pub use preflight::preflight;
