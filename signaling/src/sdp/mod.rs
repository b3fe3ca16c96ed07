//! Session descriptions (RFC 8866) and offer/answer (RFC 3264) for one audio stream.
//!
//! Text in, text out, and a [`MediaPlan`] that says what the media engine is to do. What must hold:
//! an answer has as many m-lines as its offer, in the same order, and everything but one audio line is refused with
//! port 0; a payload type to send with is one that the *far end* expects; nothing an offer contains is copied into an answer
//! unless it was recognised; a key is in no error, log or `Debug` (case 46).
//!
//! ```text
//!   text --read--> AudioLine --choice--> MediaPlan          codec  crypto   what the lines mean
//!                     next ---> AudioOut --write--> text    media           what we want and what we get
//!                        \___ Negotiation ___/              session         the o= line
//! ```
//!
//! [`Negotiation`] carries a call from its first offer to its last; [`offer`], [`answer`] and [`accept`] are its first step
//! alone. A late offer (an INVITE without a description) is an [`offer`] in the 200 whose answer comes in the ACK.
//!
//! SRTP is keyed by a=crypto lines (RFC 4568). ICE and DTLS are read over: an offer that has a plain candidate in its c=
//! and m-line works, one that wants DTLS keys is refused.
//!
//! The `o=` line written here has session id and version 0; the user agent stamps the call's own numbers on it when it
//! sends the description, so that a description that changed has a new version and one that did not has the
//! old (RFC 3264 section 8).

mod choice;
mod codec;
mod crypto;
mod error;
mod media;
mod negotiation;
mod next;
mod read;
mod session;
mod write;

pub use codec::{AudioCodec, OpusFormat};
pub use crypto::{CryptoKey, SrtpPlan, SrtpPolicy, SrtpSuite, without_keys};
pub use error::SdpError;
pub use media::{Direction, LocalMedia, MediaPlan, TelephoneEvent};
pub use negotiation::Negotiation;
pub(crate) use session::LocalSession;

/// The longest description that is read. Real ones with video, ICE and SRTP stay below 8 kB.
pub const MAX_DESCRIPTION: usize = 16 * 1024;
/// The most m-lines that are answered (case 5); an offer with more is refused as a whole.
pub const MAX_MEDIA_LINES: usize = 16;
/// The most a-lines in a description. A browser's with all its codecs and candidates has some 300.
pub const MAX_ATTRIBUTES: usize = 512;
/// How many formats of an m-line are looked at; RTP has no more numbers.
const MAX_FORMATS: usize = 128;
/// How many a=crypto lines of an m-line are looked at. There are some ten suites.
const MAX_CRYPTO_LINES: usize = 16;
/// Packet time used when nothing, or nothing usable, is asked for.
pub const DEFAULT_PTIME_MS: u8 = 20;

/// Writes the first offer of a call.
pub fn offer(local: &LocalMedia) -> String {
    Negotiation::new().offer(local)
}

/// Answers the first offer of a call: the answer to send, and what was agreed on. See [`Negotiation::answer`].
///
/// # Errors
/// The offer has nothing for us; refuse the call with 488.
pub fn answer(offer: &str, local: &LocalMedia) -> Result<(String, MediaPlan), SdpError> {
    Negotiation::new().answer(offer, local)
}

/// Takes the answer to our [`offer`] of the same `local`. See [`Negotiation::accept`].
///
/// # Errors
/// The far end refused our audio line, or answered with something we did not offer; end the call.
pub fn accept(answer: &str, local: &LocalMedia) -> Result<MediaPlan, SdpError> {
    let mut negotiation = Negotiation::new();
    negotiation.offer(local);
    negotiation.accept(answer)
}

#[cfg(test)]
mod tests;
