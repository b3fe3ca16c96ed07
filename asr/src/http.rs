//! Recognition by a server that speaks OpenAI's transcription API (`POST URL/audio/transcriptions`): OpenAI itself,
//! whisper.cpp's server, faster-whisper, vLLM, a second machine.
//!
//! One utterance is one request, a WAV of 16 kHz. What the server tells of its certainty (`verbose_json`) goes through the
//! same guards as our own recogniser's; a server that tells nothing is believed.
//!
//! A request that is not wanted any more is left alone, and its answer is not waited for: the next one goes to the server beside
//! it, over a connection of its own.
//!
//! What holds: a request ends within [`HttpConfig::timeout`]; a worker has at most [`MOST_LEFT_ALONE`] and one under way; at
//! most [`MOST_ANSWER_BYTES`] of an answer are read; the key goes to the configured host alone (no redirect is followed) and
//! stands in no error or log; over `https` nothing goes to a server whose certificate is not trusted.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use rustls::{CertificateError, RootCertStore};
use serde_json::Value;
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{
    AsrError, WHISPER_RATE_HZ,
    recognizer::{Hints, Hypothesis, RecognizeError, Recognizer, Recognizers},
};

/// A transcript of 30 s has a few KiB.
pub const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// Longer audio than this is not sent: utterances are cut before.
const MOST_SAMPLES: usize = WHISPER_RATE_HZ as usize * 30;
/// Servers refuse less than a tenth of a second.
const LEAST_SAMPLES: usize = WHISPER_RATE_HZ as usize / 2;
/// What a server says of its troubles is told up to here.
const MOST_REASON_CHARS: usize = 200;
/// A request is tried so often; the second time only after what may pass: no connection, 429, 5xx.
const TRIES: usize = 2;
/// So many requests a worker leaves alone; then it waits for one of them, so that a slow server is not buried.
pub const MOST_LEFT_ALONE: usize = 4;
/// How often a worker that waits for an answer looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(5);
/// Separates the parts of a request; audio is in the last one, where the length of the whole tells the end.
const BOUNDARY: &str = "mr-sip-7d1f0a52c9e34b8f";

/// Where the server is, and what it is told.
#[derive(Clone)]
pub struct HttpConfig {
    /// What comes before `/audio/transcriptions`: `https://api.openai.com/v1`, `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The key, if the server wants one.
    pub key: Option<String>,
    /// The model's name, as the server knows it: `whisper-1`.
    pub model: String,
    /// Language of calls of which nobody has said more; `auto`: the server finds out.
    pub language: String,
    /// How long a request may take.
    pub timeout: Duration,
    /// An authority of one's own, PEM, that the server's certificate may come from, instead of those of Mozilla's list. The
    /// daemon's name for it is `url_ca`, and it stands so in errors.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("language", &self.language)
            .field("timeout", &self.timeout)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// The server as a source of recognisers, for [`Ears::start_with`](crate::Ears::start_with).
#[derive(Debug)]
pub struct HttpRecognizers(Arc<Server>);

#[derive(Debug)]
struct Server {
    config: HttpConfig,
    place: String,
    agent: Agent,
}

impl HttpRecognizers {
    /// Looks at the configuration; the server is not asked.
    ///
    /// # Errors
    /// [`AsrError::Config`] when the URL is none, a text cannot stand in a request, or the authority's file cannot be used.
    pub fn new(config: HttpConfig) -> Result<Self, AsrError> {
        let wrong = |what: String| AsrError::Config(format!("speech recognition by HTTP: {what}"));
        let uri: ureq::http::Uri = config.url.parse().map_err(|_| wrong(format!("{:?} is no URL", config.url)))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(wrong(format!("{:?} must begin with http:// or https:// and a host", config.url)));
        }
        if uri.query().is_some() {
            return Err(wrong(format!("{:?} must hold no question mark", config.url)));
        }
        for (name, text) in [("key", config.key.as_deref().unwrap_or_default()), ("model", &config.model)] {
            if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"') {
                return Err(wrong(format!("the {name} must hold letters, digits and signs of ASCII only")));
            }
        }
        let roots = match &config.ca {
            Some(file) => RootCerts::from(certificates(file).map_err(wrong)?),
            None => RootCerts::WebPki,
        };
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            // the key is for that host and no other
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("mr-sip/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let place = format!("{}/audio/transcriptions", config.url.trim_end_matches('/'));
        Ok(Self(Arc::new(Server { config, place, agent })))
    }
}

impl Recognizers for HttpRecognizers {
    fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError> {
        Ok(Box::new(HttpRecognizer { server: Arc::clone(&self.0), left_alone: Vec::new() }))
    }
}

/// What came of a request.
type Outcome = Result<Vec<u8>, RecognizeError>;

/// One worker's way to the server. Connections are kept and shared by the agent.
#[derive(Debug)]
struct HttpRecognizer {
    server: Arc<Server>,
    /// Requests whose answers nobody waits for any more.
    left_alone: Vec<Receiver<Outcome>>,
}

impl HttpRecognizer {
    /// Whether one more request may be left alone.
    fn may_leave(&mut self) -> bool {
        self.left_alone.retain(|request| matches!(request.try_recv(), Err(TryRecvError::Empty)));
        self.left_alone.len() < MOST_LEFT_ALONE
    }
}

impl Recognizer for HttpRecognizer {
    fn recognize(&mut self, samples: &[f32], hints: &Hints, abort: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
        if abort.load(Ordering::Relaxed) {
            return Err(RecognizeError::Aborted);
        }
        let body = self.server.request(samples, hints);
        let unwanted = Arc::new(AtomicBool::new(false));
        let (told, answer) = sync_channel(1);
        let (server, given_up) = (Arc::clone(&self.server), Arc::clone(&unwanted));
        thread::Builder::new()
            .name("asr-request".into())
            .spawn(move || told.send(server.ask(&body, &given_up)))
            .map_err(|error| RecognizeError::Failed(format!("no thread for a request: {error}")))?;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(_) if abort.load(Ordering::Relaxed) => return Err(RecognizeError::Aborted),
                Ok(outcome) => return read(&outcome?).map_err(RecognizeError::Failed),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RecognizeError::Failed("a request ended without an answer".into()));
                }
                Err(RecvTimeoutError::Timeout) if abort.load(Ordering::Relaxed) && self.may_leave() => {
                    unwanted.store(true, Ordering::Relaxed);
                    self.left_alone.push(answer);
                    return Err(RecognizeError::Aborted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// Another try may go better.
    Passing(String),
    /// It may not.
    Lasting(String),
}

impl Server {
    /// `multipart/form-data` (RFC 7578).
    fn request(&self, samples: &[f32], hints: &Hints) -> Vec<u8> {
        let language = hints.language.as_deref().unwrap_or(&self.config.language);
        let mut fields =
            vec![("model", self.config.model.as_str()), ("response_format", "verbose_json"), ("temperature", "0")];
        // a boundary inside would end the part
        let prompt = hints.prompt.replace(BOUNDARY, "");
        if language != "auto" {
            fields.push(("language", language));
        }
        if !prompt.trim().is_empty() {
            fields.push(("prompt", prompt.trim()));
        }
        let mut body = Vec::with_capacity(2 * samples.len() + 1_024);
        for (name, value) in fields {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
             Content-Type: audio/wav\r\n\r\n"
        );
        body.extend_from_slice(part.as_bytes());
        write_wav(&mut body, samples);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        body
    }

    /// The answer to a request, which is tried again where that may help and it is still wanted.
    fn ask(&self, body: &[u8], unwanted: &AtomicBool) -> Outcome {
        let mut reason = String::new();
        for _ in 0..TRIES {
            if unwanted.load(Ordering::Relaxed) {
                return Err(RecognizeError::Aborted);
            }
            match self.try_once(body) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Passing(why)) => reason = why,
                Err(Failure::Lasting(why)) => return Err(RecognizeError::Failed(why)),
            }
        }
        Err(RecognizeError::Failed(reason))
    }

    fn try_once(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut request =
            self.agent.post(&self.place).header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        if let Some(key) = &self.config.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let failed = |error: ureq::Error| match untrusted(&error) {
            Some(why) => Failure::Lasting(format!("{}: {}", self.place, explain(why))),
            None => Failure::Passing(format!("{}: {error}", self.place)),
        };
        let mut answer = request.send(body).map_err(failed)?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(MOST_ANSWER_BYTES).read_to_vec().map_err(failed)?;
        if status.is_success() {
            return Ok(text);
        }
        let said: String = String::from_utf8_lossy(&text).chars().take(MOST_REASON_CHARS).collect();
        let why = format!("{} answered {status}: {}", self.place, said.escape_debug());
        Err(match status.as_u16() {
            429 | 500.. => Failure::Passing(why),
            _ => Failure::Lasting(why),
        })
    }
}

/// The certificates of a PEM file.
fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let wrong = |why: String| format!("url_ca {}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => {
                // one that cannot be read would be passed over without a word
                let read = RootCertStore::empty().add(certificate.der().into());
                read.map_err(|error| wrong(format!("holds a certificate that cannot be read: {error}")))?;
                found.push(certificate);
            }
            Ok(_) => {}
            Err(error) => return Err(wrong(format!("is no PEM file: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(wrong("holds no certificate in PEM".into()));
    }
    Ok(found)
}

/// What is wrong with the server's certificate, if that is what has failed.
fn untrusted(error: &ureq::Error) -> Option<&CertificateError> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    match error {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}

/// In a sentence that says what to do.
fn explain(why: &CertificateError) -> String {
    match why {
        // a bad signature: somebody else's certificate has the issuer's name
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is self-signed, or its issuer is not trusted here: if it is your own server, give its \
             authority's certificate as url_ca"
                .into()
        }
        CertificateError::Other(other) if is_authority(other) => {
            "the server's certificate is an authority's own (CA:TRUE), which does not count as a server's: make it one with \
             CA:FALSE, and give that one as url_ca"
                .into()
        }
        why => format!("the server's certificate cannot be used: {why}"),
    }
}

/// What `openssl req -x509` makes unless it is told otherwise.
fn is_authority(other: &rustls::OtherError) -> bool {
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// A WAV of 16 bits.
fn write_wav(out: &mut Vec<u8>, samples: &[f32]) {
    let samples = samples.get(..MOST_SAMPLES).unwrap_or(samples);
    let count = samples.len().max(LEAST_SAMPLES) as u32;
    let rate = WHISPER_RATE_HZ;
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + 2 * count).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    // 16 bytes follow: PCM, one channel
    out.extend_from_slice(&[16, 0, 0, 0, 1, 0, 1, 0]);
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&(2 * rate).to_le_bytes());
    out.extend_from_slice(&[2, 0, 16, 0]);
    out.extend_from_slice(b"data");
    out.extend_from_slice(&(2 * count).to_le_bytes());
    let silence = std::iter::repeat_n(&0.0, count as usize - samples.len());
    for sample in samples.iter().chain(silence) {
        // saturates, and what is no number becomes 0
        out.extend_from_slice(&((sample * 32_767.0) as i16).to_le_bytes());
    }
}

/// What the server wrote: `verbose_json`, plain `json`, or text alone.
fn read(answer: &[u8]) -> Result<Hypothesis, String> {
    let whole = String::from_utf8_lossy(answer);
    let Ok(json) = serde_json::from_slice::<Value>(answer) else {
        if whole.trim_start().starts_with(['{', '<']) {
            return Err("the server's answer is neither JSON nor text".into());
        }
        return Ok(hypothesis(whole.trim(), 0.0, 0.0));
    };
    let Some(text) = json.get("text").and_then(Value::as_str) else {
        return Err("the server's answer has no \"text\"".into());
    };
    let segments = json.get("segments").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of = |name: &str| -> Vec<f32> {
        let numbers = segments.iter().filter_map(|segment| segment.get(name)?.as_f64());
        numbers.map(|number| number as f32).filter(|number| number.is_finite()).collect()
    };
    let log_probs = of("avg_logprob");
    let mean = log_probs.iter().sum::<f32>() / log_probs.len().max(1) as f32;
    // speech in one segment is speech
    let no_speech = of("no_speech_prob").into_iter().reduce(f32::min).unwrap_or(0.0);
    Ok(hypothesis(text, mean, no_speech))
}

fn hypothesis(text: &str, mean_log_prob: f32, no_speech: f32) -> Hypothesis {
    let tokens = text.split_whitespace().count();
    Hypothesis { text: text.into(), tokens, mean_log_prob, no_speech, cut_off: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_each_of_their_forms() {
        let verbose = br#"{"text":" Hello there. ","segments":[
            {"text":" Hello","avg_logprob":-0.2,"no_speech_prob":0.4},{"text":" there.","avg_logprob":-0.4,"no_speech_prob":0.01}]}"#;
        let heard = read(verbose).unwrap();
        assert_eq!((heard.text.trim(), heard.tokens, heard.no_speech), ("Hello there.", 2, 0.01));
        assert!((heard.mean_log_prob + 0.3).abs() < 1e-6);
        let plain = hypothesis("yes", 0.0, 0.0);
        assert_eq!(read(br#"{"text":"yes"}"#), Ok(plain.clone()));
        assert_eq!(read(b"yes\n"), Ok(plain));
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_no_text() {
        for bad in [&b"{"[..], b"{}", b"[1]", b"{\"text\":5}", b"<html>busy</html>"] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let odd = br#"{"text":"a","segments":[{"avg_logprob":"x","no_speech_prob":null},7]}"#;
        assert_eq!(read(odd), Ok(hypothesis("a", 0.0, 0.0)));
    }

    #[test]
    fn a_wav_tells_its_length_and_takes_any_number() {
        let mut wav = Vec::new();
        write_wav(&mut wav, &[0.5, f32::NAN, 7.0, f32::NEG_INFINITY]);
        assert_eq!(wav.len(), 44 + 2 * LEAST_SAMPLES);
        assert_eq!(wav[4..8], (wav.len() as u32 - 8).to_le_bytes());
        let sample = |n: usize| i16::from_le_bytes([wav[44 + 2 * n], wav[45 + 2 * n]]);
        assert_eq!([sample(0), sample(1), sample(2), sample(3), sample(4)], [16_383, 0, i16::MAX, i16::MIN, 0]);
        let mut long = Vec::new();
        write_wav(&mut long, &vec![0.0; 2 * MOST_SAMPLES]);
        assert_eq!(long.len(), 44 + 2 * MOST_SAMPLES);
    }

    #[test]
    fn no_more_requests_are_left_alone_than_a_slow_server_can_bear() {
        let config = HttpConfig {
            url: "http://a/v1".into(),
            key: None,
            model: "whisper-1".into(),
            language: "en".into(),
            timeout: Duration::from_secs(1),
            ca: None,
        };
        let server = HttpRecognizers::new(config).unwrap().0;
        let mut recognizer = HttpRecognizer { server, left_alone: Vec::new() };
        let mut under_way = Vec::new();
        for _ in 0..MOST_LEFT_ALONE {
            assert!(recognizer.may_leave());
            let (told, answer) = sync_channel(1);
            under_way.push(told);
            recognizer.left_alone.push(answer);
        }
        assert!(!recognizer.may_leave());
        under_way[1].send(Ok(Vec::new())).unwrap();
        assert!(recognizer.may_leave(), "one was answered");
        drop(under_way);
        assert!(recognizer.may_leave() && recognizer.left_alone.is_empty(), "all have ended");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_in_a_sentence_without_the_key() {
        let config = |url: &str, key: &str| HttpConfig {
            url: url.into(),
            key: Some(key.into()),
            model: "whisper-1".into(),
            language: "en".into(),
            timeout: Duration::from_secs(1),
            ca: None,
        };
        for url in ["", "api.example.com", "ftp://a/v1", "http://", "http://a/v1?x=1", "http://a b/"] {
            let error = HttpRecognizers::new(config(url, "sesame")).unwrap_err().to_string();
            assert!(error.contains("HTTP") && !error.contains("sesame"), "{error}");
        }
        let error = HttpRecognizers::new(config("http://a/v1", "sesame\r\nx: y")).unwrap_err().to_string();
        assert!(error.contains("key") && !error.contains("sesame"), "{error}");
        let fine = HttpRecognizers::new(config("https://a/v1/", "sesame")).unwrap();
        assert_eq!(fine.0.place, "https://a/v1/audio/transcriptions");
        assert!(!format!("{fine:?}").contains("sesame"));
    }
}
