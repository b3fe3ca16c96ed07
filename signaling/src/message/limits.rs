//! The bounds on what one message may be (cases 3 and 5), so that reading one costs a bounded time, linear in its bytes, and what is
//! kept of it a bounded memory. Session descriptions have their own, in [`crate::sdp`].
//!
//! | beyond it | a request is | a response is | a stream is |
//! |---|---|---|---|
//! | [`MAX_HEAD`], [`MAX_BODY`] | dropped | dropped | closed |
//! | [`MAX_HEADER`], [`MAX_HEADERS`] | answered 513 | dropped | |
//! | [`MAX_URI`] in the start line | answered 414 | | |
//! | [`MAX_URI`], [`MAX_PARAMS`] in From, To, the top Via | answered 400 | dropped | |
//! | [`MAX_URI`], [`MAX_PARAMS`] elsewhere | read as if the element were not there | the same | |
//! | [`MAX_ELEMENTS`] | read up to there | the same | |
//! | [`MAX_PARTS`], parts within parts | answered 415, if what is wanted was not found before | | |

/// The longest head, the empty line included. Headers of real messages stay below 10 kB.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// The longest body. Session descriptions and digits are all that we read of them.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// The most header lines; real messages through many proxies stay below 60.
pub(crate) const MAX_HEADERS: usize = 128;
/// The longest header, unfolded. SIP identity headers reach 2 kB.
pub(crate) const MAX_HEADER: usize = 8 * 1024;
/// The longest URI. Those that carry a proxy's state reach some hundred bytes.
pub(crate) const MAX_URI: usize = 2 * 1024;
/// The most parameters of one address, URI, Via or content type.
pub(crate) const MAX_PARAMS: usize = 64;
/// The most elements of a list such as Route, over all headers of the name: more than Max-Forwards lets proxies be.
pub(crate) const MAX_ELEMENTS: usize = 128;
/// The most parts of a multipart body that are looked into. Parts within them are not.
pub(crate) const MAX_PARTS: usize = 8;
/// The longest boundary of a multipart body (RFC 2046 section 5.1.1).
pub(crate) const MAX_BOUNDARY: usize = 70;
/// The largest CSeq (RFC 3261 section 8.1.1.5).
pub(crate) const MAX_CSEQ: u32 = (1 << 31) - 1;
