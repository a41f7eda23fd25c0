//! A daemon that dies at any write, and writes that fail, under packets: on the kernel's own tables, with its program. Needs root.

mod drift;
mod kept;
mod moving;
mod refused;
mod rehoming;
#[path = "../../../tests/scratch/mod.rs"]
mod scratch;
mod unpinned;
mod world;
