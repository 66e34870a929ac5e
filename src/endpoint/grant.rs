//! What a token is granted: requested ∩ client ∩ user ∩ resource, and never more.

use super::error::EndpointError;
use crate::scope::ScopeSet;

/// The limits that hold for a token beside what its subject may have. `None` is no limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) client: Option<ScopeSet>,
    pub(super) resources: Vec<ScopeSet>,
}

impl Limits {
    /// What is left of `scope`.
    pub(super) fn within(&self, scope: &ScopeSet) -> ScopeSet {
        let limits = self.client.iter().chain(&self.resources);
        // With several resources every one of them will honour each scope, so each must be one of all of them.
        limits.fold(scope.clone(), |left, limit| left.intersection(limit))
    }
}

/// What a grant gets: what was asked for, or else the server's default, as far as it may have it.
///
/// Asking for scopes of which none may be granted is an error (RFC 6749 §3.3), and so is a grant of over 4,096 bytes.
pub(super) fn granted(
    requested: Option<&ScopeSet>,
    default: Option<&ScopeSet>,
    subject: &ScopeSet,
    limits: &Limits,
) -> Result<ScopeSet, EndpointError> {
    let may = limits.within(subject);
    match (requested, default) {
        (Some(requested), _) => Some(requested.intersection(&may))
            .filter(|granted| !granted.is_empty())
            .ok_or(EndpointError::ScopeNotGranted),
        (None, Some(default)) => Ok(may.intersection(default)),
        (None, None) => Ok(may),
    }
    // A token with more would be too long for those who check it.
    .and_then(|granted| if granted.is_short() { Ok(granted) } else { Err(EndpointError::ScopeNotGranted) })
}

/// What a refreshed access token may do: what was asked for, or else all that the session has, as far as the user still may.
/// More than the session has is an error (RFC 6749 §6).
#[cfg(feature = "password")]
pub(super) fn refreshed(
    requested: Option<&ScopeSet>,
    session: &ScopeSet,
    subject: &ScopeSet,
    limits: &Limits,
) -> Result<ScopeSet, EndpointError> {
    let asked = requested.unwrap_or(session);
    if asked.iter().all(|scope| session.contains(scope)) {
        Ok(limits.within(&asked.intersection(subject)))
    } else {
        Err(EndpointError::ScopeNotGranted)
    }
}

/// Most resources that one token is for.
const MOST_RESOURCES: usize = 16;

/// Whom a token is for (RFC 8707 §2): the resources that were asked for, each of which must be one that may be, or else the
/// server's own audience if it may be, or else all that may be.
pub(super) fn audience<'a>(
    requested: &[&str],
    own: &'a str,
    may: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<&'a str>, EndpointError> {
    let may: Vec<&str> = may.into_iter().collect();
    if requested.len() > MOST_RESOURCES {
        return Err(EndpointError::InvalidTarget);
    }
    let mut audience: Vec<&'a str> = Vec::new();
    for resource in requested {
        let known = may.iter().find(|known| *known == resource).ok_or(EndpointError::InvalidTarget)?;
        if !audience.contains(known) {
            audience.push(known);
        }
    }
    match (audience.is_empty(), may.contains(&own), may.is_empty()) {
        (false, ..) => Ok(audience),
        (true, true, _) => Ok(vec![own]),
        (true, false, false) => Ok(may),
        (true, false, true) => Err(EndpointError::InvalidTarget),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scope::Scope;

    fn set(text: &str) -> ScopeSet {
        text.parse().unwrap()
    }

    #[test]
    fn req_031_req_039_granted_scope_is_never_wider_than_the_users() {
        let none = Limits::default();
        let limits = Limits { client: Some(set("me items admin")), resources: vec![set("items"), set("items me")] };
        let may = set("me items");
        for (requested, default, limits, expected) in [
            (Some("me"), None, &none, Ok("me")),
            (Some("me admin"), None, &none, Ok("me")),
            (Some("items me"), Some("me"), &none, Ok("items me")),
            (Some("admin"), None, &none, Err(EndpointError::ScopeNotGranted)),
            (Some("ME"), None, &none, Err(EndpointError::ScopeNotGranted)),
            (None, None, &none, Ok("me items")),
            (None, Some("me admin"), &none, Ok("me")),
            (None, Some("admin"), &none, Ok("")),
            (None, None, &limits, Ok("items")),
            (Some("me items"), None, &limits, Ok("items")),
            (Some("me"), None, &limits, Err(EndpointError::ScopeNotGranted)),
        ] {
            let result = granted(requested.map(set).as_ref(), default.map(set).as_ref(), &may, limits);
            assert_eq!(result.map(|scope| scope.to_string()), expected.map(str::to_owned), "{requested:?} {default:?}");
        }
        assert_eq!(granted(None, None, &ScopeSet::default(), &none), Ok(ScopeSet::default()));
        let thousand = (0..1000).map(|n| Scope::parse(&format!("scope-{n}")).unwrap()).collect();
        assert_eq!(granted(None, None, &thousand, &none), Err(EndpointError::ScopeNotGranted));
        assert_eq!(granted(Some(&set("scope-7")), None, &thousand, &none), Ok(set("scope-7")));
    }

    #[test]
    fn req_104_req_106_whom_a_token_is_for() {
        let (a, b) = ("https://a.example", "https://b.example");
        for (requested, may, expected) in [
            (&[][..], &["own", a, b][..], Ok(&["own"][..])),
            (&[], &[a, b], Ok(&[a, b])),
            (&[], &[], Err(EndpointError::InvalidTarget)),
            (&[b], &["own", a, b], Ok(&[b])),
            (&[b, a, b], &["own", a, b], Ok(&[b, a])),
            (&["own"], &["own", a], Ok(&["own"])),
            (&[a, b], &["own", a], Err(EndpointError::InvalidTarget)),
            (&["https://A.example"], &[a], Err(EndpointError::InvalidTarget)),
            (&["https://a.example/"], &[a], Err(EndpointError::InvalidTarget)),
            (&[a; 17], &[a], Err(EndpointError::InvalidTarget)),
        ] {
            let result = audience(requested, "own", may.iter().copied());
            assert_eq!(result.as_deref(), expected.as_ref().map(|expected| *expected), "{requested:?} {may:?}");
        }
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn scopes() -> impl Strategy<Value = ScopeSet> {
        proptest::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len())
            .prop_map(|names| names.into_iter().map(|name| Scope::parse(name).unwrap()).collect())
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let client = proptest::option::of(scopes());
        (client, proptest::collection::vec(scopes(), 0..3)).prop_map(|(client, resources)| Limits { client, resources })
    }

    fn is_subset(one: &ScopeSet, of: &ScopeSet) -> bool {
        one.iter().all(|scope| of.contains(scope))
    }

    proptest! {
        /// Granted is exactly the meet of all that limits it; to take from any of them never adds to it; and what a session
        /// goes on with is never wider than what it began with, nor than a fresh login would get.
        #[test]
        fn req_040_req_051_granted_is_the_meet_of_its_limits(
            requested in proptest::option::of(scopes()),
            default in proptest::option::of(scopes()),
            user in scopes(),
            limits in limits(),
            taken in scopes(),
            again in proptest::option::of(scopes()),
        ) {
            let grant = |user: &ScopeSet, limits: &Limits| granted(requested.as_ref(), default.as_ref(), user, limits);
            let Ok(first) = grant(&user, &limits) else {
                let asked = requested.as_ref().unwrap();
                prop_assert!(limits.within(&user).intersection(asked).is_empty(), "refused only if nothing is left");
                return Ok(());
            };
            for scope in NAMES {
                let all = |set: &ScopeSet| set.contains(scope);
                let asked = requested.as_ref().or(default.as_ref()).is_none_or(all);
                let may = user.contains(scope) && limits.client.iter().chain(&limits.resources).all(all);
                prop_assert_eq!(first.contains(scope), asked && may, "{}", scope);
            }
            let less = |set: &ScopeSet| set.intersection(&taken);
            let fewer = Limits {
                client: Some(limits.client.as_ref().map_or_else(|| taken.clone(), less)),
                resources: limits.resources.iter().map(less).collect(),
            };
            for other in [grant(&less(&user), &limits), grant(&user, &fewer)].into_iter().flatten() {
                prop_assert!(is_subset(&other, &first), "less to have never gives more");
            }
            #[cfg(feature = "password")]
            for (user, limits) in [(&user, &limits), (&less(&user), &limits), (&user, &fewer)] {
                match refreshed(again.as_ref(), &first, user, limits) {
                    Ok(second) => {
                        prop_assert!(is_subset(&second, &first) && is_subset(&second, &limits.within(user)));
                        prop_assert!(again.as_ref().is_none_or(|again| is_subset(&second, again)));
                    }
                    Err(_) => prop_assert!(!is_subset(again.as_ref().unwrap(), &first)),
                }
            }
        }
    }
}
