//! What the tests share.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::gate::{self, Place};
use lab::layout::plan::Family;
use lab::peer::Implementation;
use lab::scenario::{Claim, Farm, FarmPlan, sessions_open};
use lab::traffic::Tally;

/// How long anything may take that needs a few packets only.
const SOON: Duration = Duration::from_secs(30);
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

/// Kills the daemon with SIGKILL under the traffic of `member`, lets `roamer` change its address meanwhile, and starts it again: no packet is
/// lost, and all sessions are what they were. (`lab::scenario::restart` claims it at a thousand packets a second, for which an emulated card's
/// queues are too short.)
pub(crate) fn outlast_a_kill(farm: &mut Farm, member: usize, roamer: usize) {
    let roamed = farm.session(roamer).unwrap();
    // A session that has moved is listed twice for a while.
    let ids = |farm: &Farm| -> BTreeSet<String> {
        farm.gateway().sessions().unwrap().into_iter().map(|session| session.id).collect()
    };
    let before = ids(farm);
    let traffic = farm.traffic(member, 100).unwrap();
    traffic.wait_for(100, SOON).unwrap();
    farm.gateway_mut().kill();
    farm.member(roamer).roam().unwrap();
    farm.reach(roamer).unwrap();
    traffic.wait_for(200, SOON).unwrap();
    farm.gateway_mut().run().unwrap();
    traffic.wait_for(100, SOON).unwrap();
    let tally = traffic.stop();
    println!("the daemon was killed: {} of {} packets lost", tally.lost, tally.sent);
    unscathed(farm, &[tally]);
    let moved = farm.session(roamer).unwrap();
    assert_eq!((&moved.id, moved.moves), (&roamed.id, roamed.moves + 1), "{moved:?}");
    assert_eq!(ids(farm), before);
}

/// Nothing of this traffic was lost, and one concentrator has answered each flow. Who has lost it is told, if the lab knows.
#[track_caller]
pub(crate) fn unscathed(farm: &Farm, tallies: &[Tally]) {
    if tallies.iter().all(|tally| (tally.lost, tally.answered_by.len()) == (0, 1)) {
        return;
    }
    let losses = farm.lab().losses().unwrap().join("\n");
    let backlog = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let counters = farm.gateway().show(&["counters"]).unwrap();
    panic!("{tallies:#?}\nlost by the lab:\n{losses}\nbacklog:\n{backlog}{counters}");
}

/// Fails with everything that is not as claimed.
#[track_caller]
pub(crate) fn holds(claim: &impl Claim) {
    println!("{}", claim.summary());
    let failures = claim.failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
