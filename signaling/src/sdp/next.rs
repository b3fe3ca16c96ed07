//! What an offer lists, given what the call has agreed on before: no payload type changes its meaning, no key its line.

use super::{
    AudioCodec, LocalMedia, MediaPlan, SrtpPolicy, SrtpSuite,
    codec::{DIGIT_CLOCKS_HZ, FIRST_DYNAMIC, Format, LARGEST_PAYLOAD_TYPE},
    crypto::CryptoLine,
};

/// The formats of an offer under their payload types. `last` are those of our last description, `ever` all of this call.
pub(super) fn formats(
    local: &LocalMedia,
    agreed: Option<&MediaPlan>,
    last: &[(u8, Format)],
    ever: &[(u8, Format)],
) -> Vec<(u8, Format)> {
    let mut wanted: Vec<Format> = Vec::new();
    let first = agreed.map(|plan| plan.codec).filter(|codec| local.codecs.contains(codec));
    for codec in first.into_iter().chain(local.codecs.iter().copied()) {
        if !wanted.contains(&Format::Audio(codec)) {
            wanted.push(Format::Audio(codec));
        }
    }
    if local.telephone_event {
        let opus = wanted.contains(&Format::Audio(AudioCodec::Opus));
        let clocks = DIGIT_CLOCKS_HZ.into_iter().filter(|hz| opus || *hz != AudioCodec::Opus.rtp_clock_hz());
        wanted.extend(clocks.map(Format::Digits));
    }
    if local.comfort_noise && wanted.iter().any(|format| format.goes_with_noise()) {
        wanted.push(Format::Noise);
    }
    let mut out: Vec<(u8, Format)> = Vec::with_capacity(wanted.len());
    for format in wanted {
        let known = last.iter().chain(ever.iter().rev()).find(|(_, f)| *f == format).map(|(payload, _)| *payload);
        let free = |payload: &u8| !out.iter().chain(last).chain(ever).any(|(p, _)| p == payload);
        let usual = format.usual_payload_type();
        let payload = known.or_else(|| std::iter::once(usual).chain(FIRST_DYNAMIC..=LARGEST_PAYLOAD_TYPE).find(free));
        // a call that has used up every number does without
        if let Some(payload) = payload.filter(|p| !out.iter().any(|(used, _)| used == p)) {
            out.push((payload, format));
        }
    }
    out
}

/// The a=crypto lines of an offer: the agreed suite first, with its key and tag; no key in two lines.
pub(super) fn crypto(local: &LocalMedia, agreed: Option<&MediaPlan>, last: &[CryptoLine]) -> Vec<CryptoLine> {
    let srtp = agreed.and_then(|plan| plan.srtp.as_ref());
    let plain = agreed.is_some() && srtp.is_none();
    if local.srtp == SrtpPolicy::Off || (local.srtp == SrtpPolicy::Optional && plain) {
        return Vec::new();
    }
    let kept = srtp.filter(|srtp| local.keys.contains(&srtp.local)).map(|srtp| (srtp.suite, &srtp.local));
    let mut out: Vec<CryptoLine> = Vec::with_capacity(SrtpSuite::ALL.len());
    for (suite, key) in kept.into_iter().chain(SrtpSuite::ALL.into_iter().zip(&local.keys)) {
        if out.iter().any(|line| line.suite == suite || line.key == *key) {
            continue;
        }
        let unused = |tag: &u32| !out.iter().chain(last).any(|line| line.tag == *tag);
        let known = last.iter().find(|line| line.suite == suite).map(|line| line.tag);
        if let Some(tag) = known.or_else(|| (1..).find(unused)) {
            out.push(CryptoLine { tag, suite, key: key.clone() });
        }
    }
    out
}
