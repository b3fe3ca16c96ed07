//! What is offered and agreed about a call's media: our side of the session description, and what the engine makes of the outcome.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use control::types::{Event, Hold};
use engine::{CallSetup, Codec, EngineError, MasterKey, MediaParams, ReservedPort, SrtpParams, TelephoneEvent};
use rand::TryRng;
use rand::rngs::SysRng;
use signaling::net::local_ip_towards;
use signaling::sdp::{AudioCodec, CryptoKey, Direction, LocalMedia, MediaPlan, OpusFormat, SrtpPolicy, SrtpSuite};

use super::call::{CallRecord, Media, MediaUp};
use super::recording::Recorded;
use super::switchboard::Switchboard;
use crate::config::{CodecName, Srtp};

/// Where nothing is sent: the address whose route tells our own address on the way out (RFC 5737).
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);

impl Switchboard {
    /// Binds a port and says what we can, for a call to or from `peer` over an account.
    ///
    /// # Errors
    /// There is no port, or nothing to make keys from.
    pub(super) fn local_media(
        &self,
        peer: Option<SocketAddr>,
        account: Option<&str>,
    ) -> Result<(ReservedPort, LocalMedia), EngineError> {
        let configured = account.and_then(|name| self.config.account(name));
        let codecs = configured.and_then(|account| account.codecs.as_ref()).unwrap_or(&self.config.media.codecs);
        let srtp = match configured.and_then(|account| account.srtp).unwrap_or(self.config.media.srtp) {
            Srtp::Off => SrtpPolicy::Off,
            Srtp::Optional => SrtpPolicy::Optional,
            Srtp::Required => SrtpPolicy::Required,
        };
        let keys = if srtp == SrtpPolicy::Off { Vec::new() } else { new_keys()? };
        let port = self.engine.reserve_port()?;
        let addr = SocketAddr::new(self.media_ip(peer, account), port.port());
        let local = LocalMedia {
            codecs: codecs.iter().map(|codec| audio_codec(*codec)).collect(),
            ptime_ms: self.config.media.ptime_ms,
            comfort_noise: self.config.media.comfort_noise,
            srtp,
            keys,
            ..LocalMedia::new(addr)
        };
        let opus = OpusFormat { dtx: self.config.media.comfort_noise, ..local.opus };
        Ok((port, LocalMedia { opus, ..local }))
    }

    /// The address that the far end is told to send audio to: the configured public one, else the one that is seen of us from
    /// outside when there is a NAT between us and the far end, else our own on the way to it.
    fn media_ip(&self, peer: Option<SocketAddr>, account: Option<&str>) -> IpAddr {
        if let Some(ip) = self.config.sip.public_address {
            return ip;
        }
        let own = match self.config.media.bind_ip {
            ip if !ip.is_unspecified() => ip,
            // media goes where signaling goes
            _ if !self.endpoint.local_addr().ip().is_unspecified() => self.endpoint.local_addr().ip(),
            _ => local_ip_towards(peer.unwrap_or(ELSEWHERE)),
        };
        let near = peer.is_some_and(|peer| is_private(peer.ip()));
        if near || !is_private(own) {
            return own;
        }
        // what the registrar sees holds for its network; STUN tells of the world
        let seen = account.and_then(|name| self.seen_as.get(name)).map(SocketAddr::ip);
        let registered = account.and_then(|name| self.accounts.get(name)).is_some_and(|a| a.is_registered());
        match seen.or(if registered { None } else { self.public_address }) {
            Some(ip) if ip.is_ipv4() == own.is_ipv4() => ip,
            _ => own,
        }
    }

    /// Lets packets flow as agreed; a call whose media is up is changed. Tells when the call's hold has changed by it.
    ///
    /// # Errors
    /// The engine does not take the call.
    pub(super) fn apply_plan(&mut self, number: u32, plan: &MediaPlan) -> Result<(), EngineError> {
        let path = self.recording_path(number);
        let (record_all, recordings) = (self.config.recording.enabled, self.config.recordings_folder());
        let Some(call) = self.calls.get_mut(&number) else { return Ok(()) };
        let mut params = media_params(plan);
        // an IPv6 address offered over IPv4 (linphone does that) cannot be sent to; where the INVITE came from can be
        if let Some(source) = call.source.filter(|source| source.is_ipv4() != params.remote.is_ipv4()) {
            params.remote.set_ip(source.ip());
        }
        let applied = match std::mem::replace(&mut call.media, Media::None) {
            Media::Up(mut up) => {
                let changed = up.handle.update(params);
                call.media = Media::Up(up);
                changed
            }
            Media::Offered(port, local) => {
                let recording = call.record.unwrap_or(record_all).then_some(path);
                if let Some(path) = &recording {
                    super::recording::make_folder(&recordings, path);
                }
                let setup = CallSetup {
                    id: engine::CallId(number),
                    label: call.id.to_string(),
                    far_end: match call.direction {
                        control::types::Direction::In => call.from.clone(),
                        control::types::Direction::Out => call.to.clone(),
                    },
                    port,
                    media: params,
                    record_to: recording.clone(),
                };
                let mut handle = self.engine.add_call(setup)?;
                handle.voice().set_barge_in(&super::plays::barge_in(&self.config.voice));
                call.recordings.extend(recording.map(|path| Recorded::new(path, Duration::ZERO)));
                if let Err(error) = handle.clean(super::sound::configured(self.config.clean)) {
                    log::warn!("{}: not cleaned: {error}", call.id);
                }
                call.media = Media::Up(Box::new(MediaUp { handle, local, since: Instant::now(), lost_since: None }));
                Ok(())
            }
            other => {
                call.media = other;
                Ok(())
            }
        };
        call.codec = Some(codec_name(plan.codec));
        call.srtp = plan.srtp.as_ref().map(|srtp| srtp.suite.name());
        call.takes_digits = plan.telephone_event.is_some();
        self.tell_hold(number, plan);
        self.listen_for(number);
        applied
    }

    /// Who holds the call by what is agreed on now; tells when that is news.
    fn tell_hold(&mut self, number: u32, plan: &MediaPlan) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let ours = call.local().is_some_and(|local| !local.direction.receives());
        let hold = match (ours, !plan.send) {
            (false, false) => None,
            (true, false) => Some(Hold::Us),
            (false, true) => Some(Hold::FarEnd),
            (true, true) => Some(Hold::Both),
        };
        let news = call.hold != hold && call.answered.is_some();
        call.hold = hold;
        if news {
            let event = Event::CallHeld { call: call.id, hold };
            self.notify(&event);
        }
    }
}

impl CallRecord {
    /// What we tell the far end about our media.
    pub(super) fn local(&self) -> Option<&LocalMedia> {
        match &self.media {
            Media::Offered(_, local) => Some(local),
            Media::Up(up) => Some(&up.local),
            Media::None | Media::Over(_) => None,
        }
    }

    /// Our next offer: as things are, or with another direction.
    pub(super) fn next_offer(&mut self, direction: Option<Direction>) -> Option<String> {
        let local = match &mut self.media {
            Media::Offered(_, local) => local,
            Media::Up(up) => &mut up.local,
            Media::None | Media::Over(_) => return None,
        };
        local.direction = direction.unwrap_or(local.direction);
        Some(self.negotiation.offer(local))
    }

    /// Takes the answer to our last offer.
    pub(super) fn accept(&mut self, answer: &str) -> Result<MediaPlan, String> {
        self.negotiation.accept(answer).map_err(|error| error.to_string())
    }

    /// Answers an offer of the far end's.
    pub(super) fn answer_offer(&mut self, offer: &str) -> Result<(String, MediaPlan), String> {
        let local = self.local().cloned().ok_or("there is no media to be offered")?;
        self.negotiation.answer(offer, &local).map_err(|error| error.to_string())
    }
}

fn audio_codec(codec: CodecName) -> AudioCodec {
    match codec {
        CodecName::Opus => AudioCodec::Opus,
        CodecName::G722 => AudioCodec::G722,
        CodecName::Pcmu => AudioCodec::Pcmu,
        CodecName::Pcma => AudioCodec::Pcma,
    }
}

/// As the configuration writes it; SDP writes `opus` small.
fn codec_name(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Opus => "OPUS",
        other => other.name(),
    }
}

/// A key for each suite, from the system's generator: one call, one set.
fn new_keys() -> Result<Vec<CryptoKey>, EngineError> {
    let key = |_| {
        let mut bytes = [0; CryptoKey::LEN];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| EngineError::Config(format!("the system gives no randomness to encrypt with: {error}")))?;
        Ok(CryptoKey::new(bytes))
    };
    SrtpSuite::ALL.iter().map(key).collect()
}

/// Whether an address is of this machine or of a network that the world does not reach: no NAT's outside is needed there.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // RFC 1918, RFC 6598 (a provider's own NAT), loopback, link local
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// What was agreed, in the engine's words.
fn media_params(plan: &MediaPlan) -> MediaParams {
    let codec = match plan.codec {
        AudioCodec::Opus => Codec::Opus,
        AudioCodec::G722 => Codec::G722,
        AudioCodec::Pcma => Codec::Pcma,
        _ => Codec::Pcmu,
    };
    MediaParams {
        receive_payload_type: plan.receive_payload_type,
        telephone_event: plan.telephone_event.map(|digits| TelephoneEvent {
            payload_type: digits.payload_type,
            receive_payload_type: digits.receive_payload_type,
            clock_rate_hz: digits.clock_hz,
        }),
        comfort_noise: plan.comfort_noise,
        opus_dtx: plan.opus_dtx,
        ptime_ms: plan.ptime_ms.into(),
        rtcp_mux: plan.rtcp_mux,
        srtp: plan.srtp.as_ref().map(|srtp| SrtpParams {
            suite: match srtp.suite {
                SrtpSuite::AesCm128HmacSha1_32 => engine::SrtpSuite::AesCm128HmacSha1_32,
                _ => engine::SrtpSuite::AesCm128HmacSha1_80,
            },
            local: MasterKey::new(*srtp.local.as_bytes()),
            remote: MasterKey::new(*srtp.remote.as_bytes()),
        }),
        send: plan.send,
        receive: plan.receive,
        ..MediaParams::new(plan.remote, codec, plan.payload_type)
    }
}
