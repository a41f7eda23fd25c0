//! How fast drained backends become empty.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::BackendId;
use crate::model::Drain;

/// How far back a rate is taken.
const WINDOW: Duration = Duration::from_secs(600);
/// How often a number is noted.
const STEP: Duration = Duration::from_secs(5);
/// The shortest time that a rate is told of.
const LEAST: Duration = Duration::from_secs(10);

/// What is known of all drains under way.
#[derive(Debug, Default)]
pub(super) struct Forecasts(BTreeMap<BackendId, VecDeque<(Instant, u64)>>);

/// What one drain makes expect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forecast {
    /// Sessions fewer a minute.
    pub(super) rate: f64,
    /// When none is left, if it goes on so; `None` if it does not become less.
    pub(super) empty_after: Option<Duration>,
}

impl Forecasts {
    /// Notes how many sessions drained backends have.
    pub(super) fn observe<'a>(
        &mut self,
        now: Instant,
        drained: impl Iterator<Item = &'a BackendId>,
        sessions: &BTreeMap<BackendId, u64>,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for id in drained {
            let mut samples = before.remove(id).unwrap_or_default();
            let count = sessions.get(id).copied().unwrap_or(0);
            if samples.back().is_none_or(|(then, _)| now.duration_since(*then) >= STEP) {
                samples.push_back((now, count));
            }
            while samples.front().is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
                samples.pop_front();
            }
            self.0.insert(id.clone(), samples);
        }
    }

    /// What is to be expected of each drain that has gone on for long enough.
    pub(super) fn all(&self) -> BTreeMap<BackendId, Forecast> {
        self.0.iter().filter_map(|(id, samples)| Some((id.clone(), forecast(samples)?))).collect()
    }
}

fn forecast(samples: &VecDeque<(Instant, u64)>) -> Option<Forecast> {
    let ((start, first), (end, last)) = (samples.front()?, samples.back()?);
    let time = end.duration_since(*start);
    if time < LEAST {
        return None;
    }
    let fewer = first.saturating_sub(*last) as f64;
    let rate = fewer / (time.as_secs_f64() / 60.0);
    let left = *last as f64;
    let empty_after = match *last {
        0 => Some(Duration::ZERO),
        _ if fewer == 0.0 => None,
        _ => Duration::try_from_secs_f64(left / rate * 60.0).ok(),
    };
    Some(Forecast { rate: (rate * 10.0).round() / 10.0, empty_after })
}

/// When a drained backend that has so many sessions will have none: as it goes on, and at the latest when the drain ends what is left.
/// In seconds since the epoch.
pub(super) fn empty_at(
    now: &Clock,
    sessions: u64,
    forecast: Option<Forecast>,
    drain: &Drain,
) -> Option<u64> {
    let epoch = now.epoch().as_secs();
    if sessions == 0 {
        return Some(epoch);
    }
    let by_rate = forecast.and_then(|forecast| forecast.empty_after);
    let by_rate = by_rate.map(|after| epoch.saturating_add(after.as_secs()));
    // What was to have ended by now is ended by the next scan.
    let end = drain.deadline.map(|at| at.wall(now).saturating_add(drain.spread).max(epoch));
    by_rate.into_iter().chain(end).min()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::Moment;

    #[test]
    fn a_drain_ends_with_its_deadline_at_the_latest() {
        let drain = |deadline: Option<u64>| Drain {
            deadline: deadline.map(Moment::by_wall),
            spread: 30,
            released: false,
        };
        let now = Clock { monotonic: 0, wall: UNIX_EPOCH + Duration::from_secs(1_000) };
        let after = |seconds: Option<u64>| {
            Some(Forecast { rate: 1.0, empty_after: seconds.map(Duration::from_secs) })
        };
        let (none, until) = (drain(None), drain(Some(5_000)));
        let empty = |sessions, forecast, drain: &Drain| empty_at(&now, sessions, forecast, drain);
        for (forecast, without, with) in [
            (None, None, Some(5_030)),
            (after(None), None, Some(5_030)),
            (after(Some(9_000)), Some(10_000), Some(5_030)),
            (after(Some(500)), Some(1_500), Some(1_500)),
        ] {
            assert_eq!(empty(7, forecast, &none), without, "{forecast:?}");
            assert_eq!(empty(7, forecast, &until), with, "{forecast:?}");
            assert_eq!(empty(0, forecast, &until), Some(1_000), "it is empty");
        }
        assert_eq!(empty(7, None, &drain(Some(990))), Some(1_020), "the last ones end");
        assert_eq!(empty(7, None, &drain(Some(500))), Some(1_000), "with the next scan");
        // What is kept on disk may be anything.
        assert_eq!(empty(7, after(Some(u64::MAX)), &drain(Some(u64::MAX))), Some(u64::MAX));
    }

    #[test]
    fn a_drain_is_forecast_by_its_last_minutes() {
        let (start, id) = (Instant::now(), BackendId::new("p", "a"));
        let other = BackendId::new("p", "b");
        let mut forecasts = Forecasts::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut observe = |seconds: u64, count: u64| {
            let sessions = [(id.clone(), count), (other.clone(), 9)].into();
            forecasts.observe(at(seconds), [&id].into_iter(), &sessions);
            forecasts.all()
        };
        assert!(observe(0, 1000).is_empty());
        assert!(observe(9, 999).is_empty(), "too early to tell");
        for seconds in 10..1200 {
            observe(seconds, 1000);
        }
        // Two a second for ten minutes: what was before no longer counts.
        for seconds in 1200..=1800 {
            let all = observe(seconds, 1300 - 2 * (seconds - 1200) / 3);
            assert_eq!(all.keys().collect::<Vec<_>>(), [&id]);
        }
        let all = observe(1805, 900);
        let forecast = all[&id];
        assert!((39.0..=41.0).contains(&forecast.rate), "{forecast:?}");
        let minutes = forecast.empty_after.unwrap().as_secs() / 60;
        assert!((21..=23).contains(&minutes), "{forecast:?}");
        for seconds in 1806..2500 {
            observe(seconds, 900);
        }
        assert_eq!(observe(2500, 900)[&id], Forecast { rate: 0.0, empty_after: None });
        assert_eq!(observe(2505, 0)[&id].empty_after, Some(Duration::ZERO));
        forecasts.observe(at(2600), std::iter::empty(), &BTreeMap::new());
        assert!(forecasts.all().is_empty(), "no longer drained");
    }
}
