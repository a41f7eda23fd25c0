//! The gateway under test: its configuration, its process and its command line.

mod binary;
pub mod config;
mod process;
mod view;

pub use config::Config;
pub use process::Gateway;
pub use view::{Counters, SessionView};
