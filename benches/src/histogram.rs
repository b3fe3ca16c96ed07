//! Durations measured many times: their quantiles, and their distribution as a picture.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;

/// What is said of a set of durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// Smallest.
    pub min_ms: f64,
    /// Half of them are no larger.
    pub p50_ms: f64,
    /// 99 of 100 are no larger.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Summary {
    /// Of durations in milliseconds; `None` of none.
    #[must_use]
    pub fn of(durations_ms: &[f64]) -> Option<Self> {
        let mut sorted = durations_ms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| sorted.get((quantile * (sorted.len() - 1) as f64).round() as usize).copied();
        if sorted.is_empty() {
            return None;
        }
        Some(Self { count: sorted.len(), min_ms: at(0.0)?, p50_ms: at(0.5)?, p99_ms: at(0.99)?, max_ms: at(1.0)? })
    }
}

/// One row of the picture.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The durations, in milliseconds.
    pub durations_ms: Vec<f64>,
}

const WIDTH: u32 = 900;
const ROW_HEIGHT: u32 = 170;
/// Width of a bar.
const BAR_MS: f64 = 1.0;
const INK: RGBColor = RGBColor(40, 44, 52);
const BAR: RGBColor = RGBColor(60, 120, 190);
const MARK: RGBColor = RGBColor(200, 70, 50);

/// Draws the rows below each other on one time axis, as SVG, with the median and the 99th percentile marked.
///
/// # Errors
/// When nothing was measured or the file cannot be written.
pub fn draw(title: &str, rows: &[Row], file: &Path) -> Result<()> {
    let longest = rows.iter().flat_map(|row| &row.durations_ms).copied().fold(0.0, f64::max);
    let end = ((longest * 1.05) / 10.0).ceil() * 10.0;
    if end <= 0.0 {
        return Err(anyhow!("nothing was measured that could be drawn"));
    }
    let area = SVGBackend::new(file, (WIDTH, ROW_HEIGHT * rows.len() as u32 + 50)).into_drawing_area();
    let broken = |error: String| anyhow!("cannot draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|e| broken(e.to_string()))?;
    let area = area.titled(title, ("sans-serif", 20).into_font().color(&INK)).map_err(|e| broken(e.to_string()))?;
    for (row, area) in rows.iter().zip(area.split_evenly((rows.len(), 1))) {
        draw_row(row, end, &area).map_err(|e| broken(e.to_string()))?;
    }
    area.present().map_err(|e| broken(e.to_string())).context("the folder must be there and writable")
}

fn draw_row(row: &Row, end: f64, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
    let mut bars = vec![0u32; (end / BAR_MS) as usize + 1];
    for duration in &row.durations_ms {
        bars[((duration.max(0.0) / BAR_MS) as usize).min((end / BAR_MS) as usize)] += 1;
    }
    let highest = f64::from(bars.iter().copied().max().unwrap_or(1)) * 1.15;
    let caption = Summary::of(&row.durations_ms).map_or_else(
        || format!("{}: nothing came back", row.name),
        |s| {
            format!(
                "{}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {} impulses",
                row.name, s.p50_ms, s.p99_ms, s.max_ms, s.count
            )
        },
    );
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15).into_font().color(&INK))
        .margin_left(10)
        .margin_right(20)
        .x_label_area_size(34)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..end, 0.0..highest)
        .map_err(|e| anyhow!("{e}"))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .x_labels(12)
        .y_labels(4)
        .x_label_formatter(&|ms| format!("{ms:.0}"))
        .y_label_formatter(&|count| format!("{count:.0}"))
        .x_desc("ms")
        .label_style(("sans-serif", 12).into_font().color(&INK))
        .axis_style(INK)
        .draw()
        .map_err(|e| anyhow!("{e}"))?;
    let drawn = bars.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, count)| {
        let left = at as f64 * BAR_MS;
        Rectangle::new([(left + 0.05, 0.0), (left + BAR_MS - 0.05, f64::from(*count))], BAR.filled())
    });
    chart.draw_series(drawn).map_err(|e| anyhow!("{e}"))?;
    if let Some(summary) = Summary::of(&row.durations_ms) {
        for at in [summary.p50_ms, summary.p99_ms] {
            let line = PathElement::new([(at, 0.0), (at, highest)], MARK.stroke_width(1));
            chart.draw_series([line]).map_err(|e| anyhow!("{e}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_durations() {
        let durations: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&durations).unwrap();
        assert_eq!((summary.min_ms, summary.p50_ms, summary.p99_ms, summary.max_ms), (0.0, 50.0, 99.0, 100.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
