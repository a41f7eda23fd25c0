//! What takes a machine of its own: network cards with a real driver between the gateway and the rest, and kernel modules that not every
//! kernel has. `cargo xtask test --vm` runs it; nothing is skipped where something is missing.

mod cards;
mod common;
mod esp;
mod tunnels;
mod vlan;
mod wireguard;
