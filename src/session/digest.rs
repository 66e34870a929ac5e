//! What a store may know of refresh tokens.

use std::fmt;

/// What a store keeps of a refresh token: SHA-256 of its secret, which is random enough that no slower hash is needed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TokenDigest([u8; 32]);

/// A refresh token that only the holder of the one before it can read.
#[derive(Clone, Eq, PartialEq)]
pub struct SealedToken(Vec<u8>);

impl TokenDigest {
    /// Takes over what a store has kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a store to keep.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl SealedToken {
    /// Takes over what a store has kept.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For a store to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}
