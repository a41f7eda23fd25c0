//! A sheet that plots are drawn on: its background, heading and footnote, its fonts and colours.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::machine::Machine;

/// Part of a sheet.
pub(super) type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;

/// Width of all sheets.
pub(super) const WIDTH: u32 = 960;
/// Above this is the heading.
pub(super) const TOP: u32 = 74;
/// Below this, counted from the sheet's end, is the footnote.
const BOTTOM: u32 = 44;
/// From the sheet's left edge to where text begins.
pub(super) const MARGIN: i32 = 24;

pub(super) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub(super) const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
pub(super) const GRID: RGBColor = RGBColor(0xe1, 0xe4, 0xe8);
/// Fernpass, and a lighter one for its second line.
pub(super) const FERN: RGBColor = RGBColor(0x1a, 0x7f, 0x4b);
pub(super) const FERN_LIGHT: RGBColor = RGBColor(0x74, 0xbd, 0x92);
/// The same with something else in it.
pub(super) const AMBER: RGBColor = RGBColor(0xb3, 0x5c, 0x00);
pub(super) const AMBER_LIGHT: RGBColor = RGBColor(0xe3, 0xa8, 0x63);
pub(super) const VIOLET: RGBColor = RGBColor(0x6f, 0x54, 0xb8);
pub(super) const BLUE: RGBColor = RGBColor(0x2f, 0x74, 0xb8);
pub(super) const GREY: RGBColor = RGBColor(0x8b, 0x94, 0x9e);
pub(super) const GREY_LIGHT: RGBColor = RGBColor(0xc4, 0xca, 0xd1);

/// Sizes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Title,
    Strong,
    Text,
    Small,
}

/// A font and colour.
pub(super) fn style(
    size: Size,
    colour: RGBColor,
    (across, down): (HPos, VPos),
) -> TextStyle<'static> {
    let (pixels, weight) = match size {
        Size::Title => (20.0, FontStyle::Bold),
        Size::Strong => (13.0, FontStyle::Bold),
        Size::Text => (13.0, FontStyle::Normal),
        Size::Small => (12.0, FontStyle::Normal),
    };
    // The backend writes sizes divided by this.
    let font = FontDesc::new("Helvetica, Arial, sans-serif".into(), pixels * 1.24, weight);
    font.color(&colour).pos(Pos::new(across, down))
}

/// About how wide a text is, in pixels: for what must not overlap it.
pub(super) fn width(text: &str, size: Size) -> i32 {
    let tenths = match size {
        Size::Title => 110,
        Size::Strong => 80,
        Size::Text => 70,
        Size::Small => 60,
    };
    text.chars().count() as i32 * tenths / 10
}

/// Writes text at a pixel of an area.
pub(super) fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    style: &TextStyle<'_>,
) -> anyhow::Result<()> {
    area.draw(&Text::new(text.to_owned(), at, style.clone()))?;
    Ok(())
}

/// What stands above and below the plots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading<'a> {
    pub(super) title: &'a str,
    /// What is drawn, and what is better.
    pub(super) better: &'a str,
    /// A footnote, beside the machine.
    pub(super) note: &'a str,
}

/// Draws a sheet of this height into a file; what is between heading and footnote, by a function.
pub(super) fn draw(
    path: &Path,
    height: u32,
    heading: Heading<'_>,
    machine: &Machine,
    plots: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut svg = String::new();
    {
        let sheet = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        // What reads it may have a dark page.
        sheet.fill(&WHITE)?;
        let left = (HPos::Left, VPos::Top);
        write(&sheet, heading.title, (MARGIN, 18), &style(Size::Title, INK, left))?;
        write(&sheet, heading.better, (MARGIN, 46), &style(Size::Text, FAINT, left))?;
        let below = height as i32 - BOTTOM as i32 + 8;
        let small = style(Size::Small, FAINT, left);
        write(&sheet, heading.note, (MARGIN, below), &small)?;
        write(&sheet, &machine.line(), (MARGIN, below + 16), &small)?;
        plots(&sheet.margin(TOP, BOTTOM, 0, 0))?;
        sheet.present()?;
    }
    svg.push('\n');
    fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

/// A number with separators between thousands; with a decimal where it is small.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 9.95 && value.fract().abs() > 1e-9 {
        let decimals = if value.abs() < 0.0995 { 3 } else { usize::from(value.abs() < 0.995) + 1 };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A large number in short: 1.2 M.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{} M", number(v / 1e6)),
        v if v >= 9_950.0 => format!("{} k", number(v / 1e3)),
        v => number(v),
    }
}

/// Round values from 0 to where everything up to `most` has room: about `count` of them.
pub(super) fn ticks(most: f64, count: f64) -> Vec<f64> {
    let raw = (most / count).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= raw);
    let step = step.unwrap_or(raw);
    let last = (most / step).ceil().max(1.0) as u32;
    (0..=last).map(|n| f64::from(n) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!(
            [0.0, 7.0, 999.4, 60_000.0, 1e6].map(number),
            ["0", "7", "999", "60,000", "1,000,000"]
        );
        assert_eq!([0.25, 4.14, 9.96].map(number), ["0.25", "4.1", "10"]);
        assert_eq!([1_234_567.0, 60_000.0, 750.0].map(short), ["1.2 M", "60 k", "750"]);
    }

    #[test]
    fn ticks_are_round_and_reach_beyond() {
        assert_eq!(ticks(513.0, 6.0), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0]);
        assert_eq!(ticks(0.9, 3.0), [0.0, 0.5, 1.0]);
    }
}
