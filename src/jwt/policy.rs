//! What a token's claims must say (RFC 7519 §4.1, RFC 8725 §3, RFC 9068 §4). Pure: `now` is an argument.

mod builder;

use std::time::Duration;

use serde_json::Value;

pub use self::builder::ClaimsPolicyBuilder;
use super::{claims::RegisteredClaims, mark::Mark, payload::Payload, scope_map::ScopeMap, token::TokenType};
use crate::{clock::UnixSeconds, rejection::Rejection, scope::is_scope_text};

/// The rules that a token must satisfy besides its signature.
///
/// | rule | default | bound |
/// |---|---|---|
/// | `iss` | equal to the issuer, byte for byte | |
/// | `aud` | contains one of the audiences, byte for byte | |
/// | `typ` | `at+jwt`, with `sub`, `client_id`, `iat` and `jti` present (RFC 9068) | |
/// | scopes | those in `scope`, a string; elsewhere with a [`ScopeMap`] | 16 KiB of text with a map |
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
    /// What the claim that stands in for `aud` may say; `None` if that is what `aud` may.
    parties: Option<Vec<String>>,
    leeway: Duration,
    types: Types,
    /// Claims that tell access tokens from others.
    marks: Vec<Mark>,
    stand_in: Option<StandIn>,
    required: Vec<(String, Vec<Value>)>,
    /// What a token grants; `None` if `scope` says it.
    scopes: Option<ScopeMap>,
    pub(crate) max_token: usize,
    pub(crate) max_depth: u8,
}

/// Which types of tokens are let in, by their header (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Types {
    /// `at+jwt`, with what RFC 9068 asks for.
    Access,
    /// That, `JWT`, or none: the claims tell.
    Plain,
    Any,
}

/// What names the audience of tokens beside `aud`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StandIn {
    /// `client_id`, whether there is an `aud` or not.
    ClientId,
    /// `azp`, whether there is an `aud` or not.
    AuthorizedParty,
    /// `azp`, if it is there, besides `aud`, which must be.
    PartyIfAny,
}

impl ClaimsPolicy {
    /// The issuer whose tokens it is for.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks the header's `typ` (RFC 9068 §4, RFC 8725 §3.11).
    pub(crate) fn check_type(&self, typ: TokenType) -> Result<(), Rejection> {
        let fits = match self.types {
            Types::Access => typ == TokenType::Access,
            Types::Plain => typ != TokenType::Other,
            Types::Any => true,
        };
        if fits { Ok(()) } else { Err(Rejection::WrongType) }
    }

    /// Checks every rule as of `now`, and says what the token grants here, where that is not what its `scope` says.
    pub(crate) fn check(&self, claims: &RegisteredClaims, now: UnixSeconds) -> Result<Option<String>, Rejection> {
        if claims.issuer() != self.issuer {
            return Err(Rejection::WrongIssuer);
        }
        let payload = Payload::of(claims);
        self.marks.iter().try_for_each(|mark| mark.check(&payload))?;
        self.check_audience(&payload)?;
        self.check_times(claims, now)?;
        self.check_presence(claims)?;
        let granted = self.granted(&payload)?;
        self.check_required(&payload)?;
        Ok(granted)
    }

    fn check_audience(&self, payload: &Payload<'_>) -> Result<(), Rejection> {
        let claims = payload.registered();
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        // Apart, where a preset knows both: an API's name is no client, nor a client's name an API.
        let parties = self.parties.as_ref().unwrap_or(&self.audiences);
        let is_party = |party: &str| parties.iter().any(|own| own == party);
        let named = match (claims.has_audience(), self.stand_in) {
            // An `aud` that is there counts in any case.
            (true, _) if !claims.audience().any(ours) => false,
            (false, None | Some(StandIn::PartyIfAny)) => return Err(Rejection::ClaimMissing("aud")),
            (true, None) => true,
            (true, Some(StandIn::PartyIfAny)) => {
                payload.get("azp")?.is_none_or(|party| party.as_str().is_some_and(is_party))
            }
            // Whose token it is counts as well: else a stranger's client could ask for one that names an `aud` of ours.
            (_, Some(StandIn::ClientId)) => claims.client_id().is_some_and(is_party),
            (_, Some(StandIn::AuthorizedParty)) => {
                let party = payload.get("azp")?.ok_or(Rejection::ClaimMissing("azp"))?;
                is_party(party.as_str().ok_or(Rejection::ClaimMalformed("azp"))?)
            }
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
        if self.types != Types::Access {
            return Ok(());
        }
        named(claims.client_id(), "client_id")?;
        named(claims.token_id(), "jti")?;
        claims.issued_at.map(drop).ok_or(Rejection::ClaimMissing("iat"))
    }

    /// What a token amounts to here, where a map says so.
    fn granted(&self, payload: &Payload<'_>) -> Result<Option<String>, Rejection> {
        let (claims, map) = (payload.registered(), self.scopes.as_ref());
        let is_free = claims.has_other_scope && map.is_some_and(ScopeMap::reads_scope);
        if (claims.has_other_scope && !is_free) || !is_scope_text(claims.scope().unwrap_or_default()) {
            return Err(Rejection::ClaimMalformed("scope"));
        }
        map.map(|map| Ok(map.granted(payload)?.to_string())).transpose()
    }

    fn check_required(&self, payload: &Payload<'_>) -> Result<(), Rejection> {
        self.required.iter().try_for_each(|(name, allowed)| match payload.claims()?.get(name) {
            None => Err(Rejection::RequiredClaimMissing),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(_) => Err(Rejection::ClaimNotAllowed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

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
        policy.check(&RegisteredClaims::parse(claims.to_string(), 16)?, UnixSeconds::new(NOW)).map(drop)
    }

    fn granted(policy: &ClaimsPolicy, change: &Value) -> Result<Option<String>, Rejection> {
        let mut claims = serde_json::json!({ "iss": "https://id.example", "aud": "api", "sub": "u", "exp": NOW + 600 });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
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
            (38, "scope", vec!["me"].into(), Err(Malformed("scope"))),
            (38, "scope", Value::Null, Err(Malformed("scope"))),
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
        let policy = policy().map_scopes(map).danger_any_token_type().build().unwrap();
        for (theirs, ours) in [
            ("orders.read", "orders:read"),
            ("orders.all admin", "orders:read orders:write"),
            ("orders.read orders.all", "orders:read orders:write"),
            ("admin orders:read", ""),
            ("", ""),
        ] {
            let claims = serde_json::json!({ "scope": theirs });
            assert_eq!(granted(&policy, &claims), Ok(Some(ours.to_owned())), "{theirs}");
        }
        assert_eq!(granted(&policy, &serde_json::json!({})), Ok(Some(String::new())));
        let as_it_is = self::policy().danger_any_token_type().build().unwrap();
        assert_eq!(granted(&as_it_is, &serde_json::json!({ "scope": "admin" })), Ok(None));
        let errors = self::policy().map_scopes([("a b", ""), ("a", "b")]).build().unwrap_err();
        assert_eq!(errors.iter().count(), 2);
    }

    #[test]
    fn a_scope_that_is_a_list_is_for_the_map_to_allow() {
        let with = |map| policy().danger_any_token_type().scopes(map).build().unwrap();
        let list = serde_json::json!({ "scope": ["me", "items"], "scp": "admin" });
        let bad = || Err(Rejection::ClaimMalformed("scope"));
        for (map, expected) in [
            (ScopeMap::new().take("scope"), Ok(Some("me items".to_owned()))),
            (ScopeMap::new().take("scope").take("scp"), Ok(Some("me items admin".to_owned()))),
            (ScopeMap::new().map_scopes("scope", [("items", "orders")]), Ok(Some("orders".to_owned()))),
            (ScopeMap::new().take("scp"), bad()),
            (ScopeMap::new().take(["scope", "scope"]), bad()),
            (ScopeMap::new(), bad()),
        ] {
            assert_eq!(granted(&with(map.clone()), &list), expected, "{map:?}");
        }
        assert_eq!(granted(&policy().danger_any_token_type().build().unwrap(), &list), bad());
        // What both say adds up, whichever came first.
        let both = policy().danger_any_token_type().map_scopes([("me", "self")]).scopes(ScopeMap::new().take("scp"));
        assert_eq!(granted(&both.build().unwrap(), &list), Ok(Some("self admin".to_owned())));
        let nothing = serde_json::json!({ "scope": "me", "scp": "admin" });
        assert_eq!(granted(&with(ScopeMap::new()), &nothing), Ok(Some(String::new())), "an empty map grants nothing");
    }

    #[test]
    fn claims_that_tell_the_type() {
        let policy = policy()
            .typed_by_claim("typ", ["Bearer"])
            .marked(Mark::OneOf(&["azp", "cid"], Rejection::RequiredClaimMissing))
            .marked(Mark::NoneOf(&["nonce", "at_hash"]))
            .marked(Mark::SENDER_CONSTRAINED)
            .marked(Mark::Not("sts", "pending"))
            .build()
            .unwrap();
        let wrong = || Err(Rejection::WrongType);
        for (claims, expected) in [
            (serde_json::json!({ "typ": "Bearer", "azp": "c" }), Ok(None)),
            (serde_json::json!({ "typ": "Bearer", "cid": "c", "sts": "active" }), Ok(None)),
            (serde_json::json!({ "typ": "ID", "azp": "c" }), wrong()),
            (serde_json::json!({ "typ": ["Bearer"], "azp": "c" }), wrong()),
            (serde_json::json!({ "azp": "c" }), wrong()),
            (serde_json::json!({ "typ": null, "azp": "c" }), wrong()),
            (serde_json::json!({ "typ": "Bearer" }), Err(Rejection::RequiredClaimMissing)),
            (serde_json::json!({ "typ": "Bearer", "azp": null }), Err(Rejection::RequiredClaimMissing)),
            (serde_json::json!({ "typ": "Bearer", "azp": "c", "at_hash": "x" }), wrong()),
            (serde_json::json!({ "typ": "Bearer", "azp": "c", "cnf": { "jkt": "x" } }), wrong()),
            (serde_json::json!({ "typ": "Bearer", "azp": "c", "cnf": "x" }), wrong()),
            (serde_json::json!({ "typ": "Bearer", "azp": "c", "sts": "pending" }), Err(Rejection::ClaimNotAllowed)),
        ] {
            assert_eq!(granted(&policy, &claims), expected, "{claims}");
        }
        for (typ, expected) in
            [(TokenType::Access, Ok(())), (TokenType::Plain, Ok(())), (TokenType::Other, Err(Rejection::WrongType))]
        {
            assert_eq!(policy.check_type(typ), expected, "{typ:?}");
        }
    }

    #[test]
    fn danger_audience_in_azp_takes_the_one_for_the_other() {
        let page = "https://app.example";
        let policy = ClaimsPolicy::builder("https://id.example", page).also_audience("api").danger_audience_in_azp();
        let policy = policy.danger_any_token_type().build().unwrap();
        let gone = Value::from("(gone)");
        for (aud, azp, expected) in [
            (gone.clone(), page.into(), Ok(())),
            ("api".into(), page.into(), Ok(())),
            ("api".into(), "https://evil.example".into(), Err(Rejection::WrongAudience)),
            ("other".into(), page.into(), Err(Rejection::WrongAudience)),
            (gone.clone(), "https://app.example/".into(), Err(Rejection::WrongAudience)),
            (gone.clone(), gone.clone(), Err(Rejection::ClaimMissing("azp"))),
            ("api".into(), gone.clone(), Err(Rejection::ClaimMissing("azp"))),
            (gone.clone(), vec![page].into(), Err(Rejection::ClaimMalformed("azp"))),
        ] {
            assert_eq!(check(&policy, &[("aud", aud.clone()), ("azp", azp.clone())]), expected, "{aud} {azp}");
        }
    }

    #[test]
    fn a_party_that_is_named_must_be_one_of_ours() {
        let policy = policy().also_audience("app").with_party_of_ours().danger_any_token_type().build().unwrap();
        let gone = Value::from("(gone)");
        for (aud, azp, expected) in [
            ("api", gone.clone(), Ok(())),
            ("api", "app".into(), Ok(())),
            ("api", "other".into(), Err(Rejection::WrongAudience)),
            ("api", 1.into(), Err(Rejection::WrongAudience)),
            ("other", "app".into(), Err(Rejection::WrongAudience)),
            ("(gone)", "app".into(), Err(Rejection::ClaimMissing("aud"))),
        ] {
            assert_eq!(check(&policy, &[("aud", aud.into()), ("azp", azp.clone())]), expected, "{aud} {azp}");
        }
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
        assert_eq!(check(&"c".into(), "c"), Ok(()));
        assert_eq!(check(&"c".into(), "other"), Err(Rejection::WrongAudience), "a stranger's token for a known `aud`");
        let any =
            ClaimsPolicy::builder("https://id.example", "c").danger_audience_in_client_id().danger_any_token_type();
        let bare = [("aud", gone.clone()), ("client_id", gone)];
        assert_eq!(self::check(&any.build().unwrap(), &bare), Err(Rejection::WrongAudience));
    }

    #[test]
    fn clients_and_audiences_of_presets_are_apart() {
        use Rejection::{ClaimMissing, WrongAudience};
        let gone = Value::from("(gone)");
        let of = |stand_in| {
            let policy = ClaimsPolicy::builder_for_party("https://id.example", stand_in, "app");
            policy.also_party("app2").also_audience("api").danger_any_token_type().build().unwrap()
        };
        for (claim, stand_in, missing) in
            [("client_id", StandIn::ClientId, WrongAudience), ("azp", StandIn::AuthorizedParty, ClaimMissing("azp"))]
        {
            let policy = of(stand_in);
            for (aud, party, expected) in [
                (gone.clone(), "app", Ok(())),
                (gone.clone(), "app2", Ok(())),
                ("api".into(), "app2", Ok(())),
                (vec!["other", "api"].into(), "app", Ok(())),
                (gone.clone(), "api", Err(WrongAudience)),
                ("api".into(), "api", Err(WrongAudience)),
                ("api".into(), "stranger", Err(WrongAudience)),
                ("app".into(), "app", Err(WrongAudience)),
                ("app2".into(), "app", Err(WrongAudience)),
                (gone.clone(), "(gone)", Err(missing)),
                ("api".into(), "(gone)", Err(missing)),
            ] {
                let change = [("aud", aud.clone()), (claim, party.into())];
                assert_eq!(check(&policy, &change), expected, "{claim} {party}, aud {aud}");
            }
        }
    }

    #[test]
    fn two_claims_cannot_both_name_the_audience() {
        let both = [
            policy().danger_audience_in_client_id().danger_audience_in_azp(),
            policy().danger_audience_in_azp().danger_audience_in_client_id(),
        ];
        for policy in both {
            assert_eq!(policy.build().unwrap_err().iter().collect::<Vec<_>>(), [&ConfigError::AudienceTwice]);
        }
        assert!(policy().danger_audience_in_azp().danger_audience_in_azp().build().is_ok());
    }

    #[test]
    fn every_mistake_is_named() {
        let errors = ClaimsPolicy::builder("", "a\nb")
            .also_audience("")
            .leeway(Duration::from_secs(301))
            .max_token(0)
            .require_claim("tenant", [] as [&str; 0])
            .typed_by_claim("typ", [] as [&str; 0])
            .scopes(ScopeMap::new().take(""))
            .build()
            .unwrap_err();
        assert_eq!(errors.iter().count(), 8, "{errors}");
    }
}
