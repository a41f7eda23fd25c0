//! The `fernpass` binary.

fn main() {}
