//! Fernpass's dataplane: one pipeline, run in the kernel and on the host.
//!
//! The crate is `no_std` and does no I/O. [`pipeline::run`] takes a packet and
//! the tables, both behind traits, and returns what to do with the packet.
//! `dataplane-ebpf` gives it an XDP context and BPF maps; tests, fuzzers and
//! benches give it a byte buffer and ordinary memory.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, asm_experimental_arch))]
#![cfg_attr(target_arch = "bpf", allow(internal_features))]

pub mod abi;
pub mod cell;
pub mod checksum;
#[cfg(feature = "faults")]
pub mod fault;
#[cfg(feature = "fixture")]
pub mod fixture;
pub mod header;
#[cfg(any(test, feature = "host"))]
pub mod layout;
pub mod packet;
pub mod pipeline;
pub mod profile;
pub mod reason;
pub mod table;
pub mod watch;
