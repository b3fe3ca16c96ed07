//! A hash for addresses that takes a few nanoseconds and that nobody outside can foresee.
//!
//! Two multiplications of 64 by 64 bits with secret numbers, folded. That is no cryptography, but whoever would have
//! addresses collide had to know the numbers or see the collisions, and can do neither: what they cost him and us is one place
//! in one set of a table.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
};

/// The secret numbers; `Debug` does not print them.
#[derive(Clone, Copy)]
pub(super) struct Secret([u64; 3]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Secret {
    pub(super) fn of(seed: &[u8; 32]) -> Secret {
        let mut numbers = [0; 3];
        for (number, bytes) in numbers.iter_mut().zip(seed.chunks(8)) {
            // odd, so that a multiplication loses nothing; and not so small that it moves nothing, if the seed is
            *number = bytes.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |n, b| n.rotate_left(8) ^ u64::from(*b)) | 1;
        }
        Secret(numbers)
    }
}

impl BuildHasher for Secret {
    type Hasher = Keyed;

    fn build_hasher(&self) -> Keyed {
        Keyed { secret: *self, state: 0 }
    }
}

/// Hashes a `u128`.
#[derive(Debug)]
pub(super) struct Keyed {
    secret: Secret,
    state: u64,
}

impl Hasher for Keyed {
    fn write_u128(&mut self, key: u128) {
        let Secret([first, second, third]) = self.secret;
        let (high, low) = ((key >> 64) as u64, key as u64);
        let mixed = fold(low ^ first ^ self.state, high ^ second);
        self.state = fold(mixed ^ low.rotate_left(32), third);
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(16) {
            self.write_u128(part.iter().fold(0, |n, b| n << 8 | u128::from(*b)));
        }
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}
