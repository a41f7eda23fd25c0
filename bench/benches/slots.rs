//! What does the session table's algorithm cost: a lookup that finds its flow, one that does not, and
//! an insertion? In ordinary memory, half full, flows in random order.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use dataplane::abi::Address;
use dataplane::table::hash::{self, Flow};
use dataplane::table::host::{HostTables, Sizes};
use dataplane::table::slot::{self, DEAD, OPEN};

fn flow(number: u32) -> Flow {
    let client = Address::v4((0x6440_0000 | number).to_be());
    Flow { client, port: 40_000_u16.to_be(), service: 0 }
}

fn find(tables: &HostTables, flow: &Flow) -> bool {
    let settings = &tables.settings;
    slot::find::<_, false>(tables, settings, flow, hash::flow(settings, flow)).slot.is_some()
}

/// Inserts a flow that is not there: its slot.
fn insert(tables: &HostTables, flow: &Flow) -> u32 {
    let hash = hash::flow(&tables.settings, flow);
    let claim = slot::claim(tables, hash).expect("the table is half full");
    let slot = &tables.slots[claim.index as usize];
    for (cell, half) in slot.client.iter().zip(flow.client.halves()) {
        cell.set(half);
    }
    slot.port_service.set(flow.port_service());
    assert!(slot::publish(tables, hash, claim, OPEN), "nobody else is here");
    claim.index
}

fn remove(tables: &HostTables, index: u32) {
    let slot = &tables.slots[index as usize];
    assert!(slot::transition(slot, slot.state.load(), DEAD));
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session table");
    group.throughput(Throughput::Elements(1));
    for sessions in [1_000_u32, 60_000] {
        let slots = (2 * sessions).next_power_of_two();
        let tables = HostTables::new(Sizes { slots, overflow: slots / 16, ..Sizes::default() });
        let mut flows: Vec<Flow> = (0..sessions).map(flow).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut flows);
        for flow in &flows {
            insert(&tables, flow);
        }
        // As many again, none of which is there.
        let others: Vec<Flow> = (sessions..2 * sessions).map(flow).collect();
        let mut known = flows.iter().cycle();
        group.bench_function(BenchmarkId::new("found", sessions), |bencher| {
            bencher.iter(|| known.next().map(|flow| assert!(find(&tables, black_box(flow)))));
        });
        let mut unknown = others.iter().cycle();
        group.bench_function(BenchmarkId::new("not found", sessions), |bencher| {
            bencher.iter(|| unknown.next().map(|flow| assert!(!find(&tables, black_box(flow)))));
        });
        let mut new = others.iter().cycle();
        group.bench_function(BenchmarkId::new("inserted and removed", sessions), |bencher| {
            bencher.iter(|| new.next().map(|flow| remove(&tables, insert(&tables, flow))));
        });
    }
    group.finish();
}
