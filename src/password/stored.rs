//! A stored hash of any kind: read, held to the bounds, and compared with a password. Pure.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

#[cfg(feature = "legacy-hashes")]
use super::legacy::{Legacy, LegacyHash};
use super::{
    argon2id::{Argon2Hash, Argon2Params, Failure, Memory},
    pepper::{Pepper, Peppers},
};
use crate::store::PasswordHash;

/// Longest password, in bytes as it was sent.
pub(super) const MAX_PASSWORD: usize = 1024;

/// NFC: one character, one spelling, whatever keyboard it came from (NIST SP 800-63B-4 §3.1.1.2).
pub(super) fn normal(password: &str) -> Zeroizing<String> {
    Zeroizing::new(if is_nfc(password) { password.to_owned() } else { password.nfc().collect() })
}

/// Hashes that take the same to check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Argon2(Argon2Params),
    #[cfg(feature = "legacy-hashes")]
    Legacy(Legacy),
}

/// A stored hash that can be checked.
pub(super) enum Stored<'a> {
    Argon2(Argon2Hash<'a>),
    #[cfg(feature = "legacy-hashes")]
    Legacy(LegacyHash<'a>),
}

impl<'a> Stored<'a> {
    /// Reads it, whatever made it; `None` if it is in no form that is known here, or asks for too much.
    pub(super) fn read(hash: &'a PasswordHash, peppers: &'a Peppers) -> Option<Self> {
        let text = hash.expose();
        #[cfg(feature = "legacy-hashes")]
        if let Some(hash) = LegacyHash::read(text) {
            return Some(Self::Legacy(hash));
        }
        // As Django writes it: `argon2$argon2id$…`.
        #[cfg(feature = "legacy-hashes")]
        let text = text.strip_prefix("argon2").unwrap_or(text);
        Argon2Hash::read(text, peppers).map(Self::Argon2)
    }

    /// What it takes to check it.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Argon2(hash) => Kind::Argon2(hash.params()),
            #[cfg(feature = "legacy-hashes")]
            Self::Legacy(hash) => Kind::Legacy(hash.takes),
        }
    }

    /// Whether checking it is the very work that a new hash takes.
    pub(super) fn costs(&self, params: Argon2Params) -> bool {
        match self {
            Self::Argon2(hash) => hash.costs(params),
            #[cfg(feature = "legacy-hashes")]
            Self::Legacy(_) => false,
        }
    }

    /// Whether a new hash would be made in the same way.
    pub(super) fn is_made_as(&self, params: Argon2Params, pepper: Option<&Pepper>) -> bool {
        match self {
            Self::Argon2(hash) => hash.is_made_as(params, pepper),
            #[cfg(feature = "legacy-hashes")]
            Self::Legacy(_) => false,
        }
    }

    /// Whether another hash of `password`, which fits, would be one of the same password. bcrypt reads 72 bytes: whatever
    /// somebody has typed behind them would be part of it from then on.
    #[cfg_attr(not(feature = "legacy-hashes"), expect(unused_variables, reason = "all of it is read"))]
    pub(super) fn has_read(&self, password: &str) -> bool {
        match self {
            Self::Argon2(_) => true,
            #[cfg(feature = "legacy-hashes")]
            Self::Legacy(hash) => hash.has_read(normal(password).as_bytes()),
        }
    }

    /// Whether it is the hash of `password`.
    ///
    /// Too long a password costs as much as any other before it is refused.
    pub(super) fn fits(&self, password: &str, memory: &mut Memory) -> Result<bool, Failure> {
        let too_long = password.len() > MAX_PASSWORD;
        let password = if too_long { Zeroizing::new(String::new()) } else { normal(password) };
        let fits = match self {
            Self::Argon2(hash) => hash.fits(password.as_bytes(), memory)?,
            #[cfg(feature = "legacy-hashes")]
            Self::Legacy(hash) => hash.fits(password.as_bytes())?,
        };
        Ok(fits && !too_long)
    }
}

#[cfg(all(test, feature = "legacy-hashes"))]
mod tests {
    use super::*;

    #[test]
    fn req_168_other_kinds_of_argon2_are_read() {
        for (text, password) in [
            // Debian's `argon2`, of libargon2; the last with Django's prefix.
            (
                "$argon2i$v=19$m=4096,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$mYIO4o1rz9pgnq7vI1g0U3MQ4r8pnqZfGhcQ2HWhCGo",
                "password",
            ),
            (
                "$argon2d$v=19$m=4096,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$7zsR+xwydLdvEwhsq3oiYp4Aduw+a8yIZYNDaiIzlfA",
                "password",
            ),
            (
                "$argon2id$v=19$m=4096,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$GIDb0bjZv/zL6K6d9YzKPOpfCjQnH6oS30MB6t9rDtk",
                "password",
            ),
            (
                "argon2$argon2id$v=19$m=512,t=2,p=8$c29tZXNhbHRzb21lc2FsdA$xUwlO1HBHJk6GXIL9wrstFkdt7Dg1G06+AxbtP2jJO0",
                "le\u{300}tmein",
            ),
        ] {
            let (hash, peppers) = (PasswordHash::from_phc(text), Peppers::default());
            let stored = Stored::read(&hash, &peppers).unwrap();
            let mut memory = Memory::default();
            assert_eq!(stored.fits(password, &mut memory), Ok(true), "{text}");
            assert_eq!(stored.fits("other", &mut memory), Ok(false), "{text}");
            assert!(!stored.is_made_as(Argon2Params::default(), None), "{text}");
        }
    }
}
