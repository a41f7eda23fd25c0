//! Tests of the whole room.

mod broken;
mod examples;
mod mistakes;
mod probes;
