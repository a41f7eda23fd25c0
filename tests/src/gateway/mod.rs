//! The gateway under test: its configuration, its process and its command line.

mod agent;
mod binary;
pub mod config;
mod invoke;
mod manager;
mod process;
mod service;
mod view;

pub use agent::Agent;
pub use config::{Config, Health, Limits, Rate, Tenant};
pub use invoke::{Caller, Said, invoke};
pub use process::Gateway;
pub use view::{BackendView, Counters, SessionView, TenantView};
