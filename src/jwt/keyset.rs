//! Which key checks which token.

use std::sync::Arc;

use super::key::VerifyingKey;
use crate::{
    config::{ConfigError, ConfigErrors},
    rejection::Rejection,
};

/// Verification keys, of which exactly one fits a token, or none. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeySet(Arc<[VerifyingKey]>);

impl KeySet {
    /// A set of `keys`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoKey`] if there is none, [`ConfigError::DuplicateKey`] for each two of the same algorithm and
    /// key id (RFC 7517 §4.5).
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Result<Self, ConfigErrors> {
        let keys: Vec<VerifyingKey> = keys.into_iter().collect();
        let mut errors = ConfigErrors::default();
        if keys.is_empty() {
            errors.push(ConfigError::NoKey);
        }
        let mut rest = keys.as_slice();
        while let Some((key, others)) = rest.split_first() {
            rest = others;
            if others.iter().any(|other| other.kid() == key.kid() && other.algorithm().accepts(key.algorithm().name()))
            {
                errors.push(ConfigError::DuplicateKey(key.kid().map(str::to_owned)));
            }
        }
        errors.finish(Some(Self(keys.into())))
    }

    /// The one key that may check a token whose header names `kid` and `alg`.
    ///
    /// `alg` comes from the token and only selects among keys: which algorithm runs is the key's own.
    pub(crate) fn select(&self, kid: Option<&str>, alg: &str) -> Result<&VerifyingKey, Rejection> {
        let one_of = |wanted: &dyn Fn(&VerifyingKey) -> bool| {
            let mut fitting = self.0.iter().filter(|key| key.algorithm().accepts(alg) && wanted(key));
            match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (None, _) => Err(Rejection::UnknownKey),
                (Some(_), Some(_)) => Err(Rejection::AmbiguousKey),
            }
        };
        match kid {
            None => one_of(&|_| true),
            Some(kid) => one_of(&|key| key.kid() == Some(kid)).or_else(|rejection| match rejection {
                Rejection::UnknownKey => one_of(&|key| key.kid().is_none()),
                other => Err(other),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Algorithm;

    fn key(algorithm: Algorithm, first: u8, kid: Option<&str>) -> VerifyingKey {
        let secret: Vec<u8> = (first..first + 64).collect();
        let key = VerifyingKey::hmac(algorithm, &secret).unwrap();
        kid.map_or(key.clone(), |kid| key.with_kid(kid))
    }

    #[test]
    fn req_058_req_059_req_087_selection() {
        use Algorithm::{Hs256, Hs512};
        let two = KeySet::new([key(Hs256, 0, Some("a")), key(Hs256, 1, Some("b"))]).unwrap();
        let open = KeySet::new([key(Hs256, 0, None), key(Hs512, 1, Some("b"))]).unwrap();
        let pair = KeySet::new([key(Hs256, 0, Some("a")), key(Hs512, 1, Some("a"))]).unwrap();
        for (set, kid, alg, expected) in [
            (&two, Some("a"), "HS256", Ok((Hs256, Some("a")))),
            (&two, Some("A"), "HS256", Err(Rejection::UnknownKey)),
            (&two, Some("../../dev/null"), "HS256", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "HS512", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "none", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "hs256", Err(Rejection::UnknownKey)),
            (&two, None, "HS256", Err(Rejection::AmbiguousKey)),
            (&open, Some("x"), "HS256", Ok((Hs256, None))),
            (&open, None, "HS256", Ok((Hs256, None))),
            (&open, None, "HS512", Ok((Hs512, Some("b")))),
            (&open, Some("x"), "HS512", Err(Rejection::UnknownKey)),
            (&pair, Some("a"), "HS512", Ok((Hs512, Some("a")))),
        ] {
            let selected = set.select(kid, alg).map(|key| (key.algorithm(), key.kid()));
            assert_eq!(selected, expected, "{kid:?} {alg}");
        }
    }

    #[test]
    fn sets_that_cannot_decide_are_not_built() {
        assert_eq!(KeySet::new([]).unwrap_err(), ConfigError::NoKey.into());
        for kid in [None, Some("a")] {
            let twice = [key(Algorithm::Hs256, 0, kid), key(Algorithm::Hs256, 1, kid)];
            assert_eq!(KeySet::new(twice).unwrap_err(), ConfigError::DuplicateKey(kid.map(str::to_owned)).into());
        }
    }
}
