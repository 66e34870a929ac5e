//! Signing keys, and tokens made with them. The key pair and the header are prepared once.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::KeyRejected,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair},
};
use base64_simd::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    algorithm::{Algorithm, Family},
    jwk::{Jwk, JwkSet},
    key::{self, VerifyingKey},
    token::ACCESS_TOKEN,
};
use crate::{config::ConfigError, random};

/// A key that signs access tokens with one algorithm. Prints without its secret.
///
/// Key pairs carry their RFC 7638 thumbprint as key id, so that tokens name their key and a key keeps its name.
///
/// ```
/// use portcullis::jwt::{Algorithm, SigningKey};
///
/// let key = SigningKey::generate(Algorithm::EdDsa)?;
/// assert!(key.kid().is_some());
/// # Ok::<(), portcullis::config::ConfigError>(())
/// ```
pub struct SigningKey {
    algorithm: Algorithm,
    kid: Option<String>,
    pair: Pair,
    verifying: VerifyingKey,
    public: Option<Jwk>,
    /// The encoded header and the dot behind it: the same for every token.
    header: String,
}

enum Pair {
    Hmac(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A signature could not be made. Nothing that a client sends can cause it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("token could not be signed")]
#[non_exhaustive]
pub struct SigningFailed;

impl SigningKey {
    /// Reads a private key from PEM: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1).
    /// Blocks of other kinds, such as `EC PARAMETERS`, are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if there is not exactly one private key in clear, or if it is RSA of under 2,048 or over
    /// 8,192 bits; [`ConfigError::KeyMismatch`] if it does not fit `algorithm`.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, ConfigError> {
        let documents = pem::parse_many(pem).map_err(|_| ConfigError::Key("not PEM"))?;
        let mut private: Vec<(String, Zeroizing<Vec<u8>>)> = documents
            .into_iter()
            .filter(|document| document.tag().ends_with("PRIVATE KEY"))
            .map(|document| (document.tag().to_owned(), Zeroizing::new(document.into_contents())))
            .collect();
        match (private.pop(), private.pop()) {
            (Some((tag, der)), None) if tag != "ENCRYPTED PRIVATE KEY" => Self::from_der(algorithm, &der),
            (Some(_), None) => Err(ConfigError::Key("private key is encrypted")),
            _ => Err(ConfigError::Key("not exactly one private key in PEM")),
        }
    }

    /// Reads a private key from DER: PKCS#8, or PKCS#1 for RSA, or SEC 1 for ECDSA.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, ConfigError> {
        let pair = match algorithm.family() {
            Family::Hmac => None,
            Family::Rsa => {
                // The library refuses small keys by itself and does not tell their size.
                let told = |error: KeyRejected| match error.to_string().as_str() {
                    "TooSmall" => ConfigError::Key("RSA modulus under 2,048 bits"),
                    _ => ConfigError::KeyMismatch(algorithm),
                };
                let pair = RsaKeyPair::from_pkcs8(der).map_err(told).or_else(|error| match error {
                    ConfigError::KeyMismatch(_) => RsaKeyPair::from_der(der).map_err(told),
                    small => Err(small),
                });
                Some(Pair::Rsa(pair?.into()))
            }
            Family::Ec => EcdsaKeyPair::from_pkcs8(ec(algorithm), der)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(ec(algorithm), der))
                .ok()
                .map(Pair::Ec),
            // OpenSSL writes PKCS#8 without the public half; it is derived then, and compared where it is there.
            Family::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Pair::Ed25519),
        };
        Self::from_pair(algorithm, pair.ok_or(ConfigError::KeyMismatch(algorithm))?)
    }

    /// A shared secret for `HS256`, `HS384` or `HS512`; the bytes are used as they stand, hexadecimal text included.
    ///
    /// Whoever verifies these tokens can also make them, so they suit a program that does both.
    ///
    /// # Errors
    ///
    /// As [`VerifyingKey::hmac`].
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, ConfigError> {
        let key = key::hmac_key(algorithm, secret)?;
        let verifying = VerifyingKey::hmac(algorithm, secret)?;
        Ok(Self {
            algorithm,
            kid: None,
            pair: Pair::Hmac(key.into()),
            verifying,
            public: None,
            header: header(algorithm, None),
        })
    }

    /// A fresh random key; RSA with 2,048 bits. Tokens die with it, so keep it if they should not.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRandom`] if the system gives no random bytes.
    pub fn generate(algorithm: Algorithm) -> Result<Self, ConfigError> {
        let pair = match algorithm.family() {
            Family::Hmac => {
                let secret = Zeroizing::new(random::bytes::<64>().map_err(|_| ConfigError::NoRandom)?);
                return Self::hmac(algorithm, secret.as_slice());
            }
            Family::Rsa => RsaKeyPair::generate(KeySize::Rsa2048).map(|pair| Pair::Rsa(pair.into())),
            Family::Ec => EcdsaKeyPair::generate(ec(algorithm)).map(Pair::Ec),
            Family::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::from_pair(algorithm, pair.map_err(|_| ConfigError::NoRandom)?)
    }

    fn from_pair(algorithm: Algorithm, pair: Pair) -> Result<Self, ConfigError> {
        let jwk = public_jwk(algorithm, &pair)?;
        let kid = jwk.thumbprint();
        let text = serde_json::to_string(&jwk).map_err(|_| ConfigError::Key("not a JWK"))?;
        let verifying = VerifyingKey::from_jwk(algorithm, &text)?;
        let key = Self { algorithm, kid: None, pair, verifying, public: Some(jwk), header: String::new() };
        Ok(key.with_kid(kid))
    }

    /// Sets another key id than the thumbprint.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        let kid = kid.into();
        self.verifying = self.verifying.with_kid(&kid);
        self.header = header(self.algorithm, Some(&kid));
        self.kid = Some(kid);
        self
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its key id, if it has one: key pairs always do.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key that verifies what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying.clone()
    }

    /// The JWK set that tells others how to verify (RFC 7517 §5). Empty for a shared secret, which is never published.
    pub(crate) fn jwks(&self) -> JwkSet {
        let publish = |jwk: &Jwk| Jwk {
            kid: self.kid.clone(),
            usage: Some("sig".to_owned()),
            alg: Some(self.algorithm.name().to_owned()),
            ..jwk.clone()
        };
        JwkSet { keys: self.public.iter().map(publish).collect() }
    }

    /// Makes an access token that carries `claims`, in compact serialisation with `typ: at+jwt`.
    ///
    /// The claims are signed as they are; it is the caller who must put in what RFC 9068 §2.2 asks for.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] if the claims do not serialise or the library cannot sign.
    ///
    /// ```
    /// use portcullis::{clock::UnixSeconds, jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey, Verifier}};
    ///
    /// let key = SigningKey::generate(Algorithm::Es256)?;
    /// let token = key.sign(&serde_json::json!({
    ///     "iss": "https://id.example", "aud": "orders", "sub": "user:7", "client_id": "app",
    ///     "jti": "1", "iat": 1_000, "exp": 1_600, "scope": "orders:read",
    /// }))?;
    /// let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
    /// let verifier = Verifier::new(policy, KeySet::new([key.verifying_key()])?);
    /// let verified = verifier.verify_at(token.as_bytes(), UnixSeconds::new(1_200))?;
    /// assert_eq!(verified.subject(), "user:7");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SigningFailed> {
        // Room for the usual claims, because growing on the way costs as much as writing them.
        let mut payload = Vec::with_capacity(512);
        serde_json::to_writer(&mut payload, claims).map_err(|_| SigningFailed)?;
        let length = self.header.len() + (payload.len() + self.signature_length()) * 4 / 3 + 4;
        let mut token = String::with_capacity(length);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_append(payload, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }

    /// A token with this header and this payload, just as they are spelt: for tests, which need tokens that nobody should make.
    #[cfg(feature = "testing")]
    pub(crate) fn sign_spelt(&self, header: &str, payload: &str) -> Result<String, SigningFailed> {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode_to_string(text);
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(signed.as_bytes())?;
        Ok(format!("{signed}.{signature}"))
    }

    /// The private key as PKCS#8, for a store that keeps it sealed. `None` for a shared secret.
    pub(super) fn pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = |document: &[u8]| Some(Zeroizing::new(document.to_vec()));
        match &self.pair {
            Pair::Hmac(_) => None,
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair).ok().and_then(|der| bytes(der.as_ref())),
            Pair::Ec(pair) => pair.to_pkcs8v1().ok().and_then(|der| bytes(der.as_ref())),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().ok().and_then(|der| bytes(der.as_ref())),
        }
    }

    fn signature_length(&self) -> usize {
        match &self.pair {
            Pair::Hmac(key) => key.algorithm().digest_algorithm().output_len,
            Pair::Rsa(pair) => pair.public_modulus_len(),
            Pair::Ec(_) if self.algorithm == Algorithm::Es384 => 96,
            Pair::Ec(_) | Pair::Ed25519(_) => 64,
        }
    }

    /// The signature of `message`, encoded where it is made: the library's own type is of several KiB.
    fn signature(&self, message: &[u8]) -> Result<String, SigningFailed> {
        let encode = |signature: &[u8]| URL_SAFE_NO_PAD.encode_to_string(signature);
        let signed = match &self.pair {
            Pair::Hmac(key) => Ok(encode(hmac::sign(key, message).as_ref())),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(rsa(self.algorithm), &SystemRandom::new(), message, &mut signature);
                signed.map(|()| encode(&signature))
            }
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), message).map(|signature| encode(signature.as_ref())),
            Pair::Ed25519(pair) => pair.try_sign(message).map(|signature| encode(signature.as_ref())),
        };
        signed.map_err(|_| SigningFailed)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The public half of a key pair.
fn public_jwk(algorithm: Algorithm, pair: &Pair) -> Result<Jwk, ConfigError> {
    let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode_to_string(bytes));
    Ok(match pair {
        Pair::Hmac(_) => return Err(ConfigError::KeyMismatch(algorithm)),
        Pair::Rsa(pair) => {
            let public = pair.public_key();
            Jwk {
                kty: "RSA".to_owned(),
                n: text(public.modulus().big_endian_without_leading_zero()),
                e: text(public.exponent().big_endian_without_leading_zero()),
                ..Jwk::default()
            }
        }
        Pair::Ec(pair) => {
            // SEC 1 §2.3.3: an uncompressed point is 4, x, y.
            let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
            let (x, y) = point.split_at(point.len() / 2);
            let crv = Some(key::curve_name(algorithm).to_owned());
            Jwk { kty: "EC".to_owned(), crv, x: text(x), y: text(y), ..Jwk::default() }
        }
        Pair::Ed25519(pair) => Jwk {
            kty: "OKP".to_owned(),
            crv: Some("Ed25519".to_owned()),
            x: text(pair.public_key().as_ref()),
            ..Jwk::default()
        },
    })
}

/// The protected header, encoded, with the dot behind it.
fn header(algorithm: Algorithm, kid: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kid: Option<&'a str>,
    }
    let header = Header { alg: algorithm.name(), typ: ACCESS_TOKEN, kid };
    let mut text = URL_SAFE_NO_PAD.encode_to_string(serde_json::to_vec(&header).unwrap_or_default());
    text.push('.');
    text
}

fn rsa(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

fn ec(algorithm: Algorithm) -> &'static EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}
