//! Rounds in which all variants take turns, and what is made of them.
//!
//! A machine's speed drifts by more than the differences that matter. So in each round every
//! variant has its turn, ratios are made within a round, and their median is what is reported.

use serde::Serialize;

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds; odd, so that the median is one of them.
    pub(crate) rounds: usize,
    /// About how long a variant's turn lasts, in nanoseconds of processor time.
    pub(crate) turn_ns: f64,
}

impl Effort {
    /// The usual, or less.
    pub(crate) const fn new(quick: bool) -> Self {
        if quick { Self { rounds: 5, turn_ns: 15e6 } } else { Self { rounds: 11, turn_ns: 100e6 } }
    }
}

/// The middle one of some figures, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(all.len() / 2), min: at(0), max: at(all.len().saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
    }
}
