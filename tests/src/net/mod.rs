//! Network namespaces and what is laid out between them.

mod capture;
mod frames;
mod ns;
mod raw;

pub use capture::{Capture, Datagram};
pub(crate) use frames::FrameSender;
pub use ns::Ns;
pub(crate) use ns::{ip_batch, run_to_end};
pub use raw::{Obstruction, RawSender};
