//! `mr-sip ps`: the calls there are.

use std::path::Path;

use control::types::{Call, CallListReply, Direction, EventFilter};

use super::connect;
use super::console::{Console, clean};
use super::describe::{clock, codec, far_end};
use super::failure::Failure;
use crate::exit::Exit;

pub(super) fn run(socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reply = CallListReply { calls: connect(socket, EventFilter::None)?.calls()?, more: false };
    if console.json() {
        console.json_line(&reply)?;
    } else if reply.calls.is_empty() {
        console.note("no calls")?;
    } else {
        for line in table(&reply.calls) {
            console.line(&line)?;
        }
    }
    Ok(Exit::Ok)
}

const HEADINGS: [&str; 7] = ["CALL", "STATE", "WAY", "WITH", "TIME", "CODEC", "OWNER"];

/// Columns as wide as what is in them.
fn table(calls: &[Call]) -> Vec<String> {
    let mut rows: Vec<[String; 7]> = vec![HEADINGS.map(str::to_owned)];
    rows.extend(calls.iter().map(|call| {
        [
            call.call.to_string(),
            match call.hold {
                Some(hold) => format!("held:{}", hold.as_str()),
                None => call.state.to_string(),
            },
            if call.direction == Direction::In { "in" } else { "out" }.to_owned(),
            far_end(call),
            clock(call.duration_ms),
            if call.codec.is_some() { codec(call) } else { "-".to_owned() },
            call.owner.as_deref().map_or_else(|| "-".to_owned(), clean),
        ]
    }));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
