//! Mutated frames, from both sides. `cargo xtask fuzz --live` sends more of them.

use lab::gate;
use lab::scenario::{MutatedPlan, mutated};

use crate::common::holds;

#[test]
fn two_hundred_thousand_mutated_frames_disturb_nobody_and_each_ends_once() {
    let _place = gate::enter().unwrap();
    let plan = MutatedPlan { frames: 200_000, seed: 1, sessions: 100, rate: 1000 };
    holds(&mutated(&plan, |_| {}).unwrap());
}
