//! What a token's claims must say (RFC 7519 §4.1, RFC 8725 §3, RFC 9068 §4). Pure: `now` is an argument.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{claims::RegisteredClaims, token::TokenType};
use crate::{
    clock::UnixSeconds,
    config::{ConfigError, ConfigErrors},
    rejection::Rejection,
    scope::{Scope, ScopeSet, is_scope_text},
};

/// The rules that a token must satisfy besides its signature.
///
/// | rule | default | bound |
/// |---|---|---|
/// | `iss` | equal to the issuer, byte for byte | |
/// | `aud` | contains one of the audiences, byte for byte | |
/// | `typ` | `at+jwt`, with `sub`, `client_id`, `iat` and `jti` present (RFC 9068) | |
/// | leeway on `exp`, `nbf`, `iat` | 30 s | 300 s |
/// | token text | 8 KiB | 64 KiB |
/// | nesting of the claims | 16 levels | |
///
/// ```
/// use portcullis::jwt::ClaimsPolicy;
///
/// let policy = ClaimsPolicy::builder("https://id.example", "orders")
///     .require_claim("tenant", ["acme", "initech"])
///     .build()?;
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClaimsPolicy {
    issuer: String,
    audiences: Vec<String>,
    leeway: Duration,
    any_type: bool,
    audience_in_client_id: bool,
    required: Vec<(String, Vec<Value>)>,
    /// What a scope of the issuer is called here; `None` if its scopes count as they are.
    scopes: Option<Vec<(Scope, Scope)>>,
    pub(crate) max_token: usize,
    pub(crate) max_depth: u8,
}

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
                leeway: Duration::from_secs(30),
                any_type: false,
                audience_in_client_id: false,
                required: Vec::new(),
                scopes: None,
                max_token: 8 * 1024,
                max_depth: 16,
            },
            ConfigErrors::default(),
        )
    }

    /// The issuer whose tokens it is for.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks the header's `typ` (RFC 9068 §4, RFC 8725 §3.11).
    pub(crate) fn check_type(&self, typ: TokenType) -> Result<(), Rejection> {
        if self.any_type || typ == TokenType::Access { Ok(()) } else { Err(Rejection::WrongType) }
    }

    /// Checks every rule as of `now`.
    pub(crate) fn check(&self, claims: &RegisteredClaims, now: UnixSeconds) -> Result<(), Rejection> {
        if claims.issuer() != self.issuer {
            return Err(Rejection::WrongIssuer);
        }
        self.check_audience(claims)?;
        self.check_times(claims, now)?;
        self.check_presence(claims)?;
        if !is_scope_text(claims.scope().unwrap_or_default()) {
            return Err(Rejection::ClaimMalformed("scope"));
        }
        self.check_required(claims.payload())
    }

    fn check_audience(&self, claims: &RegisteredClaims) -> Result<(), Rejection> {
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        // An `aud` that is there counts in any case.
        let named = match (claims.has_audience(), self.audience_in_client_id) {
            (true, _) => claims.audience().any(ours),
            (false, true) => claims.client_id().is_some_and(ours),
            (false, false) => return Err(Rejection::ClaimMissing("aud")),
        };
        if named { Ok(()) } else { Err(Rejection::WrongAudience) }
    }

    pub(crate) fn check_times(&self, claims: &RegisteredClaims, now: UnixSeconds) -> Result<(), Rejection> {
        let exp = claims.expires_at;
        // Strictly before: at `exp` itself the token is expired (RFC 7519 §4.1.4).
        if now >= exp.saturating_add(self.leeway) {
            return Err(Rejection::Expired { exp, now });
        }
        let ahead = now.saturating_add(self.leeway);
        match (claims.not_before, claims.issued_at) {
            (Some(nbf), _) if nbf > ahead => Err(Rejection::NotYetValid { nbf, now }),
            (_, Some(iat)) if iat > ahead => Err(Rejection::IssuedInFuture { iat, now }),
            _ => Ok(()),
        }
    }

    fn check_presence(&self, claims: &RegisteredClaims) -> Result<(), Rejection> {
        let named = |claim: Option<&str>, name| match claim {
            None => Err(Rejection::ClaimMissing(name)),
            Some("") => Err(Rejection::ClaimMalformed(name)),
            Some(_) => Ok(()),
        };
        named(claims.subject(), "sub")?;
        if self.any_type {
            return Ok(());
        }
        named(claims.client_id(), "client_id")?;
        named(claims.token_id(), "jti")?;
        claims.issued_at.map(drop).ok_or(Rejection::ClaimMissing("iat"))
    }

    /// What a token's scopes amount to here, where that is not what it says.
    pub(crate) fn map_scope(&self, scope: &str) -> Option<String> {
        let map = self.scopes.as_ref()?;
        let known = scope.split(' ').flat_map(|name| map.iter().filter(move |(theirs, _)| theirs.as_str() == name));
        Some(known.map(|(_, ours)| ours.clone()).collect::<ScopeSet>().to_string())
    }

    fn check_required(&self, payload: &str) -> Result<(), Rejection> {
        if self.required.is_empty() {
            return Ok(());
        }
        // A second reading, for policies that need it; the first has established that the text is strict.
        let claims: Map<String, Value> =
            serde_json::from_str(payload).map_err(|_| Rejection::MalformedToken("not a JSON object"))?;
        self.required.iter().try_for_each(|(name, allowed)| match claims.get(name) {
            None => Err(Rejection::RequiredClaimMissing),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(_) => Err(Rejection::ClaimNotAllowed),
        })
    }
}

impl ClaimsPolicyBuilder {
    /// Adds another name under which this server is addressed in `aud`.
    pub fn also_audience(mut self, audience: impl Into<String>) -> Self {
        self.0.audiences.push(audience.into());
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
    pub fn map_scopes<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = (S, S)>) -> Self {
        let Self(policy, errors) = &mut self;
        let map = policy.scopes.get_or_insert_default();
        for (theirs, ours) in names {
            let mut scope =
                |name: &str| errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.to_owned())));
            map.extend(scope(theirs.as_ref()).zip(scope(ours.as_ref())));
        }
        self
    }

    /// Accepts tokens of any `typ`, or none, and asks for `sub` alone besides `iss`, `aud` and `exp`.
    ///
    /// For issuers whose access tokens predate RFC 9068. What is lost: an ID token, or any other JWT that this issuer
    /// makes for this audience, is then as good as an access token (RFC 8725 §3.12). Tell them apart with
    /// [`require_claim`](Self::require_claim).
    pub fn danger_any_token_type(mut self) -> Self {
        self.0.any_type = true;
        self
    }

    /// Takes `client_id` for the audience of a token that has no `aud`: it must be one of those that the policy names.
    ///
    /// For Amazon Cognito, whose access tokens name the client and no audience. What is lost: whatever else accepts tokens of
    /// that client accepts the same ones, so one service can pass on to another what it was sent.
    ///
    /// ```
    /// use portcullis::jwt::ClaimsPolicy;
    ///
    /// let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_example";
    /// let policy = ClaimsPolicy::builder(issuer, "1example23456789")
    ///     .danger_audience_in_client_id()
    ///     .danger_any_token_type()
    ///     .require_claim("token_use", ["access"])
    ///     .build()?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn danger_audience_in_client_id(mut self) -> Self {
        self.0.audience_in_client_id = true;
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one [`ConfigError`] for each bad setting.
    pub fn build(self) -> Result<ClaimsPolicy, ConfigErrors> {
        let Self(policy, mut errors) = self;
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
        errors.finish(Some(policy))
    }
}

/// Whether `text` can name an issuer or an audience.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn check(policy: &ClaimsPolicy, change: &[(&str, Value)]) -> Result<(), Rejection> {
        let mut claims = serde_json::json!({
            "iss": "https://id.example", "aud": "api", "sub": "user:1", "client_id": "c", "jti": "j",
            "iat": NOW, "exp": NOW + 600, "scope": "me",
        });
        for (name, value) in change {
            if value == &Value::from("(gone)") {
                claims.as_object_mut().unwrap().remove(*name);
            } else {
                claims[*name] = value.clone();
            }
        }
        policy.check(&RegisteredClaims::parse(claims.to_string(), 16)?, UnixSeconds::new(NOW))
    }

    fn policy() -> ClaimsPolicyBuilder {
        ClaimsPolicy::builder("https://id.example", "api")
    }

    #[test]
    fn claims_table() {
        use Rejection::{ClaimMalformed as Malformed, ClaimMissing as Missing, WrongAudience, WrongIssuer};
        let exp = UnixSeconds::new;
        let now = UnixSeconds::new(NOW);
        let gone = Value::from("(gone)");
        let rows: Vec<(u16, &str, Value, Result<(), Rejection>)> = vec![
            (97, "iss", "https://id.example/".into(), Err(WrongIssuer)),
            (97, "iss", "https://ID.example".into(), Err(WrongIssuer)),
            (97, "iss", "".into(), Err(WrongIssuer)),
            (96, "iss", gone.clone(), Err(Missing("iss"))),
            (68, "aud", "API".into(), Err(WrongAudience)),
            (68, "aud", Value::Array(vec![]), Err(WrongAudience)),
            (68, "aud", vec!["other", "apis"].into(), Err(WrongAudience)),
            (98, "aud", vec!["other", "api"].into(), Ok(())),
            (96, "aud", gone.clone(), Err(Missing("aud"))),
            (74, "exp", (NOW - 29).into(), Ok(())),
            (74, "exp", (NOW - 30).into(), Err(Rejection::Expired { exp: exp(NOW - 30), now })),
            (74, "exp", 0.into(), Err(Rejection::Expired { exp: exp(0), now })),
            (96, "exp", gone.clone(), Err(Missing("exp"))),
            (75, "nbf", NOW.into(), Ok(())),
            (75, "nbf", (NOW + 30).into(), Ok(())),
            (75, "nbf", (NOW + 31).into(), Err(Rejection::NotYetValid { nbf: exp(NOW + 31), now })),
            (76, "nbf", "x".into(), Err(Malformed("nbf"))),
            (96, "iat", (NOW + 31).into(), Err(Rejection::IssuedInFuture { iat: exp(NOW + 31), now })),
            (96, "iat", (NOW + 30).into(), Ok(())),
            (96, "iat", gone.clone(), Err(Missing("iat"))),
            (67, "sub", "".into(), Err(Malformed("sub"))),
            (96, "sub", gone.clone(), Err(Missing("sub"))),
            (96, "client_id", gone.clone(), Err(Missing("client_id"))),
            (96, "client_id", "".into(), Err(Malformed("client_id"))),
            (96, "jti", gone.clone(), Err(Missing("jti"))),
            (38, "scope", "me  items".into(), Err(Malformed("scope"))),
            (38, "scope", "me\titems".into(), Err(Malformed("scope"))),
            (99, "scope", gone, Ok(())),
            (99, "scope", "".into(), Ok(())),
        ];
        let policy = policy().build().unwrap();
        for (req, name, value, expected) in rows {
            assert_eq!(check(&policy, &[(name, value.clone())]), expected, "req {req}: {name} {value}");
        }
    }

    #[test]
    fn req_074_without_leeway_the_second_of_exp_is_too_late() {
        let strict = policy().leeway(Duration::ZERO).build().unwrap();
        assert_eq!(check(&strict, &[("exp", (NOW + 1).into())]), Ok(()));
        let now = UnixSeconds::new(NOW);
        assert_eq!(check(&strict, &[("exp", NOW.into())]), Err(Rejection::Expired { exp: now, now }));
        assert_eq!(check(&strict, &[("exp", (1_u64 << 53).into())]), Ok(()), "no overflow");
    }

    #[test]
    fn required_claims() {
        let policy = policy().require_claim("tenant", ["acme", "initech"]).require_claim("tier", [1, 2]).build();
        let policy = policy.unwrap();
        let tenant = |tenant: Value, tier: Value| check(&policy, &[("tenant", tenant), ("tier", tier)]);
        assert_eq!(tenant("acme".into(), 2.into()), Ok(()));
        assert_eq!(tenant("umbrella".into(), 2.into()), Err(Rejection::ClaimNotAllowed));
        assert_eq!(tenant("ACME".into(), 2.into()), Err(Rejection::ClaimNotAllowed));
        assert_eq!(tenant(vec!["acme"].into(), 2.into()), Err(Rejection::ClaimNotAllowed));
        assert_eq!(tenant("acme".into(), "2".into()), Err(Rejection::ClaimNotAllowed));
        assert_eq!(tenant("acme".into(), Value::Null), Err(Rejection::ClaimNotAllowed));
        assert_eq!(tenant("(gone)".into(), 2.into()), Err(Rejection::RequiredClaimMissing));
    }

    #[test]
    fn scopes_of_another_issuer_count_as_mapped() {
        let map = [("orders.read", "orders:read"), ("orders.all", "orders:read"), ("orders.all", "orders:write")];
        let policy = policy().map_scopes(map).build().unwrap();
        for (theirs, ours) in [
            ("orders.read", "orders:read"),
            ("orders.all admin", "orders:read orders:write"),
            ("orders.read orders.all", "orders:read orders:write"),
            ("admin orders:read", ""),
            ("", ""),
        ] {
            assert_eq!(policy.map_scope(theirs).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(self::policy().build().unwrap().map_scope("admin"), None);
        let errors = self::policy().map_scopes([("a b", ""), ("a", "b")]).build().unwrap_err();
        assert_eq!(errors.iter().count(), 2);
    }

    #[test]
    fn danger_any_token_type_asks_for_a_subject_alone() {
        let policy = policy().danger_any_token_type().build().unwrap();
        let gone = Value::from("(gone)");
        let bare = [("client_id", gone.clone()), ("jti", gone.clone()), ("iat", gone.clone())];
        assert_eq!(check(&policy, &bare), Ok(()));
        assert_eq!(check(&policy, &[("sub", gone)]), Err(Rejection::ClaimMissing("sub")));
        assert_eq!(policy.check_type(TokenType::Other), Ok(()));
    }

    #[test]
    fn danger_audience_in_client_id_takes_the_one_for_the_other() {
        let cognito = ClaimsPolicy::builder("https://id.example", "c").danger_audience_in_client_id().build().unwrap();
        let gone = Value::from("(gone)");
        let check = |aud: &Value, client: &str| check(&cognito, &[("aud", aud.clone()), ("client_id", client.into())]);
        assert_eq!(check(&gone, "c"), Ok(()));
        assert_eq!(check(&gone, "C"), Err(Rejection::WrongAudience));
        assert_eq!(check(&"other".into(), "c"), Err(Rejection::WrongAudience), "`aud` counts where it is there");
        assert_eq!(check(&Value::Array(vec![]), "c"), Err(Rejection::WrongAudience));
        assert_eq!(check(&"c".into(), "other"), Ok(()));
        let any =
            ClaimsPolicy::builder("https://id.example", "c").danger_audience_in_client_id().danger_any_token_type();
        let bare = [("aud", gone.clone()), ("client_id", gone)];
        assert_eq!(self::check(&any.build().unwrap(), &bare), Err(Rejection::WrongAudience));
    }

    #[test]
    fn every_mistake_is_named() {
        let errors = ClaimsPolicy::builder("", "a\nb")
            .also_audience("")
            .leeway(Duration::from_secs(301))
            .max_token(0)
            .require_claim("tenant", [] as [&str; 0])
            .build()
            .unwrap_err();
        assert_eq!(errors.iter().count(), 6, "{errors}");
    }
}
