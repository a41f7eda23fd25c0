//! Fair shares: nobody takes what another is guaranteed, and backends are given what they can take.

use lab::gate;
use lab::scenario::{StampedePlan, overload, stampede};

use crate::common::holds;

#[test]
fn a_tenant_that_floods_in_every_dimension_takes_nothing_from_another() {
    let _place = gate::enter().unwrap();
    holds(&overload().unwrap());
}

#[test]
fn six_thousand_sessions_of_a_dead_backends_pool_come_back_at_the_configured_pace() {
    let _place = gate::enter().unwrap();
    holds(&stampede(&StampedePlan { sessions: 6000, rate: 6000, pace: 100 }).unwrap());
}
