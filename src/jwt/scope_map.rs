//! What a token grants, wherever its issuer writes that. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::payload::Payload;
use crate::{
    config::{ConfigError, ConfigErrors},
    rejection::Rejection,
    scope::{Scope, ScopeSet, is_scope_text},
};

/// Most claims that a map reads.
const MOST_CLAIMS: usize = 16;
/// Most names that a path has.
const MOST_STEPS: usize = 8;
/// Most names that are given a meaning, in all claims.
const MOST_NAMES: usize = 1024;
/// Longest name of a claim or a role, in bytes.
const MOST_NAME: usize = 256;
/// Most values that are read of one claim; Microsoft Entra ID writes 200 groups, for one.
const MOST_VALUES: usize = 1024;
/// Most bytes that a token may amount to, as text.
const MOST_GRANTED: usize = 16 * 1024;
/// Most times that a token may grant a scope, repeats included: each costs a look-up, though it takes no room.
const MOST_GRANTS: usize = 16 * 1024;

/// Where a token says what it grants, and what that is called here.
///
/// Without a map, it is `scope`, a string of names between spaces (RFC 9068 §2.2.3), and each counts as it is.
///
/// ```
/// use portcullis::jwt::{ClaimsPolicy, ScopeMap};
///
/// let map = ScopeMap::new()
///     .take("scope")
///     .take("scp")
///     .map_roles("cognito:groups", [("admins", ["users:write", "me"])])
///     .map_roles(["realm_access", "roles"], [("auditor", ["reports:read"])]);
/// let policy = ClaimsPolicy::builder("https://id.example", "orders").scopes(map).build()?;
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
///
/// What the claims grant adds up; it is worked out once, when the token is verified. A claim that is not there grants nothing.
/// One that is neither a string nor an array of strings makes the token a bad one, 401
/// [`ClaimMalformed`](Rejection::ClaimMalformed), and so does a string of scopes that is not in the grammar of RFC 6749 §3.3:
/// where its names begin and end would be a guess. A value of an array that is no scope is passed over, and never taken apart:
/// it has its borders, no demand could ever name it, and whoever adds a role called `Büro` at the provider would lock
/// everybody out.
///
/// | bound | |
/// |---|---|
/// | claims that are read | 16, up to 8 levels deep |
/// | names that are mapped | 1,024, of 256 bytes |
/// | values of a claim | 1,024 |
/// | what a token amounts to | 16 KiB of text, each scope once |
/// | scopes that its values stand for, repeats included | 16,384 |
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScopeMap {
    sources: Vec<Source>,
    errors: ConfigErrors,
}

/// Where a claim is: its name, or the names on the way to it.
///
/// Dots mean nothing, because names have them: `["realm_access", "roles"]` is within `realm_access`, and
/// `"https://app.example/roles"` is one claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimPath(Vec<String>);

impl From<&str> for ClaimPath {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl From<String> for ClaimPath {
    fn from(name: String) -> Self {
        Self(vec![name])
    }
}

impl<S: AsRef<str>, const N: usize> From<[S; N]> for ClaimPath {
    fn from(names: [S; N]) -> Self {
        Self(names.iter().map(|name| name.as_ref().to_owned()).collect())
    }
}

#[derive(Clone, Debug)]
struct Source {
    path: ClaimPath,
    reads: Reads,
}

/// What is made of the values of a claim.
#[derive(Clone, Debug)]
enum Reads {
    /// Scopes, as they are.
    Scopes,
    /// The issuer's scopes, which have other names here.
    Renamed(Names),
    /// Roles, each of which stands for scopes.
    Roles(Names),
}

type Names = HashMap<String, Vec<Scope>>;

impl ScopeMap {
    /// A map that reads nothing: a token grants nothing by it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the values of `claim` for scopes, each as it is: the names in a string, or the values of an array.
    ///
    /// For roles, that means that whoever can name a role at the issuer can name a scope here:
    /// [`map_roles`](Self::map_roles) says which mean what.
    pub fn take(self, claim: impl Into<ClaimPath>) -> Self {
        self.with(claim.into(), Reads::Scopes)
    }

    /// Takes the values of `claim` for scopes, of which these alone count, each under the name that it has here:
    /// `(theirs, ours)`.
    pub fn map_scopes<S: AsRef<str>>(
        mut self,
        claim: impl Into<ClaimPath>,
        names: impl IntoIterator<Item = (S, S)>,
    ) -> Self {
        let mut map = Names::new();
        for (theirs, ours) in names {
            if let Some((theirs, ours)) = self.scope(theirs.as_ref()).zip(self.scope(ours.as_ref())) {
                map.entry(theirs.as_str().to_owned()).or_default().push(ours);
            }
        }
        self.with(claim.into(), Reads::Renamed(map))
    }

    /// Takes the values of `claim` for roles or groups, of which these alone count: `(role, scopes)`. A role may be any text:
    /// a string is one, and not taken apart; of an array, each value is one. In the claim `scope` a string must be in that claim's grammar.
    pub fn map_roles<R: AsRef<str>, S: AsRef<str>>(
        mut self,
        claim: impl Into<ClaimPath>,
        roles: impl IntoIterator<Item = (R, impl IntoIterator<Item = S>)>,
    ) -> Self {
        let (claim, mut map) = (claim.into(), Names::new());
        for (role, scopes) in roles {
            if !is_name(role.as_ref()) {
                self.mistake(&claim, "a role is empty, too long, or has a control character");
            }
            let granted = map.entry(role.as_ref().to_owned()).or_default();
            for scope in scopes {
                granted.extend(self.scope(scope.as_ref()));
            }
        }
        self.with(claim, Reads::Roles(map))
    }

    fn with(mut self, path: ClaimPath, reads: Reads) -> Self {
        if path.0.is_empty() || path.0.len() > MOST_STEPS || !path.0.iter().all(|name| is_name(name)) {
            self.mistake(&path, "a name is empty, too long, or has a control character, or there are too many of them");
        }
        self.add(Source { path, reads });
        self
    }

    fn add(&mut self, Source { path, reads }: Source) {
        let same = self.sources.iter_mut().find(|source| source.path == path && source.reads.is_like(&reads));
        match same {
            Some(source) => source.reads.add(reads),
            None => self.sources.push(Source { path, reads }),
        }
    }

    fn scope(&mut self, name: &str) -> Option<Scope> {
        self.errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.to_owned())))
    }

    fn mistake(&mut self, path: &ClaimPath, reason: &'static str) {
        self.errors.push(ConfigError::ScopeMap { claim: path.0.join("."), reason });
    }

    /// The same, and what the other reads.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.errors.append(other.errors);
        other.sources.into_iter().for_each(|source| self.add(source));
        self
    }

    /// Tells what is wrong with it.
    pub(super) fn check(&mut self, errors: &mut ConfigErrors) {
        let names = self.sources.iter().map(|source| source.reads.names()).sum::<usize>();
        errors.bound_number("claims of a scope map", self.sources.len(), 0, MOST_CLAIMS);
        errors.bound_number("names of a scope map", names, 0, MOST_NAMES);
        errors.append(std::mem::take(&mut self.errors));
    }

    /// Whether it says what `scope` is, so that this need not be what RFC 9068 says.
    pub(super) fn reads_scope(&self) -> bool {
        self.sources.iter().any(|source| source.path.is(SCOPE))
    }

    /// What a token grants here.
    pub(super) fn granted(&self, payload: &Payload<'_>) -> Result<ScopeSet, Rejection> {
        let (mut granted, mut room, mut grants) = (Vec::new(), MOST_GRANTED, MOST_GRANTS);
        let mut seen = HashSet::new();
        for source in &self.sources {
            source.read(payload, &mut |scope| {
                let full = Rejection::ClaimMalformed(OTHER);
                grants = grants.checked_sub(1).ok_or(full)?;
                if !seen.contains(&scope) {
                    room = room.checked_sub(scope.as_str().len() + 1).ok_or(full)?;
                    seen.insert(scope.clone());
                    granted.push(scope);
                }
                Ok(())
            })?;
        }
        Ok(granted.into_iter().collect())
    }
}

const SCOPE: &str = "scope";
/// What a refusal calls a claim whose name the program has chosen.
const OTHER: &str = "(mapped to scopes)";

/// What a refusal calls a claim.
fn told(name: &str) -> &'static str {
    const KNOWN: &[&str] =
        &[SCOPE, "scp", "roles", "permissions", "groups", "cognito:groups", "realm_access", "resource_access"];
    KNOWN.iter().find(|known| **known == name).copied().unwrap_or(OTHER)
}

fn is_name(text: &str) -> bool {
    (1..=MOST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl ClaimPath {
    fn is(&self, name: &str) -> bool {
        matches!(&*self.0, [only] if only == name)
    }

    /// The value there, and what a refusal calls it.
    fn find<'p>(&self, payload: &'p Payload<'_>) -> Result<Option<&'p Value>, Rejection> {
        let mut members = payload.claims()?;
        let Some((last, way)) = self.0.split_last() else { return Ok(None) };
        for name in way {
            match members.get(name) {
                None => return Ok(None),
                Some(Value::Object(next)) => members = next,
                Some(_) => return Err(Rejection::ClaimMalformed(self.told())),
            }
        }
        Ok(members.get(last))
    }

    fn told(&self) -> &'static str {
        self.0.first().map_or(OTHER, |name| told(name))
    }
}

impl Source {
    fn read(
        &self,
        payload: &Payload<'_>,
        grant: &mut impl FnMut(Scope) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let malformed = Rejection::ClaimMalformed(self.path.told());
        // The usual one has been read already.
        if let Some(text) = payload.registered().scope().filter(|_| self.path.is(SCOPE)) {
            return self.reads.text(text, malformed, grant);
        }
        match self.path.find(payload)? {
            None => Ok(()),
            Some(Value::String(text)) => self.reads.text(text, malformed, grant),
            Some(Value::Array(values)) if values.len() <= MOST_VALUES => {
                values.iter().try_for_each(|value| self.reads.value(value.as_str().ok_or(malformed)?, grant))
            }
            Some(_) => Err(malformed),
        }
    }
}

impl Reads {
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn add(&mut self, other: Self) {
        if let (Self::Renamed(names) | Self::Roles(names), Self::Renamed(more) | Self::Roles(more)) = (self, other) {
            for (name, scopes) in more {
                names.entry(name).or_default().extend(scopes);
            }
        }
    }

    fn names(&self) -> usize {
        match self {
            Self::Scopes => 0,
            Self::Renamed(names) | Self::Roles(names) => names.values().map(|scopes| scopes.len().max(1)).sum(),
        }
    }

    fn text(
        &self,
        text: &str,
        malformed: Rejection,
        grant: &mut impl FnMut(Scope) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        match self {
            Self::Roles(_) => self.value(text, grant),
            _ if !is_scope_text(text) => Err(malformed),
            _ => text.split(' ').try_for_each(|name| self.value(name, grant)),
        }
    }

    fn value(&self, value: &str, grant: &mut impl FnMut(Scope) -> Result<(), Rejection>) -> Result<(), Rejection> {
        match self {
            Self::Scopes => Scope::parse(value).map_or(Ok(()), grant),
            Self::Renamed(names) | Self::Roles(names) => {
                names.get(value).into_iter().flatten().cloned().try_for_each(grant)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jwt::claims::RegisteredClaims;

    fn granted(map: &ScopeMap, claims: &Value) -> Result<String, Rejection> {
        let mut all = json!({ "iss": "i", "exp": 1 });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let registered = RegisteredClaims::parse(all.to_string(), 16)?;
        map.granted(&Payload::of(&registered)).map(|scopes| scopes.to_string())
    }

    #[test]
    fn scopes_as_they_are() {
        let map = ScopeMap::new().take("scope").take("scp").take(["api", "permissions"]);
        let bad = |name| Err(Rejection::ClaimMalformed(name));
        for (claims, expected) in [
            (json!({}), Ok("")),
            (json!({ "scope": "me items" }), Ok("me items")),
            (json!({ "scope": ["me", "items"] }), Ok("me items")),
            (json!({ "scope": "" }), Ok("")),
            (json!({ "scope": [] }), Ok("")),
            (json!({ "scp": "me items", "scope": "items admin" }), Ok("items admin me")),
            (json!({ "scp": ["me"], "scope": "items" }), Ok("items me")),
            (json!({ "api": { "permissions": ["read:items"] } }), Ok("read:items")),
            (json!({ "api": {} }), Ok("")),
            // Roles are none unless it is said.
            (json!({ "roles": ["admin"], "permissions": ["admin"], "groups": "admin" }), Ok("")),
            // Never taken apart, never trimmed.
            (json!({ "scp": ["not admin", " admin", "admin ", "", "a\"b", "Büro", "me"] }), Ok("me")),
            (json!({ "scope": "me  items" }), bad("scope")),
            (json!({ "scp": "me\titems" }), bad("scp")),
            (json!({ "scp": " me" }), bad("scp")),
            (json!({ "scp": null }), bad("scp")),
            (json!({ "scp": 1 }), bad("scp")),
            (json!({ "scp": { "me": true } }), bad("scp")),
            (json!({ "scp": ["me", 1] }), bad("scp")),
            (json!({ "scp": [["me"]] }), bad("scp")),
            (json!({ "scope": null }), bad("scope")),
            (json!({ "api": "permissions" }), bad(OTHER)),
            (json!({ "api": { "permissions": true } }), bad(OTHER)),
        ] {
            assert_eq!(granted(&map, &claims), expected.map(str::to_owned), "{claims}");
        }
    }

    #[test]
    fn roles_stand_for_scopes() {
        let map = ScopeMap::new()
            .map_roles("cognito:groups", [("admins", ["users:write", "me"]), ("Site Staff", ["me", "items"])])
            .map_roles(["realm_access", "roles"], [("auditor", ["reports:read"])])
            .map_roles(["resource_access", "orders", "roles"], [("clerk", ["orders:write"])]);
        let bad = |name| Err(Rejection::ClaimMalformed(name));
        for (claims, expected) in [
            (json!({ "cognito:groups": ["admins"] }), Ok("users:write me")),
            (json!({ "cognito:groups": ["Site Staff", "admins"] }), Ok("me items users:write")),
            (json!({ "cognito:groups": "Site Staff" }), Ok("me items")),
            // A string is one role.
            (json!({ "cognito:groups": "admins clerk" }), Ok("")),
            (json!({ "cognito:groups": ["Admins", "admins ", "me", "users:write"] }), Ok("")),
            (json!({ "realm_access": { "roles": ["auditor", "offline_access"] } }), Ok("reports:read")),
            (json!({ "resource_access": { "orders": { "roles": ["clerk"] } } }), Ok("orders:write")),
            (json!({ "resource_access": { "account": { "roles": ["clerk"] } } }), Ok("")),
            (json!({ "realm_access": { "roles": ["clerk"] } }), Ok("")),
            (json!({ "realm_access.roles": ["auditor"] }), Ok("")),
            (json!({ "scope": "me" }), Ok("")),
            (json!({ "cognito:groups": [7] }), bad("cognito:groups")),
            (json!({ "realm_access": ["auditor"] }), bad("realm_access")),
            (json!({ "resource_access": { "orders": ["clerk"] } }), bad("resource_access")),
        ] {
            assert_eq!(granted(&map, &claims), expected.map(str::to_owned), "{claims}");
        }
    }

    #[test]
    fn scopes_under_other_names() {
        let map = ScopeMap::new().map_scopes("scp", [("orders.read", "orders:read"), ("orders.all", "orders:read")]);
        let map = map.map_scopes("scp", [("orders.all", "orders:write")]);
        assert_eq!(map.sources.len(), 1);
        for (scp, expected) in [
            (json!("orders.all admin"), "orders:read orders:write"),
            (json!(["orders.read", "orders.all admin"]), "orders:read"),
            (json!("admin orders:read"), ""),
        ] {
            assert_eq!(granted(&map, &json!({ "scp": scp })).unwrap(), expected, "{scp}");
        }
    }

    #[test]
    fn what_a_token_says_is_bounded() {
        let map = ScopeMap::new().take("scp");
        let many = |count: usize| json!({ "scp": vec!["me"; count] });
        assert_eq!(granted(&map, &many(MOST_VALUES)).unwrap(), "me");
        assert_eq!(granted(&map, &many(MOST_VALUES + 1)), Err(Rejection::ClaimMalformed("scp")));
        let long = |count: usize| json!({ "scp": (0..count).map(|n| format!("{n:063}")).collect::<Vec<_>>() });
        assert_eq!(granted(&map, &long(256)).unwrap().len(), MOST_GRANTED - 1);
        assert_eq!(granted(&map, &long(257)), Err(Rejection::ClaimMalformed(OTHER)));
    }

    #[test]
    fn what_is_granted_twice_takes_room_once() {
        let scopes =
            ["api.example/orders:read", "api.example/orders:write", "api.example/me", "users:read", "reports:read"];
        let groups: Vec<_> = (0..200).map(|n| format!("group {n}")).collect();
        let mut map = ScopeMap::new().map_roles("groups", groups.iter().map(|group| (group, scopes)));
        let mut errors = ConfigErrors::default();
        map.check(&mut errors);
        assert_eq!(errors.iter().count(), 0);
        let text = scopes.join(" ");
        assert!(groups.len() * text.len() > MOST_GRANTED, "too much, were repeats counted");
        assert_eq!(granted(&map, &json!({ "groups": groups })).unwrap(), text);
        // Repeats are free of room, but not without end.
        let wide = ScopeMap::new().map_roles("r", [("x", (0..512).map(|n| n.to_string()))]);
        let repeated = |count: usize| granted(&wide, &json!({ "r": vec!["x"; count] }));
        assert!(repeated(MOST_GRANTS / 512).is_ok());
        assert_eq!(repeated(MOST_GRANTS / 512 + 1), Err(Rejection::ClaimMalformed(OTHER)));
    }

    #[test]
    fn mistakes() {
        let count = |mut map: ScopeMap| {
            let mut errors = ConfigErrors::default();
            map.check(&mut errors);
            errors.iter().count()
        };
        assert_eq!(count(ScopeMap::new()), 0);
        assert_eq!(count(ScopeMap::new().take("").take("a\nb").take([""; 0]).take(["a"; 9])), 4);
        assert_eq!(count(ScopeMap::new().map_roles("r", [("", ["a b", "c"]), ("x", ["", "d"])])), 3);
        assert_eq!(count(ScopeMap::new().map_scopes("s", [("a b", ""), ("a", "b")])), 2);
        let claims = |count: usize| (0..count).fold(ScopeMap::new(), |map, n| map.take(format!("c{n}")));
        assert_eq!((count(claims(MOST_CLAIMS)), count(claims(MOST_CLAIMS + 1))), (0, 1));
        let names = |count: usize| ScopeMap::new().map_roles("r", (0..count).map(|n| (n.to_string(), ["me"])));
        assert_eq!((count(names(MOST_NAMES)), count(names(MOST_NAMES + 1))), (0, 1));
        assert_eq!(count(ScopeMap::new().take("").and(ScopeMap::new().take("\n"))), 2);
    }
}
