//! Clients, the programs that ask for tokens, and resources, what they ask them for (RFC 6749 §2, RFC 8707).

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64_simd::{Out, URL_SAFE_NO_PAD};

use crate::{
    config::{ConfigError, ConfigErrors},
    random::{self, RandomUnavailable},
    scope::{Scope, ScopeSet},
    secret::Secret,
    uri,
};

/// A program that asks for tokens, and what it may ask for.
///
/// ```
/// use portcullis::client::*;
///
/// let app = Client::public("app").grant(GrantType::Password);
///
/// // Made once: the service gets the secret, the server's configuration the hash.
/// let secret = random_secret()?;
/// let reports = Client::confidential("reports", HashedSecret::of(&secret)?)
///     .grant(GrantType::ClientCredentials)
///     .scopes(["orders:read"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Client {
    id: String,
    secrets: Vec<HashedSecret>,
    grants: Vec<GrantType>,
    scopes: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    introspects: Vec<String>,
}

/// How a client may get tokens (RFC 6749 §4). Whoever may use the first may refresh what it got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GrantType {
    /// With a user's password, `password`.
    Password,
    /// In its own name, `client_credentials`: for confidential clients alone.
    ClientCredentials,
}

/// A client's secret as a configuration or a database may keep it: SHA-256, because secrets that are made for machines are too
/// random to be guessed. `Display` and [`parse`](Self::parse) are its text, `sha256:` and 43 characters.
#[derive(Clone, Eq, PartialEq)]
pub struct HashedSecret([u8; 32]);

/// A fresh secret for a client: 256 random bits in 43 characters.
///
/// # Errors
///
/// [`RandomUnavailable`] if the system gives no random bytes.
pub fn random_secret() -> Result<Secret<String>, RandomUnavailable> {
    random::text::<32>().map(Secret::new)
}

const LEAST_SECRET: usize = 32;
const MOST_SECRET: usize = 512;
const HASHED: &str = "sha256:";

impl HashedSecret {
    /// Hashes a secret of 32 to 512 bytes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::GuessableKey`] if it is shorter, or repeats so few characters that it was not drawn at random: a hash
    /// as fast as this one does not protect a secret that somebody thought of.
    pub fn of(secret: &Secret<String>) -> Result<Self, ConfigError> {
        let secret = secret.expose();
        let different = secret.bytes().collect::<std::collections::HashSet<_>>().len();
        if !(LEAST_SECRET..=MOST_SECRET).contains(&secret.len()) || different < 8 {
            return Err(ConfigError::GuessableKey);
        }
        Ok(Self(hash(secret)))
    }

    /// Reads the text that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(HASHED)?;
        let mut bytes = [0; 32];
        let fits = text.len() == 43;
        fits.then(|| URL_SAFE_NO_PAD.decode(text.as_bytes(), Out::from_slice(&mut bytes)).ok()).flatten()?;
        Some(Self(bytes))
    }

    fn is_of(&self, hash: &[u8; 32]) -> bool {
        constant_time::verify_slices_are_equal(&self.0, hash).is_ok()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    bytes
}

impl fmt::Display for HashedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASHED}{}", URL_SAFE_NO_PAD.encode_to_string(self.0))
    }
}

impl fmt::Debug for HashedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Client {
    /// A client that cannot keep a secret, such as an app on a device: 1 to 128 characters of `A-Z a-z 0-9 - . _ ~ : /`.
    pub fn public(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secrets: Vec::new(),
            grants: Vec::new(),
            scopes: None,
            resources: None,
            introspects: Vec::new(),
        }
    }

    /// A client that proves who it is with a secret (`client_secret_basic` or `client_secret_post`).
    pub fn confidential(id: impl Into<String>, secret: HashedSecret) -> Self {
        Self { secrets: vec![secret], ..Self::public(id) }
    }

    /// Accepts another secret as well, while the old one is being replaced.
    pub fn also_secret(mut self, secret: HashedSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Lets it get tokens in this way. In none unless asked for.
    pub fn grant(mut self, grant: GrantType) -> Self {
        self.grants.push(grant);
        self
    }

    /// What its tokens may be granted at the most. Unless set: whatever the user may have, and nothing in its own name.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Whom its tokens may be for: names of resources, or the server's audience. Any of them unless set.
    pub fn resources<S: Into<String>>(mut self, resources: impl IntoIterator<Item = S>) -> Self {
        self.resources = Some(resources.into_iter().map(Into::into).collect());
        self
    }

    /// Lets it ask about tokens that are for these (RFC 7662): for a resource server that cannot verify them by itself. A
    /// confidential client may always ask about its own.
    pub fn introspects<S: Into<String>>(mut self, audiences: impl IntoIterator<Item = S>) -> Self {
        self.introspects = audiences.into_iter().map(Into::into).collect();
        self
    }

    /// Its name, `client_id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `sub` of the tokens that it gets in its own name. The prefix keeps users and clients apart (RFC 9068 §5).
    pub(crate) fn subject(&self) -> String {
        format!("client:{}", self.id)
    }

    pub(crate) fn is_confidential(&self) -> bool {
        !self.secrets.is_empty()
    }

    pub(crate) fn may(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }

    /// Whether this is its secret. Takes as long whichever of its secrets it is, or none.
    pub(crate) fn has_secret(&self, secret: &str) -> bool {
        let hash = hash(secret);
        self.secrets.iter().fold(false, |found, own| found | own.is_of(&hash))
    }

    pub(crate) fn may_ask_for(&self, resource: &str) -> bool {
        self.resources.as_ref().is_none_or(|resources| resources.iter().any(|own| own == resource))
    }

    pub(crate) fn may_introspect(&self, audience: &str) -> bool {
        self.introspects.iter().any(|own| own == audience)
    }

    /// Its limit of scopes, once it was checked.
    pub(crate) fn limit(&self) -> Option<ScopeSet> {
        parse_scopes(self.scopes.as_deref()?).ok()
    }

    /// Notes what is wrong with it. `known` says which resources there are.
    pub(crate) fn check(&self, known: impl Fn(&str) -> bool, errors: &mut ConfigErrors) {
        let mut wrong = |reason| errors.push(ConfigError::BadClient { id: self.id.clone(), reason });
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
        if !(1..=128).contains(&self.id.len()) || !self.id.bytes().all(plain) {
            wrong("its id is empty, too long, or has other characters than A-Z a-z 0-9 - . _ ~ : /");
        }
        if self.may(GrantType::ClientCredentials) && !self.is_confidential() {
            wrong("a public client cannot get tokens in its own name");
        }
        if !self.introspects.is_empty() && !self.is_confidential() {
            wrong("a public client cannot ask about tokens");
        }
        let named = self.resources.iter().flatten().chain(&self.introspects);
        if named.clone().any(|name| !known(name)) {
            wrong("it names a resource that the server does not have");
        }
        if let Some(scopes) = &self.scopes {
            errors.keep(parse_scopes(scopes));
        }
    }
}

/// What tokens are for: an API or a tool, named by an absolute URI (RFC 8707 §2).
///
/// ```
/// use portcullis::client::Resource;
///
/// let tool = Resource::new("https://tool.example/mcp").scopes(["tool:run"]);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Resource {
    id: String,
    scopes: Option<Vec<String>>,
}

impl Resource {
    /// The resource with this URI: its tokens' `aud`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), scopes: None }
    }

    /// What its tokens may be granted at the most. Anything unless set.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its limit of scopes, once it was checked.
    pub(crate) fn limit(&self) -> Option<ScopeSet> {
        parse_scopes(self.scopes.as_deref()?).ok()
    }

    pub(crate) fn check(&self, errors: &mut ConfigErrors) {
        if !uri::is_absolute(&self.id) {
            errors.push(ConfigError::Resource(self.id.clone()));
        }
        if let Some(scopes) = &self.scopes {
            errors.keep(parse_scopes(scopes));
        }
    }
}

fn parse_scopes(names: &[String]) -> Result<ScopeSet, ConfigError> {
    names.iter().map(|name| Scope::parse(name).map_err(|_| ConfigError::Scope(name.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hashed_and_compared() {
        let secret = random_secret().unwrap();
        let hashed = HashedSecret::of(&secret).unwrap();
        let text = hashed.to_string();
        assert!(!text.contains(secret.expose()) && text.starts_with("sha256:"), "{text}");
        assert_eq!(HashedSecret::parse(&text), Some(hashed.clone()));
        assert_eq!(format!("{hashed:?}"), "[redacted]");
        for bad in
            ["", "sha256:", &text[7..], &format!("{text}A"), "sha256:!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"]
        {
            assert_eq!(HashedSecret::parse(bad), None, "{bad}");
        }
        let next = random_secret().unwrap();
        let client = Client::confidential("c", hashed).also_secret(HashedSecret::of(&next).unwrap());
        assert!(client.has_secret(secret.expose()) && client.has_secret(next.expose()));
        assert!(!client.has_secret("") && !client.has_secret(&secret.expose()[1..]));
        assert!(!Client::public("c").has_secret(""));
        for weak in
            ["", "correct horse battery staple", &"ab".repeat(40), &format!("{}{}", secret.expose(), "x".repeat(500))]
        {
            assert_eq!(HashedSecret::of(&Secret::from(weak)), Err(ConfigError::GuessableKey), "{weak}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let secret = || HashedSecret::parse(&format!("sha256:{}", "A".repeat(43))).unwrap();
        let known = |name: &str| name == "orders";
        for (client, mistakes) in [
            (Client::public("app"), 0),
            (Client::public("https://app.example/client"), 0),
            (Client::confidential("c", secret()).grant(GrantType::ClientCredentials).introspects(["orders"]), 0),
            (Client::public(""), 1),
            (Client::public("a b"), 1),
            (Client::public("x".repeat(129)), 1),
            (Client::public("app").grant(GrantType::ClientCredentials).introspects(["orders"]), 2),
            (Client::public("app").resources(["orders", "billing"]), 1),
            (Client::public("app").scopes(["two words", "ok"]), 1),
        ] {
            let mut errors = ConfigErrors::default();
            client.check(known, &mut errors);
            assert_eq!(errors.iter().count(), mistakes, "{client:?}: {errors}");
        }
    }
}
