//! Mutated frames at a high rate: of what real clients and servers sent, and of what the protocols have else.

mod material;
mod sender;

pub(crate) use material::{Material, Service};
pub(crate) use sender::{Exclusion, Mutants, Way};
