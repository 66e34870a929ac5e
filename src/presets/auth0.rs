//! Auth0.

use super::{Given, OF_ID_TOKENS, ProviderBuilder};
use crate::{
    config::ConfigErrors,
    jwt::{ClaimsPolicy, Mark, ScopeMap},
    rejection::Rejection,
};

/// Auth0, of [`auth0()`].
#[derive(Clone, Copy, Debug)]
pub enum Auth0 {}

/// Access tokens of an Auth0 tenant for an API. `domain` is the tenant's, or its custom domain; `audience` the API's
/// identifier.
///
/// | | | source |
/// |---|---|---|
/// | issuer | `https://{domain}/`, with the slash | *Access Token Profiles*, Auth0 Docs |
/// | keys | `https://{domain}/.well-known/jwks.json` | *JSON Web Key Sets* |
/// | audience | `aud` has the API's identifier, often beside that of `/userinfo` | *Access Token Profiles* |
/// | type | both profiles: `JWT` with `azp`, `at+jwt` with `client_id`. ID tokens are for a client, have neither, and often a `nonce` | the same; *ID Token Structure* |
/// | scopes | `scope`; [`permissions`](ProviderBuilder::permissions) where the API has "Add Permissions in the Access Token" on | *Enable Role-Based Access Control for APIs* |
///
/// A tenant with a custom domain puts into `iss` the domain that the token was asked for at: give that one.
///
/// ```
/// use portcullis::presets;
///
/// let tenant = presets::auth0("acme.eu.auth0.com", "https://api.acme.example").build()?;
/// assert_eq!(tenant.policy().issuer(), "https://acme.eu.auth0.com/");
/// assert_eq!(tenant.jwks_url(), "https://acme.eu.auth0.com/.well-known/jwks.json");
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn auth0(domain: &str, audience: &str) -> ProviderBuilder<Auth0> {
    let mut errors = ConfigErrors::default();
    Given { provider: "Auth0", setting: "domain", text: domain }.check_host(&mut errors);
    let userinfo = audience == format!("https://{domain}/userinfo");
    let given = Given { provider: "Auth0", setting: "audience", text: audience };
    given.check(&mut errors, !userinfo, "is Auth0's own, and in tokens for every API");
    let policy = ClaimsPolicy::builder(format!("https://{domain}/"), audience)
        .marked(OF_ID_TOKENS)
        .marked(Mark::OneOf(&["azp", "client_id"], Rejection::WrongType));
    let keys = format!("https://{domain}/.well-known/jwks.json");
    ProviderBuilder::new(policy, ScopeMap::new().take("scope"), keys, errors)
}

impl ProviderBuilder<Auth0> {
    /// Takes `permissions` for what a token grants, and not `scope`: with role-based access control, it is all that the user may at
    /// this API, whatever the client has asked for, and whatever the user has agreed to.
    ///
    /// For first-party clients only, which may do all that their user may. Where the API has clients of others, each of them could
    /// do so, too: take `scope`, which Auth0 cuts down to what the user may.
    pub fn permissions(self) -> Self {
        self.replace_scopes(ScopeMap::new().take("permissions"))
    }
}
