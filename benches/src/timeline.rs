//! Figures over the time of a run: a picture of lines below each other on one time axis.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// Lines with one vertical axis.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// The axis reaches at least to plus this, and to minus this too where anything is below zero.
    pub at_least: f64,
    /// Horizontal lines: bounds that must not be crossed.
    pub bounds: Vec<f64>,
    /// Name and points (minutes, value) of each line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

const WIDTH: u32 = 1_000;
const PANEL_HEIGHT: u32 = 230;
const INK: RGBColor = RGBColor(40, 44, 52);
const BOUND: RGBColor = RGBColor(200, 70, 50);
const COLOURS: [RGBColor; 4] =
    [RGBColor(60, 120, 190), RGBColor(90, 160, 90), RGBColor(150, 100, 180), RGBColor(210, 150, 40)];

/// Draws the panels below each other, as SVG.
///
/// # Errors
/// When nothing was measured or the file cannot be written.
pub fn draw(title: &str, panels: &[Panel], file: &Path) -> Result<()> {
    let points = || panels.iter().flat_map(|p| &p.lines).flat_map(|(_, points)| points);
    let end = points().map(|point| point.0).fold(0.0, f64::max);
    if end <= 0.0 {
        return Err(anyhow!("nothing was measured that could be drawn"));
    }
    let area = SVGBackend::new(file, (WIDTH, PANEL_HEIGHT * panels.len() as u32 + 50)).into_drawing_area();
    let broken = |error: String| anyhow!("cannot draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|e| broken(e.to_string()))?;
    let area = area.titled(title, ("sans-serif", 20).into_font().color(&INK)).map_err(|e| broken(e.to_string()))?;
    for (panel, area) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
        draw_panel(panel, end, &area).map_err(|e| broken(e.to_string()))?;
    }
    area.present().map_err(|e| broken(e.to_string())).context("the folder must be there and writable")
}

fn draw_panel(panel: &Panel, end: f64, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
    let values = panel.lines.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let below = values.clone().chain(panel.bounds.iter().copied()).any(|value| value < 0.0);
    // the names of the lines stand above them
    let room = 1.1 + 0.17 * panel.lines.len() as f64;
    let reach = values.map(f64::abs).fold(panel.at_least, f64::max) * room;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 15).into_font().color(&INK))
        .margin_left(10)
        .margin_right(20)
        .x_label_area_size(34)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..end, if below { -reach } else { 0.0 }..reach)
        .map_err(|e| anyhow!("{e}"))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(12)
        .y_labels(7)
        .x_desc("minutes")
        .label_style(("sans-serif", 12).into_font().color(&INK))
        .axis_style(INK)
        .draw()
        .map_err(|e| anyhow!("{e}"))?;
    for bound in &panel.bounds {
        let line = PathElement::new([(0.0, *bound), (end, *bound)], BOUND.stroke_width(1));
        chart.draw_series([line]).map_err(|e| anyhow!("{e}"))?;
    }
    for ((name, points), colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let drawn = chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(1)))
            .map_err(|e| anyhow!("{e}"))?;
        let colour = *colour;
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .label_font(("sans-serif", 12).into_font().color(&INK))
        .draw()
        .map_err(|e| anyhow!("{e}"))
}
