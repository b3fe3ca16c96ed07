//! The figures as a table, as JSON, as a picture.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use engine::Codec;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Serialize;

use crate::listeners::{Listener, Missing};
use crate::network::Network;

/// One network and one listener.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    codec: &'static str,
    network: String,
    listener: String,
    /// Mean of P.862.1's mapping over all samples, 1 to 4.5, and the worst one.
    pub(crate) mos: f64,
    worst: f64,
    samples: usize,
    /// Delay on top of packet and network, measured in what was heard.
    delay_p50_ms: f64,
    delay_p95_ms: f64,
    #[serde(skip)]
    of: (Network, Listener, Codec),
}

impl Cell {
    /// Sums the scores and delays up.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn new(
        network: &Network,
        listener: Listener,
        codec: Codec,
        scores: &[f64],
        delays_ms: &[f64],
    ) -> Result<Self> {
        let mut delays = delays_ms.to_vec();
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| delays.get((share * delays.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        Ok(Self {
            codec: codec.name(),
            network: network.name(),
            listener: listener.name(),
            mos: scores.iter().sum::<f64>() / scores.len() as f64,
            worst: scores.iter().copied().min_by(f64::total_cmp).context("nothing was scored")?,
            samples: scores.len(),
            delay_p50_ms: at(0.5),
            delay_p95_ms: at(0.95),
            of: (*network, listener, codec),
        })
    }
}

/// The head of a table.
pub(crate) fn heading(codec: Codec) -> String {
    let names: String = Listener::all(codec).iter().map(|l| format!(" {} |", l.name())).collect();
    let line: String = Listener::all(codec).iter().map(|_| "---|").collect();
    format!("{}: P.862 (1 to 4.5), added delay p50 / p95 in ms\n\n| network |{names}\n|---|{line}", codec.name())
}

/// A row of it.
pub(crate) fn row(network: &Network, cells: &[Cell]) -> String {
    let cells: String =
        cells.iter().map(|c| format!(" {:.2}, {:.0} / {:.0} |", c.mos, c.delay_p50_ms, c.delay_p95_ms)).collect();
    format!("| {} |{cells}", network.name())
}

/// Where packets are lost and repetition after appendix I scores higher than we do.
pub(crate) fn worse_than_repetition(cells: &[Cell], alike: f64) -> Vec<String> {
    let find = |of: (Network, Listener, Codec)| cells.iter().find(|c| c.of == of);
    cells
        .iter()
        .filter(|c| c.of.1 == Listener::Ours && c.of.0.loses())
        .filter_map(|ours| {
            let rival = find((ours.of.0, Listener::Fixed(60, Missing::Repetition), ours.of.2))?;
            (ours.mos < rival.mos - alike).then(|| {
                format!("WORSE: {}, {}: {:.2}, repetition {:.2}", ours.codec, ours.network, ours.mos, rival.mos)
            })
        })
        .collect()
}

/// # Errors
/// The file cannot be written.
pub(crate) fn write_json(file: &Path, cells: &[Cell]) -> Result<()> {
    fs::write(file, serde_json::to_string_pretty(cells)?).with_context(|| format!("cannot write {}", file.display()))
}

const COLOURS: [RGBColor; 5] = [
    RGBColor(200, 60, 50),
    RGBColor(150, 170, 190),
    RGBColor(70, 120, 180),
    RGBColor(200, 190, 140),
    RGBColor(90, 150, 90),
];
const INK: RGBColor = RGBColor(40, 44, 52);

/// A panel of the picture: a figure over what the network does.
struct Panel {
    title: &'static str,
    across: &'static str,
    x: fn(Network) -> Option<f64>,
    y: fn(&Cell) -> f64,
    range: (f64, f64),
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "P.862 over random loss",
        across: "% lost",
        x: |n| match n {
            Network::Clean => Some(0.0),
            Network::Random(percent) => Some(f64::from(percent)),
            _ => None,
        },
        y: |c| c.mos,
        range: (1.0, 4.5),
    },
    Panel {
        title: "P.862 over loss in bursts",
        across: "% lost",
        x: |n| match n {
            Network::Clean => Some(0.0),
            Network::Burst(percent) => Some(f64::from(percent)),
            _ => None,
        },
        y: |c| c.mos,
        range: (1.0, 4.5),
    },
    Panel { title: "P.862 over spikes of jitter", across: "ms", x: spike, y: |c| c.mos, range: (1.0, 4.5) },
    Panel {
        title: "added delay (median, ms) over spikes",
        across: "ms",
        x: spike,
        y: |c| c.delay_p50_ms,
        range: (0.0, 360.0),
    },
];

fn spike(network: Network) -> Option<f64> {
    match network {
        Network::Clean => Some(0.0),
        Network::Spikes(ms) => Some(f64::from(ms)),
        _ => None,
    }
}

/// Draws four panels for the first codec that was measured.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(file: &Path, cells: &[Cell]) -> Result<()> {
    let area = SVGBackend::new(file, (1_000, 760)).into_drawing_area();
    draw_on(&area, cells).map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

fn draw_on(area: &DrawingArea<SVGBackend<'_>, Shift>, cells: &[Cell]) -> Result<()> {
    let codec = cells.first().context("nothing was measured")?.of.2;
    area.fill(&WHITE).map_err(|e| anyhow!("{e}"))?;
    for (panel, part) in PANELS.iter().zip(area.split_evenly((2, 2))) {
        draw_panel(panel, &part, cells, codec).map_err(|e| anyhow!("{e}"))?;
    }
    area.present().map_err(|e| anyhow!("{e}"))
}

fn draw_panel(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>, cells: &[Cell], codec: Codec) -> Result<()> {
    let points = |listener: Listener| -> Vec<(f64, f64)> {
        let own = cells.iter().filter(|c| c.of.1 == listener && c.of.2 == codec);
        own.filter_map(|c| Some(((panel.x)(c.of.0)?, (panel.y)(c)))).filter(|p| p.1.is_finite()).collect()
    };
    let listeners = Listener::all(codec);
    let end = listeners.iter().flat_map(|&l| points(l)).map(|p| p.0).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 18).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..end * 1.02, panel.range.0..panel.range.1)
        .map_err(|e| anyhow!("{e}"))?;
    chart.configure_mesh().x_desc(panel.across).light_line_style(WHITE).draw().map_err(|e| anyhow!("{e}"))?;
    for (&listener, colour) in listeners.iter().zip(COLOURS) {
        let style = colour.stroke_width(if listener == Listener::Ours { 3 } else { 2 });
        let points = points(listener);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))
            .map_err(|e| anyhow!("{e}"))?
            .label(listener.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, colour.filled()))).map_err(|e| anyhow!("{e}"))?;
    }
    if panel.title != PANELS[0].title {
        return Ok(()); // one key is enough, and hides no curve there
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(|e| anyhow!("{e}"))
}
