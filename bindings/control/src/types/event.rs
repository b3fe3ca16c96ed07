//! Events: what the daemon tells without being asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::{Call, CallId, CallState, Cause, Direction, Hold, RecordingState};
use super::method::BridgeMode;
use super::sound::{AnsweredBy, DigitsVia, MediaReason, Tone};
use super::status::{AccountState, JackState};

/// Whether the far end's media arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// Nothing has come for a while.
    Lost,
    /// It comes again, and goes both ways.
    Found,
    /// Packets come, and yet one end hears nothing. Not a reason for the daemon to end the call.
    #[serde(rename = "one_way")]
    OneWay,
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// The far end wants us to call `to` instead: `call.transfer_accept` or `call.transfer_reject` it.
    Requested,
    /// We call `to`, as the far end wanted: that is `new_call`.
    Calling,
    /// A transfer of ours: how the far end gets on (`status`).
    Progress,
    /// A transfer of ours is done; the call ends with cause `transferred`.
    Accepted,
    /// A transfer of ours was refused or failed; the call goes on.
    Failed,
}

/// Why a player is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlayReason {
    /// All of it was played.
    End,
    /// `play.stop` asked for it, or its client is gone.
    Stopped,
    /// `audio.halt`, `audio.clear` or the caller's speech ended it.
    BargeIn,
    /// The file could not be read any further.
    Failed,
}

/// What a machine announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Announcement {
    /// A message may be left.
    Voicemail,
    /// One waits in a queue, or is asked to hold.
    Hold,
}

/// A word and when it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Word {
    /// The word as it stands in the text.
    pub word: String,
    /// Where it begins.
    pub start_ms: u64,
    /// Where it ends.
    pub end_ms: u64,
}

/// An event with the time it was told at.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Milliseconds since the call's media began; `None` outside calls and before media.
    pub time_ms: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// What happened. `at_ms`, `start_ms`, `end_ms`: milliseconds since the call's media began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", content = "params")]
#[non_exhaustive]
pub enum Event {
    /// Somebody calls; `call.answer` or `call.reject` it.
    #[serde(rename = "call.incoming")]
    CallIncoming {
        /// The new call.
        call: CallId,
        /// The caller's address.
        from: String,
        /// The called address.
        to: String,
        /// The caller's name as the far end gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// The call that it will take the place of when it is answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<CallId>,
    },
    /// A call's state changed.
    #[serde(rename = "call.state")]
    CallState {
        /// Which call.
        call: CallId,
        /// Its new state.
        state: CallState,
        /// Who began it.
        direction: Direction,
        /// The caller's address.
        from: String,
        /// The called address.
        to: String,
        /// The SIP status behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
        /// The same in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The far end pressed a key.
    #[serde(rename = "call.dtmf")]
    CallDtmf {
        /// Which call.
        call: CallId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u64,
        /// How it came.
        #[serde(default)]
        via: DigitsVia,
    },
    /// The far end's media stopped or came back.
    #[serde(rename = "call.media")]
    CallMedia {
        /// Which call.
        call: CallId,
        /// Which of them.
        state: MediaState,
        /// Why, as far as it is known; told again when more is known. Absent when found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<MediaReason>,
        /// The same in an administrator's words, with the addresses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A tone of the network's, a fax, or an answering machine's beep was heard. A guess; nothing is done about it.
    #[serde(rename = "call.tone")]
    CallTone {
        /// Which call.
        call: CallId,
        /// What it is.
        tone: Tone,
        /// How sure that is, 0 to 1.
        confidence: f64,
    },
    /// Who has answered, by what was said first. A guess; nothing is done about it. May come again, surer.
    #[serde(rename = "call.answered_by")]
    CallAnsweredBy {
        /// Which call.
        call: CallId,
        /// Who.
        by: AnsweredBy,
        /// How sure that is, 0 to 1.
        confidence: f64,
        /// How long after the answer it became clear.
        after_ms: u64,
    },
    /// Music plays, as for those who wait, or does no longer. A guess; nothing is done about it.
    #[serde(rename = "call.music")]
    CallMusic {
        /// Which call.
        call: CallId,
        /// Whether it plays now.
        playing: bool,
        /// How sure that is, 0 to 1.
        confidence: f64,
    },
    /// What was understood is a machine's announcement. A guess, by its phrases; nothing is done about it.
    #[serde(rename = "call.announcement")]
    CallAnnouncement {
        /// Which call.
        call: CallId,
        /// What is announced.
        kind: Announcement,
        /// How sure that is, 0 to 1.
        confidence: f64,
        /// Which of the far end's utterances.
        utterance: u32,
    },
    /// A call was put on hold, by us or by the far end, or taken off it.
    #[serde(rename = "call.held")]
    CallHeld {
        /// Which call.
        call: CallId,
        /// Who holds it now; absent: nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Hold>,
    },
    /// An offer of ours for other media (hold, resume) was answered, or one of the far end's was.
    #[serde(rename = "call.reoffer")]
    CallReoffer {
        /// Which call.
        call: CallId,
        /// Whether it was made by us.
        ours: bool,
        /// Whether it holds now; if not, the call goes on as it was.
        accepted: bool,
        /// The codec from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        codec: Option<String>,
        /// The SIP status of the refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why it was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A transfer, ours or one that the far end asks for.
    #[serde(rename = "call.transfer")]
    CallTransfer {
        /// Which call.
        call: CallId,
        /// How far it has come.
        state: TransferState,
        /// Who is to be called instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Who says that he wants it; not proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        referred_by: Option<String>,
        /// The call that was made for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new_call: Option<CallId>,
        /// The last SIP status of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The same in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Two calls hear each other from now on, or no longer.
    #[serde(rename = "call.bridged")]
    CallBridged {
        /// Which call.
        call: CallId,
        /// Which other one.
        other_call: CallId,
        /// Who hears whom; absent: the bridge is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<BridgeMode>,
    },
    /// A recording began, paused, went on, ended or stopped by itself.
    #[serde(rename = "call.recording")]
    CallRecording {
        /// Which call.
        call: CallId,
        /// How it stands now.
        state: RecordingState,
        /// The file.
        path: String,
        /// Why it stopped by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A call is over and its last words are written: everything about it, with transcript and stats. Nothing about it follows.
    #[serde(rename = "call.summary")]
    CallSummary(Box<Call>),
    /// The caller began to speak.
    #[serde(rename = "speech.start")]
    SpeechStart {
        /// Which call.
        call: CallId,
        /// When.
        at_ms: u64,
    },
    /// The caller stopped speaking.
    #[serde(rename = "speech.stop")]
    SpeechStop {
        /// Which call.
        call: CallId,
        /// When.
        at_ms: u64,
    },
    /// What the caller has said so far of an utterance that goes on; the next one replaces it.
    #[serde(rename = "transcript.partial")]
    TranscriptPartial {
        /// Which call.
        call: CallId,
        /// Which of the caller's utterances.
        utterance: u32,
        /// The words.
        text: String,
        /// The first so many words will be the same in all further partials of the utterance.
        #[serde(default)]
        confirmed: usize,
        /// Where the utterance begins.
        start_ms: u64,
        /// Where the words end.
        end_ms: u64,
        /// From the end of the audio to the text.
        latency_ms: u64,
    },
    /// The caller pauses, and has said this: perhaps all. `transcript.final` or `turn.resumed` follows.
    #[serde(rename = "transcript.eager")]
    TranscriptEager {
        /// Which call.
        call: CallId,
        /// Which of the caller's utterances.
        utterance: u32,
        /// The words.
        text: String,
        /// Where the utterance begins.
        start_ms: u64,
        /// Where the pause begins.
        end_ms: u64,
        /// From the beginning of the pause to the text.
        latency_ms: u64,
    },
    /// The caller goes on: the last `transcript.eager` is taken back.
    #[serde(rename = "turn.resumed")]
    TurnResumed {
        /// Which call.
        call: CallId,
        /// Which of the caller's utterances.
        utterance: u32,
        /// When the speech began again.
        at_ms: u64,
    },
    /// The caller interrupts the agent, whose voice has been stopped.
    #[serde(rename = "turn.barge_in")]
    TurnBargeIn {
        /// Which call.
        call: CallId,
    },
    /// What the caller has said.
    #[serde(rename = "transcript.final")]
    TranscriptFinal {
        /// Which call.
        call: CallId,
        /// Which of the caller's utterances.
        utterance: u32,
        /// The words.
        text: String,
        /// It is what the last `transcript.eager` said: an answer that was begun then may go on.
        #[serde(default)]
        as_eager: bool,
        /// Said while the agent spoke, without interrupting it, and only to show that the caller listens ("uh-huh").
        #[serde(default)]
        backchannel: bool,
        /// Where the utterance begins.
        start_ms: u64,
        /// Where it ends.
        end_ms: u64,
        /// From the end of speech to the text.
        latency_ms: u64,
        /// Each word of the text, and an estimate of when it was said.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        words: Vec<Word>,
    },
    /// The first sample of a response was sent to the caller.
    #[serde(rename = "response.started")]
    ResponseStarted {
        /// Which call.
        call: CallId,
        /// Which response.
        response: u64,
        /// Its generation.
        generation: u64,
    },
    /// Every 200 ms while a response plays, for the first time within 200 ms.
    #[serde(rename = "response.progress")]
    ResponseProgress {
        /// Which call.
        call: CallId,
        /// Which response.
        response: u64,
        /// Its generation.
        generation: u64,
        /// How much was sent to the caller.
        played_ms: u64,
        /// What waits.
        queued_ms: u64,
    },
    /// The last sample of a response was sent to the caller.
    #[serde(rename = "response.finished")]
    ResponseFinished {
        /// Which call.
        call: CallId,
        /// Which response.
        response: u64,
        /// Its generation.
        generation: u64,
        /// How much was sent to the caller.
        played_ms: u64,
        /// Whether a halt or clear cut it short.
        interrupted: bool,
    },
    /// A player is over.
    #[serde(rename = "play.finished")]
    PlayFinished {
        /// Which call.
        call: CallId,
        /// Which player.
        play: u64,
        /// How much was sent to the caller.
        played_ms: u64,
        /// Why it is over.
        reason: PlayReason,
    },
    /// More audio came than the window allows; what was refused must be sent again.
    #[serde(rename = "audio.refused")]
    AudioRefused {
        /// Which call.
        call: CallId,
        /// Which response.
        response: u64,
        /// Samples of the frame that were taken.
        accepted: u64,
        /// Samples of the frame that were not.
        refused: u64,
    },
    /// An account's registration changed.
    #[serde(rename = "account.state")]
    AccountState {
        /// Its name.
        account: String,
        /// Its state.
        state: AccountState,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// How long the registration holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
        /// When it is tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_s: Option<u64>,
        /// Our address as the registrar sees it, when there is a NAT in between.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_as: Option<String>,
    },
    /// The JACK server came or went.
    #[serde(rename = "jack.state")]
    JackState {
        /// Which of the two.
        state: JackState,
    },
    /// The JACK server missed periods: what was to be heard in them was not. Told every 10 s at most.
    #[serde(rename = "jack.xruns")]
    JackXruns {
        /// Since this was last told.
        count: u64,
        /// Since we connected.
        total: u64,
    },
    /// Something a person should know.
    #[serde(rename = "daemon.warning")]
    DaemonWarning {
        /// One sentence.
        text: String,
    },
}

impl Event {
    /// Every event's name.
    pub const NAMES: &'static [&'static str] = &[
        "call.incoming",
        "call.state",
        "call.dtmf",
        "call.media",
        "call.tone",
        "call.answered_by",
        "call.music",
        "call.announcement",
        "call.held",
        "call.reoffer",
        "call.transfer",
        "call.bridged",
        "call.recording",
        "call.summary",
        "speech.start",
        "speech.stop",
        "transcript.partial",
        "transcript.eager",
        "transcript.final",
        "turn.resumed",
        "turn.barge_in",
        "response.started",
        "response.progress",
        "response.finished",
        "play.finished",
        "audio.refused",
        "account.state",
        "jack.state",
        "jack.xruns",
        "daemon.warning",
    ];

    /// The call it is about; `None` for what concerns everybody.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::CallIncoming { call, .. }
            | Self::CallState { call, .. }
            | Self::CallDtmf { call, .. }
            | Self::CallMedia { call, .. }
            | Self::CallTone { call, .. }
            | Self::CallAnsweredBy { call, .. }
            | Self::CallMusic { call, .. }
            | Self::CallAnnouncement { call, .. }
            | Self::CallHeld { call, .. }
            | Self::CallReoffer { call, .. }
            | Self::CallTransfer { call, .. }
            | Self::CallBridged { call, .. }
            | Self::CallRecording { call, .. }
            | Self::SpeechStart { call, .. }
            | Self::SpeechStop { call, .. }
            | Self::TranscriptPartial { call, .. }
            | Self::TranscriptEager { call, .. }
            | Self::TranscriptFinal { call, .. }
            | Self::TurnResumed { call, .. }
            | Self::TurnBargeIn { call }
            | Self::ResponseStarted { call, .. }
            | Self::ResponseProgress { call, .. }
            | Self::ResponseFinished { call, .. }
            | Self::PlayFinished { call, .. }
            | Self::AudioRefused { call, .. } => Some(*call),
            Self::CallSummary(call) => Some(call.call),
            Self::AccountState { .. }
            | Self::JackState { .. }
            | Self::JackXruns { .. }
            | Self::DaemonWarning { .. } => None,
        }
    }
}
