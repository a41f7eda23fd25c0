//! Series of points: what a plot is drawn from where one figure does not tell it.

use serde::Serialize;

/// Points of one case, in the order of `x`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Series {
    pub(crate) suite: &'static str,
    pub(crate) case: String,
    /// Of `y`.
    pub(crate) unit: &'static str,
    /// `x` is seconds, or in the suite `open` sessions.
    pub(crate) points: Vec<(f64, f64)>,
}
