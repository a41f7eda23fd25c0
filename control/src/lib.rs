//! Fernpass in user space: the daemon and the command line.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
mod confine;
pub mod daemon;
#[cfg(test)]
mod documentation;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod health;
pub mod loader;
pub mod migration;
pub mod model;
pub mod routing;
pub mod sessions;
