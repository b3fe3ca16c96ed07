//! What must hold whatever bytes the control protocol is given: no panic, no stall, and what each function here asserts.
//!
//! Each function is a fuzz target; its corpus is `corpus/NAME`, one input a file. An input that once broke something stays there
//! under a name that says what it was.
#![deny(missing_docs)]

use control::{
    Method,
    frame::{Decoder, Frame, HEADER_LEN, MAX_PAYLOAD, write_audio, write_json},
    types::Incoming,
};

/// The same frames come out of a stream whatever the reads, and each is written as it came.
pub fn frames(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = decode(stream, usize::MAX);
    assert_eq!(whole, decode(stream, usize::from(*piece).max(1)));
    for frame in &whole.0 {
        assert_eq!(decode(frame, usize::MAX), (vec![frame.clone()], None));
    }
}

/// The frames of a stream that comes in pieces of this size, written again, and the error that it ended with.
fn decode(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut decoder, mut found, mut rest) = (Decoder::new(), Vec::new(), stream);
    loop {
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(written(&frame)),
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
        assert!(decoder.pending() <= HEADER_LEN + MAX_PAYLOAD);
        if rest.is_empty() {
            return (found, None);
        }
        let space = decoder.space();
        let count = piece.min(space.len()).min(rest.len());
        let (now, later) = rest.split_at(count);
        space[..count].copy_from_slice(now);
        decoder.filled(count);
        rest = later;
    }
}

fn written(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Json(text) => write_json(&mut out, text),
        Frame::Audio(audio) => write_audio(
            &mut out,
            audio.channel(),
            audio.encoding(),
            audio.generation(),
            audio.monotonic_ns(),
            audio.samples(),
        ),
    }
    .expect("what was short enough to come is short enough to go");
    out
}

/// A request is read or refused with one of the protocol's errors, and a request that is read can be written and read again.
pub fn request(data: &[u8]) {
    let Ok(Incoming::Request { method, params, .. }) = Incoming::parse(data) else { return };
    match Method::parse(&method, params) {
        Ok(request) => assert_eq!(request.name(), method),
        Err(error) => assert!(serde_json::to_string(&error).is_ok_and(|text| text.len() < 4_000 + 8 * data.len())),
    }
}
