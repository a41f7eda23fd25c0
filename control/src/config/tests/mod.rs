//! Tests of the whole room.

mod examples;
mod mistakes;
