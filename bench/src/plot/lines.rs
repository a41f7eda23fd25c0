//! Panels of lines.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::scale::Scale;
use super::sheet::{Area, FAINT, GRID, INK, Size, style, width, write};

/// How a line looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    pub(super) dashed: bool,
    /// Its points are rings, not discs.
    pub(super) hollow: bool,
    /// It has no points.
    pub(super) bare: bool,
    /// It is there to be compared with.
    pub(super) thin: bool,
}

impl Look {
    pub(super) const fn of(colour: RGBColor) -> Self {
        Self { colour, dashed: false, hollow: false, bare: false, thin: false }
    }
}

/// A line, with a label at its end.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) look: Look,
    pub(super) points: Vec<(f64, f64)>,
}

/// A panel.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) x: (&'a str, Scale<'a>),
    pub(super) y: (&'a str, Scale<'a>),
    pub(super) lines: &'a [Line],
    /// Room for the labels, on the right.
    pub(super) labels: u32,
}

/// Pixels from the panel's edge to the axis.
const LEFT: u32 = 64;
const BELOW: u32 = 48;
const ABOVE: u32 = 30;

impl Panel<'_> {
    pub(super) fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        let ((x_name, x), (y_name, y)) = (self.x, self.y);
        let mut chart = ChartBuilder::on(area)
            .margin_top(ABOVE)
            .margin_right(self.labels)
            .x_label_area_size(BELOW)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(x, y)?;
        let middle = (HPos::Center, VPos::Center);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .x_labels(x.ticks.len())
            .y_labels(y.ticks.len())
            .label_style(style(Size::Small, FAINT, middle))
            .axis_desc_style(style(Size::Small, FAINT, middle))
            .x_desc(x_name)
            .draw()?;
        let title = style(Size::Strong, INK, (HPos::Left, VPos::Top));
        // Upright beside the axis it would take room, and be hard to read.
        let comma = if y_name.is_empty() { "" } else { ", " };
        write(area, &format!("{}{comma}{y_name}", self.title), (LEFT as i32, 4), &title)?;
        let (left, top) = area.get_base_pixel();
        let mut labels = Vec::new();
        for line in self.lines {
            let points = &line.points;
            let Some(end) = points.last() else { continue };
            let end = chart.backend_coord(end);
            labels.push(Label { at: (end.0 - left + 9, end.1 - top), line });
            let stroke = line.look.colour.stroke_width(if line.look.thin { 1 } else { 2 });
            if line.look.dashed {
                chart.draw_series(DashedLineSeries::new(points.clone(), 6, 5, stroke))?;
            } else {
                chart.draw_series(LineSeries::new(points.clone(), stroke))?;
            }
            if !line.look.bare {
                let dots = |size, style: ShapeStyle| {
                    points.clone().into_iter().map(move |point| Circle::new(point, size, style))
                };
                let fill = if line.look.hollow { WHITE } else { line.look.colour };
                chart.draw_series(dots(4, fill.filled()))?;
                chart.draw_series(dots(4, stroke))?;
            }
        }
        apart(&mut labels);
        for label in labels {
            let style = style(Size::Small, label.line.look.colour, (HPos::Left, VPos::Center));
            write(area, &label.line.label, label.at, &style)?;
        }
        Ok(())
    }
}

struct Label<'a> {
    at: (i32, i32),
    line: &'a Line,
}

/// Moves labels that would lie upon each other up and down.
fn apart(labels: &mut [Label<'_>]) {
    const LEAST: i32 = 15;
    labels.sort_by_key(|label| label.at.1);
    for _ in 0..100 {
        for at in 1..labels.len() {
            let (first, second) = (&labels[at - 1], &labels[at]);
            let side_by_side = first.at.0 != second.at.0;
            let gap = second.at.1 - first.at.1;
            if gap < LEAST && !side_by_side {
                labels[at - 1].at.1 -= (LEAST - gap + 1) / 2;
                labels[at].at.1 += (LEAST - gap + 1) / 2;
            }
        }
    }
}

/// A legend: samples of lines with their names, from a point on to the right.
pub(super) fn legend(
    area: &Area<'_>,
    (mut x, y): (i32, i32),
    entries: &[(&str, Look)],
) -> anyhow::Result<()> {
    for (name, look) in entries {
        let stroke = look.colour.stroke_width(2);
        if look.dashed {
            for from in [0, 11, 22] {
                area.draw(&PathElement::new([(x + from, y), (x + from + 6, y)], stroke))?;
            }
        } else {
            area.draw(&PathElement::new([(x, y), (x + 28, y)], stroke))?;
            if !look.bare {
                let fill = if look.hollow { WHITE } else { look.colour };
                area.draw(&Circle::new((x + 14, y), 4, fill.filled()))?;
                area.draw(&Circle::new((x + 14, y), 4, stroke))?;
            }
        }
        write(area, name, (x + 36, y), &style(Size::Small, INK, (HPos::Left, VPos::Center)))?;
        x += 36 + width(name, Size::Small) + 22;
    }
    Ok(())
}
