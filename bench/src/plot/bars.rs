//! Panels of horizontal bars, with names on the left and figures at their ends.

use super::scale::Scale;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::sheet::{Area, FAINT, GRID, INK, MARGIN, Size, style, write};

/// A bar, with the least and the greatest figure on it.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    /// Its name and figure are to be seen first.
    pub(super) strong: bool,
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// Bars that belong together, under a title.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

/// A panel.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) groups: &'a [Group],
    pub(super) scale: Scale<'a>,
    /// Groups' titles stand beside their first bars, not above.
    pub(super) beside: bool,
    /// Room for names, on the left, and figures, on the right.
    pub(super) names: u32,
    pub(super) figures: u32,
}

/// Pixels.
const ROW: u32 = 20;
const ABOVE: u32 = 30;
const BELOW: u32 = 30;

/// Rows that groups take: their bars, their titles, and what is between them.
fn rows(groups: &[Group], beside: bool) -> f64 {
    let all = groups.iter().map(|group| group.bars.len() as f64 + title_rows(beside));
    all.sum::<f64>() + 0.5
}

const fn title_rows(beside: bool) -> f64 {
    if beside { 0.4 } else { 1.4 }
}

impl Panel<'_> {
    /// The height that these groups want.
    pub(super) fn height(groups: &[Group], beside: bool) -> u32 {
        ABOVE + BELOW + (rows(groups, beside) * f64::from(ROW)) as u32
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        let (begin, end) = (self.scale.begin(), self.scale.end());
        let mut chart = ChartBuilder::on(area)
            .margin_top(ABOVE)
            .margin_left(self.names)
            .margin_right(self.figures)
            .x_label_area_size(BELOW)
            .build_cartesian_2d(self.scale, rows(self.groups, self.beside)..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .x_labels(self.scale.ticks.len())
            .label_style(style(Size::Small, FAINT, (HPos::Center, VPos::Center)))
            .draw()?;
        let edge = self.names as i32;
        let title = style(Size::Strong, INK, (HPos::Left, VPos::Top));
        write(area, &format!("{}, {}", self.title, self.unit), (edge, 4), &title)?;
        let (left, top) = area.get_base_pixel();
        let mut row = 0.0;
        for group in self.groups {
            row += title_rows(self.beside);
            let (x, across, middle) = if self.beside {
                (MARGIN, HPos::Left, row + 0.5)
            } else {
                (edge - 10, HPos::Right, row - 0.5)
            };
            let (_, y) = chart.backend_coord(&(begin, middle));
            let caption = style(Size::Small, FAINT, (across, VPos::Center));
            write(area, &group.title, (x, y - top), &caption)?;
            for bar in &group.bars {
                let (at, middle) = (bar.value, row + 0.5);
                let (upper, lower) = ((begin, row + 0.12), (at.max(begin), row + 0.88));
                chart.draw_series([Rectangle::new([upper, lower], bar.colour.filled())])?;
                let reach = [bar.least, bar.most].map(|v| (v.clamp(begin, end), middle));
                chart.draw_series([PathElement::new(reach, INK.mix(0.55).stroke_width(1))])?;
                let (_, y) = chart.backend_coord(&(begin, middle));
                let (end, _) = chart.backend_coord(&reach[1]);
                let size = if bar.strong { Size::Strong } else { Size::Small };
                let name = style(size, INK, (HPos::Right, VPos::Center));
                write(area, &bar.name, (edge - 10, y - top), &name)?;
                let figure = style(size, INK, (HPos::Left, VPos::Center));
                write(area, &(self.scale.format)(bar.value), (end - left + 7, y - top), &figure)?;
                row += 1.0;
            }
        }
        Ok(())
    }
}
