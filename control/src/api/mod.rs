//! The API: JSON over HTTP on a Unix socket, and metrics for Prometheus.
//!
//! [`Server`] answers from a [`Handle`](crate::daemon::Handle); [`Client`] is the other end,
//! which the command line uses. The document that describes it ([`openapi`](mod@openapi)) is
//! committed as `control/openapi.json`. Errors are problem details (RFC 9457).

mod audit;
mod bounded;
mod client;
mod listed;
mod metrics;
mod openapi;
mod problem;
mod routes;
mod server;

pub use client::{Client, ClientError};
pub use openapi::openapi;
pub use problem::Problem;
pub use routes::{ApplyRequest, DrainRequest, UndrainRequest, WeightRequest};
pub use server::{ServeError, Server};
