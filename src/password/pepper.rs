//! Secrets that stand beside the store, and without which what is in it cannot be guessed at. Pure.

use std::collections::HashSet;

use crate::{
    client::HashedSecret,
    config::{ConfigError, ConfigErrors},
    secret::Secret,
};

/// Peppers that there may be, the current one included.
const MOST: usize = 16;

/// A secret that goes into each hash (RFC 9106 §3.1, `K`), and the id by which the hash names it.
#[derive(Clone, Debug)]
pub(super) struct Pepper {
    pub(super) id: String,
    secret: Secret<String>,
}

impl Pepper {
    pub(super) const fn new(id: String, secret: Secret<String>) -> Self {
        Self { id, secret }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.secret.expose().as_bytes()
    }

    fn check(&self) -> Result<(), ConfigError> {
        // As many as `keyid` of a PHC string holds.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=8).contains(&self.id.len()) || !self.id.bytes().all(plain) {
            let reason = "its id is not 1 to 8 letters, digits, hyphens and underscores";
            return Err(ConfigError::Pepper { id: self.id.clone(), reason });
        }
        HashedSecret::of(&self.secret).map(drop)
    }
}

/// The pepper of new hashes, if there is one, and those of older ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Peppers {
    pub(super) current: Option<Pepper>,
    pub(super) old: Vec<Pepper>,
}

impl Peppers {
    fn all(&self) -> impl Iterator<Item = &Pepper> {
        self.current.iter().chain(&self.old)
    }

    /// The one with this id.
    pub(super) fn named(&self, id: &[u8]) -> Option<&Pepper> {
        self.all().find(|pepper| pepper.id.as_bytes() == id)
    }

    /// Notes each that cannot be used.
    pub(super) fn check(&self, errors: &mut ConfigErrors) {
        errors.bound_number("peppers", self.all().count(), 0, MOST);
        let mut ids = HashSet::new();
        for pepper in self.all() {
            errors.keep(pepper.check().map_err(ConfigErrors::from));
            if !ids.insert(&pepper.id) {
                errors.push(ConfigError::Pepper { id: pepper.id.clone(), reason: "its id is that of another one" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pepper_is_random_and_has_an_id_of_its_own() {
        let good = "0123456789abcdefghijklmnopqrstuv";
        for (peppers, mistakes) in [
            (vec![("1", good)], 0),
            (vec![("2026-11", good), ("_", good)], 0),
            (vec![("", good)], 1),
            (vec![("ninechars", good)], 1),
            (vec![("a,b", good)], 1),
            (vec![("é", good)], 1),
            (vec![("1", "0123456789abcdefghijklmnopqrstu")], 1),
            (vec![("1", "abababababababababababababababababababab")], 1),
            (vec![("1", good), ("1", good)], 1),
        ] {
            let mut all = peppers.iter().map(|(id, secret)| Pepper::new((*id).to_owned(), Secret::from(*secret)));
            let peppers = Peppers { current: all.next(), old: all.collect() };
            let mut errors = ConfigErrors::default();
            peppers.check(&mut errors);
            assert_eq!(errors.iter().count(), mistakes, "{peppers:?}: {errors}");
            assert!(!format!("{peppers:?}{errors}").contains("0123456789ab"), "{peppers:?}{errors}");
        }
        let many = (0..17).map(|n| Pepper::new(n.to_string(), Secret::from(good))).collect();
        let mut errors = ConfigErrors::default();
        Peppers { current: None, old: many }.check(&mut errors);
        assert_eq!(errors.iter().count(), 1);
    }
}
