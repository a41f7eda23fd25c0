//! Finds an eBPF toolchain and builds the kernel program.
//!
//! Two toolchains work: Debian's own packages, and rustup's nightly with
//! `rust-src`. Both need `bpf-linker`. [`Toolchain::find`] takes what is there, or
//! says what to install.

mod build;
mod toolchain;

pub use build::{BuildError, Object, build, clippy, script};
pub use toolchain::{Missing, Toolchain};

/// What to run where something is missing, as root on Debian 12.
pub const INSTALL: &[&str] = &[
    "apt-get install -y rustc-web cargo-web rust-web-src llvm-22-dev libclang-22-dev libpolly-22-dev zlib1g-dev libzstd-dev",
    "PATH=/usr/lib/llvm-22/bin:$PATH cargo install bpf-linker --version ^0.13 --no-default-features --features llvm-22",
];
