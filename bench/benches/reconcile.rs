//! How long does the daemon think about an event: what should the tables hold, and which steps lead
//! there? Forty services on a pool of concentrators: from nothing, when nothing changed, and when
//! one concentrator died.

use std::collections::BTreeSet;
use std::hint::black_box;

use control::config::{BackendId, Config};
use control::model::{
    AddressHealth, HealthView, Inputs, Load, Overrides, Status, Wanted, compute, diff,
};
use criterion::{BenchmarkId, Criterion};

use crate::farm;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reconcile");
    for backends in [8, 64] {
        let config = Config::parse(&farm::text(backends), "farm.toml").expect("it is right");
        let (overrides, load) = (Overrides::default(), Load::default());
        let (routes, released) = (farm::routes(backends), BTreeSet::new());
        let wanted = |current: &Wanted, health: &HealthView| {
            let inputs = Inputs {
                config: &config,
                overrides: &overrides,
                health,
                load: &load,
                routes: &routes,
                current,
                released: &released,
            };
            compute(&inputs).expect("there are indexes for all")
        };
        let well = HealthView::new();
        let dead = BackendId::new("wireguard", "wg-3");
        let one_dead = HealthView::from([(dead, AddressHealth::both(Status::Down))]);
        let nothing = Wanted::default();
        let full = wanted(&nothing, &well);
        assert!(diff(&full, &wanted(&full, &well)).is_empty());
        for (event, current, health) in [
            ("from nothing", &nothing, &well),
            ("nothing changed", &full, &well),
            ("one backend died", &full, &one_dead),
        ] {
            group.bench_function(BenchmarkId::new(event, backends), |bencher| {
                bencher.iter(|| diff(black_box(current), &wanted(black_box(current), health)));
            });
        }
    }
    group.finish();
}
