//! Refresh tokens: what a client holds.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hmac,
};
use base64_simd::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::digest::{SealedToken, TokenDigest};
use crate::{
    ident::SessionId,
    random::{self, RandomUnavailable},
};

const SECRET: usize = 32;
const TOKEN: usize = SessionId::BYTES + SECRET;

/// A refresh token: the session's id, by which it is looked up, and 32 random bytes. Prints as `[redacted]`.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    session: SessionId,
    secret: Zeroizing<[u8; SECRET]>,
}

impl RefreshToken {
    /// A fresh token of this session.
    pub(crate) fn random(session: SessionId) -> Result<Self, RandomUnavailable> {
        Ok(Self { session, secret: Zeroizing::new(random::bytes()?) })
    }

    /// Reads what a client sent. Of one token there is one text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The length first: nothing longer is worth decoding.
        if text.len() != TOKEN.div_ceil(3) * 4 {
            return None;
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode_to_vec(text).ok()?);
        let (session, secret) = bytes.split_first_chunk()?;
        Some(Self { session: SessionId::from_bytes(*session), secret: Zeroizing::new(secret.try_into().ok()?) })
    }

    /// What the client gets.
    pub(crate) fn expose(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([self.session.as_bytes().as_slice(), self.secret.as_slice()].concat());
        Zeroizing::new(URL_SAFE_NO_PAD.encode_to_string(&*bytes))
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn digest(&self) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.secret.as_slice()).as_ref());
        TokenDigest::from_bytes(bytes)
    }

    /// Seals `successor` under this token, for a client that has to ask twice. The store, which has this token's digest
    /// alone, cannot open it.
    pub(crate) fn seal(&self, successor: &Self) -> Option<SealedToken> {
        let mut sealed = successor.secret.to_vec();
        self.sealing_key()?.seal_in_place_append_tag(once(), Aad::from(self.session.as_bytes()), &mut sealed).ok()?;
        Some(SealedToken::from_bytes(sealed))
    }

    /// Opens what was sealed under this token.
    pub(crate) fn open(&self, sealed: &SealedToken) -> Option<Self> {
        let mut bytes = Zeroizing::new(sealed.as_bytes().to_vec());
        let opened = self.sealing_key()?.open_in_place(once(), Aad::from(self.session.as_bytes()), &mut bytes).ok()?;
        Some(Self { session: self.session, secret: Zeroizing::new((&*opened).try_into().ok()?) })
    }

    /// A key of its own beside the digest: whoever reads the store knows the digest.
    fn sealing_key(&self) -> Option<LessSafeKey> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_slice());
        let key = hmac::sign(&secret, b"portcullis refresh successor");
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
    }
}

/// Each key seals one token, or the same one again: a token has one successor, whichever of several it becomes. Of those
/// that do not become it, nothing is kept.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> RefreshToken {
        RefreshToken::random(SessionId::random().unwrap()).unwrap()
    }

    #[test]
    fn one_token_has_one_text() {
        let token = token();
        let text = token.expose();
        assert_eq!(text.len(), 64);
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.session(), read.digest()), (token.session(), token.digest()));
        for bad in ["", "x", &text[1..], &format!("{}=", &text[1..]), &format!("{} ", &text[1..]), &"é".repeat(32)] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
        assert!(!format!("{token:?}").contains(&text[..8]));
    }

    #[test]
    fn a_successor_is_sealed_under_its_predecessor_alone() {
        let (token, successor) = (token(), token());
        let successor = RefreshToken { session: token.session(), ..successor };
        let sealed = token.seal(&successor).unwrap();
        assert_eq!(token.open(&sealed).unwrap().digest(), successor.digest());
        for other in
            [successor.clone(), self::token(), RefreshToken { session: SessionId::random().unwrap(), ..token.clone() }]
        {
            assert!(other.open(&sealed).is_none());
        }
        let mut bytes = sealed.as_bytes().to_vec();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(token.open(&SealedToken::from_bytes(bytes.clone())).is_none(), "{at}");
            bytes[at] ^= 1;
        }
    }
}
