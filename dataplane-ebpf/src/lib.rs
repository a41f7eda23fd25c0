//! The kernel's side of the dataplane crate: an XDP context for a packet ([`context`]) and BPF
//! maps for tables ([`maps`]); [`log`] says of each packet what became of it, where that is
//! asked for. The program is `main.rs`; the benches have programs of their own upon this, and so have agents, upon the packet alone.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod context;
#[cfg(feature = "gateway")]
pub mod log;
#[cfg(feature = "gateway")]
pub mod maps;
