//! The lay of the land: which namespaces there are and how they are wired.
//!
//! ```text
//!  host 1 ══ up0, up1 ══╗           wan0 ┌─────────┐ lan0          ┌── concentrator 1
//!  host 2 ══ up0, up1 ══╬══  inet  ══════╡ gateway ╞══════ inside ─┼── concentrator 2
//!     ⋮                 ╝  (router)  wan1 └─────────┘      (bridge) └── …
//! ```
//!
//! Everything is dual-stack. `inet` is the Internet: a router with an uplink
//! address for every link of every host, a server of its own, and a black hole
//! for the rest of the world.

mod cable;
mod host;
mod lab;
pub mod plan;
mod site;
mod wire;

pub use host::Host;
pub use lab::{Lab, Options};
pub use site::{Kind, Site, Station, Transport};
