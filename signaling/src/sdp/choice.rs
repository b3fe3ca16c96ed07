//! What is agreed on, once both sides have spoken: the codec, the digits, the keys, the ways.

use super::{
    AudioCodec, Direction, LocalMedia, MediaPlan, SdpError, SrtpPlan, SrtpPolicy, TelephoneEvent,
    codec::{Format, USUAL_DIGIT_CLOCK_HZ},
    crypto::CryptoLine,
    read::{AudioLine, Profile},
};

/// What is made of an audio line that was offered.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) plan: MediaPlan,
    pub(super) line: AudioLine,
    /// Our half of the a=crypto line that was chosen, under its tag.
    pub(super) crypto: Option<CryptoLine>,
}

/// A payload type to send with and one to receive with.
#[derive(Debug, Clone, Copy)]
struct Pair {
    send: u8,
    receive: u8,
}

/// Takes or refuses an audio line that was offered.
pub(super) fn of_offer(line: AudioLine, local: &LocalMedia) -> Result<Chosen, SdpError> {
    let crypto = offered_crypto(&line, local)?;
    let chosen = line.formats.iter().find_map(|(payload, format)| match format {
        Format::Audio(codec) if local.codecs.contains(codec) => Some((*payload, *codec)),
        _ => None,
    });
    let Some((payload, codec)) = chosen else {
        return Err(no_common_codec(local.codecs.iter().copied(), &line));
    };
    // an answer keeps the offer's numbers, so that both directions have the same (RFC 3264 section 6.1)
    let same = |payload| Pair { send: payload, receive: payload };
    let digits = line.formats.iter().filter_map(|(payload, format)| match format {
        Format::Digits(clock) if local.telephone_event => Some((*clock, same(*payload))),
        _ => None,
    });
    let digits = digits_for(codec, digits);
    let noise = line.formats.iter().find(|(_, format)| local.comfort_noise && *format == Format::Noise);
    let noise = noise.map(|(payload, _)| *payload);
    let srtp = crypto.as_ref().map(|(srtp, _)| srtp.clone());
    let mux = line.rtcp_mux;
    let ours = Ours { direction: local.direction, ptime_ms: local.ptime(), opus_dtx: local.opus.dtx };
    let plan = plan(&line, ours, mux, (codec, same(payload)), (digits, noise), srtp);
    Ok(Chosen { plan, line, crypto: crypto.map(|(_, ours)| ours) })
}

/// Takes or refuses the answer to an audio line of ours.
pub(super) fn of_answer(line: &AudioLine, offered: &AudioLine) -> Result<MediaPlan, SdpError> {
    let srtp = answered_crypto(line, offered)?;
    // a number without an rtpmap is meant as we offered it
    let meant = |payload: u8, format: Format| match format {
        Format::Unmapped => offered.formats.iter().find(|(p, _)| *p == payload).map_or(format, |(_, f)| *f),
        format => format,
    };
    let both = line.formats.iter().filter_map(|(payload, format)| {
        let format = meant(*payload, *format);
        let (receive, _) = offered.formats.iter().find(|(_, f)| *f == format)?;
        Some((format, Pair { send: *payload, receive: *receive }))
    });
    let chosen = both.clone().find_map(|(format, pair)| match format {
        Format::Audio(codec) => Some((codec, pair)),
        _ => None,
    });
    let Some((codec, pair)) = chosen else {
        let ours = offered.formats.iter().filter_map(|(_, format)| match format {
            Format::Audio(codec) => Some(*codec),
            _ => None,
        });
        return Err(no_common_codec(ours, line));
    };
    let noise = both.clone().find(|(format, _)| *format == Format::Noise).map(|(_, pair)| pair.send);
    let digits = both.filter_map(|(format, pair)| match format {
        Format::Digits(clock) => Some((clock, pair)),
        _ => None,
    });
    let digits = digits_for(codec, digits);
    let mux = line.rtcp_mux && offered.rtcp_mux;
    let ours = Ours {
        direction: offered.direction,
        ptime_ms: offered.ptime_ms(super::DEFAULT_PTIME_MS),
        opus_dtx: offered.opus(pair.receive).dtx,
    };
    Ok(plan(line, ours, mux, (codec, pair), (digits, noise), srtp))
}

/// What we want of the plan.
struct Ours {
    direction: Direction,
    ptime_ms: u8,
    opus_dtx: bool,
}

fn plan(
    line: &AudioLine,
    ours: Ours,
    rtcp_mux: bool,
    (codec, pair): (AudioCodec, Pair),
    (telephone_event, noise): (Option<TelephoneEvent>, Option<u8>),
    srtp: Option<SrtpPlan>,
) -> MediaPlan {
    // 0.0.0.0 is RFC 2543's way to say "hold": they can hear nothing
    let reachable = !line.addr.ip().is_unspecified();
    let opus = (codec == AudioCodec::Opus).then(|| line.opus(pair.send));
    MediaPlan {
        remote: line.addr,
        remote_rtcp: if rtcp_mux { line.addr } else { line.rtcp_addr() },
        rtcp_mux,
        codec,
        payload_type: pair.send,
        receive_payload_type: pair.receive,
        telephone_event,
        comfort_noise: noise.filter(|_| Format::Audio(codec).goes_with_noise()),
        opus,
        opus_dtx: ours.opus_dtx && opus.is_some_and(|theirs| theirs.dtx),
        ptime_ms: line.ptime_ms(ours.ptime_ms),
        send: line.direction.receives() && reachable && ours.direction.sends(),
        receive: line.direction.sends() && ours.direction.receives(),
        srtp,
    }
}

/// The digits whose clock is the codec's (RFC 4733 section 2.1), else those with the clock that everybody has.
fn digits_for(codec: AudioCodec, digits: impl Iterator<Item = (u32, Pair)> + Clone) -> Option<TelephoneEvent> {
    let with = |hz: u32| digits.clone().find(|(clock, _)| *clock == hz);
    let (clock_hz, pair) = with(codec.rtp_clock_hz()).or_else(|| with(USUAL_DIGIT_CLOCK_HZ))?;
    Some(TelephoneEvent { payload_type: pair.send, receive_payload_type: pair.receive, clock_hz })
}

fn no_common_codec(ours: impl Iterator<Item = AudioCodec>, line: &AudioLine) -> SdpError {
    let ours: Vec<_> = ours.map(AudioCodec::name).collect();
    SdpError::NoCommonCodec { ours: ours.join(", "), theirs: line.formats_text.clone() }
}

/// What comes of the keys in an offer (RFC 4568 section 7.1.2): none, or the first line that can be honoured, and our answer
/// to it.
fn offered_crypto(line: &AudioLine, local: &LocalMedia) -> Result<Option<(SrtpPlan, CryptoLine)>, SdpError> {
    let must = line.profile.is_secure() || local.srtp == SrtpPolicy::Required;
    if line.profile == Profile::Dtls || (line.profile.is_secure() && !line.has_crypto && line.has_fingerprint) {
        return Err(SdpError::Dtls);
    }
    if local.srtp == SrtpPolicy::Off {
        return if must { Err(SdpError::SrtpOff) } else { Ok(None) };
    }
    let Some(theirs) = line.crypto.first() else {
        return match must {
            false => Ok(None),
            true if line.has_crypto || line.profile.is_secure() => Err(SdpError::NoCommonCrypto),
            true => Err(SdpError::SrtpRequired),
        };
    };
    let Some(key) = local.key(theirs.suite) else {
        return if must { Err(SdpError::NoKey) } else { Ok(None) };
    };
    let srtp = SrtpPlan { suite: theirs.suite, local: key.clone(), remote: theirs.key.clone() };
    Ok(Some((srtp, CryptoLine { tag: theirs.tag, suite: theirs.suite, key: key.clone() })))
}

/// What comes of the keys in an answer (section 7.1.3). Our offer says what was wanted: its transport, and its lines.
fn answered_crypto(line: &AudioLine, offered: &AudioLine) -> Result<Option<SrtpPlan>, SdpError> {
    if line.profile == Profile::Dtls {
        return Err(SdpError::Dtls);
    }
    if offered.crypto.is_empty() {
        return match (offered.profile.is_secure(), line.profile.is_secure()) {
            (true, _) => Err(SdpError::NoKey),
            (false, true) => Err(SdpError::SrtpOff),
            (false, false) => Ok(None),
        };
    }
    let agreed = line.crypto.iter().find_map(|theirs| {
        let ours = offered.crypto.iter().find(|o| o.tag == theirs.tag && o.suite == theirs.suite)?;
        Some(SrtpPlan { suite: ours.suite, local: ours.key.clone(), remote: theirs.key.clone() })
    });
    match agreed {
        Some(srtp) => Ok(Some(srtp)),
        // it encrypts, and not in a way that we can undo: noise
        None if line.has_crypto => Err(SdpError::BadAnswer("its a=crypto line is none of those offered")),
        None if line.profile.is_secure() => Err(SdpError::BadAnswer("it is RTP/SAVP without an a=crypto line")),
        None if offered.profile.is_secure() => Err(SdpError::SrtpRequired),
        None => Ok(None),
    }
}
