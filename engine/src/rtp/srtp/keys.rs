//! What SRTP is made of: AES in counter mode, HMAC-SHA1, and the session keys that come out of a master key (RFC 3711
//! sections 4.1.1, 4.2.1 and 4.3). Everything lies on the stack.

use std::fmt;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of an AES-128 key.
pub(super) const KEY_BYTES: usize = 16;
/// Bytes of a salt.
pub(super) const SALT_BYTES: usize = 14;
/// Bytes of the key of HMAC-SHA1.
const AUTH_KEY_BYTES: usize = 20;
const SHA1_BLOCK_BYTES: usize = 64;

/// A master key with the master salt behind it, 30 bytes: what an SDES line carries in base64 (RFC 4568 section 6.1).
/// It shows itself nowhere, and its memory is wiped. A key is for one direction of one call, and must not come back once
/// another has taken its place: counters would start anew, and two packets would be encrypted alike.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; MasterKey::BYTES]);

impl MasterKey {
    /// Bytes of key and salt together.
    pub const BYTES: usize = KEY_BYTES + SALT_BYTES;

    /// A key of 16 bytes and its salt of 14.
    #[must_use]
    pub const fn new(key_and_salt: [u8; Self::BYTES]) -> Self {
        Self(key_and_salt)
    }

    fn key(&self) -> [u8; KEY_BYTES] {
        std::array::from_fn(|n| self.0[n])
    }

    fn salt(&self) -> [u8; SALT_BYTES] {
        std::array::from_fn(|n| self.0[KEY_BYTES + n])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)") // case 46
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// For what a session key is, with the labels of RFC 3711 section 4.3.2.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Rtp,
    Rtcp,
}

impl Use {
    fn labels(self) -> [u8; 3] {
        match self {
            Self::Rtp => [0, 1, 2],
            Self::Rtcp => [3, 4, 5],
        }
    }
}

/// The session keys of one direction of RTP or RTCP. They do not change: the derivation rate of SDES is zero.
#[derive(Clone)]
pub(super) struct SessionKeys {
    cipher: Aes128,
    salt: [u8; SALT_BYTES],
    mac: Hmac<Sha1>,
}

impl SessionKeys {
    pub(super) fn derive(master: &MasterKey, usage: Use) -> Self {
        let [encryption, authentication, salting] = usage.labels();
        let cipher = Aes128::new(&master.key().into());
        let (mut key, mut auth, mut salt) = ([0; KEY_BYTES], [0; AUTH_KEY_BYTES], [0; SALT_BYTES]);
        derive(&cipher, &master.salt(), encryption, &mut key);
        derive(&cipher, &master.salt(), authentication, &mut auth);
        derive(&cipher, &master.salt(), salting, &mut salt);
        // a key that is shorter than a block of SHA-1 is filled up with zeros (RFC 2104 section 2)
        let mut block = [0; SHA1_BLOCK_BYTES];
        block[..AUTH_KEY_BYTES].copy_from_slice(&auth);
        let keys = Self { cipher: Aes128::new(&key.into()), salt, mac: Hmac::new(&block.into()) };
        key.zeroize();
        auth.zeroize();
        block.zeroize();
        keys
    }

    /// Encrypts or decrypts, which is the same: the packet's index and its SSRC choose the key stream.
    pub(super) fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        // (salt * 2^16) xor (SSRC * 2^64) xor (index * 2^16), section 4.1.1
        let mut iv = [0; 16];
        iv[..SALT_BYTES].copy_from_slice(&self.salt);
        for (byte, other) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= other;
        }
        let [_, _, index @ ..] = index.to_be_bytes();
        for (byte, other) in iv[8..14].iter_mut().zip(index) {
            *byte ^= other;
        }
        key_stream(&self.cipher, iv, bytes);
    }

    /// The authentication tag over a packet and what stands behind it without being sent (RTP: the rollover counter).
    pub(super) fn tag(&self, packet: &[u8], behind: &[u8]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(behind);
        mac.finalize().into_bytes().into()
    }

    /// Whether a tag, perhaps cut short, is the right one. Takes as long for a wrong one.
    pub(super) fn verifies(&self, packet: &[u8], behind: &[u8], tag: &[u8]) -> bool {
        let right = self.tag(packet, behind);
        right.get(..tag.len()).is_some_and(|right| bool::from(right.ct_eq(tag)))
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys(..)")
    }
}

/// One session key: the key stream of the master key at the label (section 4.3.1; the index counts for nothing at a
/// derivation rate of zero).
fn derive(master: &Aes128, salt: &[u8; SALT_BYTES], label: u8, key: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..SALT_BYTES].copy_from_slice(salt);
    iv[7] ^= label;
    key.fill(0);
    key_stream(master, iv, key);
}

fn key_stream(cipher: &Aes128, iv: [u8; 16], bytes: &mut [u8]) {
    let core = InnerIvInit::inner_iv_init(cipher, &iv.into());
    let mut stream: Ctr128BE<&Aes128> = StreamCipherCoreWrapper::from_core(core);
    // 2^128 blocks do not end
    let _ = stream.try_apply_keystream(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        std::array::from_fn(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
    }

    #[test]
    fn the_key_stream_is_that_of_rfc_3711_appendix_b_2() {
        let cipher = Aes128::new(&hex::<16>("2B7E151628AED2A6ABF7158809CF4F3C").into());
        let iv = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000");
        let mut stream = vec![0; 16 * 0xFF02];
        key_stream(&cipher, iv, &mut stream);
        let blocks = [
            (0, "E03EAD0935C95E80E166B16DD92B4EB4"),
            (1, "D23513162B02D0F72A43A2FE4A5F97AB"),
            (2, "41E95B3BB0A2E8DD477901E4FCA894C0"),
            (0xFEFF, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
            (0xFF00, "362B7C3C6773516318A077D7FC5073AE"),
            (0xFF01, "6A2CC3787889374FBEB4C81B17BA6C44"),
        ];
        for (block, expected) in blocks {
            assert_eq!(stream[16 * block..16 * (block + 1)], hex::<16>(expected), "block {block:#x}");
        }
    }

    #[test]
    fn the_session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let master: [u8; 30] = hex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::new(master);
        let cipher = Aes128::new(&master.key().into());
        let (mut key, mut salt, mut auth) = ([0; 16], [0; 14], [0; 94]);
        derive(&cipher, &master.salt(), 0, &mut key);
        derive(&cipher, &master.salt(), 2, &mut salt);
        derive(&cipher, &master.salt(), 1, &mut auth);
        assert_eq!(key, hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(salt, hex("30CBBC08863D8C85D49DB34A9AE1"));
        let expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF\
                        72270986371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34\
                        DB60DBDFB2";
        assert_eq!(auth[..], hex::<94>(expected));
        let keys = SessionKeys::derive(&master, Use::Rtp);
        assert_eq!(keys.salt, salt);
    }

    #[test]
    fn keys_do_not_show_themselves() {
        // case 46
        let master = MasterKey::new([0x41; 30]);
        let keys = SessionKeys::derive(&master, Use::Rtcp);
        let shown = format!("{master:?} {keys:?}");
        assert!(!shown.contains("41") && !shown.contains("65"), "{shown}");
    }

    #[test]
    fn a_tag_that_is_too_long_or_wrong_anywhere_does_not_verify() {
        let keys = SessionKeys::derive(&MasterKey::new([7; 30]), Use::Rtp);
        let tag = keys.tag(b"packet", &[0; 4]);
        for length in [4, 10, 20] {
            assert!(keys.verifies(b"packet", &[0; 4], &tag[..length]));
            for bit in 0..8 * length {
                let mut wrong = tag;
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!keys.verifies(b"packet", &[0; 4], &wrong[..length]));
            }
        }
        assert!(!keys.verifies(b"packet", &[0; 4], &[0; 21]));
    }
}
