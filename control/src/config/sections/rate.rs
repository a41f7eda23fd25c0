//! Rates: so many a second, and so many at once.

use toml::de::DeValue;

use crate::config::Rate;
use crate::config::finding::Findings;
use crate::config::reader::Section;
use crate::config::value::{Complaint, FromValue};

/// The tables' clock may go in steps of 10 ms (a kernel with 100 ticks a second): what comes between two is all at once to it.
const STEPS: u64 = 100;
/// Longest time a burst may be ahead, in seconds: what a meter can tell from one that was long not used.
const LONGEST_BURST: u64 = 100;

/// What a rate is of.
pub(super) struct Kind {
    /// Its units.
    unit: &'static str,
    /// An example.
    example: &'static str,
    /// The range of rates.
    least: u64,
    most: u64,
    /// A burst that is not configured: so many of it are the rate.
    default_burst: u64,
    /// A burst below this refuses single ones.
    least_burst: u64,
}

/// Handshakes and sessions.
pub(super) const EVENTS: Kind = Kind {
    unit: "",
    example: "{ rate = 100, burst = 500 }",
    least: 1,
    most: 1_000_000,
    default_burst: 1,
    least_burst: 1,
};

/// Packets.
pub(super) const PACKETS: Kind = Kind {
    unit: " packets",
    example: "{ rate = \"200k\", burst = \"40k\" }",
    least: 100,
    most: 1_000_000_000,
    default_burst: 10,
    least_burst: 10,
};

/// Bits of IP packets.
pub(super) const BITS: Kind = Kind {
    unit: " bits",
    example: "{ rate = \"2G\", burst = \"400M\" }",
    least: 100_000,
    most: 1_000_000_000_000,
    default_burst: 10,
    // Two large packets: what belongs to no session may use half.
    least_burst: 2 * 8 * 1_500,
};

/// A number, perhaps with a unit's prefix.
struct Amount(u64);

impl FromValue for Amount {
    const EXPECTED: &'static str = "a whole number, or one with its prefix in quotes (\"200M\")";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Complaint> {
        let DeValue::String(text) = value else {
            return u64::from_value(value).map(Self);
        };
        let complaint = || Complaint {
            message: Some(format!("`{text}` is not an amount")),
            help: Some("write a whole number and k, M or G: \"200M\" is 200,000,000".to_owned()),
        };
        let scale = match text.chars().last() {
            Some('k') => 1_000,
            Some('M') => 1_000_000,
            Some('G') => 1_000_000_000,
            _ => return Err(complaint()),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| complaint())?;
        number.checked_mul(scale).map(Self).ok_or_else(complaint)
    }
}

/// Reads a rate that may be absent.
pub(super) fn rate(
    section: &mut Section<'_, '_>,
    key: &'static str,
    kind: &Kind,
    out: &mut Findings,
) -> Option<Rate> {
    let mut section = section.table(key, key, out)?;
    if !section.has("rate") {
        section.missing("rate", &format!("write {key} = {}", kind.example));
    }
    let rate = section.optional::<Amount>("rate", out);
    let burst = section.optional::<Amount>("burst", out);
    let has_burst = section.has("burst");
    section.finish(out);
    let rate = rate?;
    let per_second = rate.get_ref().0;
    if !(kind.least..=kind.most).contains(&per_second) {
        out.error(rate.span(), format!("`{key}` must not be {per_second}{} a second", kind.unit))
            .help(format!("it goes from {} to {}", kind.least, kind.most));
        return None;
    }
    let least = (per_second / STEPS).max(kind.least_burst);
    let most = per_second.saturating_mul(LONGEST_BURST).max(least);
    let Some(burst) = burst else {
        let burst = (per_second / kind.default_burst).clamp(least, most);
        return (!has_burst).then_some(Rate { rate: per_second, burst });
    };
    let at_once = burst.get_ref().0;
    if !(least..=most).contains(&at_once) {
        out.error(burst.span(), format!("a burst of {at_once}{} does not fit the rate", kind.unit))
            .help(format!(
                "with {per_second} a second it goes from {least} (what comes between two ticks of a slow clock) to {most} ({LONGEST_BURST} s)"
            ));
        return None;
    }
    Some(Rate { rate: per_second, burst: at_once })
}
