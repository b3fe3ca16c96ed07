//! whisper.cpp behind our own [`Recognizer`], with its traps avoided (whisper-rs 0.16, whisper.cpp 1.8.3):
//!
//! - its no-speech probability is wrong without timestamps (it is read after the wrong token): [`WhisperRecognizer`]
//!   decodes the start token alone and reads it there;
//! - flash attention with an audio context that is no multiple of 256 reads what an earlier utterance, of another
//!   caller, left behind: off;
//! - `set_abort_callback_safe` installs a trampoline of the wrong type: the raw callback is used;
//! - less than 201 samples are read out of bounds: everything is padded to a second and more;
//! - some parameters leak at each call: one `FullParams` is made a worker, and cloned;
//! - ggml's threads spin at barriers: one thread a job;
//! - it prints to stderr: routed to `log`, target `whisper`.
//!
//! With the cargo features `cuda` or `vulkan` it computes on a graphics card (`cargo build --release -p mr-sip --features cuda`).
//! `cuda` needs NVIDIA's toolkit and was not built by us so far. `vulkan` needs newer headers than Debian 12 has (its
//! libvulkan-dev, 1.3.239, lacks `vk::LayerSettingEXT`): there the build ends in ggml-vulkan.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_void},
    path::Path,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whisper_rs::{
    FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState, WhisperTokenId,
};

use crate::{
    AsrError, WHISPER_RATE_HZ, model,
    recognizer::{Hints, Hypothesis, RecognizeError, Recognizer, Recognizers},
    text,
};

/// whisper.cpp warns below a second, and reads out of bounds far below.
const LEAST_SAMPLES: usize = WHISPER_RATE_HZ as usize * 11 / 10;
/// More than this it would hear in two windows; utterances are cut before that.
const MOST_SAMPLES: usize = WHISPER_RATE_HZ as usize * 30;
/// Samples an encoder position (20 ms).
const SAMPLES_A_POSITION: usize = WHISPER_RATE_HZ as usize / 50;
/// The last tokens of a prompt that are looked at. 60 cost as much as the encoder once more (tiny).
const MOST_PROMPT_TOKENS: usize = 32;
/// Longer prompts are not even split into tokens.
const MOST_PROMPT_BYTES: usize = 1_024;
/// Code that whisper.cpp gives back when the encoder was aborted or failed; the decoder's is 8.
const ENCODER_STOPPED: i32 = -6;

/// How much of the audio context is computed. The encoder's cost grows with it, from 30 to 840 ms (tiny).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContextPolicy {
    floor: usize,
    margin: usize,
    round_to: usize,
}

/// Our own model is trained with a cut context.
const OWN: ContextPolicy = ContextPolicy { floor: 80, margin: 24, round_to: 1 };
/// Stock models fall into loops when it is cut close (published word errors 4.7 -> 226 % at exact length).
const STOCK: ContextPolicy = ContextPolicy { floor: 384, margin: 128, round_to: 64 };

impl ContextPolicy {
    /// Encoder positions for so many samples, at most `whole`.
    fn positions(self, samples: usize, whole: usize) -> usize {
        let wanted = samples.div_ceil(SAMPLES_A_POSITION) + self.margin;
        wanted.next_multiple_of(self.round_to).max(self.floor).min(whole)
    }
}

/// A loaded model, shared by all workers.
#[derive(Debug)]
pub struct WhisperModel {
    context: WhisperContext,
    header: model::Header,
    language: String,
}

impl WhisperModel {
    /// Loads a model file. `language` as Whisper names it, or `auto`; English-only models ignore it.
    ///
    /// # Errors
    /// The file is not usable, or the language is not one of Whisper's.
    pub fn load(path: &Path, language: &str) -> Result<Self, AsrError> {
        route_logging();
        let header = model::check(path)?;
        check_language(language)?;
        let mut parameters = WhisperContextParameters::new();
        parameters.use_gpu(cfg!(feature = "gpu")).flash_attn(false);
        let context = WhisperContext::new_with_params(path, parameters).map_err(|e| AsrError::BadModel {
            path: path.to_path_buf(),
            reason: format!("whisper.cpp refused it ({e}); download it again"),
        })?;
        Ok(Self { context, header, language: language.into() })
    }

    /// What the file's header says.
    pub fn header(&self) -> model::Header {
        self.header
    }

    /// A recogniser of its own state (34 MB for tiny at a short context, up to 170 for base).
    ///
    /// # Errors
    /// [`AsrError::Whisper`] when there is no memory for it.
    pub fn recognizer(&self) -> Result<WhisperRecognizer<'_>, AsrError> {
        let state = self.context.create_state().map_err(|e| AsrError::Whisper(e.to_string()))?;
        Ok(WhisperRecognizer {
            model: self,
            state,
            params: BTreeMap::new(),
            policy: if self.header.is_own() { OWN } else { STOCK },
            padded: Vec::new(),
        })
    }

    fn params(&self, language: &str) -> FullParams<'static, 'static> {
        let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
        params.set_n_threads(1);
        params.set_no_context(true);
        params.set_single_segment(true);
        params.set_no_timestamps(true);
        params.set_temperature(0.0);
        params.set_temperature_inc(0.0);
        // our own model has learnt to say nothing at a noise, which is a blank; stock models end too soon if they may
        params.set_suppress_blank(!self.header.is_own());
        params.set_suppress_nst(true);
        // whisper.cpp's own verdict rests on its wrong probability: never
        params.set_no_speech_thold(2.0);
        params.set_print_special(false);
        params.set_print_progress(false);
        params.set_print_realtime(false);
        params.set_print_timestamps(false);
        if self.context.is_multilingual() && language != "en" {
            // leaks the few bytes of the name, once a worker and language; "en" is the default
            match whisper_rs::get_lang_id(language).and_then(whisper_rs::get_lang_str) {
                Some(language) => params.set_language(Some(language)),
                None => params.set_language(None),
            }
        }
        params
    }
}

impl Recognizers for WhisperModel {
    /// Warm: its buffers are made and the weights have been read once, so that the first caller does not wait for that.
    fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError> {
        let mut recognizer = self.recognizer()?;
        if let Err(error) = recognizer.recognize(&[], &Hints::default(), &AtomicBool::new(false)) {
            log::warn!("the recogniser did not warm up: {error}");
        }
        Ok(Box::new(recognizer))
    }
}

/// One state of whisper.cpp.
pub struct WhisperRecognizer<'a> {
    model: &'a WhisperModel,
    state: WhisperState,
    /// By language: setting one leaks, so each is set once.
    params: BTreeMap<&'static str, FullParams<'static, 'static>>,
    policy: ContextPolicy,
    padded: Vec<f32>,
}

/// Whether Whisper knows this language: a code such as `en`, or `auto`.
///
/// # Errors
/// [`AsrError::Config`] when it does not.
pub fn check_language(language: &str) -> Result<(), AsrError> {
    // whisper-rs panics at a zero byte
    if language != "auto" && (language.contains('\0') || whisper_rs::get_lang_id(language).is_none()) {
        return Err(AsrError::Config(format!(
            "\"{}\" is no language that Whisper knows; give a code such as en, de, fr, or auto",
            language.escape_debug()
        )));
    }
    Ok(())
}

/// Whisper's own name of a language that is known; `auto` for every other.
fn known_language(language: &str) -> &'static str {
    let known = (!language.contains('\0')).then(|| whisper_rs::get_lang_id(language)).flatten();
    known.and_then(whisper_rs::get_lang_str).unwrap_or("auto")
}

impl std::fmt::Debug for WhisperRecognizer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhisperRecognizer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Recognizer for WhisperRecognizer<'_> {
    fn recognize(&mut self, samples: &[f32], hints: &Hints, abort: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
        let samples = &samples[..samples.len().min(MOST_SAMPLES)];
        self.padded.clear();
        // what is no number or beyond all bounds would make every number of the spectrum so
        self.padded.extend(samples.iter().map(|s| if s.is_finite() { s.clamp(-1.0, 1.0) } else { 0.0 }));
        self.padded.resize(samples.len().max(LEAST_SAMPLES), 0.0);

        let whole = self.model.header.audio_context as usize;
        let positions = self.policy.positions(samples.len(), whole);
        let hypothesis = self.decode(positions, samples.len(), hints, abort)?;
        if positions < whole && !self.model.header.is_own() && text::wants_whole_context(&hypothesis) {
            log::debug!("cut context of {positions} failed ({hypothesis:?}), decoding with all {whole}");
            return self.decode(whole, samples.len(), hints, abort);
        }
        Ok(hypothesis)
    }
}

impl WhisperRecognizer<'_> {
    fn decode(
        &mut self,
        positions: usize,
        heard: usize,
        hints: &Hints,
        abort: &AtomicBool,
    ) -> Result<Hypothesis, RecognizeError> {
        let language = known_language(hints.language.as_deref().unwrap_or(&self.model.language));
        let prompt = self.prompt(&hints.prompt);
        let params: &FullParams<'_, '_> = self.params.entry(language).or_insert_with(|| self.model.params(language));
        let mut params = params.clone();
        if !prompt.is_empty() {
            params.set_tokens(&prompt);
        }
        params.set_audio_ctx(positions as i32);
        params.set_max_tokens(self.most_tokens(heard) as i32);
        // SAFETY: `aborted` has the type that ggml calls and does nothing but read the flag. The pointer is to an
        // `AtomicBool` that outlives this call, and whisper.cpp keeps it no longer than `full` runs: it is set anew
        // at each graph computed, and `params` is dropped here.
        unsafe {
            params.set_abort_callback(Some(aborted));
            params.set_abort_callback_user_data(std::ptr::from_ref(abort).cast_mut().cast::<c_void>());
        }
        let outcome = self.state.full(params, &self.padded);
        if abort.load(Ordering::Relaxed) {
            return Err(RecognizeError::Aborted);
        }
        outcome.map_err(|e| {
            RecognizeError::Failed(match e {
                WhisperError::GenericError(ENCODER_STOPPED) => "the encoder failed".into(),
                other => other.to_string(),
            })
        })?;
        let mut hypothesis = self.read();
        hypothesis.no_speech = self.no_speech()?;
        Ok(hypothesis)
    }

    /// The end of a prompt as tokens. Our own model was trained without any and would only be confused.
    fn prompt(&self, text: &str) -> Vec<WhisperTokenId> {
        // whisper-rs panics at a zero byte
        let text = text.trim().replace('\0', " ");
        if text.is_empty() || text.len() > MOST_PROMPT_BYTES || self.model.header.is_own() {
            return Vec::new();
        }
        // words begin with their blank; a text of so many bytes has no more tokens
        let mut tokens = self.model.context.tokenize(&format!(" {text}"), MOST_PROMPT_BYTES + 1).unwrap_or_default();
        tokens.drain(..tokens.len().saturating_sub(MOST_PROMPT_TOKENS));
        tokens
    }

    /// Enough for the fastest speakers, and a loop ends soon. whisper.cpp itself stops at half the text context.
    fn most_tokens(&self, heard: usize) -> usize {
        let seconds = heard.div_ceil(WHISPER_RATE_HZ as usize);
        (8 * seconds + 8).min(self.model.header.text_context as usize / 2 - 6)
    }

    /// What `full` has left in the state.
    fn read(&self) -> Hypothesis {
        let end_of_text = self.model.context.token_eot();
        let (mut text, mut tokens, mut log_prob) = (Vec::new(), 0, 0.0);
        let mut ended = true;
        for segment in self.state.as_iter() {
            // bytes, not strings: a token limit may cut a character in two
            text.extend_from_slice(segment.to_bytes().unwrap_or_default());
            for i in 0..segment.n_tokens() {
                let Some(token) = segment.get_token(i) else { continue };
                let data = token.token_data();
                ended = data.id >= end_of_text;
                if !ended {
                    tokens += 1;
                    log_prob += data.plog;
                }
            }
        }
        Hypothesis {
            text: String::from_utf8_lossy(&text).into_owned(),
            tokens,
            mean_log_prob: if tokens == 0 { 0.0 } else { log_prob / tokens as f32 },
            no_speech: 0.0,
            cut_off: !ended,
        }
    }

    /// The probability of the no-speech token right after the start token, as OpenAI defines it. The encoder's output
    /// is still in the state; this costs one decoder step.
    fn no_speech(&mut self) -> Result<f32, RecognizeError> {
        let start: WhisperTokenId = self.model.context.token_sot();
        let no_speech = self.model.context.token_nosp();
        let failed = |e: WhisperError| RecognizeError::Failed(format!("no-speech probability: {e}"));
        self.state.decode(&[start], 0, 1).map_err(failed)?;
        let logits = self.state.get_logits().map_err(failed)?;
        Ok(softmax_at(logits, no_speech as usize))
    }
}

fn softmax_at(logits: &[f32], index: usize) -> f32 {
    let Some(&wanted) = logits.get(index) else { return 0.0 };
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|l| (l - most).exp()).sum();
    (wanted - most).exp() / sum
}

/// ggml's abort callback.
unsafe extern "C" fn aborted(flag: *mut c_void) -> bool {
    // SAFETY: `flag` is the `AtomicBool` that `decode` handed over, alive while `full` runs.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}

/// What an offline transcription gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Offline {
    /// The tidied text, without the guards for live sound.
    pub text: String,
    /// What the recogniser wrote.
    pub hypothesis: Hypothesis,
    /// How long it took.
    pub took: Duration,
}

/// Transcribes up to 30 s of 16 kHz samples at once, without speech detection. For benches and `mr-sip doctor`.
///
/// # Errors
/// The model can't be loaded, or whisper.cpp fails.
pub fn transcribe_offline(model: &Path, samples: &[f32]) -> Result<Offline, AsrError> {
    let model = WhisperModel::load(model, "en")?;
    let mut recognizer = model.recognizer()?;
    let begun = std::time::Instant::now();
    let hypothesis = recognizer
        .recognize(samples, &Hints::default(), &AtomicBool::new(false))
        .map_err(|e| AsrError::Whisper(e.to_string()))?;
    Ok(Offline { text: text::tidy(&hypothesis.text), hypothesis, took: begun.elapsed() })
}

/// Sends what whisper.cpp and ggml print to `log`, one level quieter than they think of themselves.
fn route_logging() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `print` does not unwind (see there) and uses no user data.
        unsafe { whisper_rs::set_log_callback(Some(print), std::ptr::null_mut()) };
    });
}

/// ggml's log levels.
const GGML_WARN: u32 = 3;
const GGML_ERROR: u32 = 4;

unsafe extern "C" fn print(level: u32, message: *const c_char, _: *mut c_void) {
    if message.is_null() {
        return;
    }
    // SAFETY: ggml hands over a string that ends in a zero byte and lives until this returns.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let message = message.trim();
    let level = match level {
        // aborting a partial looks like a failure to it; the caller gets the code anyhow
        GGML_ERROR if message.ends_with("failed to encode") || message.ends_with("failed to decode") => {
            log::Level::Debug
        }
        GGML_ERROR => log::Level::Warn,
        GGML_WARN => log::Level::Debug,
        _ => log::Level::Trace,
    };
    if !message.is_empty() && message != "." {
        // a logger that panics must not unwind into C++
        let _ = std::panic::catch_unwind(|| log::log!(target: "whisper", level, "{message}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_follows_the_length_within_its_bounds() {
        let second = WHISPER_RATE_HZ as usize;
        assert_eq!(OWN.positions(second / 2, 1500), 80);
        assert_eq!(OWN.positions(3 * second, 1500), 174);
        assert_eq!(STOCK.positions(second, 1500), 384);
        assert_eq!(STOCK.positions(10 * second, 1500), 640);
        assert_eq!(STOCK.positions(29 * second, 1500), 1500);
    }

    #[test]
    fn softmax_of_huge_logits_is_finite() {
        assert_eq!(softmax_at(&[1e30, 0.0], 0), 1.0);
        assert_eq!(softmax_at(&[0.0, 0.0], 1), 0.5);
        assert_eq!(softmax_at(&[], 3), 0.0);
    }
}
