//! What is wrong with a configuration: all of it at once, from `build()`, never at request time.

use std::{fmt, time::Duration};

pub use crate::fetch::OriginFault;

/// One mistake in a configuration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer is empty, longer than 1,024 bytes, or contains a control character.
    #[error("issuer {0:?} is empty, too long, or contains a control character")]
    Issuer(String),
    /// An audience is empty, longer than 1,024 bytes, or contains a control character.
    #[error("audience {0:?} is empty, too long, or contains a control character")]
    Audience(String),
    /// The realm is empty or contains a character that a quoted string cannot carry here (RFC 6750 §3).
    #[error("realm {0:?} is empty or contains a character outside %x20-21 / %x23-5B / %x5D-7E")]
    Realm(String),
    /// Two policies for the same issuer: which would apply?
    #[error("issuer {0:?} is trusted already")]
    IssuerTwice(String),
    /// A setting is for an issuer that is not trusted.
    #[error("issuer {0:?} is not one of those that are trusted")]
    IssuerUnknown(String),
    /// An address for keys is not `https`, or `http` on loopback, or is malformed.
    #[error("{0:?} is not an https address, nor http on loopback by name")]
    KeyAddress(String),
    /// A file with keys to begin with cannot be used.
    #[error("seed file {path:?}: {reason}")]
    Seed {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that needs a Tokio runtime was started outside of one.
    #[error("no Tokio runtime to run in")]
    NoRuntime,
    /// The HTTP client could not be set up.
    #[error("HTTP client: {0}")]
    Client(String),
    /// A client is not one that can be.
    #[error("client {id:?}: {reason}")]
    BadClient {
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A resource is not named by an absolute URI without fragment (RFC 8707 §2), or is there already.
    #[error("{0:?} is no absolute URI without fragment, or names a resource that is there already")]
    Resource(String),
    /// An address to publish metadata for is not `https`, or `http` on loopback, or has a query or a fragment.
    #[error("{0:?} is no https address without query and fragment, nor http on loopback")]
    Address(String),
    /// A network of trusted proxies is none, has bits beyond its prefix, or is every address there is.
    #[error("{0:?} is no network such as 10.0.0.0/8, nor an address, or is all of them")]
    Network(String),
    /// A CORS policy is none that is safe.
    #[error("CORS: {0}")]
    Cors(crate::cors::CorsError),
    /// An origin whose pages are to act here is none that browsers send.
    #[error("trusted origin {origin:?} {fault}")]
    TrustedOrigin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        fault: OriginFault,
    },
    /// Origins whose pages are to act here are given as a pattern: whoever gets one name of them could act for everybody.
    #[error("trusted origin {0:?} is a pattern; name each")]
    TrustedWildcard(String),
    /// Pages that are to act here come over plain HTTP from another machine: whoever is on the network could write them.
    #[error("trusted origin {0:?} is http, and not on loopback")]
    TrustedPlaintext(String),
    /// The name of a cookie is none (RFC 6265 §4.1.1), so that no request would have it.
    #[error("cookie name {0:?} is none")]
    CookieName(String),
    /// What plaintext requests are redirected to is no origin as browsers write it.
    #[error("origin {origin:?} to redirect to {fault}")]
    RedirectOrigin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        fault: OriginFault,
    },
    /// What plaintext requests are redirected to is an origin without TLS, or a pattern of several.
    #[error("origin {0:?} to redirect to is not one over https")]
    RedirectTarget(String),
    /// A domain that is to be on the browsers' list must have its subdomains there, for one year at least.
    #[error("HSTS preloading needs subdomains, and a max-age of one year or more")]
    HstsPreload,
    /// A duration is outside its bounds.
    #[error("{setting} is {given:?}; it must be between {least:?} and {most:?}")]
    Duration {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        given: Duration,
        /// Lower bound, included.
        least: Duration,
        /// Upper bound, included.
        most: Duration,
    },
    /// A number is outside its bounds.
    #[error("{setting} is {given}; it must be between {least} and {most}")]
    Number {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        given: usize,
        /// Lower bound, included.
        least: usize,
        /// Upper bound, included.
        most: usize,
    },
    /// A text is not a scope (RFC 6749 §3.3).
    #[error("{0:?} is not a scope")]
    Scope(String),
    /// A map of scopes reads a claim that cannot be, or gives a meaning to a name that is none.
    #[error("scopes of claim {claim:?}: {reason}")]
    ScopeMap {
        /// The claim; `.` stands between the names of a path.
        claim: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two claims are to name the audience in the place of `aud`: which would apply?
    #[error("both client_id and azp are to name the audience")]
    AudienceTwice,
    /// What the preset of an identity provider was given is no such thing.
    #[error("{provider}: {setting} {given:?} {reason}")]
    Provider {
        /// Whose preset.
        provider: &'static str,
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A list of scopes is empty, so it would demand nothing.
    #[error("no scope given: a requirement must name at least one")]
    NoScope,
    /// An operation of an OpenAPI document demands a scope of which nobody has said what it is for.
    #[error("scope {0:?} is demanded, but not described")]
    ScopeNotDescribed(String),
    /// A scope is described that no operation of the OpenAPI document demands.
    #[error("scope {0:?} is described, but no operation demands it")]
    ScopeNotDemanded(String),
    /// A route was declared, and its operation is not in the OpenAPI document: another one took its place, or it was taken out.
    #[error(
        "{0} was declared, but its operation is not in the document: list no paths of routes!, nor nest two routers at one"
    )]
    OperationLost(String),
    /// A value of `acr` is empty, longer than 256 bytes, or has a character that a challenge cannot carry (RFC 9470 §3).
    #[error("acr value {0:?} is empty, too long, or contains a character outside %x21 / %x23-5B / %x5D-7E")]
    AuthenticationContext(String),
    /// A claim may have no value at all.
    #[error("claim {0:?} has an empty list of allowed values")]
    NoAllowedValue(String),
    /// No key at all was given.
    #[error("no verification key given")]
    NoKey,
    /// Two keys would fit the same token.
    #[error("two keys with the same algorithm and the same key id {0:?}: a token could not tell them apart")]
    DuplicateKey(Option<String>),
    /// A key document cannot be read.
    #[error("key cannot be read: {0}")]
    Key(&'static str),
    /// The key is of another kind than its algorithm needs.
    #[error("key does not fit the algorithm {0}")]
    KeyMismatch(crate::jwt::Algorithm),
    /// The key is too small for its algorithm (RFC 7518 §3.2, §3.3).
    #[error("key of {bits} bits is too weak for {algorithm}, which needs {least}")]
    WeakKey {
        /// The algorithm that it was loaded for.
        algorithm: crate::jwt::Algorithm,
        /// Size of the key.
        bits: usize,
        /// Smallest size allowed.
        least: usize,
    },
    /// An HMAC key repeats so few characters that it was not drawn at random (RFC 8725 §3.5).
    #[error("HMAC key does not look random: use 32 random bytes or more, such as `openssl rand -hex 32` prints")]
    GuessableKey,
    /// The Argon2id parameters are below every set that OWASP recommends.
    #[error(
        "Argon2id parameters m={memory_kib} KiB, t={passes}, p={lanes} are below OWASP's least or above the bounds"
    )]
    Argon2 {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// A word that passwords must not be made of has fewer than 3 code points, which are in any text, or over 256 bytes.
    #[error("{0:?} has fewer than 3 code points, or over 256 bytes")]
    PasswordWord(String),
    /// An address for a list of known passwords is not `https`, or `http` on loopback, or has a query or a fragment.
    #[error("{0:?} is not an https address without query and fragment, nor http on loopback by name")]
    ListAddress(String),
    /// Strangers may register, but there are no users to be one of.
    #[error("registration needs the users of `first_party_login`")]
    RegistrationWithoutLogin,
    /// Callers are to be looked up among the users, but there are none.
    #[error("current users are those of `first_party_login`, which is not there")]
    CurrentUserWithoutLogin,
    /// Pages are to keep sessions in cookies, but nobody can sign in.
    #[error("sessions in cookies need the users of `first_party_login`")]
    CookiesWithoutLogin,
    /// Pages are to keep sessions in cookies, but there are no sessions.
    #[error("sessions in cookies need the store of `sessions`")]
    CookiesWithoutSessions,
    /// Pages are to keep sessions in cookies, but a refresh token is good once. Tabs share it: two that refresh at once, or a page
    /// that is left while it does, would look like theft and sign the user out.
    #[error(
        "grace of refresh tokens is {0:?}; in cookies it must be between 1s and 60s, because two tabs that refresh at once \
         would look like theft"
    )]
    CookiesWithoutGrace(Duration),
    /// A pepper is not one that can be.
    #[error("pepper {id:?}: {reason}")]
    Pepper {
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Hashes that are said to be in the store ask for more than any may.
    #[error("{0} is outside the bounds of stored hashes")]
    LegacyHash(String),
    /// The threads that hash passwords could not be started, or there is no memory for them.
    #[error("threads for passwords: {0}")]
    HashThreads(String),
    /// The system gave no random bytes.
    #[error("no random bytes to be had")]
    NoRandom,
}

/// Every mistake of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes, in the order of the settings. There is at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    pub(crate) fn append(&mut self, errors: Self) {
        self.0.extend(errors.0);
    }

    /// Keeps the value, or the reason why there is none.
    pub(crate) fn keep<T, E: Into<ConfigErrors>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|errors| self.0.extend(errors.into().0)).ok()
    }

    /// Notes a duration that is outside its bounds.
    pub(crate) fn bound(&mut self, setting: &'static str, given: Duration, least: Duration, most: Duration) {
        if !(least..=most).contains(&given) {
            self.push(ConfigError::Duration { setting, given, least, most });
        }
    }

    /// Notes a number that is outside its bounds.
    pub(crate) fn bound_number(&mut self, setting: &'static str, given: usize, least: usize, most: usize) {
        if !(least..=most).contains(&given) {
            self.push(ConfigError::Number { setting, given, least, most });
        }
    }

    /// The value, if it is there and nothing went wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
