//! The kernel program, its pinned maps, and its links.
//!
//! Everything lives under `BPFFS/v<abi>/` ([`Pins`]): one file for each map, `program`,
//! and `links/if<INDEX>` for each interface. What is pinned outlives the daemon,
//! so packets are forwarded without one.
//!
//! * [`Bpffs`]: the file system, and the lock that keeps a second daemon out.
//! * [`shape`]: what each map must look like; [`adopt`] refuses any other.
//! * [`Tables`]: the maps, opened; shared memory where they can be mapped.
//! * [`Program`]: loading, replacing, attaching.
//! * [`find`](mod@find): what earlier daemons left; [`Old`]: tables whose sessions are taken over, by their own description.
//! * [`PacketLog`]: what the program says of packets, for debugging.
//!
//! `unsafe` is confined to `mapped` (shared memory) and `pod` (keys and values as bytes).

mod access;
mod bpffs;
mod directory;
mod error;
mod find;
mod layout;
mod mapped;
pub(crate) mod memory;
mod old;
mod packet_log;
mod pins;
mod pod;
mod program;
pub mod shape;
mod tables;
mod writer;

pub use bpffs::{Bpffs, Lock};
pub(crate) use directory::wait;
pub use error::LoadError;
pub use find::{Found, find, remove_all};
pub use mapped::Mapped;
pub(crate) use old::Ended;
pub use old::Old;
#[cfg(feature = "fuzz")]
pub(crate) use old::described;
pub use packet_log::{PacketLog, PacketLogger};
pub(crate) use pins::stage;
pub use pins::{Pins, adopt, create};
pub(crate) use pod::{PodAddressKey, PodService};
pub use program::{Attachment, Info, Program, load_programs};
pub use shape::Sizes;
pub(crate) use tables::typed;
pub use tables::{Count, Tables};
pub use writer::Writer;

/// The kernel program, as built with this binary.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FERNPASS_XDP_OBJECT"));
