//! A deadline.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Clock;

/// The time from one start of the host to the next, by the kernel's name for it (random(4)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(u128);

/// Something that happens after so long: also when somebody sets the wall's clock, and by that clock after the host was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub struct Moment {
    boot: Boot,
    /// CLOCK_MONOTONIC then, in milliseconds.
    monotonic_ms: u64,
    /// The wall's clock then, by what it said when this was asked for, in seconds since the epoch.
    wall: u64,
    /// After how many seconds, when it was asked for.
    after: u64,
}

/// As it may be on disk.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    /// Earlier versions knew the wall's clock alone.
    Wall(u64),
    Whole {
        boot: Boot,
        monotonic_ms: u64,
        wall: u64,
        after: u64,
    },
}

impl Boot {
    /// No start of the host that anybody knows of.
    const UNKNOWN: Self = Self(0);

    /// The time that goes on now.
    pub fn now() -> Self {
        static NOW: LazyLock<Boot> = LazyLock::new(|| {
            let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            Boot::parse(&name.trim().replace('-', "")).unwrap_or(Boot::UNKNOWN)
        });
        *NOW
    }

    fn parse(name: &str) -> Option<Self> {
        u128::from_str_radix(name, 16).ok().map(Self)
    }
}

impl Serialize for Boot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Boot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom("it is no name of a boot"))
    }
}

impl From<Kept> for Moment {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Wall(wall) => Self::by_wall(wall),
            Kept::Whole { boot, monotonic_ms, wall, after } => {
                Self { boot, monotonic_ms, wall, after }
            }
        }
    }
}

impl Moment {
    /// The moment so long after now.
    pub fn after(now: &Clock, after: Duration) -> Self {
        let milliseconds = now.uptime().saturating_add(after).as_millis();
        Self {
            boot: Boot::now(),
            monotonic_ms: u64::try_from(milliseconds).unwrap_or(u64::MAX),
            wall: now.epoch().saturating_add(after).as_secs(),
            after: after.as_secs(),
        }
    }

    /// A moment of which the wall's clock alone is known, in seconds since the epoch.
    pub fn by_wall(wall: u64) -> Self {
        Self { boot: Boot::UNKNOWN, monotonic_ms: 0, wall, after: u64::MAX }
    }

    /// How long ago it was; `None` if it is to come.
    pub fn passed(&self, now: &Clock) -> Option<Duration> {
        if self.is_of_now() {
            return now.uptime().checked_sub(Duration::from_millis(self.monotonic_ms));
        }
        let by_wall = now.epoch().checked_sub(Duration::from_secs(self.wall));
        // A host that lost its clock has been up for so long, and was started after this was asked for.
        let by_uptime = now.uptime().checked_sub(Duration::from_secs(self.after));
        by_wall.max(by_uptime.filter(|_| self.is_of_before()))
    }

    /// When it is by the wall's clock as that is now, in seconds since the epoch.
    pub fn wall(&self, now: &Clock) -> u64 {
        let at = |uptime: Duration| now.epoch().saturating_add(uptime).saturating_sub(now.uptime());
        let told = if self.is_of_now() {
            at(Duration::from_millis(self.monotonic_ms))
        } else if self.is_of_before() {
            at(Duration::from_secs(self.after)).min(Duration::from_secs(self.wall))
        } else {
            Duration::from_secs(self.wall)
        };
        let told = told.as_secs();
        // The clocks are read one after the other: the same moment is told with the same words.
        if told.abs_diff(self.wall) <= 1 { self.wall } else { told }
    }

    fn is_of_now(&self) -> bool {
        self.boot == Boot::now() && self.boot != Boot::UNKNOWN
    }

    /// It is known to be of another time that the host was up.
    fn is_of_before(&self) -> bool {
        self.boot != Boot::now() && self.boot != Boot::UNKNOWN && Boot::now() != Boot::UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOON: u64 = 1_800_000_000;

    /// So many seconds after the host was started, with the wall's clock at so many after noon.
    fn at(uptime: u64, wall: i64) -> Clock {
        let wall = UNIX_EPOCH + Duration::from_secs(NOON.saturating_add_signed(wall));
        Clock { monotonic: uptime * 1_000_000_000, wall }
    }

    fn of_another_boot(moment: Moment) -> Moment {
        Moment { boot: Boot(Boot::now().0 ^ 1), ..moment }
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn an_hour_takes_an_hour_whatever_the_walls_clock_is_set_to() {
        assert_ne!(Boot::now(), Boot::UNKNOWN);
        let moment = Moment::after(&at(100, 0), HOUR);
        for (uptime, wall, passed, told) in [
            (100, 0, None, 3600),
            (3699, 3599, None, 3600),
            (3700, 3600, seconds(0), 3600),
            (3710, 3610, seconds(10), 3600),
            // A day ahead, and a day back.
            (200, 86_400, None, 86_400 + 3500),
            (200, -86_400, None, -86_400 + 3500),
            (3700, -86_400, seconds(0), -86_400),
            // Not quite with the other.
            (3600, 3501, None, 3600),
        ] {
            let now = at(uptime, wall);
            assert_eq!(moment.passed(&now), passed, "{uptime} {wall}");
            assert_eq!(moment.wall(&now), NOON.saturating_add_signed(told), "{uptime} {wall}");
        }
    }

    #[test]
    fn after_another_start_of_the_host_its_clock_counts_or_how_long_it_is_up() {
        let moment = of_another_boot(Moment::after(&at(100, 0), HOUR));
        for (uptime, wall, passed, told) in [
            (10, 3599, None, 3600),
            (10, 3600, seconds(0), 3600),
            (10, 3700, seconds(100), 3600),
            // It has lost its clock.
            (10, -1_000_000, None, -1_000_000 + 3590),
            (3600, -1_000_000, seconds(0), -1_000_000),
            (3700, 3610, seconds(100), 3510),
        ] {
            let now = at(uptime, wall);
            assert_eq!(moment.passed(&now), passed, "{uptime} {wall}");
            assert_eq!(moment.wall(&now), NOON.saturating_add_signed(told), "{uptime} {wall}");
        }
    }

    #[test]
    fn it_is_kept_as_it_is_and_understood_as_earlier_versions_kept_it() {
        let moment = Moment::after(&at(100, 0), HOUR);
        for moment in [moment, of_another_boot(moment), Moment::by_wall(u64::MAX)] {
            let text = serde_json::to_string(&moment).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment, "{text}");
        }
        // Whose time it is of is not known.
        let unknown = Moment { boot: Boot::UNKNOWN, ..moment };
        assert_eq!(
            (unknown.passed(&at(9_000, 10)), unknown.wall(&at(9_000, 10))),
            (None, NOON + 3600)
        );
        let old: Moment = serde_json::from_str(&(NOON + 5).to_string()).unwrap();
        assert_eq!(old, Moment::by_wall(NOON + 5));
        assert_eq!((old.passed(&at(9, 4)), old.passed(&at(9, 6))), (None, seconds(1)));
        assert_eq!(old.wall(&at(9, 4)), NOON + 5);
        for bad in ["-1", "\"noon\"", "{}", "{\"boot\": 7}"] {
            assert!(serde_json::from_str::<Moment>(bad).is_err(), "{bad}");
        }
        // What is on disk may be anything.
        let far = Moment { monotonic_ms: u64::MAX, ..moment };
        for far in [far, of_another_boot(far), Moment::by_wall(u64::MAX)] {
            assert_eq!(far.passed(&at(1, 0)), None);
            assert!(far.wall(&at(1, 0)) > NOON);
        }
    }
}
