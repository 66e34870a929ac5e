//! Keycloak.

use super::{Given, ProviderBuilder};
use crate::{
    config::ConfigErrors,
    jwt::{ClaimsPolicy, ScopeMap},
    uri::Place,
};

/// Keycloak, of [`keycloak()`].
#[derive(Clone, Copy, Debug)]
pub enum Keycloak {}

/// Access tokens of a Keycloak realm. `realm_url` is `https://{host}/realms/{realm}`, as the realm's metadata names its issuer;
/// `audience` what a mapper puts into `aud`.
///
/// | | | source |
/// |---|---|---|
/// | issuer | the realm's address | *Securing applications and services with OpenID Connect*, Keycloak |
/// | keys | `/protocol/openid-connect/certs` below it | the same |
/// | audience | `aud`; Keycloak puts the API there only if an audience mapper, or a client role, says so. `azp` is the client that asked | *Audience support*, Server Administration Guide |
/// | type | the claim `typ` must be `Bearer`; ID tokens say `ID`, refresh tokens `Refresh`. The header says `JWT`, or `at+jwt` if the client is set so | `AccessToken`, Keycloak's sources |
/// | scopes | `scope`; `["realm_access", "roles"]` and `["resource_access", client, "roles"]` by [`ScopeMap`] | *Role scope mappings* |
///
/// `account` is refused as an audience: users have roles of Keycloak's own account console, so it is in the tokens of nearly
/// every client of the realm. So are `broker` and `realm-management`, Keycloak's own as well.
///
/// `sub` must be there. Since Keycloak 25, the client scope `basic` puts it into tokens: a client without that scope gets tokens
/// that are refused, 401.
///
/// ```
/// use portcullis::{jwt::ScopeMap, presets};
///
/// let realm = presets::keycloak("https://id.acme.example/realms/acme", "orders")
///     .replace_scopes(ScopeMap::new().map_roles(["resource_access", "orders", "roles"], [("clerk", ["orders:write"])]))
///     .build()?;
/// assert_eq!(realm.jwks_url(), "https://id.acme.example/realms/acme/protocol/openid-connect/certs");
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn keycloak(realm_url: &str, audience: &str) -> ProviderBuilder<Keycloak> {
    let mut errors = ConfigErrors::default();
    let given = Given { provider: "Keycloak", setting: "realm address", text: realm_url };
    let reason = "is no https address such as https://id.example.com/realms/acme, nor http on loopback";
    given.check(&mut errors, is_realm(realm_url), reason);
    let given = Given { provider: "Keycloak", setting: "audience", text: audience };
    let own = matches!(audience, "account" | "broker" | "realm-management");
    given.check(&mut errors, !own, "is Keycloak's own, and in tokens that are not for this API");
    let policy = ClaimsPolicy::builder(realm_url, audience).typed_by_claim("typ", ["Bearer"]);
    let keys = format!("{realm_url}/protocol/openid-connect/certs");
    ProviderBuilder::new(policy, ScopeMap::new().take("scope"), keys, errors)
}

fn is_realm(text: &str) -> bool {
    let Some(place) = Place::parse(text) else { return false };
    let Some((_, realm)) = place.path().rsplit_once("/realms/") else { return false };
    // Whoever fetches the keys may take these for other paths: dots, which may be written as `%2e`, and nothing between slashes.
    let is_strange = |segment: &str| matches!(segment, "" | "." | "..") || segment.to_ascii_lowercase().contains("%2e");
    let strange = place.path().split('/').skip(1).any(is_strange);
    !text.ends_with('/') && !realm.is_empty() && !realm.contains('/') && !strange
}
