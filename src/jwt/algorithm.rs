//! Signature algorithms of RFC 7518 §3 and RFC 9864 that this crate verifies and signs with.

use std::{fmt, str::FromStr};

/// A signature algorithm. A key is loaded for exactly one (RFC 8725 §3.1); there is no `none`.
///
/// ```
/// use portcullis::jwt::Algorithm;
///
/// assert_eq!("RS256".parse::<Algorithm>()?, Algorithm::Rs256);
/// assert!("none".parse::<Algorithm>().is_err());
/// # Ok::<(), portcullis::jwt::UnknownAlgorithm>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256 and a salt as long as the hash.
    Ps256,
    /// RSASSA-PSS with SHA-384 and a salt as long as the hash.
    Ps384,
    /// RSASSA-PSS with SHA-512 and a salt as long as the hash.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 under its older, polymorphic name `EdDSA`.
    EdDsa,
    /// Ed25519 under its own name (RFC 9864). Keys loaded for either name verify tokens of both.
    Ed25519,
}

/// A name that is none of a supported [`Algorithm`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no supported signature algorithm of that name")]
#[non_exhaustive]
pub struct UnknownAlgorithm;

/// What kind of key an algorithm needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    Hmac,
    Rsa,
    Ec,
    Ed25519,
}

/// Algorithms whose verifying keys may be published. `EdDSA` accepts tokens that say `Ed25519`, so it stands for both.
pub(crate) const ASYMMETRIC: &[Algorithm] = &[
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

impl Algorithm {
    const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// Name in a header's `alg` (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 | Self::Es384 => Family::Ec,
            Self::EdDsa | Self::Ed25519 => Family::Ed25519,
        }
    }

    /// Whether whoever verifies with a key can sign with it as well.
    pub(crate) const fn is_shared(self) -> bool {
        matches!(self.family(), Family::Hmac)
    }

    /// Whether a header that names `alg` may be checked with a key of this algorithm.
    pub(crate) fn accepts(self, alg: &str) -> bool {
        match self.family() {
            Family::Ed25519 => alg == "EdDSA" || alg == "Ed25519",
            _ => alg == self.name(),
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Names are case-sensitive.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
