//! When a backend is up, and when it is down.

use crate::model::Status;

/// Counts good and failed probes in a row.
///
/// At first nothing is known, which counts as up: the first good probe says up, and
/// `fall` failed ones say down. Later it takes `rise` good ones to come up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    status: Status,
    /// Probes in a row that speak against the present status.
    against: u32,
}

impl Streak {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self::known(Status::Unknown)
    }

    /// Something is known from elsewhere.
    pub const fn known(status: Status) -> Self {
        Self { status, against: 0 }
    }

    /// What is known.
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Whether the last probe failed, as far as anything is known.
    pub const fn fails(&self) -> bool {
        match self.status {
            Status::Down => self.against == 0,
            Status::Unknown | Status::Up => self.against > 0,
        }
    }

    /// Whether it may be down soon: the last probe failed, and it is not down.
    pub const fn is_falling(&self) -> bool {
        self.fails() && !matches!(self.status, Status::Down)
    }

    /// Takes in a probe's result. Returns the new status if it changed.
    pub fn observe(&mut self, good: bool, rise: u32, fall: u32) -> Option<Status> {
        let (next, needed) = match (self.status, good) {
            (Status::Unknown, true) => (Status::Up, 1),
            (Status::Down, true) => (Status::Up, rise),
            (Status::Unknown | Status::Up, false) => (Status::Down, fall),
            (Status::Up, true) | (Status::Down, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        *self = Self { status: next, against: 0 };
        Some(next)
    }
}

impl Default for Streak {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(probes: &str, rise: u32, fall: u32) -> Vec<(usize, Status)> {
        let mut streak = Streak::new();
        let changes = probes.chars().enumerate();
        changes.filter_map(|(at, c)| Some((at, streak.observe(c == '+', rise, fall)?))).collect()
    }

    #[test]
    fn rises_and_falls_as_configured() {
        use Status::{Down, Up};
        assert_eq!(run("+", 2, 3), [(0, Up)], "the first answer decides");
        assert_eq!(run("---", 2, 3), [(2, Down)]);
        assert_eq!(run("+--+--+---", 2, 3), [(0, Up), (9, Down)], "a good one breaks the row");
        assert_eq!(run("---+-++", 2, 3), [(2, Down), (6, Up)]);
        assert_eq!(run("-+", 1, 1), [(0, Down), (1, Up)]);
    }

    proptest! {
        #[test]
        fn a_change_follows_a_row_of_the_right_length(
            probes in proptest::collection::vec(any::<bool>(), 0..60), rise in 1u32..5, fall in 1u32..5,
        ) {
            let mut streak = Streak::new();
            for (at, good) in probes.iter().enumerate() {
                let before = streak.status();
                if let Some(now) = streak.observe(*good, rise, fall) {
                    prop_assert_ne!(before, now);
                    let needed = match (before, now) {
                        (Status::Unknown, Status::Up) => 1,
                        (_, Status::Up) => rise,
                        _ => fall,
                    } as usize;
                    prop_assert!(at + 1 >= needed);
                    prop_assert!(probes[at + 1 - needed..=at].iter().all(|probe| probe == good));
                }
            }
        }
    }
}
