//! Clerk.

use super::{Given, ProviderBuilder};
use crate::{
    config::ConfigErrors,
    fetch::WebOrigin,
    jwt::{ClaimsPolicy, Mark, ScopeMap, StandIn},
    rejection::Rejection,
};

/// Clerk, of [`clerk()`].
#[derive(Clone, Copy, Debug)]
pub enum Clerk {}

/// Session tokens of a Clerk instance. `domain` is the host of its Frontend API; `origin` that of the pages that call.
///
/// | | | source |
/// |---|---|---|
/// | issuer | `https://{domain}`, the Frontend API URL | *Session tokens*, Clerk Docs |
/// | keys | `/.well-known/jwks.json` below it | *Manual JWT verification* |
/// | audience | there is no `aud`: `azp` must be one of the origins; where the session token has been customised to have an `aud`, that must be one of [`also_audience`](ProviderBuilder::also_audience) | the same |
/// | type | `sid` must be there: session tokens have it, customised or not; a `sts` of `pending` is refused, 403 | both; *JWT templates* |
/// | scopes | none; `org_role`, `["o", "rol"]` and others by [`ScopeMap`] | *Session tokens* |
///
/// Clerk leaves `azp` out where a request had no origin, as those of native apps, and its own libraries let that pass. Here such
/// a token is refused: nothing in it says whom it is for. A page's token would do for every page of the instance.
///
/// Tokens of a *JWT template* never have `sid`, nor `v`, and are refused, 401: what they are for is up to who wrote the template,
/// most often a service of somebody else. To have an `aud`, customise the session token.
///
/// A Frontend API behind a proxy of one's own has an address with a path for its issuer, and a browser extension an origin such as
/// `chrome-extension://…`: neither is taken here, and both need a [`ClaimsPolicy`] by hand, with
/// [`danger_audience_in_azp`](crate::jwt::ClaimsPolicyBuilder::danger_audience_in_azp), `typed_by_claim("v", [2])`, and
/// `require_claim("sts", ["active"])`.
///
/// ```
/// use portcullis::{jwt::ScopeMap, presets};
///
/// let instance = presets::clerk("clerk.acme.example", "https://app.acme.example")
///     .also_origin("http://localhost:3000")
///     .replace_scopes(ScopeMap::new().map_roles(["o", "rol"], [("admin", ["members:write"])]))
///     .build()?;
/// assert_eq!(instance.jwks_url(), "https://clerk.acme.example/.well-known/jwks.json");
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn clerk(domain: &str, origin: &str) -> ProviderBuilder<Clerk> {
    let mut errors = ConfigErrors::default();
    Given { provider: "Clerk", setting: "domain", text: domain }.check_host(&mut errors);
    check_origin(origin, &mut errors);
    let issuer = format!("https://{domain}");
    let keys = format!("{issuer}/.well-known/jwks.json");
    let policy = ClaimsPolicy::builder_for_party(issuer, StandIn::AuthorizedParty, origin)
        .marked(Mark::OneOf(&["sid"], Rejection::WrongType))
        .marked(Mark::Not("sts", "pending"));
    ProviderBuilder::new(policy, ScopeMap::new(), keys, errors)
}

impl ProviderBuilder<Clerk> {
    /// Accepts tokens for the pages of another origin as well.
    pub fn also_origin(mut self, origin: &str) -> Self {
        check_origin(origin, &mut self.errors);
        self.change(|policy| policy.also_party(origin))
    }

    /// Accepts session tokens that have been customised to have this `aud`. Their `azp` must be one of the origins all the same.
    pub fn also_audience(self, audience: &str) -> Self {
        self.change(|policy| policy.also_audience(audience))
    }
}

/// One that a browser sends, over TLS unless it is of this machine.
fn check_origin(origin: &str, errors: &mut ConfigErrors) {
    let good = WebOrigin::parse(origin).is_ok_and(|origin| !origin.wildcard && (origin.secure || origin.is_loopback()));
    let given = Given { provider: "Clerk", setting: "origin", text: origin };
    given.check(errors, good, "is no origin such as https://app.example.com, nor http on loopback");
}
