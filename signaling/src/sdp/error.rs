//! Why a description cannot be used.

use super::{MAX_ATTRIBUTES, MAX_DESCRIPTION, MAX_MEDIA_LINES};

/// Why a description cannot be used. For an offer each of them means 488. None of them carries a key (case 46).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`MAX_DESCRIPTION`].
    #[error("the session description has {0} bytes, more than {MAX_DESCRIPTION}")]
    TooLong(usize),
    /// More m-lines than [`MAX_MEDIA_LINES`].
    #[error("the session description has {0} media lines, more than {MAX_MEDIA_LINES}")]
    TooManyMedia(usize),
    /// More a-lines than [`MAX_ATTRIBUTES`].
    #[error("the session description has {0} attributes, more than {MAX_ATTRIBUTES}")]
    TooManyAttributes(usize),
    /// Not a session description.
    #[error("the session description cannot be read: {0}")]
    Unreadable(String),
    /// No RTP audio line, or all of them are switched off.
    #[error("the session description has no RTP audio stream")]
    NoAudio,
    /// No codec that we speak.
    #[error("no codec in common; we speak {ours}, the other side {theirs}")]
    NoCommonCodec {
        /// Our codecs.
        ours: String,
        /// The other side's formats.
        theirs: String,
    },
    /// No connection address, or one that is not an IP address.
    #[error("the session description has no usable connection address")]
    NoAddress,
    /// SRTP is required here, and the other side speaks plain RTP.
    #[error("SRTP is required here, and the other side has no a=crypto line")]
    SrtpRequired,
    /// SRTP is off here, and the other side wants nothing else.
    #[error("the other side requires SRTP (RTP/SAVP), which is off here")]
    SrtpOff,
    /// The other side requires SRTP with keys that come by DTLS.
    #[error("the other side requires SRTP with DTLS keys (a=fingerprint), which is not spoken here; a=crypto is")]
    Dtls,
    /// SRTP, but not with any suite, key or parameters that we can use.
    #[error("no usable a=crypto line; we speak AES_CM_128_HMAC_SHA1_80 and AES_CM_128_HMAC_SHA1_32, without MKI")]
    NoCommonCrypto,
    /// SRTP would be spoken, but there is no key of ours.
    #[error("SRTP is wanted, but there is no local key for it")]
    NoKey,
    /// The answer refuses our audio line: port 0.
    #[error("the far end refused our audio stream (port 0)")]
    Refused,
    /// An answer has to have the media lines of its offer, all of them and no more (RFC 3264 section 6).
    #[error("the answer does not fit the offer: {answered} media lines for {offered}")]
    MediaLines {
        /// In the offer.
        offered: usize,
        /// In the answer.
        answered: usize,
    },
    /// An answer that does not fit its offer.
    #[error("the answer does not fit the offer: {0}")]
    BadAnswer(&'static str),
}
