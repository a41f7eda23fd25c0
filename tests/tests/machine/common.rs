//! What the tests share.

use lab::gate::{self, Place};
use lab::layout::plan::Family;
use lab::peer::Implementation;
use lab::scenario::{Claim, Farm, FarmPlan, sessions_open};

/// A quota nobody reaches.
pub(crate) const PLENTY: u32 = 1000;
/// Both families.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Starts a farm, as soon as the machine has room for it.
pub(crate) fn start(plan: &FarmPlan<'_>) -> (Place, Farm) {
    let place = gate::enter().unwrap();
    let farm = Farm::start(plan).unwrap_or_else(|e| panic!("the farm does not start: {e}"));
    (place, farm)
}

/// Clients with open sessions: of each implementation one over IPv4 and one over IPv6.
pub(crate) fn join(farm: &mut Farm, implementations: &[Implementation]) {
    for &implementation in implementations {
        for family in FAMILIES {
            farm.join(0, implementation, family).unwrap();
        }
    }
    holds(&sessions_open(farm).unwrap());
}

/// Fails with everything that is not as claimed.
#[track_caller]
pub(crate) fn holds(claim: &impl Claim) {
    println!("{}", claim.summary());
    let failures = claim.failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
