//! How long does it take to build a pool's ring, when a backend comes, goes or changes its weight?

use std::hint::black_box;

use control::model::maglev::{Candidate, ring};
use criterion::{BenchmarkId, Criterion, Throughput};
use dataplane::abi::RING_SIZE;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev ring");
    group.throughput(Throughput::Elements(RING_SIZE.into()));
    for backends in [8, 64, 128] {
        let names: Vec<String> = (0..backends).map(|number| format!("wg-{number}")).collect();
        let candidates: Vec<Candidate<'_>> = names
            .iter()
            .zip(0..)
            .map(|(name, ordinal)| Candidate { name, ordinal, weight: 100 })
            .collect();
        group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
            bencher.iter(|| ring(black_box(&candidates)));
        });
    }
    group.finish();
}
