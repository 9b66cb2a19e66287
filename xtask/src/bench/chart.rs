//! A chart in SVG: lines between labelled axes, on white, because nobody knows a reader's colours.
//!
//! To the plotting crate all axes are linear. Where one is to be logarithmic, places are logarithms
//! and the labels of its ticks say of what: so every tick is a value that was chosen.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// In pixels, as wide as GitHub shows a page.
const SIZE: (u32, u32) = (860, 440);
const LEGEND_WIDTH: u32 = 140;
const LEGEND_LINE: i32 = 24;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// In the order in which they are explained.
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) name: String,
    /// Places with a label. It reaches from the first to the last one ...
    pub(crate) ticks: Vec<(f64, String)>,
    /// ... and by this part of that beyond them.
    pub(crate) margin: f64,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) color: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart {
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        self.draw_plot(&plot)?;
        self.draw_legend(&legend)?;
        root.present()?;
        Ok(())
    }

    fn draw_plot(&self, area: &Area<'_>) -> Result<()> {
        let mut plot = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 18).into_font().color(&INK))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        plot.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style((FONT, 13).into_font().color(&INK))
            .axis_desc_style((FONT, 14).into_font().color(&INK))
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .draw()?;
        for line in &self.lines {
            let style = line.color.filled().stroke_width(2);
            plot.draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?;
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>) -> Result<()> {
        let text = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        for (line, y) in self.lines.iter().zip((70..).step_by(LEGEND_LINE as usize)) {
            let style = line.color.filled().stroke_width(2);
            area.draw(&PathElement::new([(4, y), (28, y)], style))?;
            area.draw(&Circle::new((16, y), 3, style))?;
            area.draw(&Text::new(line.name.clone(), (36, y), text.clone()))?;
        }
        Ok(())
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    /// From the first tick to the last, with a margin.
    fn range(&self) -> Range<f64> {
        let [first, last] = [self.ticks.first(), self.ticks.last()];
        let (first, last) = (first.map_or(0.0, |tick| tick.0), last.map_or(1.0, |tick| tick.0));
        let margin = (last - first) * self.margin;
        first - margin..last + margin
    }

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(place, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|&(place, _)| place).collect()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == place);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}
