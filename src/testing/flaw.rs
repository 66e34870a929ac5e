//! Every kind of wrong that a token can be, by name, and what it must meet. Pure.

use std::{fmt, time::Duration};

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::{
    clock::UnixSeconds,
    jwt::{Algorithm, SigningKey},
    rejection::Rejection,
};

/// How long before or after now something is that is out of time: more than the longest leeway.
const HOUR: Duration = Duration::from_secs(3600);
const EMPTY: Rejection = Rejection::MalformedToken("a segment is empty");
/// Longest token that a policy takes unless told otherwise.
const MOST: usize = 8 * 1024;

/// What is wrong with a token: for [`TestAuthority::flawed`](super::TestAuthority::flawed). But for the one flaw it is a good one,
/// with the caller and the scopes that it is made for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Flaw {
    /// `exp` was an hour ago.
    Expired,
    /// `nbf` is in an hour.
    NotYetValid,
    /// `iat` is in an hour.
    IssuedInFuture,
    /// `iss` is somebody else.
    WrongIssuer,
    /// `aud` is somebody else.
    WrongAudience,
    /// There is no `aud`.
    NoAudience,
    /// `typ` is that of an ID token.
    IdToken,
    /// There is no `typ`.
    NoType,
    /// The header names a key that the issuer does not have, which signed it.
    UnknownKey,
    /// The header names a key of the issuer, and another one signed it.
    BadSignature,
    /// The claims were changed after they were signed.
    ChangedClaims,
    /// The signature was left out.
    NoSignature,
    /// `alg` is `none`, and there is no signature (RFC 8725 §2.1).
    AlgorithmNone,
    /// `alg` is `none`, and there is a signature of the issuer's key.
    AlgorithmNoneSigned,
    /// `alg` is `HS256`, and the secret is the issuer's public key (RFC 8725 §2.1).
    PublicKeyAsSecret,
    /// The header brings along the key that signed it, as `jwk`.
    EmbeddedKey,
    /// The header says where the key is that signed it, as `jku`.
    KeyAddress,
    /// The header has `crit`, with something that nobody understands.
    Critical,
    /// The payload is compressed, says the header (`zip`).
    Compressed,
    /// Two segments.
    TwoSegments,
    /// A payload that is no base64url, though a bearer token may have all of its characters.
    NotBase64,
    /// A payload that is no JSON.
    NotJson,
    /// A claim is there twice.
    DuplicateMember,
    /// Longer than a policy takes unless told otherwise.
    Oversized,
    /// No `iss`.
    NoIssuer,
    /// No `sub`.
    NoSubject,
    /// No `jti`.
    NoTokenId,
    /// No `client_id`.
    NoClientId,
    /// No `iat`.
    NoIssuedAt,
    /// No `exp`.
    NoExpiry,
    /// `exp` is a string.
    MalformedExpiry,
    /// `sub` is empty.
    EmptySubject,
    /// `scope` has two spaces between two names.
    MalformedScope,
}

impl Flaw {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Expired,
        Self::NotYetValid,
        Self::IssuedInFuture,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::NoAudience,
        Self::IdToken,
        Self::NoType,
        Self::UnknownKey,
        Self::BadSignature,
        Self::ChangedClaims,
        Self::NoSignature,
        Self::AlgorithmNone,
        Self::AlgorithmNoneSigned,
        Self::PublicKeyAsSecret,
        Self::EmbeddedKey,
        Self::KeyAddress,
        Self::Critical,
        Self::Compressed,
        Self::TwoSegments,
        Self::NotBase64,
        Self::NotJson,
        Self::DuplicateMember,
        Self::Oversized,
        Self::NoIssuer,
        Self::NoSubject,
        Self::NoTokenId,
        Self::NoClientId,
        Self::NoIssuedAt,
        Self::NoExpiry,
        Self::MalformedExpiry,
        Self::EmptySubject,
        Self::MalformedScope,
    ];
}

/// A token that is wrong, and what it must meet.
#[derive(Clone)]
#[non_exhaustive]
pub struct FlawedToken {
    /// What is wrong with it.
    pub flaw: Flaw,
    /// The token.
    pub token: String,
    /// Why it must be refused, as of the moment at which it was made.
    pub rejection: Rejection,
}

// Some of them are good tokens but for the moment, or for somebody else.
impl fmt::Debug for FlawedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flaw, rejection, .. } = self;
        f.debug_struct("FlawedToken").field("flaw", flaw).field("rejection", rejection).finish_non_exhaustive()
    }
}

impl FlawedToken {
    /// Whether `rejection` is the one that it must meet. When it was checked does not matter: clocks go on meanwhile.
    pub fn meets(&self, rejection: Rejection) -> bool {
        match (self.rejection, rejection) {
            (Rejection::Expired { exp: one, .. }, Rejection::Expired { exp: other, .. })
            | (Rejection::NotYetValid { nbf: one, .. }, Rejection::NotYetValid { nbf: other, .. })
            | (Rejection::IssuedInFuture { iat: one, .. }, Rejection::IssuedInFuture { iat: other, .. }) => {
                one == other
            }
            (one, other) => one == other,
        }
    }
}

/// What a wrong token is made of.
pub(super) struct Forge<'a> {
    /// The issuer's key.
    pub(super) key: &'a SigningKey,
    /// A key of the same algorithm that the issuer does not have.
    pub(super) stranger: &'a SigningKey,
    /// Good claims.
    pub(super) claims: Map<String, Value>,
    pub(super) now: UnixSeconds,
}

/// Nobody can make the token: the library does not sign.
pub(super) struct CannotForge;

impl<E: std::error::Error> From<E> for CannotForge {
    fn from(_: E) -> Self {
        Self
    }
}

impl Forge<'_> {
    pub(super) fn make(self, flaw: Flaw) -> Result<FlawedToken, CannotForge> {
        let (token, rejection) = self.wrong(flaw)?;
        Ok(FlawedToken { flaw, token, rejection })
    }

    fn wrong(mut self, flaw: Flaw) -> Result<(String, Rejection), CannotForge> {
        let now = self.now;
        let (past, future) = (UnixSeconds::new(now.get().saturating_sub(HOUR.as_secs())), now.saturating_add(HOUR));
        let later = future.saturating_add(HOUR);
        let missing = Rejection::ClaimMissing;
        let malformed = Rejection::MalformedToken;
        let rejection = match flaw {
            Flaw::Expired => {
                self.set("iat", past.get().saturating_sub(60));
                self.set("exp", past.get());
                Rejection::Expired { exp: past, now }
            }
            Flaw::NotYetValid => {
                self.set("nbf", future.get());
                self.set("exp", later.get());
                Rejection::NotYetValid { nbf: future, now }
            }
            Flaw::IssuedInFuture => {
                self.set("iat", future.get());
                self.set("exp", later.get());
                Rejection::IssuedInFuture { iat: future, now }
            }
            Flaw::WrongIssuer => self.having("iss", "https://other.example", Rejection::WrongIssuer),
            Flaw::WrongAudience => self.having("aud", "another", Rejection::WrongAudience),
            Flaw::NoAudience => self.without("aud", missing("aud")),
            Flaw::NoIssuer => self.without("iss", missing("iss")),
            Flaw::NoSubject => self.without("sub", missing("sub")),
            Flaw::NoTokenId => self.without("jti", missing("jti")),
            Flaw::NoClientId => self.without("client_id", missing("client_id")),
            Flaw::NoIssuedAt => self.without("iat", missing("iat")),
            Flaw::NoExpiry => self.without("exp", missing("exp")),
            Flaw::MalformedExpiry => self.having("exp", "tomorrow", Rejection::ClaimMalformed("exp")),
            Flaw::EmptySubject => self.having("sub", "", Rejection::ClaimMalformed("sub")),
            Flaw::MalformedScope => self.having("scope", "two  spaces", Rejection::ClaimMalformed("scope")),
            Flaw::Oversized => {
                self.set("padding", "x".repeat(MOST));
                let token = self.signed()?;
                let rejection = Rejection::TokenTooLong { bytes: token.len(), most: MOST };
                return Ok((token, rejection));
            }
            Flaw::DuplicateMember => {
                let payload = format!(r#"{{"sub":"user:0",{}"#, self.payload().trim_start_matches('{'));
                let token = self.key.sign_spelt(&self.header(&[]), &payload)?;
                return Ok((token, malformed("a member is named twice")));
            }
            Flaw::NotJson => {
                let token = self.key.sign_spelt(&self.header(&[]), "no claims")?;
                return Ok((token, malformed("not a JSON object")));
            }
            Flaw::IdToken
            | Flaw::NoType
            | Flaw::UnknownKey
            | Flaw::BadSignature
            | Flaw::ChangedClaims
            | Flaw::NoSignature
            | Flaw::AlgorithmNone
            | Flaw::AlgorithmNoneSigned
            | Flaw::PublicKeyAsSecret
            | Flaw::EmbeddedKey
            | Flaw::KeyAddress
            | Flaw::Critical
            | Flaw::Compressed
            | Flaw::TwoSegments
            | Flaw::NotBase64 => return self.wrong_outside(flaw),
        };
        Ok((self.signed()?, rejection))
    }

    /// Flaws of the header, the signature and the framing.
    fn wrong_outside(self, flaw: Flaw) -> Result<(String, Rejection), CannotForge> {
        let spelt =
            |key: &SigningKey, changes: &[(&str, Value)]| key.sign_spelt(&self.header(changes), &self.payload());
        let public = |key: &SigningKey| serde_json::to_value(key.jwks().keys.into_iter().next());
        Ok(match flaw {
            Flaw::IdToken => (spelt(self.key, &[("typ", "JWT".into())])?, Rejection::WrongType),
            Flaw::NoType => (spelt(self.key, &[("typ", Value::Null)])?, Rejection::WrongType),
            Flaw::UnknownKey => (self.stranger.sign(&self.claims)?, Rejection::UnknownKey),
            Flaw::EmbeddedKey => (spelt(self.stranger, &[("jwk", public(self.stranger)?)])?, Rejection::BadSignature),
            Flaw::KeyAddress => {
                (spelt(self.stranger, &[("jku", "https://other.example/keys".into())])?, Rejection::BadSignature)
            }
            Flaw::Critical => {
                (spelt(self.key, &[("crit", json!(["https://other.example/must"]))])?, Rejection::HeaderRefused("crit"))
            }
            Flaw::Compressed => (spelt(self.key, &[("zip", "DEF".into())])?, Rejection::HeaderRefused("zip")),
            Flaw::AlgorithmNoneSigned => (spelt(self.key, &[("alg", "none".into())])?, Rejection::UnknownKey),
            Flaw::AlgorithmNone => (self.cut(&spelt(self.key, &[("alg", "none".into())])?, |_| String::new()), EMPTY),
            Flaw::NoSignature => (self.cut(&self.signed()?, |_| String::new()), EMPTY),
            Flaw::ChangedClaims => {
                let mut other = self.claims.clone();
                other.insert("sub".to_owned(), "user:0".into());
                let changed = self.key.sign(&other)?;
                // Header and claims of the one, signature of the other.
                let own = self.signed()?;
                let signature = own.rsplit('.').next().unwrap_or_default().to_owned();
                (self.cut(&changed, |_| signature), Rejection::BadSignature)
            }
            Flaw::PublicKeyAsSecret => {
                let jwk = public(self.key)?;
                let material = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::as_bytes);
                let text = material("x").or_else(|| material("n")).unwrap_or_default();
                let secret = URL_SAFE_NO_PAD.decode_to_vec(text)?;
                let key = SigningKey::hmac(Algorithm::Hs256, &secret)?;
                (spelt(&key, &[("alg", "HS256".into())])?, Rejection::UnknownKey)
            }
            Flaw::TwoSegments => {
                let token = self.signed()?;
                let short = token.rsplit_once('.').map_or_else(String::new, |(start, _)| start.to_owned());
                (short, Rejection::MalformedToken("not three segments"))
            }
            Flaw::NotBase64 => {
                let token = self.signed()?.replacen('.', ".+", 1);
                (token, Rejection::MalformedToken("not base64url without padding"))
            }
            // `BadSignature`; those of the claims do not come here.
            _ => (spelt(self.stranger, &[])?, Rejection::BadSignature),
        })
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.claims.insert(name.to_owned(), value.into());
    }

    fn having(&mut self, name: &str, value: &str, rejection: Rejection) -> Rejection {
        self.set(name, value);
        rejection
    }

    fn without(&mut self, name: &str, rejection: Rejection) -> Rejection {
        self.claims.remove(name);
        rejection
    }

    fn signed(&self) -> Result<String, CannotForge> {
        Ok(self.key.sign(&self.claims)?)
    }

    fn payload(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// The header of a good token, changed; `null` leaves a parameter out.
    fn header(&self, changes: &[(&str, Value)]) -> String {
        let (alg, kid) = (self.key.algorithm().name(), self.key.kid());
        let good = [("alg", alg.into()), ("typ", "at+jwt".into()), ("kid", kid.into())];
        let mut header: Map<String, Value> = Map::new();
        for (name, value) in good.iter().chain(changes) {
            header.insert((*name).to_owned(), value.clone());
        }
        header.retain(|_, value| !value.is_null());
        Value::Object(header).to_string()
    }

    /// `token` with another signature.
    fn cut(&self, token: &str, signature: impl FnOnce(&Self) -> String) -> String {
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        format!("{signed}.{}", signature(self))
    }
}
