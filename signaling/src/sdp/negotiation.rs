//! Offer and answer over the life of one call (RFC 3264): who said what last, and what came of it.

use std::fmt;

use sdp_types::{Media, Session};

use super::{
    LocalMedia, MediaPlan, SdpError, SrtpPolicy,
    choice::{self, Chosen},
    codec::Format,
    next,
    read::{AudioLine, Profile, read},
    write::{AudioOut, head, refused_line},
};

/// The media negotiation of one call.
///
/// It remembers our last description that was agreed on, so that the next offer has the same m-lines in the same order and
/// gives no payload type another meaning (RFC 3264 section 8). Every method either succeeds or changes nothing, but for
/// [`Negotiation::offer`], whose offer is forgotten when the far end refuses it and another one is made or answered.
///
/// ```
/// # use mr_sip_signaling::sdp::{Direction, LocalMedia, Negotiation};
/// let mut ours = Negotiation::new();
/// let mut theirs = Negotiation::new();
/// let mut local = LocalMedia::new("192.0.2.1:4000".parse().unwrap());
/// let remote = LocalMedia::new("192.0.2.2:4000".parse().unwrap());
/// let (answer, _) = theirs.answer(&ours.offer(&local), &remote).unwrap();
/// assert!(ours.accept(&answer).unwrap().send);
/// // hold
/// local.direction = Direction::SendOnly;
/// let (answer, at_theirs) = theirs.answer(&ours.offer(&local), &remote).unwrap();
/// assert!(!at_theirs.send && !ours.accept(&answer).unwrap().receive);
/// ```
#[derive(Clone, Default)]
pub struct Negotiation {
    /// Our last description that was agreed on, offer or answer.
    ours: Option<String>,
    /// Our offer that is out.
    pending: Option<String>,
    agreed: Option<MediaPlan>,
    /// What each payload type of ours has meant in this call; a number is in it once.
    payloads: Vec<(u8, Format)>,
}

impl Negotiation {
    /// Nothing said yet.
    pub fn new() -> Negotiation {
        Negotiation::default()
    }

    /// What is agreed on now.
    pub fn agreed(&self) -> Option<&MediaPlan> {
        self.agreed.as_ref()
    }

    /// Writes an offer: the first, or the next one of a call for hold, resume, another address or another codec.
    ///
    /// The next one has the m-lines of the call in their order, those that were refused still refused; the agreed codec first if
    /// it is among `local.codecs`, then the others; the payload types, the keys and the transport as agreed on. A call that
    /// was agreed to be plain stays so under [`SrtpPolicy::Optional`]. To leave a codec, leave it out of
    /// `local.codecs`; to have no other, name it alone.
    pub fn offer(&mut self, local: &LocalMedia) -> String {
        let before = self.ours.as_deref().and_then(|text| read(text).ok());
        let slot = before.as_ref().and_then(audio_slot);
        let line = before.as_ref().zip(slot).and_then(|(session, slot)| {
            session.medias.get(slot).and_then(|media| AudioLine::read(session, media).ok())
        });
        let agreed = self.agreed.as_ref();
        let used = line.as_ref().map_or(&[][..], |line| &line.formats);
        let formats = next::formats(local, agreed, used, &self.payloads);
        let crypto = next::crypto(local, agreed, line.as_ref().map_or(&[][..], |line| &line.crypto));
        let profile = line.as_ref().map_or(Profile::Avp, |line| line.profile);
        let audio = AudioOut {
            addr: local.addr,
            profile: match local.srtp {
                SrtpPolicy::Off => profile.plain(),
                SrtpPolicy::Optional => profile,
                SrtpPolicy::Required => profile.secured(),
            },
            formats: &formats,
            opus: local.opus,
            ptime_ms: local.ptime(),
            direction: local.direction,
            crypto: &crypto,
            rtcp_mux: local.rtcp_mux || agreed.is_some_and(|plan| plan.rtcp_mux),
        };
        let lines = before.as_ref().map_or(&[][..], |session| &session.medias);
        let sdp = description(lines, slot, &audio);
        self.pending = Some(sdp.clone());
        sdp
    }

    /// Answers an offer: the answer to send, and what was agreed on.
    ///
    /// The codec is the first of the offer's that is ours: the offerer has the choice (RFC 3264 section 6.1). It stands alone
    /// in the answer, with the digits that fit its clock, so that neither end changes it in mid-call. Of several audio lines the
    /// first that is encrypted is taken, else the first that suits.
    ///
    /// # Errors
    /// The offer has nothing for us; refuse it with 488. What was agreed on before stays.
    pub fn answer(&mut self, offer: &str, local: &LocalMedia) -> Result<(String, MediaPlan), SdpError> {
        let session = read(offer)?;
        let (slot, chosen) = choose_line(&session, local)?;
        let Chosen { plan, line, crypto } = chosen;
        let codec = (plan.receive_payload_type, Format::Audio(plan.codec));
        let digits = plan.telephone_event.map(|d| (d.receive_payload_type, Format::Digits(d.clock_hz)));
        let noise = plan.comfort_noise.map(|payload| (payload, Format::Noise));
        let formats: Vec<_> = std::iter::once(codec).chain(digits).chain(noise).collect();
        let audio = AudioOut {
            addr: local.addr,
            profile: line.profile,
            formats: &formats,
            opus: local.opus,
            // what we want to receive; theirs is a wish for what they receive (RFC 8866)
            ptime_ms: local.ptime(),
            direction: super::Direction::new(plan.send, plan.receive),
            crypto: crypto.as_slice(),
            rtcp_mux: plan.rtcp_mux,
        };
        let sdp = description(&session.medias, Some(slot), &audio);
        self.remember(&formats);
        self.ours = Some(sdp.clone());
        self.pending = None;
        self.agreed = Some(plan.clone());
        Ok((sdp, plan))
    }

    /// Takes the answer to our last offer; also several, one after the other, where an INVITE forked or had early media.
    /// Of several codecs in it the first counts.
    ///
    /// # Errors
    /// The far end refused our audio line, or answered with something we did not offer; end the call, or leave it as it was
    /// before the offer.
    pub fn accept(&mut self, answer: &str) -> Result<MediaPlan, SdpError> {
        let offer = self.pending.as_ref().or(self.ours.as_ref()).ok_or(SdpError::BadAnswer("nothing was offered"))?;
        let (offered, answered) = (read(offer)?, read(answer)?);
        if offered.medias.len() != answered.medias.len() {
            return Err(SdpError::MediaLines { offered: offered.medias.len(), answered: answered.medias.len() });
        }
        let slot = audio_slot(&offered).ok_or(SdpError::NoAudio)?;
        let (Some(ours), Some(theirs)) = (offered.medias.get(slot), answered.medias.get(slot)) else {
            return Err(SdpError::NoAudio);
        };
        if !theirs.media.eq_ignore_ascii_case("audio") {
            return Err(SdpError::BadAnswer("what it has in the place of our audio line is not audio"));
        }
        if theirs.port == 0 {
            return Err(SdpError::Refused);
        }
        if AudioLine::profile_of(theirs).is_none() {
            return Err(SdpError::BadAnswer("its audio line is not RTP"));
        }
        let ours = AudioLine::read(&offered, ours)?;
        let plan = choice::of_answer(&AudioLine::read(&answered, theirs)?, &ours)?;
        self.remember(&ours.formats);
        if let Some(offer) = self.pending.take() {
            self.ours = Some(offer);
        }
        self.agreed = Some(plan.clone());
        Ok(plan)
    }

    fn remember(&mut self, formats: &[(u8, Format)]) {
        for (payload, format) in formats {
            self.payloads.retain(|(known, _)| known != payload);
            self.payloads.push((*payload, *format));
        }
    }
}

/// Without the descriptions, which may have keys in them (case 46).
impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiation").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

/// The audio line of an offer that is answered, and what comes of it.
fn choose_line(session: &Session, local: &LocalMedia) -> Result<(usize, Chosen), SdpError> {
    let mut usable = Vec::new();
    let mut problem = None;
    for (slot, media) in session.medias.iter().enumerate().filter(|(_, m)| AudioLine::profile_of(m).is_some()) {
        match AudioLine::read(session, media).and_then(|line| choice::of_offer(line, local)) {
            Ok(chosen) => usable.push((slot, chosen)),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let best = usable.iter().position(|(_, chosen)| chosen.plan.srtp.is_some()).unwrap_or(0);
    if best < usable.len() { Ok(usable.swap_remove(best)) } else { Err(problem.unwrap_or(SdpError::NoAudio)) }
}

/// The live audio line of a description of ours.
fn audio_slot(session: &Session) -> Option<usize> {
    session.medias.iter().position(|media| AudioLine::profile_of(media).is_some())
}

/// A whole description: the lines given, all refused but the one at `slot`; if there is none, audio alone.
fn description(lines: &[Media], slot: Option<usize>, audio: &AudioOut<'_>) -> String {
    let mut sdp = head(audio.addr.ip());
    for (i, line) in lines.iter().enumerate() {
        if Some(i) == slot {
            audio.write(&mut sdp);
        } else {
            refused_line(&mut sdp, line);
        }
    }
    if slot.is_none() {
        audio.write(&mut sdp);
    }
    sdp
}
