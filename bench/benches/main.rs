//! What runs in user space, timed by criterion: `cargo bench -p fernpass-bench`.
//!
//! - [`maglev`], [`reconcile`], [`configuration`]: the daemon's pure parts.
//! - [`parsing`], [`pipeline`], [`slots`]: the dataplane's, in ordinary memory.
//! - [`farm`]: the configuration that the daemon's parts are given.
//!
//! They show what a change does to a part, without a kernel and without root. What Fernpass costs
//! as a whole is measured by the suites of `cargo xtask bench`.

mod configuration;
mod farm;
mod maglev;
mod parsing;
mod pipeline;
mod reconcile;
mod slots;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn short() -> Criterion {
    // All of them in some two minutes.
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = host;
    config = short();
    targets = maglev::bench, reconcile::bench, configuration::bench, parsing::bench, pipeline::bench, slots::bench
}
criterion_main!(host);
