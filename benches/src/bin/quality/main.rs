//! How well speech is understood after a bad network, and how much later: our playout beside the usual ones.
//!
//! Sentences of several synthetic voices are cut into packets, sent through a simulated network on a virtual clock and heard
//! by a real [`MediaCall`](engine::call::MediaCall) and by rivals made here: fixed buffers of 60 and 200 ms, each with silence
//! for what is missing and with repetition after the manner of G.711 appendix I. All of them get the same packets at the
//! same times. What was heard is scored by ITU-T P.862 with P.862.1's mapping (the `pesq` package, 1 to 4.5), and the delay is
//! measured in what was heard, by correlation with what was said. Nothing here waits for a real clock.

mod listeners;
mod network;
mod report;
mod score;
mod speech;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use engine::Codec;

use listeners::Listener;
use network::Network;
use report::Cell;
use score::{Judge, Sample};
use speech::Talk;

#[derive(Debug, Parser)]
#[command(about = "Speech through a bad network: P.862 and added delay, beside the usual buffers")]
struct Arguments {
    /// Fewer voices, and only the networks that `--check` holds us to
    #[arg(long)]
    quick: bool,
    /// Fail if repetition after the manner of G.711 appendix I is better than we are on any network that loses packets
    #[arg(long)]
    check: bool,
    /// Only make the judge's Python environment, if it is not there yet
    #[arg(long)]
    install: bool,
    /// Only networks whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Only this codec: pcmu, g722 or opus
    #[arg(long)]
    codec: Option<String>,
    /// Other losses and delays of the same kinds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw them here, as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// Two means of scores that differ by less are alike: what another seed of the losses changes.
const ALIKE: f64 = 0.05;

/// The same talks over one network, by one listener.
fn measure(
    judge: &Judge,
    talks: &[Talk],
    seed: u64,
    network: &Network,
    listener: Listener,
    codec: Codec,
) -> Result<Cell> {
    let mut samples = Vec::new();
    let mut delays_ms = Vec::new();
    for (number, talk) in talks.iter().enumerate() {
        let said = network.stretch(&talk.samples);
        let packets = network.carry(listeners::packets(&said, codec), number as u64 + seed);
        let heard = listener.listen(&packets, codec, said.len());
        for piece in network.pieces(said.len()) {
            delays_ms.extend(score::added_delays_ms(&said, &heard, piece.clone(), network));
            samples.push(Sample::cut(&said, &heard, piece, network));
        }
    }
    Cell::new(network, listener, codec, &judge.scores(&samples)?, &delays_ms)
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.install {
        Judge::new()?;
        return Ok(ExitCode::SUCCESS);
    }
    let talks = speech::talks(if arguments.quick { 2 } else { speech::VOICES.len() })?;
    let judge = Judge::new()?;
    let networks: Vec<Network> = Network::all()
        .into_iter()
        .filter(|n| !arguments.quick || n.loses())
        .filter(|n| arguments.only.as_ref().is_none_or(|only| n.name().contains(only.as_str())))
        .collect();
    let mut cells = Vec::new();
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        if arguments
            .codec
            .as_ref()
            .map_or(arguments.quick && codec != Codec::Pcmu, |c| !c.eq_ignore_ascii_case(codec.name()))
        {
            continue;
        }
        println!("{}", report::heading(codec));
        for network in networks.iter().filter(|n| codec == Codec::Pcmu || n.loses() || n.is_clean()) {
            let row = Listener::all(codec)
                .iter()
                .map(|&listener| measure(&judge, &talks, arguments.seed, network, listener, codec))
                .collect::<Result<Vec<Cell>>>()?;
            println!("{}", report::row(network, &row));
            cells.extend(row);
        }
        println!();
    }
    ensure!(!cells.is_empty(), "no network has such a name, or no codec");
    if let Some(file) = &arguments.json {
        report::write_json(file, &cells)?;
    }
    if let Some(file) = &arguments.svg {
        report::draw(file, &cells)?;
    }
    let worse = report::worse_than_repetition(&cells, ALIKE);
    for line in &worse {
        println!("{line}");
    }
    Ok(if arguments.check && !worse.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
