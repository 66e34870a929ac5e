//! Rules and addresses of keys for identity providers that many programs use: [`cognito()`], [`auth0()`], [`clerk()`],
//! [`keycloak()`], [`entra()`], and [`google_id_tokens()`].
//!
//! ```no_run
//! # fn main() -> Result<(), portcullis::config::ConfigErrors> {
//! use portcullis::{jwt::ScopeMap, presets};
//!
//! let provider = presets::cognito("eu-central-1", "eu-central-1_Example1", "1example23456789")
//!     .replace_scopes(ScopeMap::new().take("scope").map_roles("cognito:groups", [("admins", ["users:write", "me"])]));
//! # #[cfg(feature = "jwks-client")]
//! let api = provider.resource_server()?;
//! # Ok(())
//! # }
//! ```
//!
//! Each is a [`ClaimsPolicy`] with its provider's documented facts in it, whose page its own docs name. An ID token is refused
//! by all but the one that says so in its name: it tells a client who signed in, and gives nobody leave to call anything. So is a
//! token with `cnf`, 401: it is bound to a key (RFC 8705, RFC 9449) that nobody here asks its sender for, and taken for a bearer
//! token, it would be as good as any to whoever has stolen it. A token's roles are no scopes unless
//! [`replace_scopes`](ProviderBuilder::replace_scopes) says so. What a preset is given is checked to be what it should be, so that
//! none of it can change the address that keys are fetched from. The [guide](crate::guide::providers) has a table of them.

mod auth0;
mod clerk;
mod cognito;
mod entra;
mod google;
mod keycloak;

use std::{fmt, marker::PhantomData, time::Duration};

use serde_json::Value;

pub use self::{
    auth0::{Auth0, auth0},
    clerk::{Clerk, clerk},
    cognito::{Cognito, cognito},
    entra::{Entra, entra},
    google::{GoogleIdTokens, google_id_tokens},
    keycloak::{Keycloak, keycloak},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    fetch::WebOrigin,
    jwt::{ClaimsPolicy, ClaimsPolicyBuilder, Mark, ScopeMap},
};
#[cfg(feature = "jwks-client")]
use crate::{jwt::RemoteJwks, resource_server::ResourceServer};

/// What has only ID tokens (OpenID Connect Core §2, §3.1.3.6, §3.3.2.11).
const OF_ID_TOKENS: Mark = Mark::NoneOf(&["nonce", "at_hash", "c_hash"]);

/// An identity provider: what its tokens must say, and where its keys are. From [`ProviderBuilder::build`].
#[derive(Clone, Debug)]
pub struct Provider {
    policy: ClaimsPolicy,
    jwks_url: String,
}

impl Provider {
    /// What its tokens must say: for [`Verifier::new`](crate::jwt::Verifier::new), or for
    /// [`ResourceServer::trust`](crate::ResourceServer::trust) beside others.
    pub const fn policy(&self) -> &ClaimsPolicy {
        &self.policy
    }

    /// Where it publishes its keys: for [`RemoteJwks::builder`](crate::jwt::RemoteJwks::builder).
    pub fn jwks_url(&self) -> &str {
        &self.jwks_url
    }

    /// A resource server that accepts its tokens, with keys that are fetched in the background from now on: until they are there,
    /// it answers 503. Where that must not be, or for other settings, give [`jwks_url`](Self::jwks_url) to
    /// [`RemoteJwks`] and wait until it is [`ready`](RemoteJwks::ready). Must be called in a Tokio runtime with its timer and I/O
    /// enabled.
    ///
    /// # Errors
    ///
    /// As [`RemoteJwksBuilder::start`](crate::jwt::RemoteJwksBuilder::start).
    #[cfg(feature = "jwks-client")]
    pub fn resource_server(self) -> Result<ResourceServer, ConfigErrors> {
        let keys = RemoteJwks::builder(self.jwks_url).start()?;
        Ok(ResourceServer::new(self.policy, keys))
    }
}

/// Builder of a [`Provider`]. `P` says whose tokens: some have settings of their own.
#[must_use]
pub struct ProviderBuilder<P> {
    policy: ClaimsPolicyBuilder,
    scopes: ScopeMap,
    jwks_url: String,
    /// Organisations whose users are let in, if not everybody; Google's alone.
    domains: Vec<String>,
    errors: ConfigErrors,
    provider: PhantomData<fn() -> P>,
}

impl<P> ProviderBuilder<P> {
    fn new(policy: ClaimsPolicyBuilder, scopes: ScopeMap, jwks_url: String, errors: ConfigErrors) -> Self {
        let policy = policy.marked(Mark::SENDER_CONSTRAINED);
        Self { policy, scopes, jwks_url, domains: Vec::new(), errors, provider: PhantomData }
    }

    fn change(self, change: impl FnOnce(ClaimsPolicyBuilder) -> ClaimsPolicyBuilder) -> Self {
        Self { policy: change(self.policy), ..self }
    }

    /// Sets what a token grants, instead of what the preset takes for it: the last map counts, alone.
    pub fn replace_scopes(self, map: ScopeMap) -> Self {
        Self { scopes: map, ..self }
    }

    /// As [`ClaimsPolicyBuilder::require_claim`].
    pub fn require_claim<V: Into<Value>>(self, name: impl Into<String>, allowed: impl IntoIterator<Item = V>) -> Self {
        self.change(|policy| policy.require_claim(name, allowed))
    }

    /// As [`ClaimsPolicyBuilder::leeway`]: 30 seconds unless set, 5 minutes at most.
    pub fn leeway(self, leeway: Duration) -> Self {
        self.change(|policy| policy.leeway(leeway))
    }

    /// As [`ClaimsPolicyBuilder::max_token`]: 8 KiB unless set, 64 KiB at most. Tokens with many groups may need more.
    pub fn max_token(self, bytes: usize) -> Self {
        self.change(|policy| policy.max_token(bytes))
    }

    /// Builds the provider.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with a [`ConfigError::Provider`] for each thing that is no such thing, and whatever else is wrong.
    pub fn build(self) -> Result<Provider, ConfigErrors> {
        let Self { mut policy, scopes, jwks_url, domains, mut errors, .. } = self;
        if !domains.is_empty() {
            policy = policy.require_claim("hd", domains);
        }
        let policy = errors.keep(policy.scopes(scopes).build());
        errors.finish(policy.map(|policy| Provider { policy, jwks_url }))
    }

    /// [`build`](Self::build), and [`Provider::resource_server`] of it.
    ///
    /// # Errors
    ///
    /// As both.
    #[cfg(feature = "jwks-client")]
    pub fn resource_server(self) -> Result<ResourceServer, ConfigErrors> {
        self.build()?.resource_server()
    }
}

impl<P> Clone for ProviderBuilder<P> {
    fn clone(&self) -> Self {
        let Self { policy, scopes, jwks_url, domains, errors, provider } = self;
        Self {
            policy: policy.clone(),
            scopes: scopes.clone(),
            jwks_url: jwks_url.clone(),
            domains: domains.clone(),
            errors: errors.clone(),
            provider: *provider,
        }
    }
}

impl<P> fmt::Debug for ProviderBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderBuilder").field("jwks_url", &self.jwks_url).finish_non_exhaustive()
    }
}

/// What is checked of a setting: whose it is, what it is called, and what was given.
struct Given<'g> {
    provider: &'static str,
    setting: &'static str,
    text: &'g str,
}

impl Given<'_> {
    /// Notes what is wrong, unless `good`.
    fn check(&self, errors: &mut ConfigErrors, good: bool, reason: &'static str) {
        if !good {
            let Self { provider, setting, text } = *self;
            errors.push(ConfigError::Provider { provider, setting, given: text.to_owned(), reason });
        }
    }

    /// A host's name, and nothing else of an address.
    fn check_host(&self, errors: &mut ConfigErrors) {
        self.check(errors, is_host(self.text), "is no host name such as id.example.com, in lower case");
    }
}

/// Whether it is the name of a host on a network, as browsers write it.
fn is_host(text: &str) -> bool {
    let origin = WebOrigin::parse(&format!("https://{text}"));
    let is_name = |origin: &WebOrigin| !origin.wildcard && origin.host() == text && text.contains('.');
    // Not an address: those end in a number, or are in brackets.
    origin.is_ok_and(|origin| is_name(&origin)) && text.ends_with(|last: char| last.is_ascii_lowercase())
}

/// Whether it has so many of these characters alone.
fn is_made_of(text: &str, length: std::ops::RangeInclusive<usize>, character: impl Fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, good) in [
            ("tenant.eu.auth0.com", true),
            ("login.acme.example", true),
            ("clerk.acme.xn--p1ai", true),
            ("", false),
            ("localhost", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("https://tenant.auth0.com", false),
            ("tenant.auth0.com/", false),
            ("tenant.auth0.com/x", false),
            ("tenant.auth0.com:8443", false),
            ("tenant.auth0.com.", false),
            ("tenant.auth0.com?x", false),
            ("tenant.auth0.com#x", false),
            ("evil.example@tenant.auth0.com", false),
            ("tenant.auth0.com@evil.example", false),
            ("tenant.auth0.com\\.evil.example", false),
            ("*.auth0.com", false),
            ("Tenant.auth0.com", false),
            ("tenant..auth0.com", false),
            ("tenant.auth0.com ", false),
            ("tenant.auth0.com\n", false),
            ("tenant%2eauth0.com", false),
            ("té.example", false),
        ] {
            assert_eq!(is_host(text), good, "{text:?}");
        }
    }
}
