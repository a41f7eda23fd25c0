//! How long does it take to read and check a configuration, at a start and at each reload?

use std::hint::black_box;

use control::config::Config;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::farm;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("configuration");
    for backends in [8, 128] {
        let text = farm::text(backends);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("parse", backends), |bencher| {
            bencher.iter(|| Config::parse(black_box(&text), "farm.toml").expect("it is right"));
        });
    }
    group.finish();
}
