//! Amazon Cognito.

use super::{Given, ProviderBuilder, is_made_of};
use crate::{
    config::ConfigErrors,
    jwt::{ClaimsPolicy, ScopeMap, StandIn},
};

/// Amazon Cognito, of [`cognito()`].
#[derive(Clone, Copy, Debug)]
pub enum Cognito {}

/// Access tokens of an Amazon Cognito user pool, for one of its app clients.
///
/// | | | source |
/// |---|---|---|
/// | issuer | `https://cognito-idp.{region}.amazonaws.com/{pool id}` | *Verifying JSON web tokens*, Amazon Cognito Developer Guide |
/// | keys | `/.well-known/jwks.json` below it | the same |
/// | audience | `client_id` must be one of the clients; there is no `aud` but with resource binding, and then it must be one of [`also_audience`](ProviderBuilder::also_audience), or of the clients | *Understanding the access token*; *Scopes, M2M, and resource servers* |
/// | type | the header has no `typ`: `token_use` must be `access`; ID tokens say `id` | the same |
/// | scopes | `scope`; `cognito:groups` by [`ScopeMap::map_roles`] | the same |
///
/// Because the audience is the client, whatever else accepts tokens of that client accepts the same ones: see
/// [`danger_audience_in_client_id`](crate::jwt::ClaimsPolicyBuilder::danger_audience_in_client_id). Demand the scopes of a
/// resource server, which Cognito writes as `orders/read`, where there are several.
///
/// Regions of China (`cn-…`) have hosts of their own, and are refused.
///
/// ```
/// use portcullis::presets;
///
/// let pool = presets::cognito("eu-central-1", "eu-central-1_Example1", "1example23456789").build()?;
/// let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example1";
/// assert_eq!(pool.policy().issuer(), issuer);
/// assert_eq!(pool.jwks_url(), format!("{issuer}/.well-known/jwks.json"));
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn cognito(region: &str, pool_id: &str, client_id: &str) -> ProviderBuilder<Cognito> {
    let mut errors = ConfigErrors::default();
    given("region", region).check(&mut errors, is_region(region), "is no region such as eu-central-1, or one of China");
    let is_pool = pool_id.split_once('_').is_some_and(|(pool_region, name)| {
        pool_region == region && is_made_of(name, 1..=55, |byte| byte.is_ascii_alphanumeric())
    });
    given("pool id", pool_id).check(&mut errors, is_pool, "is no pool id such as eu-central-1_Example1 of that region");
    check_client(client_id, &mut errors);
    let issuer = format!("https://cognito-idp.{region}.amazonaws.com/{pool_id}");
    let keys = format!("{issuer}/.well-known/jwks.json");
    let policy = ClaimsPolicy::builder_for_party(issuer, StandIn::ClientId, client_id)
        .also_audience(client_id)
        .typed_by_claim("token_use", ["access"]);
    ProviderBuilder::new(policy, ScopeMap::new().take("scope"), keys, errors)
}

impl ProviderBuilder<Cognito> {
    /// Accepts the tokens of another app client of the pool as well.
    pub fn also_client(mut self, client_id: &str) -> Self {
        check_client(client_id, &mut self.errors);
        self.change(|policy| policy.also_party(client_id).also_audience(client_id))
    }

    /// Accepts tokens that were asked for with this `resource` (RFC 8707), and so have it for their `aud`. Their `client_id` must be
    /// one of the clients all the same. Tokens without an `aud` are accepted still.
    pub fn also_audience(self, audience: &str) -> Self {
        self.change(|policy| policy.also_audience(audience))
    }
}

const fn given<'g>(setting: &'static str, text: &'g str) -> Given<'g> {
    Given { provider: "Cognito", setting, text }
}

fn check_client(client_id: &str, errors: &mut ConfigErrors) {
    let good = is_made_of(client_id, 1..=128, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+'));
    given("client id", client_id).check(errors, good, "is no app client's id");
}

/// Such as `eu-central-1` or `us-gov-west-1`, with hosts below `amazonaws.com`: those of China are elsewhere.
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let (area, number) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    let lower = |part: &str| is_made_of(part, 2..=12, |byte| byte.is_ascii_lowercase());
    let middle: Vec<&str> = parts.collect();
    area != "cn"
        && (1..=2).contains(&middle.len())
        && middle.into_iter().all(lower)
        && is_made_of(area, 2..=2, |byte| byte.is_ascii_lowercase())
        && is_made_of(number, 1..=2, |byte| byte.is_ascii_digit())
}
