//! Child processes that do not outlive the lab: every child dies with the
//! process that started it (unless the lab is to be kept), and is ended by pid.

mod child;
mod spawner;

pub(crate) use child::Child;
pub(crate) use child::{Identity, Launch};
pub(crate) use spawner::{Lifetime, run, spawn};
