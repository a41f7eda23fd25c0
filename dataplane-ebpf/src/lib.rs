//! The kernel's side of the dataplane crate: an XDP context for a packet ([`context`]) and BPF
//! maps for tables ([`maps`]); [`log`] says of each packet what became of it, where that is
//! asked for. The program is `main.rs`; the benches have programs of their own upon this.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod context;
pub mod log;
pub mod maps;
