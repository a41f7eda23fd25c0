//! Fuzz targets: everything that reads what comes from outside, and the pipeline with its tables.
//!
//! A [`Target`] takes any bytes, does with them what the program would, and panics when something is not as it must be. A new one
//! is a file in `target/`, and a line in [`TARGETS`]. `cargo xtask fuzz` feeds all of them; `tests/corpus.rs` feeds
//! each with what is committed of its corpus in every test run, so that nothing that was found comes back.

#![deny(unsafe_code)]

mod captures;
pub mod corpus;
mod payload;
mod pool;
mod target;

pub use target::TARGETS;

/// Something to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its corpus' directory.
    pub name: &'static str,
    /// What it is about, in a line.
    pub about: &'static str,
    /// Feeds it. It panics if anything is wrong.
    pub run: fn(&[u8]),
    /// What its corpus begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: fn() -> Vec<String>,
    /// Most bytes of an input.
    pub longest: usize,
}

impl Target {
    /// The target of a name.
    pub fn of(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// One without words, whose inputs are of a datagram's size at most.
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&[u8]),
        seeds: fn() -> Vec<Vec<u8>>,
    ) -> Self {
        Self { name, about, run, seeds, words: Vec::new, longest: 1600 }
    }
}
