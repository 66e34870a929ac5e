//! Private keys as a store may have them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use zeroize::Zeroizing;

use crate::{
    config::ConfigError,
    jwt::{algorithm::Algorithm, key},
    random,
    store::SealedKey,
};

/// Seals private keys under a secret that the store does not know.
pub(super) struct Sealing(LessSafeKey);

impl Sealing {
    /// Of a secret as long and as random as one for HMAC.
    pub(super) fn new(secret: &[u8]) -> Result<Self, ConfigError> {
        let secret = key::hmac_key(Algorithm::Hs256, secret)?;
        let key = hmac::sign(&secret, b"portcullis signing keys at rest");
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| ConfigError::Key("no sealing key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The nonce goes in front. Random, because there are a few keys a year.
    pub(super) fn seal(&self, kid: &str, key: &[u8]) -> Option<SealedKey> {
        let nonce: [u8; NONCE_LEN] = random::bytes().ok()?;
        let mut sealed = Zeroizing::new(key.to_vec());
        let tag = self.0.seal_in_place_separate_tag(nonce_of(nonce), Aad::from(kid), &mut sealed).ok()?;
        Some(SealedKey::from_bytes([nonce.as_slice(), &sealed, tag.as_ref()].concat()))
    }

    /// `None` if it was sealed under another secret or for another id, or was changed.
    pub(super) fn open(&self, kid: &str, sealed: &SealedKey) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.as_bytes().split_first_chunk()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let length = self.0.open_in_place(nonce_of(*nonce), Aad::from(kid), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

fn nonce_of(bytes: [u8; NONCE_LEN]) -> Nonce {
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sealed_under_their_id_and_a_secret() {
        let sealing = Sealing::new(b"0123456789abcdefghijklmnopqrstuv").unwrap();
        let sealed = sealing.seal("k", b"private").unwrap();
        assert_eq!(sealing.open("k", &sealed).unwrap().as_slice(), b"private");
        assert_ne!(sealing.seal("k", b"private").unwrap(), sealed, "no nonce twice");
        assert!(sealing.open("l", &sealed).is_none());
        let other = Sealing::new(b"1123456789abcdefghijklmnopqrstuv").unwrap();
        assert!(other.open("k", &sealed).is_none());
        for short in [0, NONCE_LEN, NONCE_LEN + 1] {
            assert!(sealing.open("k", &SealedKey::from_bytes(sealed.as_bytes()[..short].to_vec())).is_none());
        }
        assert_eq!(
            Sealing::new(b"short").err(),
            Some(ConfigError::WeakKey { algorithm: Algorithm::Hs256, bits: 40, least: 256 })
        );
    }
}
