//! How a policy is put together.

use std::time::Duration;

use serde_json::Value;

use super::{ClaimsPolicy, Mark, ScopeMap, StandIn, Types};
use crate::config::{ConfigError, ConfigErrors};

/// Builder of a [`ClaimsPolicy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClaimsPolicyBuilder(ClaimsPolicy, ConfigErrors);

const MAX_LEEWAY: Duration = Duration::from_secs(300);
const MAX_TOKEN: usize = 64 * 1024;
const MAX_NAME: usize = 1024;

impl ClaimsPolicy {
    /// Begins a policy for tokens that `issuer` made for `audience`. Neither has a safe default.
    pub fn builder(issuer: impl Into<String>, audience: impl Into<String>) -> ClaimsPolicyBuilder {
        ClaimsPolicyBuilder(
            Self {
                issuer: issuer.into(),
                audiences: vec![audience.into()],
                parties: None,
                leeway: Duration::from_secs(30),
                types: Types::Access,
                marks: Vec::new(),
                stand_in: None,
                required: Vec::new(),
                scopes: None,
                max_token: 8 * 1024,
                max_depth: 16,
            },
            ConfigErrors::default(),
        )
    }

    /// Begins a policy for tokens that `issuer` made for `party`, which another claim than `aud` names. An `aud` that is there
    /// must be one of those that are added; so long as there are none, it must not be there. What parties are called is for
    /// the preset to check.
    pub(crate) fn builder_for_party(
        issuer: impl Into<String>,
        stand_in: StandIn,
        party: impl Into<String>,
    ) -> ClaimsPolicyBuilder {
        let mut builder = Self::builder(issuer, "");
        builder.0.audiences.clear();
        builder.0.stand_in = Some(stand_in);
        builder.also_party(party)
    }
}

impl ClaimsPolicyBuilder {
    /// Adds another name under which this server is addressed in `aud`.
    pub fn also_audience(mut self, audience: impl Into<String>) -> Self {
        self.0.audiences.push(audience.into());
        self
    }

    /// Adds another party, for which `aud` does not speak.
    pub(crate) fn also_party(mut self, party: impl Into<String>) -> Self {
        self.0.parties.get_or_insert_default().push(party.into());
        self
    }

    /// Clock difference tolerated on `exp`, `nbf` and `iat`: 30 seconds unless set, 5 minutes at most.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.0.leeway = leeway;
        self
    }

    /// Longest token text in bytes: 8 KiB unless set, 64 KiB at most.
    pub fn max_token(mut self, bytes: usize) -> Self {
        self.0.max_token = bytes;
        self
    }

    /// Demands that the claim `name` is present and equal to one of `allowed`.
    ///
    /// A token without the claim is a bad token (401 `invalid_token`); one with another value is refused by policy
    /// (403). Values are compared as JSON: type and value must agree. May be called for several claims.
    pub fn require_claim<V: Into<Value>>(
        mut self,
        name: impl Into<String>,
        allowed: impl IntoIterator<Item = V>,
    ) -> Self {
        self.0.required.push((name.into(), allowed.into_iter().map(Into::into).collect()));
        self
    }

    /// Lets only these scopes of the issuer count, each under the name that it has here: `(theirs, ours)`. Others are passed
    /// over. Without this, a scope that the issuer grants is granted here under the same name: for one whose word is not
    /// law here, say which of its scopes mean what.
    pub fn map_scopes<S: AsRef<str>>(self, names: impl IntoIterator<Item = (S, S)>) -> Self {
        self.scopes(ScopeMap::new().map_scopes("scope", names))
    }

    /// Says where a token says what it grants, and what that is called here: see [`ScopeMap`]. Without one, `scope` says it.
    /// Of several, all that they grant counts.
    pub fn scopes(mut self, map: ScopeMap) -> Self {
        let former = self.0.scopes.take().unwrap_or_default();
        self.0.scopes = Some(former.and(map));
        self
    }

    /// Tells access tokens from others by a claim, instead of by the header: `name` must be there, and one of `allowed`, or the
    /// token is one of another type, 401. `typ` in the header may then be `at+jwt`, `JWT`, or missing; `sub` alone is asked for
    /// besides `iss`, `aud` and `exp`.
    ///
    /// For issuers whose access tokens predate RFC 9068 and say in their claims what they are, such as Keycloak's.
    ///
    /// ```
    /// use portcullis::jwt::ClaimsPolicy;
    ///
    /// let policy = ClaimsPolicy::builder("https://id.example/realms/acme", "orders").typed_by_claim("typ", ["Bearer"]).build()?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn typed_by_claim<V: Into<Value>>(self, name: impl Into<String>, allowed: impl IntoIterator<Item = V>) -> Self {
        self.marked(Mark::Is(name.into(), allowed.into_iter().map(Into::into).collect()))
    }

    /// As [`typed_by_claim`](Self::typed_by_claim), by what claims there are.
    pub(crate) fn marked(mut self, mark: Mark) -> Self {
        self.0.marks.push(mark);
        self.plain_type()
    }

    /// Lets in what says in its header that it is `at+jwt`, `JWT`, or nothing: something else tells what it is.
    pub(crate) fn plain_type(mut self) -> Self {
        self.0.types = Types::Plain;
        self
    }

    /// Demands that `azp`, if it is there, is one of the audiences as well (OpenID Connect Core §3.1.3.7).
    pub(crate) fn with_party_of_ours(mut self) -> Self {
        self.0.stand_in = Some(StandIn::PartyIfAny);
        self
    }

    /// Accepts tokens of any `typ`, or none, and asks for `sub` alone besides `iss`, `aud` and `exp`.
    ///
    /// For issuers whose access tokens predate RFC 9068. What is lost: an ID token, or any other JWT that this issuer
    /// makes for this audience, is then as good as an access token (RFC 8725 §3.12). Where they have a claim that tells them
    /// apart, [`typed_by_claim`](Self::typed_by_claim) loses nothing.
    pub fn danger_any_token_type(mut self) -> Self {
        self.0.types = Types::Any;
        self
    }

    /// Takes `client_id` for the audience of a token: it must be one of those that the policy names, and so must `aud`, where it
    /// is there.
    ///
    /// For Amazon Cognito, whose access tokens name the client and no audience. What is lost: whatever else accepts tokens of
    /// that client accepts the same ones, so one service can pass on to another what it was sent. There is one list for both
    /// claims; [`presets::cognito`](crate::presets::cognito()) has two.
    ///
    /// ```
    /// use portcullis::jwt::ClaimsPolicy;
    ///
    /// let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_example";
    /// let policy = ClaimsPolicy::builder(issuer, "1example23456789")
    ///     .danger_audience_in_client_id()
    ///     .typed_by_claim("token_use", ["access"])
    ///     .build()?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn danger_audience_in_client_id(self) -> Self {
        self.stand_in(StandIn::ClientId)
    }

    /// Takes `azp`, the authorised party (OpenID Connect Core §2), for the audience of a token: it must be one of those that the
    /// policy names, and so must `aud`, where it is there.
    ///
    /// For Clerk, whose session tokens name the origin of the page that they are for, and no audience. What is lost: as with
    /// [`danger_audience_in_client_id`](Self::danger_audience_in_client_id), one service can pass on to another what such a page
    /// has sent to it. It is one or the other: both are a [`ConfigError::AudienceTwice`].
    pub fn danger_audience_in_azp(self) -> Self {
        self.stand_in(StandIn::AuthorizedParty)
    }

    fn stand_in(mut self, claim: StandIn) -> Self {
        if self.0.stand_in.is_some_and(|former| former != claim) {
            self.1.push(ConfigError::AudienceTwice);
        }
        self.0.stand_in = Some(claim);
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one [`ConfigError`] for each bad setting.
    pub fn build(self) -> Result<ClaimsPolicy, ConfigErrors> {
        let Self(mut policy, mut errors) = self;
        if !is_name(&policy.issuer) {
            errors.push(ConfigError::Issuer(policy.issuer.clone()));
        }
        for audience in policy.audiences.iter().filter(|audience| !is_name(audience)) {
            errors.push(ConfigError::Audience(audience.clone()));
        }
        errors.bound("leeway", policy.leeway, Duration::ZERO, MAX_LEEWAY);
        errors.bound_number("max_token", policy.max_token, 1, MAX_TOKEN);
        for (name, _) in policy.required.iter().filter(|(_, allowed)| allowed.is_empty()) {
            errors.push(ConfigError::NoAllowedValue(name.clone()));
        }
        for mark in &policy.marks {
            if let Mark::Is(name, allowed) = mark
                && allowed.is_empty()
            {
                errors.push(ConfigError::NoAllowedValue(name.clone()));
            }
        }
        if let Some(map) = &mut policy.scopes {
            map.check(&mut errors);
        }
        errors.finish(Some(policy))
    }
}

/// Whether `text` can name an issuer or an audience.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}
