//! Benches; the suites follow.
