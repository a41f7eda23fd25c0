//! Tables that become larger, and those of another version, while sessions are in them.

use lab::gate;
use lab::scenario::{GrowthPlan, UpgradePlan, growth, upgrade};

use crate::common::holds;

const PLAN: GrowthPlan =
    GrowthPlan { from: 16_384, to: 262_144, busy: 1_000, idle: 0, rate: 5_000, by_restart: false };

#[test]
fn tables_grow_by_a_reload_and_nobody_notices() {
    let _place = gate::enter().unwrap();
    holds(&growth(&PLAN).unwrap());
}

#[test]
fn tables_grow_at_a_start_and_nobody_notices() {
    let _place = gate::enter().unwrap();
    holds(&growth(&GrowthPlan { busy: 300, by_restart: true, ..PLAN }).unwrap());
}

#[test]
#[ignore = "takes a minute and a half: as many sessions as an administration has"]
fn tables_grow_under_sixty_thousand_sessions() {
    let _place = gate::enter().unwrap();
    holds(&growth(&GrowthPlan { from: 65_536, idle: 59_000, ..PLAN }).unwrap());
}

#[test]
fn another_layout_comes_and_goes_and_nobody_notices() {
    let _place = gate::enter().unwrap();
    holds(&upgrade(&UpgradePlan { busy: 1_000, idle: 2_000, rate: 5_000, kills: 0 }).unwrap());
}

#[test]
fn a_daemon_that_is_killed_while_it_takes_another_layouts_sessions_over_is_not_noticed() {
    let _place = gate::enter().unwrap();
    holds(&upgrade(&UpgradePlan { busy: 300, idle: 0, rate: 2_000, kills: 4 }).unwrap());
}

#[test]
#[ignore = "takes two minutes: as many sessions as an administration has"]
fn another_layout_comes_and_goes_under_sixty_thousand_sessions() {
    let _place = gate::enter().unwrap();
    holds(&upgrade(&UpgradePlan { busy: 1_000, idle: 59_000, rate: 5_000, kills: 0 }).unwrap());
}
