//! Digest authentication.

use std::fmt;

/// A secret. Its `Debug` does not print it, and nothing in this crate logs it (case 46).
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes the secret in.
    pub fn new(secret: impl Into<String>) -> Password {
        Password(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}
