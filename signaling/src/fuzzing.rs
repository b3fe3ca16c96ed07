//! Doors to what is not public, for the fuzz targets. No part of the interface: nothing here is kept as it is.

use crate::{
    auth::{self, Challenge, Password},
    message::{Frame, Framer, Message, read},
};

/// Reads a message and writes it again.
pub fn rewrite(bytes: &[u8]) -> Option<Vec<u8>> {
    match read(bytes).ok()?.0 {
        Message::Request(request) => Some(request.to_bytes()),
        Message::Response(response) => Some(response.to_bytes()),
    }
}

/// What a stream holds that comes in these pieces: the whole messages, and why it cannot be followed further, if so. Also the
/// most bytes that were held back at once.
pub fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>, usize) {
    let (mut framer, mut found, mut most) = (Framer::new(), Vec::new(), 0);
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(bytes))) => found.push(bytes),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string()), most),
            }
        }
        most = most.max(framer.buffered());
    }
    (found, None, most)
}

/// The answer to the best of some challenges, each a header's value.
pub fn answer(challenges: &[&str]) -> Option<String> {
    let challenges = challenges.iter().filter_map(|value| Challenge::read(value, false));
    let chosen = auth::choose(challenges, None, None).ok()?;
    Some(chosen.authorization("us\"er", &Password::new("swordfish"), "REGISTER", "sip:example.com", "cnonce", 1))
}
