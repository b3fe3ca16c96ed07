//! One call as the daemon knows it: what every room said of it, in one place.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control::ClientId;
use control::types::{Call, CallId, CallState, Cause, Direction, Event, Hold, Line, MediaStats, Speaker};
use engine::{CallHandle, CallStats, ReservedPort};
use serde_json::{Map, Value, json};
use signaling::sdp::{Direction as MediaDirection, LocalMedia, Negotiation};

use super::detect::Listening;
use super::digits::InfoDigits;
use super::recording::Recorded;
use super::speech::AgentSpeech;
use super::turns::Turns;

/// A moment on the clock that never steps, with the wall-clock time that people read beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) unix_ms: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        Self { at: Instant::now(), unix_ms }
    }
}

/// Where a call's media stands.
#[derive(Debug)]
pub(crate) enum Media {
    /// Nothing yet: an incoming call that nobody has answered.
    None,
    /// A port is bound and offered; no answer yet.
    Offered(ReservedPort, LocalMedia),
    /// Packets flow.
    Up(Box<MediaUp>),
    /// It was up; these are its last figures.
    Over(MediaStats),
}

/// Media that flows.
#[derive(Debug)]
pub(crate) struct MediaUp {
    pub(crate) handle: CallHandle,
    pub(crate) local: LocalMedia,
    pub(crate) since: Instant,
    /// Since when no packet has come, while some should.
    pub(crate) lost_since: Option<Instant>,
}

/// Everything about one call. Its `Debug` leaves the descriptions out, which have keys in them (case 46).
#[derive(derive_more::Debug)]
pub(crate) struct CallRecord {
    pub(crate) id: CallId,
    pub(crate) direction: Direction,
    pub(crate) state: CallState,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) account: Option<String>,
    pub(crate) owner: Option<ClientId>,
    pub(crate) owner_name: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) started: Moment,
    pub(crate) answered: Option<Moment>,
    pub(crate) ended: Option<Moment>,
    pub(crate) cause: Option<Cause>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    /// The offer of an incoming call, until it is answered.
    #[debug(skip)]
    pub(crate) offer: Option<String>,
    pub(crate) media: Media,
    /// Who said what last about the call's media.
    pub(crate) negotiation: Negotiation,
    pub(crate) codec: Option<&'static str>,
    pub(crate) srtp: Option<&'static str>,
    pub(crate) hold: Option<Hold>,
    /// The far end takes digits as telephone events.
    pub(crate) takes_digits: bool,
    /// What is listened for besides words.
    pub(crate) listening: Listening,
    /// Digits that wait to go by INFO.
    pub(crate) info_digits: InfoDigits,
    /// An offer of ours is out; the direction that was before, should it be refused.
    pub(crate) reoffering: Option<MediaDirection>,
    /// Our answer went out already, in a 183.
    #[debug(skip)]
    pub(crate) early: Option<String>,
    /// Whom the far end wants us to call instead.
    pub(crate) transfer_to: Option<String>,
    /// How long it may last (`[dialing] max_call_s` or `[sip] max_incoming_call_s`), and when that is over.
    pub(crate) limit: Option<Duration>,
    pub(crate) until: Option<Instant>,
    pub(crate) jack: bool,
    /// Whether it is to be recorded from its beginning; as configured if nobody said.
    pub(crate) record: Option<bool>,
    pub(crate) recordings: Vec<Recorded>,
    pub(crate) speech: AgentSpeech,
    /// The players that are not over.
    pub(crate) plays: BTreeSet<u64>,
    /// Where the response that plays began, since media began.
    pub(crate) response_began: Option<Duration>,
    /// When the progress of the response that plays is told next.
    pub(crate) next_progress: Option<Instant>,
    pub(crate) transcript: Vec<Line>,
    pub(crate) turns: Turns,
    /// The ears still listen, or have not yet told their last words.
    pub(crate) heard: bool,
    /// Where an incoming call's INVITE came from.
    pub(crate) source: Option<SocketAddr>,
    /// Our 200 to an incoming call is on its way; the ACK has not come.
    pub(crate) answering: bool,
    /// Rings at most until then.
    pub(crate) ring_until: Option<Instant>,
    /// Why we hung up, if it was not a client's wish: what the end is to be called.
    pub(crate) hung_up_for: Option<(Cause, String)>,
}

impl CallRecord {
    pub(crate) fn new(id: u32, direction: Direction, from: String, to: String) -> Self {
        Self {
            id: CallId(id),
            direction,
            state: match direction {
                Direction::In => CallState::Incoming,
                Direction::Out => CallState::Dialing,
            },
            from,
            to,
            account: None,
            owner: None,
            owner_name: None,
            metadata: Map::new(),
            started: Moment::now(),
            answered: None,
            ended: None,
            cause: None,
            status: None,
            reason: None,
            offer: None,
            media: Media::None,
            negotiation: Negotiation::new(),
            codec: None,
            srtp: None,
            hold: None,
            takes_digits: false,
            listening: Listening::default(),
            info_digits: InfoDigits::default(),
            reoffering: None,
            early: None,
            transfer_to: None,
            limit: None,
            until: None,
            jack: false,
            record: None,
            recordings: Vec::new(),
            speech: AgentSpeech::default(),
            plays: BTreeSet::new(),
            response_began: None,
            next_progress: None,
            transcript: Vec::new(),
            turns: Turns::default(),
            heard: false,
            source: None,
            answering: false,
            ring_until: None,
            hung_up_for: None,
        }
    }

    /// The media, while it flows.
    pub(crate) fn up(&mut self) -> Option<&mut MediaUp> {
        match &mut self.media {
            Media::Up(up) => Some(up),
            _ => None,
        }
    }

    /// Time since the call's media began.
    pub(crate) fn media_time(&self) -> Option<Duration> {
        match &self.media {
            Media::Up(up) => Some(up.since.elapsed()),
            _ => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == CallState::Ended
    }

    /// The event that tells its state.
    pub(crate) fn state_event(&self) -> Event {
        Event::CallState {
            call: self.id,
            state: self.state,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            status: self.status,
            cause: self.cause,
            reason: self.reason.clone(),
        }
    }

    /// Adds what was said. Lines are kept in the order of their beginnings.
    pub(crate) fn add_line(
        &mut self,
        who: Speaker,
        text: Option<String>,
        start: Duration,
        end: Duration,
        utterance: Option<u32>,
    ) {
        let line = Line { who, text, start_ms: start.as_millis() as u64, end_ms: end.as_millis() as u64, utterance };
        let place = self.transcript.partition_point(|other| other.start_ms <= line.start_ms);
        self.transcript.insert(place, line);
    }

    /// As clients see it; with the transcript for `call.get` and `call.summary`.
    pub(crate) fn describe(&self, with_transcript: bool) -> Call {
        let end = self.ended.map_or_else(Instant::now, |moment| moment.at);
        Call {
            call: self.id,
            direction: self.direction,
            state: self.state,
            from: self.from.clone(),
            to: self.to.clone(),
            account: self.account.clone(),
            started_unix_ms: self.started.unix_ms,
            answered_unix_ms: self.answered.map(|moment| moment.unix_ms),
            ended_unix_ms: self.ended.map(|moment| moment.unix_ms),
            duration_ms: self.answered.map_or(0, |moment| end.saturating_duration_since(moment.at).as_millis() as u64),
            cause: self.cause,
            status: self.status,
            reason: self.reason.clone(),
            owner: self.owner_name.clone(),
            codec: self.codec.map(str::to_owned),
            srtp: self.srtp.map(str::to_owned),
            hold: self.hold,
            jack: self.jack,
            recording: self.last_recording(),
            recordings: self.describe_recordings(),
            metadata: self.metadata.clone(),
            stats: match &self.media {
                Media::Up(up) => Some(media_stats(&up.handle.stats())),
                Media::Over(stats) => Some(stats.clone()),
                Media::None | Media::Offered(..) => None,
            },
            transcript: with_transcript.then(|| self.transcript.clone()),
        }
    }
}

/// The engine's figures as the protocol names them; what it has no name for goes along as it is.
pub(crate) fn media_stats(stats: &CallStats) -> MediaStats {
    let more = [
        ("mos", json!(tenths(stats.mos))),
        ("delay_ms", json!(tenths(stats.delay_ms))),
        ("round_trip_ms", json!(tenths(stats.round_trip_ms))),
        ("far_loss", json!(tenths(stats.far_loss * 100.0) / 100.0)),
        ("far_jitter_ms", json!(tenths(stats.far_jitter_ms))),
        ("concealed_ms", json!(stats.concealed_samples / 8)),
        ("skipped", json!(stats.skipped)),
        ("resyncs", json!(stats.resyncs)),
        ("relatches", json!(stats.relatches)),
        ("send_failures", json!(stats.send_failures)),
        ("digits_received", json!(stats.digits_received)),
        ("digits_sent", json!(stats.digits_sent)),
        ("ears_lost_samples", json!(stats.tap_lost_samples)),
        ("recorder_lost_samples", json!(stats.record_lost_samples)),
        ("jack_lost_samples", json!(stats.jack_lost_samples)),
        ("jack_missing_samples", json!(stats.jack_missing_samples)),
    ];
    MediaStats {
        received: stats.received,
        lost: stats.lost,
        late: stats.late,
        // the protocol counts frames of 20 ms
        concealed: stats.concealed_samples.div_ceil(160),
        reordered: stats.reordered,
        duplicates: stats.duplicates,
        jitter_ms: tenths(stats.jitter_ms),
        underruns: stats.underruns,
        target_delay_ms: tenths(stats.target_delay_ms),
        sent: stats.sent,
        bad_packets: stats.bad_packets,
        foreign_packets: stats.foreign_packets,
        more: more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn tenths(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}
