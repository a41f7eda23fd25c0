//! What must hold, and what is reported.

use std::time::SystemTime;

use anyhow::bail;
use dataplane::reason::{Kind, Reason};

use super::config;
use super::day::{Moments, WRONG};
use super::ground::Ground;
use super::timeline::Timeline;
use super::watch::{Figure, Watch, detections};
use super::world::World;
use crate::measure::Spread;
use crate::report::{Measured, Report};

/// What was found out.
pub(super) struct Verdict<'a> {
    pub(super) world: &'a World,
    pub(super) watch: &'a Watch,
    pub(super) ground: &'a Ground,
    pub(super) timeline: Timeline,
    pub(super) moments: Moments,
}

impl Verdict<'_> {
    /// Fails if anything that must hold does not; says all that does not.
    pub(super) fn hold(&self) -> anyhow::Result<()> {
        let (m, seen) = (&self.moments, &self.world.seen);
        let employees = u64::from(self.timeline.employees);
        let punctual = employees - u64::from(self.timeline.late);
        let bereaved: u64 = m.dead.iter().map(|(_, v4, v6)| v4 + v6).sum();
        let mut wrong = Vec::new();
        let mut expect = |what: &str, is: u64, should: u64| {
            if is != should {
                wrong.push(format!("{what}: {is}, and not {should}"));
            }
        };
        expect("sessions open in the morning", m.open_in_the_morning, punctual);
        expect("sessions open when all had come", m.open_at_noon, employees);
        expect("employees who arrived", seen.arrivals.len() as u64, employees);
        expect("employees who rekeyed", seen.rekeys.len() as u64, punctual);
        expect("employees who roamed", seen.roamed, self.timeline.roaming().into());
        let moved = self.watch.count(Reason::SessionMoved)?;
        expect("sessions moved", moved, self.timeline.roaming().into());
        expect("employees re-homed", seen.rehomed.len() as u64, bereaved);
        let opened = self.watch.count(Reason::SessionOpened)?;
        expect("sessions opened", opened, employees + bereaved);
        expect("packets lost by sessions on live concentrators", self.world.lost().0, 0);
        expect("employees who met silence from a live concentrator", seen.silences, 0);
        expect("packets that came twice or to the wrong one", seen.strays.len() as u64, 0);
        expect("handshakes that came to another authority's concentrator", seen.misplaced, 0);
        let air = &self.world.air;
        expect("damaged packets", air.clients.damaged + air.concentrators.damaged, 0);
        expect("sessions of the drained concentrator", m.drained.1, m.drained.0);
        expect("new sessions on the drained concentrator", m.drained.2, 0);
        expect("slots in use at night", self.watch.used(), 0);
        expect("sessions open at night", self.watch.open(), 0);
        for count in self.watch.tables.counts()? {
            let reason = count.reason;
            let refused = reason.kind() == Kind::Dropped && reason != Reason::BackendDown;
            if refused || WRONG.contains(&reason) {
                expect(&format!("packets counted as {}", reason.as_str()), count.packets, 0);
            }
        }
        let dropped = air.clients.dropped()? + air.concentrators.dropped()?;
        expect("frames that the harness had no room for", dropped, 0);
        expect("frames that interfaces dropped", self.ground.dropped()?, m.dropped);
        if let Some(stray) = seen.strays.first() {
            wrong.push(format!("the first that came twice or to the wrong one was {stray:?}"));
        }
        if !wrong.is_empty() {
            bail!("the day went wrong: {}", wrong.join("; "));
        }
        Ok(())
    }

    /// Milliseconds from the deaths to their detection, and from there until the sessions were ended;
    /// for each concentrator and family.
    fn detected(&self) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let Some(death) = self.moments.death else { return Ok(Default::default()) };
        let log = self.watch.daemon.log()?;
        let between = |from: SystemTime, to: SystemTime| {
            to.duration_since(from).map_or(0.0, |span| span.as_secs_f64() * 1e3)
        };
        let (mut found, mut ended) = (Vec::new(), Vec::new());
        for (number, v4, v6) in &self.moments.dead {
            let pool = self.world.region.pool_of(*number);
            let seen = &self.watch.endings[pool];
            let mut target = 0;
            for (name, is_v6, at) in detections(&log) {
                if name != config::name(*number) {
                    continue;
                }
                found.push(between(death, at));
                target += if is_v6 { v6 } else { v4 };
                let done = seen.iter().find(|(_, ended)| *ended >= target);
                if let Some((done, _)) = done.filter(|_| target > 0) {
                    ended.push(between(at, *done));
                }
            }
        }
        Ok((found, ended))
    }

    /// Adds the rows and the series.
    pub(super) fn report(&self, report: &mut Report) -> anyhow::Result<()> {
        let (m, seen) = (&self.moments, &self.world.seen);
        let mut row = |case: &str, unit: &'static str, figures: &[f64]| {
            report.add(Measured {
                suite: "surge",
                case: case.to_owned(),
                family: None,
                flows: self.timeline.employees.into(),
                unit,
                spread: Spread::of(figures.iter().copied()),
                against: None,
                ratio: None,
            });
        };
        let bereaved: u64 = m.dead.iter().map(|(_, v4, v6)| v4 + v6).sum();
        let refused = self.watch.tables.counts()?.into_iter();
        let refused =
            refused.filter(|c| c.reason.kind() == Kind::Dropped && c.reason != Reason::BackendDown);
        let refused: u64 = refused.map(|c| c.packets).sum();
        let (lost, with_the_dead) = self.world.lost();
        let (found, ended) = self.detected()?;
        let most = |figure| self.watch.values(figure).fold(0.0, f64::max);
        row("open at once", "sessions", &[most(Figure::Open)]);
        row("opened", "sessions", &[self.watch.count(Reason::SessionOpened)? as f64]);
        row("came online within", "s", &[m.online_took.as_secs_f64()]);
        row("first handshake until the first answer", "ms", &seen.arrivals);
        row("rekey until the first answer", "ms", &seen.rekeys);
        row("refused wrongly", "packets", &[refused as f64]);
        row("moved by roaming", "sessions", &[self.watch.count(Reason::SessionMoved)? as f64]);
        let collisions = self.watch.count(Reason::IdCollision)? as f64;
        row("ids that led to several sessions", "packets", &[collisions]);
        row("data of all sessions", "packets", &[self.world.sent() as f64]);
        row("lost, sessions on live concentrators", "packets", &[lost as f64]);
        row("lost, sessions on dead concentrators", "packets", &[with_the_dead as f64]);
        row("sessions of the concentrators that died", "sessions", &[bereaved as f64]);
        row("death until the daemon knows", "ms", &found);
        row("from there until its sessions were ended", "ms", &ended);
        row("death until re-homed", "s", &seen.rehomed);
        row("kept by the drained concentrator", "sessions", &[m.drained.1 as f64]);
        row("new on the drained concentrator", "sessions", &[m.drained.2 as f64]);
        row("last packet until the table was empty", "s", &[m.emptied.as_secs_f64()]);
        let values = |figure| -> Vec<f64> { self.watch.values(figure).collect() };
        row("through the gateway", "packets/s", &values(Figure::Frames));
        row("daemon: processor", "% of a core", &values(Figure::Processor));
        row("daemon: memory beside the tables", "MB", &values(Figure::Memory));
        row("harness behind, at most", "ms", &[seen.behind.as_secs_f64() * 1e3]);
        for series in &self.watch.series {
            report.record(series.clone());
        }
        Ok(())
    }
}
