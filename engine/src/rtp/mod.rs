//! RTP and RTCP (RFC 3550) as far as a telephone call needs them: reading and writing packets, sequence arithmetic,
//! reception figures, encryption, and the choice of whom to believe and whom to answer.

pub mod demux;
pub mod packet;
pub mod reception;
pub mod rtcp;
pub mod source;
pub mod srtp;

/// A 16-bit sequence number extended to 64 bits by the number nearest to `near` (RFC 3550 appendix A.1's cycles without
/// their special cases).
#[must_use]
pub fn extend_sequence(near: i64, sequence: u16) -> i64 {
    near + i64::from(sequence.wrapping_sub(low16(near)).cast_signed())
}

/// A 32-bit timestamp extended to 64 bits by the timestamp nearest to `near`.
#[must_use]
pub fn extend_timestamp(near: i64, timestamp: u32) -> i64 {
    near + i64::from(timestamp.wrapping_sub(low32(near)).cast_signed())
}

fn low16(value: i64) -> u16 {
    (value & 0xFFFF) as u16
}

fn low32(value: i64) -> u32 {
    (value & 0xFFFF_FFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extension_finds_the_nearest_value(near in -1_i64 << 40..1_i64 << 40, step in -32_768_i64..32_768) {
            prop_assert_eq!(extend_sequence(near, low16(near + step)), near + step);
            prop_assert_eq!(extend_timestamp(near, low32(near + step * 60_000)), near + step * 60_000);
        }
    }
}
