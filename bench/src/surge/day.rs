//! The day: what happens one after the other, and what must hold after each.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use dataplane::reason::Reason;

use super::client::NEVER;
use super::config;
use super::ground::Ground;
use super::timeline::{Timeline, bell};
use super::watch::Watch;
use super::world::World;
use crate::report::Progress;

/// How long stragglers are waited for.
const STRAGGLERS: Duration = Duration::from_secs(15);
/// How long nothing is awaited but what is under way.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the harness rests when there is nothing to do.
const REST: Duration = Duration::from_micros(200);

/// What is only known at its moment.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// Frames that interfaces had dropped before anyone came.
    pub(super) dropped: u64,
    pub(super) open_in_the_morning: u64,
    pub(super) online_took: Duration,
    /// When concentrators died, and of each one: its number, its IPv4 sessions and its IPv6 sessions.
    pub(super) death: Option<SystemTime>,
    pub(super) dead: Vec<(usize, u64, u64)>,
    /// Sessions on the drained concentrator when it was drained, and at the end; those that were new there.
    pub(super) drained: (u64, u64, u64),
    pub(super) open_at_noon: u64,
    /// From the last packet until the table was empty.
    pub(super) emptied: Duration,
}

/// All that takes part.
pub(super) struct Day<'a> {
    pub(super) world: &'a mut World,
    pub(super) watch: &'a mut Watch,
    pub(super) ground: &'a Ground,
    pub(super) timeline: Timeline,
    pub(super) progress: Progress,
}

/// How many things happen.
pub(super) const STEPS: usize = 7;

impl Day<'_> {
    /// From morning to night.
    pub(super) fn pass(&mut self) -> anyhow::Result<Moments> {
        let mut moments = Moments { dropped: self.ground.dropped()?, ..Moments::default() };
        let late = self.timeline.late as usize;
        let (employees, punctual) = (self.world.employees.len(), self.world.employees.len() - late);
        self.progress.step(&format!("{punctual} employees come online"));
        let begin = self.world.now();
        self.plan(0..punctual, self.timeline.online, |client, at| client.arrival = at);
        self.until(self.timeline.online + STRAGGLERS, |day| day.up() == punctual)?;
        moments.online_took = self.world.now() - begin;
        moments.open_in_the_morning = self.watch.open();

        self.progress.step("they work");
        self.for_(self.timeline.work)?;
        self.progress.step("all of them rekey");
        self.plan(0..punctual, self.timeline.rekey, |client, at| client.rekey = at);
        self.until(self.timeline.rekey + STRAGGLERS, |day| {
            day.world.seen.rekeys.len() == punctual
        })?;

        let roaming = self.timeline.roaming() as usize;
        self.progress.step(&format!("{roaming} of them roam"));
        for n in 0..roaming {
            let now = self.world.now();
            self.world.employees[n].roam = now + bell(&mut self.world.rng, self.timeline.roam);
            self.world.note(n);
        }
        self.until(self.timeline.roam + STRAGGLERS, |day| day.world.seen.roamed == roaming as u64)?;

        self.die(&mut moments)?;
        self.drain(punctual..employees, &mut moments)?;

        self.progress.step("they leave");
        moments.open_at_noon = self.watch.open();
        let mut last = self.world.now();
        for n in 0..employees {
            let at = self.world.now() + bell(&mut self.world.rng, self.timeline.evening);
            self.world.employees[n].client.leaving = at;
            last = last.max(at);
        }
        self.until(self.timeline.evening, |day| day.world.now() > last)?;
        self.for_(SETTLE)?;
        self.until(self.timeline.idle_timeout + STRAGGLERS, |day| day.watch.used() == 0)?;
        moments.emptied = self.world.now().saturating_sub(last);
        Ok(moments)
    }

    /// One in ten concentrators dies; until all of its employees are somewhere else.
    fn die(&mut self, moments: &mut Moments) -> anyhow::Result<()> {
        let dying = self.world.region.dying();
        self.settle()?;
        self.watch.see_endings(&self.world.region);
        for number in &dying {
            self.world.concentrators[*number].is_dead = true;
            moments.dead.push((*number, 0, 0));
        }
        for employee in &mut self.world.employees {
            let home = employee.home;
            if let Some((_, v4, v6)) = moments.dead.iter_mut().find(|(n, ..)| Some(*n) == home) {
                employee.bereaved = true;
                *(if employee.is_ipv6() { v6 } else { v4 }) += 1;
            }
        }
        let bereaved: u64 = moments.dead.iter().map(|(_, v4, v6)| v4 + v6).sum();
        self.progress.step(&format!("{} concentrators die, with {bereaved} sessions", dying.len()));
        self.world.death = self.world.now();
        moments.death = Some(SystemTime::now());
        self.ground.kill(&dying)?;
        self.until(STRAGGLERS * 2, |day| day.world.seen.rehomed.len() as u64 == bereaved)
    }

    /// A concentrator is drained, and those who are late come.
    fn drain(&mut self, late: std::ops::Range<usize>, moments: &mut Moments) -> anyhow::Result<()> {
        let drained = self.world.region.drained();
        self.progress.step(&format!("one is drained, {} more employees come", late.len()));
        self.settle()?;
        moments.drained.0 = self.on(drained)?;
        let adopted = self.world.concentrators[drained].adopted;
        let request = format!("{{\"backend\":\"{}\"}}", config::name(drained));
        self.watch.daemon.post("/v1/backends/drain", &request)?;
        self.plan(late, self.timeline.late_shift, |client, at| client.arrival = at);
        let all = self.world.employees.len();
        self.until(self.timeline.late_shift + STRAGGLERS, |day| day.up() == all)?;
        moments.drained.1 = self.on(drained)?;
        moments.drained.2 = self.world.concentrators[drained].adopted - adopted;
        Ok(())
    }

    /// How many sessions the daemon lists on a concentrator.
    fn on(&self, concentrator: usize) -> anyhow::Result<u64> {
        let path = format!("/v1/sessions?backend={}", config::name(concentrator));
        Ok(self.watch.daemon.get(&path)?.matches("\"state\":\"open\"").count() as u64)
    }

    fn up(&self) -> usize {
        self.world.employees.iter().filter(|employee| employee.client.is_up()).count()
    }

    /// Each of these does something at some time within so long.
    fn plan(
        &mut self,
        those: std::ops::Range<usize>,
        within: Duration,
        what: impl Fn(&mut super::client::Client, Duration),
    ) {
        for n in those {
            let at = self.world.now() + bell(&mut self.world.rng, within);
            what(&mut self.world.employees[n].client, at);
            self.world.note(n);
        }
    }

    /// Goes on until nothing is under way.
    fn settle(&mut self) -> anyhow::Result<()> {
        while self.world.turn()? || !self.world.is_quiet() {}
        Ok(())
    }

    fn for_(&mut self, long: Duration) -> anyhow::Result<()> {
        self.until(long, |_| false)
    }

    /// Goes on until something is so, or so long. Whether it is so is asked now and then.
    fn until(&mut self, long: Duration, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        const ASK: Duration = Duration::from_millis(50);
        let end = self.world.now() + long;
        let mut ask = Duration::ZERO;
        loop {
            let busy = self.world.turn()?;
            if self.world.death != NEVER {
                self.watch.see_endings(&self.world.region);
            }
            if self.world.is_quiet() {
                self.watch.look(self.world)?;
            }
            let now = self.world.now();
            if now >= end {
                return Ok(());
            }
            if now >= ask {
                if is_so(self) {
                    return Ok(());
                }
                ask = now + ASK;
            }
            if !busy {
                sleep(REST);
            }
        }
    }
}

/// Waits until the daemon knows where to send everything.
pub(super) fn await_neighbours(watch: &Watch) -> anyhow::Result<()> {
    // What is on `lo` are its own addresses.
    let is_missing =
        |hop: &&str| hop.contains("\"resolved\":false") && !hop.contains("\"interface\":\"lo\"");
    for _ in 0..100 {
        if !watch.daemon.get("/v1/nexthops")?.split('{').any(|hop| is_missing(&hop)) {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    let hops = watch.daemon.get("/v1/nexthops")?;
    bail!("the gateway does not find {}", hops.split('{').filter(is_missing).collect::<String>())
}

/// Reasons that say that something was refused or went wrong, other than with dead concentrators.
pub(super) const WRONG: [Reason; 7] = [
    Reason::MoveRefused,
    Reason::InsertRace,
    Reason::IdUnlearned,
    Reason::StackTooBig,
    Reason::IcmpTooBig,
    Reason::TooBig,
    Reason::SessionDisplaced,
];
