//! Fernpass in user space: the daemon and the command line.

// What integration tests share with the crate's own names it so.
#[cfg(test)]
extern crate self as control;

pub mod agent;
pub mod api;
pub mod cli;
pub mod clock;
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
mod systemd;
