//! The bounds on what one message may be (cases 3 and 5). What is beyond them is answered 513, refused or dropped, or closes the
//! stream that it came on; see each one. Session descriptions have their own, in [`crate::sdp`].

/// The longest head, the empty line included. Headers of real messages stay below 10 kB.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// The longest body. Session descriptions and digits are all that we read of them.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// The most header lines; real messages through many proxies stay below 60.
pub(crate) const MAX_HEADERS: usize = 128;
/// The longest header, unfolded. SIP identity headers reach 2 kB.
pub(crate) const MAX_HEADER: usize = 8 * 1024;
