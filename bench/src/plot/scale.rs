//! Scales of axes: linear or logarithmic, from the first mark to the last.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// A scale, with its marks and how they are written.
#[derive(Clone, Copy)]
pub(super) struct Scale<'a> {
    pub(super) ticks: &'a [f64],
    pub(super) log: bool,
    pub(super) format: fn(f64) -> String,
}

impl Scale<'_> {
    fn place(self, value: f64) -> f64 {
        if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    pub(super) fn begin(self) -> f64 {
        self.ticks.first().copied().unwrap_or(0.0)
    }

    pub(super) fn end(self) -> f64 {
        self.ticks.last().copied().unwrap_or(1.0)
    }
}

impl Ranged for Scale<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (begin, end) = (self.place(self.begin()), self.place(self.end()));
        let share = (self.place(*value) - begin) / (end - begin).max(f64::MIN_POSITIVE);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.to_vec()
    }

    fn range(&self) -> Range<f64> {
        self.begin()..self.end()
    }
}

impl ValueFormatter<f64> for Scale<'_> {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        (self.format)(*value)
    }
}
