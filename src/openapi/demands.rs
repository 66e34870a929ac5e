//! What layers demand of callers, as an OpenAPI document says it: alternatives, each of schemes with scopes. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::SecurityRequirement;

use crate::{rejection::AnswerStyle, scope::ScopeSet};

/// Name of the scheme for tokens in the `Authorization` field.
pub const BEARER: &str = "bearer";
/// Name of the scheme for the same tokens, where the document says how to get them. Pages show it first.
pub const OAUTH2: &str = "OAuth2";
/// Name of the scheme for access tokens in a cookie.
pub const COOKIE: &str = "cookie";

/// What a layer demands of a caller, to be written into the document of what is inside it: see [`Declares`](super::Declares).
///
/// ```
/// use portcullis::openapi::Demands;
///
/// // For a layer of one's own that wants a token with one of two scopes:
/// let demands = Demands::one_of([["items"].into_iter(), ["admin"].into_iter()])?;
/// # Ok::<(), portcullis::scope::ScopeError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Demands(pub(super) Vec<Demand>);

/// One demand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Demand {
    /// A caller, with all scopes of one of these sets, and nothing else that these causes would refuse.
    Scopes { sets: Vec<ScopeSet>, causes: &'static [Cause] },
    /// A credential, in one of these ways. Whoever has none passes if it is optional.
    Credential { schemes: &'static [&'static str], optional: bool, style: AnswerStyle },
}

/// Why a request may be refused.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) enum Cause {
    /// No token, or none that is good.
    Token,
    /// The token lacks a scope.
    Scope,
    /// Something else is against it.
    Policy,
    /// The user is disabled, or gone.
    User,
    /// Another site may have caused it.
    Site,
    /// What is needed to decide does not answer.
    Store,
}

/// What a gate that asks nobody may find against a caller.
const ASKS_NOBODY: &[Cause] = &[Cause::Token, Cause::Policy];

impl Demand {
    /// Why it may refuse.
    pub(super) fn causes(&self) -> &'static [Cause] {
        match self {
            Self::Scopes { causes, .. } => causes,
            // The guard of cookies refuses what another site may have caused.
            Self::Credential { schemes, .. } if schemes.contains(&COOKIE) => &[Cause::Token, Cause::Site, Cause::Store],
            Self::Credential { .. } => &[Cause::Token, Cause::Store],
        }
    }
}

impl Demands {
    /// Nothing: open on purpose.
    pub const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// A caller, whoever it is. Refusals are 401 and 403.
    pub fn caller() -> Self {
        Self::refusing(Vec::new(), ASKS_NOBODY)
    }

    /// A caller with all scopes of one of these lists; of no lists, any caller. Refusals are 401 and 403.
    ///
    /// # Errors
    ///
    /// [`ScopeError`](crate::scope::ScopeError) if a text is no scope.
    pub fn one_of<'s, L: IntoIterator<Item = &'s str>>(
        lists: impl IntoIterator<Item = L>,
    ) -> Result<Self, crate::scope::ScopeError> {
        let sets = lists.into_iter().map(|list| list.into_iter().map(crate::scope::Scope::parse).collect());
        sets.collect::<Result<_, _>>().map(Self::scopes)
    }

    pub(super) fn scopes(alternatives: Vec<ScopeSet>) -> Self {
        Self::refusing(alternatives, &[Cause::Token, Cause::Scope])
    }

    /// A caller with all scopes of one of these sets, whom the layer may refuse for these causes.
    pub(super) fn refusing(mut sets: Vec<ScopeSet>, causes: &'static [Cause]) -> Self {
        if sets.is_empty() {
            // A caller all the same: without an alternative, a document would call the route open.
            sets.push(ScopeSet::default());
        }
        Self(vec![Demand::Scopes { sets, causes }])
    }

    /// A token in the `Authorization` field. Refusals are 401 and 503.
    pub fn bearer() -> Self {
        Self::credential(&[BEARER], false)
    }

    pub(super) fn credential(schemes: &'static [&'static str], optional: bool) -> Self {
        Self(vec![Demand::Credential { schemes, optional, style: AnswerStyle::Standard }])
    }

    /// Sets what the refusals are like, of the layer that reads credentials and of all within it: as the standards say,
    /// unless set.
    pub fn answer_style(mut self, new: AnswerStyle) -> Self {
        for demand in &mut self.0 {
            if let Demand::Credential { style, .. } = demand {
                *style = new;
            }
        }
        self
    }

    /// These, and then those of a layer around this one.
    pub fn inside(mut self, outer: Self) -> Self {
        self.0.extend(outer.0);
        self
    }

    /// What an operation asks for once this stands around it: `own` is what it said, `all` what its document says of all operations
    /// that say nothing.
    pub(super) fn around(
        &self,
        own: Option<&[SecurityRequirement]>,
        all: Option<&[SecurityRequirement]>,
    ) -> Vec<SecurityRequirement> {
        let alternatives = self.0.iter().fold(read(own.or(all).unwrap_or_default()), |inner, demand| match demand {
            Demand::Scopes { sets, .. } => with_scopes(&inner, sets),
            Demand::Credential { schemes, optional, .. } => with_credential(&inner, schemes, *optional),
        });
        write(&alternatives)
    }
}

/// Schemes that must be satisfied together, each with its scopes.
#[derive(Clone, Debug, Default)]
pub(super) struct Alternative(pub(super) BTreeMap<String, Vec<String>>);

impl Alternative {
    /// The way in which the caller shows a token of ours, if one is needed.
    fn scheme(&self) -> Option<&'static str> {
        [BEARER, COOKIE].into_iter().find(|scheme| self.0.contains_key(*scheme))
    }

    /// The same with these scopes besides.
    fn with(mut self, scopes: &ScopeSet) -> Self {
        let scheme = self.scheme().unwrap_or(BEARER);
        add(self.0.entry(scheme.to_owned()).or_default(), scopes.iter());
        self
    }

    /// The same, but that the token is shown in this way.
    fn by(mut self, scheme: &str) -> Self {
        let scopes = self.scheme().and_then(|own| self.0.remove(own)).unwrap_or_default();
        self.0.insert(scheme.to_owned(), scopes);
        self
    }

    /// Whether whoever satisfies this satisfies the other, with the same schemes.
    fn implies(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && other.0.iter().all(|(scheme, scopes)| {
                self.0.get(scheme).is_some_and(|own| scopes.iter().all(|scope| own.contains(scope)))
            })
    }
}

fn add<'s>(scopes: &mut Vec<String>, more: impl Iterator<Item = &'s str>) {
    for scope in more {
        if !scopes.iter().any(|own| own == scope) {
            scopes.push(scope.to_owned());
        }
    }
}

/// The alternatives of a document; nothing at all is one that asks for nothing. Both names of a bearer token are one.
pub(super) fn read(security: &[SecurityRequirement]) -> Vec<Alternative> {
    let one = |requirement: &SecurityRequirement| {
        // The type has no way to look inside but this one.
        let value = serde_json::to_value(requirement).unwrap_or_default();
        let mut schemes: BTreeMap<String, Vec<String>> = serde_json::from_value(value).unwrap_or_default();
        if let Some(scopes) = schemes.remove(OAUTH2) {
            add(schemes.entry(BEARER.to_owned()).or_default(), scopes.iter().map(String::as_str));
        }
        Alternative(schemes)
    };
    if security.is_empty() { vec![Alternative::default()] } else { distinct(security.iter().map(one)) }
}

pub(super) fn write(alternatives: &[Alternative]) -> Vec<SecurityRequirement> {
    if let [only] = alternatives
        && only.0.is_empty()
    {
        return Vec::new();
    }
    let one = |Alternative(schemes): &Alternative| {
        let none = SecurityRequirement::default();
        schemes.iter().fold(none, |all, (scheme, scopes)| all.add(scheme, scopes))
    };
    alternatives.iter().map(one).collect()
}

/// Each once, whatever the order of its scopes.
fn distinct(alternatives: impl IntoIterator<Item = Alternative>) -> Vec<Alternative> {
    let mut all: Vec<Alternative> = Vec::new();
    for alternative in alternatives {
        if !all.iter().any(|known| known.implies(&alternative) && alternative.implies(known)) {
            all.push(alternative);
        }
    }
    all
}

fn with_scopes(inner: &[Alternative], sets: &[ScopeSet]) -> Vec<Alternative> {
    let product = inner.iter().flat_map(|one| sets.iter().map(|scopes| one.clone().with(scopes)));
    let all = distinct(product);
    if inner.len() < 2 || sets.len() < 2 {
        return all;
    }
    // Where alternatives multiply, some ask for more than another one does: "a, or a and b" is "a".
    let more = |one: &Alternative| all.iter().any(|other| one.implies(other) && !other.implies(one));
    all.iter().filter(|one| !more(one)).cloned().collect()
}

fn with_credential(inner: &[Alternative], schemes: &[&str], optional: bool) -> Vec<Alternative> {
    let each = inner.iter().flat_map(|one| {
        let stranger = (optional && one.scheme().is_none()).then(|| one.clone());
        stranger.into_iter().chain(schemes.iter().map(|scheme| one.clone().by(scheme)))
    });
    distinct(each)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn requirements(security: &Value) -> Vec<SecurityRequirement> {
        serde_json::from_value(security.clone()).unwrap()
    }

    fn sets(lists: &[&str]) -> Demands {
        Demands::scopes(lists.iter().map(|list| list.parse().unwrap()).collect())
    }

    /// What is said after layers were put around one after the other.
    fn after(own: &Value, layers: &[Demands]) -> Value {
        let own = (!own.is_null()).then(|| requirements(own));
        let said = layers.iter().fold(own, |own, layer| Some(layer.around(own.as_deref(), None)));
        serde_json::to_value(said).unwrap()
    }

    #[test]
    fn demands_add_up_from_the_inside_out() {
        let (caller, bearer, open) = (Demands::caller, Demands::bearer, Demands::nothing);
        let optional = || Demands::credential(&[BEARER], true);
        let pages = |optional| Demands::credential(&[COOKIE, BEARER], optional);
        let none = Value::Null;
        for (own, layers, expected) in [
            // One layer.
            (&none, vec![bearer()], json!([{"bearer": []}])),
            (&none, vec![caller()], json!([{"bearer": []}])),
            (&none, vec![open()], json!([])),
            (&none, vec![optional()], json!([{}, {"bearer": []}])),
            (&none, vec![pages(false)], json!([{"cookie": []}, {"bearer": []}])),
            (&none, vec![sets(&["me items"])], json!([{"bearer": ["me", "items"]}])),
            (&none, vec![sets(&["me", "items"])], json!([{"bearer": ["me"]}, {"bearer": ["items"]}])),
            // Nested.
            (&none, vec![sets(&["items"]), sets(&["me"]), bearer()], json!([{"bearer": ["items", "me"]}])),
            (&none, vec![sets(&["me"]), sets(&["me a"]), bearer()], json!([{"bearer": ["me", "a"]}])),
            (
                &none,
                vec![sets(&["a", "b"]), sets(&["c", "d"])],
                json!([{"bearer": ["a", "c"]}, {"bearer": ["a", "d"]}, {"bearer": ["b", "c"]}, {"bearer": ["b", "d"]}]),
            ),
            (&none, vec![sets(&["a", "b"]), sets(&["b", "c"])], json!([{"bearer": ["a", "c"]}, {"bearer": ["b"]}])),
            (&none, vec![sets(&["a", "b"]), sets(&["a", "b"])], json!([{"bearer": ["a"]}, {"bearer": ["b"]}])),
            (&none, vec![sets(&["a", "b"]), sets(&["c"])], json!([{"bearer": ["a", "c"]}, {"bearer": ["b", "c"]}])),
            // No alternative at all is not open.
            (&none, vec![sets(&[])], json!([{"bearer": []}])),
            (&none, vec![sets(&[]), bearer()], json!([{"bearer": []}])),
            (&none, vec![sets(&["a"]), sets(&[])], json!([{"bearer": ["a"]}])),
            (&none, vec![sets(&["a", ""]), bearer()], json!([{"bearer": ["a"]}, {"bearer": []}])),
            // Twice the same.
            (&none, vec![bearer(), bearer()], json!([{"bearer": []}])),
            (&none, vec![optional(), optional()], json!([{}, {"bearer": []}])),
            // Open within, closed around it; and the other way round: the layers that refuse do so.
            (&none, vec![open(), bearer()], json!([{"bearer": []}])),
            (&none, vec![optional(), bearer()], json!([{"bearer": []}])),
            (&none, vec![bearer(), optional()], json!([{"bearer": []}])),
            (&none, vec![sets(&["a"]), open()], json!([{"bearer": ["a"]}])),
            (&none, vec![sets(&["a"]), optional()], json!([{"bearer": ["a"]}])),
            (&none, vec![bearer(), open()], json!([{"bearer": []}])),
            // Whoever lets callers in says how they show their token.
            (&none, vec![sets(&["a"]), pages(false)], json!([{"cookie": ["a"]}, {"bearer": ["a"]}])),
            (&none, vec![pages(true)], json!([{}, {"cookie": []}, {"bearer": []}])),
            (&none, vec![Demands::credential(&[COOKIE], false), sets(&["a"])], json!([{"cookie": ["a"]}])),
            (&none, vec![sets(&["a"]), Demands::credential(&[COOKIE], true)], json!([{"cookie": ["a"]}])),
            (&none, vec![caller().inside(sets(&["a"])).inside(bearer())], json!([{"bearer": ["a"]}])),
            // What the operation had.
            (&json!([]), vec![bearer()], json!([{"bearer": []}])),
            (&json!([{}]), vec![open()], json!([])),
            (&json!([{"key": []}]), vec![open()], json!([{"key": []}])),
            (&json!([{"key": ["x"]}]), vec![sets(&["a"]), bearer()], json!([{"bearer": ["a"], "key": ["x"]}])),
            (&json!([{"key": []}]), vec![optional()], json!([{"key": []}, {"bearer": [], "key": []}])),
            (&json!([{"bearer": ["x"]}]), vec![sets(&["a"]), bearer()], json!([{"bearer": ["x", "a"]}])),
            (&json!([{"OAuth2": ["x"]}]), vec![sets(&["a"])], json!([{"bearer": ["x", "a"]}])),
            (&json!([{"OAuth2": ["x"]}, {"bearer": ["x"]}]), vec![sets(&["a"])], json!([{"bearer": ["x", "a"]}])),
            (
                &json!([{"key": []}, {"bearer": []}]),
                vec![sets(&["a"])],
                json!([{"bearer": ["a"], "key": []}, {"bearer": ["a"]}]),
            ),
            (&json!([{"a": []}, {"b": []}]), vec![open()], json!([{"a": []}, {"b": []}])),
        ] {
            assert_eq!(after(own, &layers), expected, "{own} {layers:?}");
        }
    }

    #[test]
    fn the_order_of_scopes_does_not_matter() {
        for (layers, expected) in [
            (vec![sets(&["a b", "b a"])], 1),
            (vec![sets(&["a", "b"]), sets(&["b", "a"])], 2),
            (vec![sets(&["a b", "b c"]), sets(&["c", "a"])], 2),
        ] {
            let said = after(&Value::Null, &layers);
            assert_eq!(said.as_array().unwrap().len(), expected, "{said}");
        }
    }

    #[test]
    fn what_a_document_says_of_all_operations_holds_for_those_that_say_nothing() {
        let all = requirements(&json!([{"key": []}]));
        let said = |own: Option<&Value>| {
            let own = own.map(requirements);
            serde_json::to_value(Demands::bearer().around(own.as_deref(), Some(&all))).unwrap()
        };
        assert_eq!(said(None), json!([{"bearer": [], "key": []}]));
        assert_eq!(said(Some(&json!([]))), json!([{"bearer": []}]));
        assert_eq!(said(Some(&json!([{"other": []}]))), json!([{"bearer": [], "other": []}]));
    }

    #[test]
    fn scopes_are_checked() {
        assert!(Demands::one_of([["a b"]]).is_err());
        assert_eq!(Demands::one_of([["a", "b"]]).unwrap(), sets(&["a b"]));
        assert_eq!(Demands::one_of([[""; 0]; 0]).unwrap(), sets(&[""]));
    }
}
