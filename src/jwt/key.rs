//! Verification keys: read once, checked once, prepared once.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::{
    hmac,
    rsa::PublicKey as RsaPublicKey,
    signature::{
        self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use base64_simd::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{
    algorithm::{Algorithm, Family},
    jwk::Jwk,
};
use crate::{config::ConfigError, rejection::Rejection};

const RSA_BITS: usize = 2048;
const RSA_MOST_BITS: usize = 8192;

/// A key that verifies signatures of one algorithm, fixed when it is loaded (RFC 8725 §3.1).
///
/// ```
/// use portcullis::jwt::{Algorithm, VerifyingKey};
///
/// let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// let key = VerifyingKey::from_jwk(Algorithm::EdDsa, jwk)?;
/// assert!(VerifyingKey::from_jwk(Algorithm::Rs256, jwk).is_err());
/// # Ok::<(), portcullis::config::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct VerifyingKey {
    id: KeyId,
    algorithm: Algorithm,
    kid: Option<String>,
    prepared: Prepared,
}

/// Tells keys apart without keeping them; clones of a key share it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KeyId(u64);

#[derive(Clone)]
enum Prepared {
    Hmac(Arc<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerifyingKey {
    /// Reads a public key from PEM: `PUBLIC KEY` (RFC 5280) or `RSA PUBLIC KEY` (RFC 8017).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if there is not exactly one public key, [`ConfigError::KeyMismatch`] if it does not fit
    /// `algorithm`, [`ConfigError::WeakKey`] for RSA below 2,048 bits.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, ConfigError> {
        let documents = pem::parse_many(pem).map_err(|_| ConfigError::Key("not PEM"))?;
        match documents.as_slice() {
            [document] if matches!(document.tag(), "PUBLIC KEY" | "RSA PUBLIC KEY") => {
                Self::from_der(algorithm, document.contents())
            }
            [_] => Err(ConfigError::Key("PEM block is neither `PUBLIC KEY` nor `RSA PUBLIC KEY`")),
            _ => Err(ConfigError::Key("not exactly one PEM block")),
        }
    }

    /// Reads a public key from DER: `SubjectPublicKeyInfo` (RFC 5280), or `RSAPublicKey` (RFC 8017) for RSA.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, ConfigError> {
        let mismatch = |_| ConfigError::KeyMismatch(algorithm);
        let key = match algorithm.family() {
            Family::Hmac => return Err(ConfigError::KeyMismatch(algorithm)),
            Family::Rsa => {
                let key = RsaPublicKey::from_der(der).map_err(mismatch)?;
                check_rsa_size(algorithm, key.modulus().big_endian_without_leading_zero())?;
                ParsedPublicKey::new(rsa(algorithm), der)
            }
            Family::Ec => ParsedPublicKey::new(ec(algorithm), der),
            Family::Ed25519 => ParsedPublicKey::new(&signature::ED25519, der),
        };
        Ok(Self::prepared(algorithm, Prepared::Public(key.map_err(mismatch)?)))
    }

    /// Reads a key from a JWK (RFC 7517, RFC 7518 §6, RFC 8037). Its `kid` becomes the key's.
    ///
    /// `oct` keys are read for HMAC algorithms alone; private members of other keys are ignored.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem). Also if the JWK's own `alg`, `use` or `key_ops` speaks against verifying
    /// signatures with `algorithm`.
    pub fn from_jwk(algorithm: Algorithm, json: &str) -> Result<Self, ConfigError> {
        Self::from_parsed(algorithm, serde_json::from_str(json).map_err(|_| ConfigError::Key("not a JWK"))?)
    }

    pub(crate) fn from_parsed(algorithm: Algorithm, jwk: Jwk) -> Result<Self, ConfigError> {
        if !jwk.may_verify() {
            return Err(ConfigError::Key("`use` or `key_ops` speaks against verifying"));
        }
        if jwk.alg.as_deref().is_some_and(|alg| !algorithm.accepts(alg)) {
            return Err(ConfigError::KeyMismatch(algorithm));
        }
        let mut key = match (algorithm.family(), jwk.kty.as_str(), jwk.crv.as_deref()) {
            (Family::Hmac, "oct", _) => {
                let secret = Zeroizing::new(member(jwk.k.as_ref().map(|k| k.as_str()))?);
                Self::hmac(algorithm, &secret)?
            }
            (Family::Rsa, "RSA", _) => {
                let (n, e) = (member(jwk.n.as_deref())?, member(jwk.e.as_deref())?);
                let components = RsaPublicKeyComponents { n: without_zeros(&n), e: without_zeros(&e) };
                check_rsa_size(algorithm, components.n)?;
                let key = components.to_parsed_public_key(rsa(algorithm));
                Self::public(algorithm, key.ok())?
            }
            (Family::Ec, "EC", Some(curve)) if curve == curve_name(algorithm) => {
                let (x, y) = (member(jwk.x.as_deref())?, member(jwk.y.as_deref())?);
                let length = if algorithm == Algorithm::Es256 { 32 } else { 48 };
                if (x.len(), y.len()) != (length, length) {
                    return Err(ConfigError::KeyMismatch(algorithm));
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Self::public(algorithm, ParsedPublicKey::new(ec(algorithm), point).ok())?
            }
            (Family::Ed25519, "OKP", Some("Ed25519")) => {
                let x = member(jwk.x.as_deref())?;
                let key = (x.len() == 32).then(|| ParsedPublicKey::new(&signature::ED25519, x).ok());
                Self::public(algorithm, key.flatten())?
            }
            _ => return Err(ConfigError::KeyMismatch(algorithm)),
        };
        key.kid = jwk.kid;
        Ok(key)
    }

    /// A shared secret for `HS256`, `HS384` or `HS512`.
    ///
    /// Whoever can verify with it can also sign: prefer a key pair unless one program does both.
    ///
    /// # Errors
    ///
    /// [`ConfigError::WeakKey`] if it is shorter than the hash (RFC 7518 §3.2), or is hexadecimal text that spells
    /// fewer bytes than that. [`ConfigError::GuessableKey`] if fewer than 8 different bytes occur in it.
    /// [`ConfigError::Key`] if it is a key document: a public key taken for a secret would let everybody sign.
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, ConfigError> {
        Ok(Self::prepared(algorithm, Prepared::Hmac(hmac_key(algorithm, secret)?.into())))
    }

    /// Sets the key id that tokens name it by. A key without one fits tokens with any key id, or none.
    #[must_use]
    pub fn with_kid(self, kid: impl Into<String>) -> Self {
        Self { kid: Some(kid.into()), ..self }
    }

    /// The algorithm that it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its key id, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// Checks that `signature` is this key's over `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Rejection> {
        match &self.prepared {
            Prepared::Hmac(key) => hmac::verify(key, message, signature),
            Prepared::Public(key) => key.verify_sig(message, signature),
        }
        .map_err(|_| Rejection::BadSignature)
    }

    fn public(algorithm: Algorithm, key: Option<ParsedPublicKey>) -> Result<Self, ConfigError> {
        let key = key.ok_or(ConfigError::KeyMismatch(algorithm))?;
        Ok(Self::prepared(algorithm, Prepared::Public(key)))
    }

    fn prepared(algorithm: Algorithm, prepared: Prepared) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self { id: KeyId(LAST.fetch_add(1, Ordering::Relaxed)), algorithm, kid: None, prepared }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Prepares an HMAC key, if it is long enough and looks random.
pub(crate) fn hmac_key(algorithm: Algorithm, secret: &[u8]) -> Result<hmac::Key, ConfigError> {
    let (hash, bytes) = match algorithm {
        Algorithm::Hs256 => (hmac::HMAC_SHA256, 32),
        Algorithm::Hs384 => (hmac::HMAC_SHA384, 48),
        Algorithm::Hs512 => (hmac::HMAC_SHA512, 64),
        _ => return Err(ConfigError::KeyMismatch(algorithm)),
    };
    if is_document(secret) {
        return Err(ConfigError::Key(
            "a PEM or DER document is no HMAC secret: whoever has the public key would have it",
        ));
    }
    // Hexadecimal text carries four bits a character: 64 of them, as `openssl rand -hex 32` prints, make 32 bytes. The
    // line's end that comes with them carries none.
    let hexadecimal = secret.trim_ascii().iter().all(u8::is_ascii_hexdigit);
    let bits = if hexadecimal { secret.trim_ascii().len() * 4 } else { secret.len() * 8 };
    if bits < bytes * 8 {
        return Err(ConfigError::WeakKey { algorithm, bits, least: bytes * 8 });
    }
    let different = secret.iter().collect::<HashSet<_>>().len();
    // Of 32 random bytes, fewer than 8 different ones never occur; of 64 random hexadecimal digits, one time in 10^11.
    if different < 8 {
        return Err(ConfigError::GuessableKey);
    }
    Ok(hmac::Key::new(hash, secret))
}

/// Whether `secret` is a key document: PEM, or a DER `SEQUENCE` of its very length that begins like a key does, with an
/// `INTEGER` or another `SEQUENCE`.
fn is_document(secret: &[u8]) -> bool {
    let exact = |rest: &[u8], length: usize| rest.len() == length && matches!(rest.first(), Some(0x02 | 0x30));
    match secret {
        [0x30, 0x82, high, low, rest @ ..] => exact(rest, usize::from(u16::from_be_bytes([*high, *low]))),
        [0x30, 0x81, length, rest @ ..] | [0x30, length @ ..=0x7f, rest @ ..] => exact(rest, usize::from(*length)),
        _ => secret.windows(11).any(|window| window == b"-----BEGIN "),
    }
}

/// Refuses a modulus, without leading zeros, of under 2,048 or over 8,192 bits.
pub(crate) fn check_rsa_size(algorithm: Algorithm, modulus: &[u8]) -> Result<(), ConfigError> {
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(zeros);
    if bits < RSA_BITS {
        return Err(ConfigError::WeakKey { algorithm, bits, least: RSA_BITS });
    }
    if bits > RSA_MOST_BITS {
        return Err(ConfigError::Key("RSA modulus over 8,192 bits"));
    }
    Ok(())
}

/// Name of the curve in a JWK (RFC 7518 §6.2.1.1).
pub(crate) const fn curve_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Es384 => "P-384",
        _ => "P-256",
    }
}

fn rsa(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

fn ec(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    const ES256: &EcdsaVerificationAlgorithm = &signature::ECDSA_P256_SHA256_FIXED;
    const ES384: &EcdsaVerificationAlgorithm = &signature::ECDSA_P384_SHA384_FIXED;
    if algorithm == Algorithm::Es384 { ES384 } else { ES256 }
}

fn member(text: Option<&str>) -> Result<Vec<u8>, ConfigError> {
    let text = text.ok_or(ConfigError::Key("JWK lacks a member that its type needs"))?;
    URL_SAFE_NO_PAD.decode_to_vec(text).map_err(|_| ConfigError::Key("JWK member is not base64url without padding"))
}

/// RFC 7518 §2 wants the shortest form; a few issuers put a zero in front.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
