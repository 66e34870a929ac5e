//! Names of users: what a person types, what the store keys on, what a token says.

use std::fmt;

use base64_simd::{Out, URL_SAFE_NO_PAD};
use serde::Serialize;
use unicode_normalization::UnicodeNormalization as _;

use crate::random::{self, RandomUnavailable};

/// Longest login name, in bytes after normalisation.
const MAX_LOGIN_NAME: usize = 256;
/// Longest user id, in bytes.
const MAX_USER_ID: usize = 64;

/// What a person types as user name, in the one form that stores and limiters key on: NFKC, lower case.
///
/// Lower case is Unicode's simple mapping of each character, not case folding: `ß` and `SS` stay different names.
///
/// ```
/// use portcullis::ident::LoginName;
///
/// assert_eq!(LoginName::parse("Ｊohn@Example.com")?, LoginName::parse("john@example.com")?);
/// # Ok::<(), portcullis::ident::LoginNameError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LoginName(String);

/// Why a text is no login name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginNameError {
    /// Nothing is left of it, or it was empty.
    #[error("login name is empty")]
    Empty,
    /// It takes more than 256 bytes.
    #[error("login name is longer than {MAX_LOGIN_NAME} bytes")]
    TooLong,
    /// It contains a control character.
    #[error("login name contains a control character")]
    Control,
}

impl LoginNameError {
    /// Stable name, for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "username_empty",
            Self::TooLong => "username_too_long",
            Self::Control => "username_control",
        }
    }
}

impl LoginName {
    /// Normalises `text`: NFKC, then lower case, then NFKC again because lowering can undo it.
    ///
    /// # Errors
    ///
    /// [`LoginNameError`] if it is empty, longer than 256 bytes, or contains a control character.
    pub fn parse(text: &str) -> Result<Self, LoginNameError> {
        // Checked before normalising as well: the work is bounded, and NFKC may shorten.
        if text.len() > MAX_LOGIN_NAME {
            return Err(LoginNameError::TooLong);
        }
        let name: String = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
        };
        if name.is_empty() {
            Err(LoginNameError::Empty)
        } else if name.len() > MAX_LOGIN_NAME {
            Err(LoginNameError::TooLong)
        } else if name.chars().any(char::is_control) {
            Err(LoginNameError::Control)
        } else {
            Ok(Self(name))
        }
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user's identifier: never changes, never reused, says nothing about the person.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// A fresh random id of 128 bits.
    ///
    /// # Errors
    ///
    /// [`RandomUnavailable`] if the system gives no random bytes.
    pub fn random() -> Result<Self, RandomUnavailable> {
        random::text::<16>().map(Self)
    }

    /// An id from a store: 1 to 64 characters of `A-Z a-z 0-9 - _ .`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=MAX_USER_ID).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The id of the user whom a token's `sub` names, if it names a user.
    pub fn from_subject(subject: &str) -> Option<Self> {
        Self::parse(subject.strip_prefix(USER)?)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This user as a token's `sub`: `user:<id>`. The prefix keeps users and clients apart (RFC 9068 §5).
    pub fn subject(&self) -> String {
        format!("{USER}{}", self.0)
    }
}

/// One login on one device: `sid` of its tokens. Random; says nothing about the person or the device.
///
/// ```
/// use portcullis::ident::SessionId;
///
/// let id = SessionId::random()?;
/// assert_eq!(SessionId::parse(&id.to_string()), Some(id));
/// # Ok::<(), portcullis::random::RandomUnavailable>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; Self::BYTES]);

impl SessionId {
    /// Its length.
    pub const BYTES: usize = 16;

    /// A fresh random id of 128 bits.
    ///
    /// # Errors
    ///
    /// [`RandomUnavailable`] if the system gives no random bytes.
    pub fn random() -> Result<Self, RandomUnavailable> {
        random::bytes().map(Self)
    }

    /// Reads the text that `Display` writes: 22 characters of base64url.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        let fits = text.len() == (Self::BYTES * 4).div_ceil(3);
        fits.then(|| URL_SAFE_NO_PAD.decode(text.as_bytes(), Out::from_slice(&mut bytes)).ok()).flatten()?;
        Some(Self(bytes))
    }

    /// Takes over what a store has kept.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// For a store to keep.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode_to_string(self.0))
    }
}

const USER: &str = "user:";

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names() {
        for (typed, expected) in [
            ("Alice", Ok("alice")),
            ("ＡＬＩＣＥ", Ok("alice")),
            ("ﬁona", Ok("fiona")),
            ("É", Ok("é")),
            ("E\u{301}", Ok("é")),
            ("a b", Ok("a b")),
            ("", Err(LoginNameError::Empty)),
            ("a\0b", Err(LoginNameError::Control)),
            ("a\u{85}", Err(LoginNameError::Control)),
            (&"x".repeat(257), Err(LoginNameError::TooLong)),
            // Short as typed, but NFKC makes 18 characters of this one.
            (&"\u{fdfa}".repeat(80), Err(LoginNameError::TooLong)),
        ] {
            let name = LoginName::parse(typed);
            assert_eq!(name.as_ref().map(LoginName::as_str).map_err(|e| *e), expected, "{typed}");
        }
    }

    #[test]
    fn req_102_subjects_are_typed() {
        let id = UserId::parse("a-1").unwrap();
        assert_eq!(id.subject(), "user:a-1");
        assert_eq!(UserId::from_subject("user:a-1"), Some(id));
        for other in ["a-1", "client:a-1", "user:", "User:a-1", "user:a b", ""] {
            assert_eq!(UserId::from_subject(other), None, "{other}");
        }
    }
}
