//! The daemon is killed in the middle of traffic, and comes back.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Check, Claim, Farm, SOON, ms};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::traffic::Tally;

/// Requests a second; a little more than is claimed, so that a busy sender does not miss it.
const RATE: u32 = 1_100;
/// The rate that is claimed.
const CLAIMED: u64 = 1_000;
/// The daemon is dead for so long at least.
const ABSENCE: Duration = Duration::from_secs(2);

/// What [`restart`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// How long the traffic ran.
    pub took_ms: u64,
    /// How long the daemon was gone, until it answered again.
    pub absent_ms: u64,
    /// The traffic.
    pub traffic: Tally,
    /// Sessions just before the kill.
    pub before: Vec<SessionView>,
    /// Sessions after the return.
    pub after: Vec<SessionView>,
    /// The client that roamed while the daemon was dead: its session's id.
    pub roamed: Option<String>,
    /// If packets were lost: what the gateway has counted meanwhile, and what the lab has lost.
    pub losses: Vec<String>,
}

/// Kills the daemon with SIGKILL under the traffic of `member` for `time`, and
/// starts it again; `roamer` changes its address and port while the daemon is dead.
pub fn restart(
    farm: &mut Farm,
    member: usize,
    roamer: Option<usize>,
    time: Duration,
) -> Result<Restart> {
    farm.reach(member)?;
    let roamed = roamer.map(|m| farm.session(m)).transpose()?.map(|s| s.id);
    let counted = farm.gateway().counters()?;
    let started = Instant::now();
    let traffic = farm.traffic(member, RATE)?;
    traffic.run_for(time / 4)?;
    let before = farm.gateway().sessions()?;
    farm.gateway_mut().kill();
    let killed = Instant::now();
    traffic.run_for(ABSENCE)?;
    if let Some(roamer) = roamer {
        // Who has just been answered and has sent sends no keepalive between its new address and its new port, which would be two moves.
        farm.reach(roamer)?;
        farm.member(roamer).roam()?;
        farm.reach(roamer)?;
    }
    farm.gateway_mut().run()?;
    let absent_ms = ms(killed.elapsed());
    traffic.run_for(time.saturating_sub(started.elapsed()).max(Duration::from_secs(1)))?;
    let took_ms = ms(started.elapsed());
    traffic.wait_for(1, SOON)?;
    let traffic = traffic.stop();
    let mut losses = Vec::new();
    if traffic.lost > 0 {
        let counters = farm.gateway().counters()?.since(&counted);
        losses.extend(counters.iter().map(|(reason, count)| format!("gateway: {reason} {count}")));
        losses.extend(farm.lab().losses()?);
    }
    let after = farm.gateway().sessions()?;
    Ok(Restart { took_ms, absent_ms, traffic, before, after, roamed, losses })
}

impl Restart {
    /// The session as it was before and is after.
    fn pairs(&self) -> impl Iterator<Item = (&SessionView, Option<&SessionView>)> {
        self.before.iter().map(|old| (old, self.after.iter().find(|new| new.id == old.id)))
    }

    fn rate(&self) -> u64 {
        self.traffic.sent * 1000 / self.took_ms.max(1)
    }
}

impl Claim for Restart {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default()
            .that(self.traffic.lost == 0, || {
                let (lost, sent) = (self.traffic.lost, self.traffic.sent);
                format!("{lost} of {sent} packets lost:\n{}", self.losses.join("\n"))
            })
            .that(self.rate() >= CLAIMED, || {
                format!("only {} packets a second were sent, too few to show anything", self.rate())
            })
            .that(self.before.len() == self.after.len(), || {
                format!("{} sessions became {}", self.before.len(), self.after.len())
            });
        for (old, new) in self.pairs() {
            let moves = old.moves + u64::from(self.roamed.as_ref() == Some(&old.id));
            let kept = new.is_some_and(|new| {
                new.backend == old.backend
                    && new.moves == moves
                    && new.rx_packets >= old.rx_packets
                    && new.tx_packets >= old.tx_packets
                    && new.rx_bytes >= old.rx_bytes
                    && new.tx_bytes >= old.tx_bytes
            });
            check = check.that(kept, || format!("{old:?} became {new:?}"));
        }
        check.failures()
    }

    fn summary(&self) -> String {
        format!(
            "killed with -9 and away for {:.1} s under {} packets/s: {} of {} lost, \
             {} sessions with counters and moves kept",
            self.absent_ms as f64 / 1000.0,
            self.rate(),
            self.traffic.lost,
            self.traffic.sent,
            self.after.len(),
        )
    }
}
