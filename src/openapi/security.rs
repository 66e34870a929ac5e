//! How callers prove who they are, as a document says it: schemes, where tokens come from, and what each scope is for.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{
    Components, Object, OpenApi, RefOr, Schema, SecurityRequirement,
    security::{
        ApiKey, ApiKeyValue, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Password, Scopes as Described, SecurityScheme,
    },
};

use super::{
    demands::{self, Alternative, BEARER, COOKIE, OAUTH2},
    operation::{self, DETAIL, MARK, PROBLEM},
};
use crate::{
    authorization_server::AuthorizationServer,
    browser::ACCESS_COOKIE,
    config::{ConfigError, ConfigErrors},
    scope::Scope,
};

/// The last step of a document: declares the schemes that its operations name, and what their scopes are for.
///
/// Where tokens are to be had for a password, operations that take a bearer token offer both ways: [`OAUTH2`], for pages and programs
/// that sign in, and [`BEARER`], for whoever has a token already.
///
/// ```
/// use portcullis::openapi::Security;
/// # let document = utoipa::openapi::OpenApi::default();
///
/// // Tokens of another issuer.
/// let document = Security::bearer().document(document)?;
/// # assert!(Security::bearer().scopes([("me", "Who you are")]).document(document.clone()).is_err());
///
/// let security = Security::password("/token").refresh("/token/refresh").other_scopes([("me", "Who you are")]);
/// let document = security.document(document)?;
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Security {
    password: Option<PasswordFlow>,
    scopes: BTreeMap<String, Description>,
}

#[derive(Clone, Debug)]
struct PasswordFlow {
    token: String,
    refresh: Option<String>,
}

#[derive(Clone, Debug)]
struct Description {
    text: String,
    /// Whether a route must demand it.
    demanded: bool,
}

impl Security {
    /// Tokens that come from elsewhere.
    pub const fn bearer() -> Self {
        Self { password: None, scopes: BTreeMap::new() }
    }

    /// Tokens that are to be had for a name and a password at this address (RFC 6749 §4.3), best one that begins with `/`: then
    /// it is that of whatever host the document was read from.
    pub fn password(token_url: impl Into<String>) -> Self {
        Self { password: Some(PasswordFlow { token: token_url.into(), refresh: None }), ..Self::bearer() }
    }

    /// Where refresh tokens are turned. Without a password's address it is not written.
    pub fn refresh(mut self, refresh_url: impl Into<String>) -> Self {
        if let Some(flow) = &mut self.password {
            flow.refresh = Some(refresh_url.into());
        }
        self
    }

    /// What scopes are for, of which each is demanded somewhere.
    pub fn scopes<N: Into<String>, D: Into<String>>(self, scopes: impl IntoIterator<Item = (N, D)>) -> Self {
        self.describe(scopes, true)
    }

    /// The same for scopes that no route of the document need demand: those of another API that the same tokens open.
    pub fn other_scopes<N: Into<String>, D: Into<String>>(self, scopes: impl IntoIterator<Item = (N, D)>) -> Self {
        self.describe(scopes, false)
    }

    fn describe<N: Into<String>, D: Into<String>>(
        mut self,
        scopes: impl IntoIterator<Item = (N, D)>,
        demanded: bool,
    ) -> Self {
        let described = |(name, text): (N, D)| (name.into(), Description { text: text.into(), demanded });
        self.scopes.extend(scopes.into_iter().map(described));
        self
    }

    /// Declares the schemes in the document. A second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OperationLost`] for each operation that was declared and is not there, because another one took its
    /// place (see the [guide](crate::guide::openapi)),
    /// [`ConfigError::ScopeNotDescribed`] for each scope that an operation demands and nobody described,
    /// [`ConfigError::ScopeNotDemanded`] for each that was described as one that is demanded and is not, and
    /// [`ConfigError::Scope`] for each text that is none.
    pub fn document(self, mut document: OpenApi) -> Result<OpenApi, ConfigErrors> {
        let mut demanded = Demanded::default();
        // What stands for all operations that say nothing is one more.
        self.offer(&mut document.security, &mut demanded);
        let mut found = BTreeSet::new();
        for operation in document.paths.paths.values_mut().flat_map(operation::operations) {
            self.offer(&mut operation.security, &mut demanded);
            found.extend(operation::finish(operation).map(|mark| format!("{MARK}{mark}")));
        }
        let lost = tidy(&mut document, &found);
        let document = self.check(&demanded, lost).map(|()| document)?;
        Ok(self.declare(document, &demanded))
    }

    /// Names every way to show a token that is asked for.
    fn offer(&self, security: &mut Option<Vec<SecurityRequirement>>, demanded: &mut Demanded) {
        // What says nothing asks for nothing, and what is empty is open on purpose.
        let Some(own) = security.as_deref().filter(|security| !security.is_empty()) else { return };
        let alternatives = demands::read(own);
        for alternative in &alternatives {
            demanded.note(alternative);
        }
        let offered = alternatives.into_iter().flat_map(|one| {
            let scopes = one.0.get(BEARER).filter(|_| self.password.is_some()).cloned();
            let signed_in = scopes.map(|scopes| {
                let mut other = one.clone();
                other.0.remove(BEARER);
                other.0.insert(OAUTH2.to_owned(), scopes);
                other
            });
            signed_in.into_iter().chain([one])
        });
        *security = Some(demands::write(&offered.collect::<Vec<_>>()));
    }

    fn check(&self, demanded: &Demanded, lost: Vec<String>) -> Result<(), ConfigErrors> {
        let mut errors = ConfigErrors::default();
        for path in lost {
            errors.push(ConfigError::OperationLost(path));
        }
        for name in self.scopes.keys().filter(|name| Scope::parse(name).is_err()) {
            errors.push(ConfigError::Scope(name.clone()));
        }
        for name in demanded.scopes.iter().filter(|name| !self.scopes.contains_key(*name)) {
            errors.push(ConfigError::ScopeNotDescribed(name.clone()));
        }
        for (name, _) in self.scopes.iter().filter(|(name, of)| of.demanded && !demanded.scopes.contains(*name)) {
            errors.push(ConfigError::ScopeNotDemanded(name.clone()));
        }
        errors.finish(Some(()))
    }

    fn declare(self, mut document: OpenApi, demanded: &Demanded) -> OpenApi {
        let schemes = &mut document.components.get_or_insert_with(Components::new).security_schemes;
        let mut add = |name: &str, scheme| {
            schemes.entry(name.to_owned()).or_insert(RefOr::T(scheme));
        };
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let bearer = bearer.description(Some("An access token that you have already.")).build();
        add(BEARER, SecurityScheme::Http(bearer));
        if demanded.cookie {
            let cookie = ApiKeyValue::with_description(ACCESS_COOKIE, "An access token that a page has signed in for.");
            add(COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        }
        if let Some(PasswordFlow { token, refresh }) = self.password {
            let scopes = self.scopes.into_iter().map(|(name, description)| (name, description.text));
            let scopes: Described = scopes.collect();
            let flow = match refresh {
                Some(refresh) => Password::with_refresh_url(token, scopes, refresh),
                None => Password::new(token, scopes),
            };
            let scheme = OAuth2::with_description([Flow::Password(flow)], "Sign in with a name and a password.");
            add(OAUTH2, SecurityScheme::OAuth2(scheme));
        }
        document
    }
}

/// Takes out of a document what it needs no longer, and returns the paths of operations that were declared and are not found.
fn tidy(document: &mut OpenApi, found: &BTreeSet<String>) -> Vec<String> {
    let used = serde_json::to_string(&*document).unwrap_or_default();
    let mut lost = Vec::new();
    let schemas = document.components.iter_mut().flat_map(|components| {
        components.schemas.retain(|name, _| match name.as_str() {
            PROBLEM | DETAIL => used.contains(&format!("/{name}\"")),
            _ => true,
        });
        let marks: Vec<_> = components.schemas.keys().filter(|name| name.starts_with(MARK)).cloned().collect();
        marks.into_iter().filter_map(|mark| components.schemas.remove_entry(&mark)).collect::<Vec<_>>()
    });
    for (mark, schema) in schemas.filter(|(mark, _)| !found.contains(mark)) {
        lost.push(match schema {
            RefOr::T(Schema::Object(Object { title: Some(path), .. })) => path,
            _ => mark,
        });
    }
    lost
}

/// What the operations of a document demand.
#[derive(Debug, Default)]
struct Demanded {
    scopes: BTreeSet<String>,
    cookie: bool,
}

impl Demanded {
    fn note(&mut self, Alternative(schemes): &Alternative) {
        self.cookie |= schemes.contains_key(COOKIE);
        let ours = [BEARER, COOKIE].into_iter().filter_map(|scheme| schemes.get(scheme));
        self.scopes.extend(ours.flatten().cloned());
    }
}

impl AuthorizationServer {
    /// How callers get tokens from this server, for a document that is served beside its endpoints: at its `/token`, below the
    /// path of the issuer, and at `/token/refresh` if there are sessions. For scopes that need not be demanded, add them to it.
    pub fn security(&self) -> Security {
        let facts = self.facts();
        let below = |path: &str| format!("{}{path}", self.path());
        match (facts.grants.contains(&"password"), facts.grants.contains(&"refresh_token")) {
            (true, true) => Security::password(below("/token")).refresh(below("/token/refresh")),
            (true, false) => Security::password(below("/token")),
            (false, _) => Security::bearer(),
        }
    }

    /// The last step of a document: declares how callers sign in, and what the scopes are for that its routes demand.
    ///
    /// # Errors
    ///
    /// As [`Security::document`].
    pub fn document<N: Into<String>, D: Into<String>>(
        &self,
        document: OpenApi,
        scopes: impl IntoIterator<Item = (N, D)>,
    ) -> Result<OpenApi, ConfigErrors> {
        self.security().scopes(scopes).document(document)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(securities: &[Value]) -> OpenApi {
        let mut document = json!({ "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "paths": {} });
        for (at, security) in securities.iter().enumerate() {
            let mut operation = json!({ "responses": {} });
            if !security.is_null() {
                operation["security"] = security.clone();
            }
            document["paths"][format!("/{at}")]["get"] = operation;
        }
        serde_json::from_value(document).unwrap()
    }

    fn securities(document: &OpenApi) -> Vec<Value> {
        let paths = serde_json::to_value(&document.paths).unwrap();
        paths.as_object().unwrap().values().map(|item| item["get"]["security"].clone()).collect()
    }

    #[test]
    fn both_ways_are_offered_where_there_are_two() {
        let own = [
            Value::Null,
            json!([]),
            json!([{}, { "bearer": [] }]),
            json!([{ "bearer": ["me"] }]),
            json!([{ "OAuth2": ["me"] }]),
            json!([{ "bearer": ["me"] }, { "bearer": ["a"] }]),
            json!([{ "bearer": [], "key": [] }]),
            json!([{ "cookie": ["me"] }, { "bearer": ["me"] }]),
        ];
        let security = Security::password("/token").scopes([("me", "Who"), ("a", "A")]);
        let said = security.clone().document(document(&own)).unwrap();
        assert_eq!(
            securities(&said),
            [
                Value::Null,
                json!([]),
                json!([{}, { "OAuth2": [] }, { "bearer": [] }]),
                json!([{ "OAuth2": ["me"] }, { "bearer": ["me"] }]),
                json!([{ "OAuth2": ["me"] }, { "bearer": ["me"] }]),
                json!([{ "OAuth2": ["me"] }, { "bearer": ["me"] }, { "OAuth2": ["a"] }, { "bearer": ["a"] }]),
                json!([{ "key": [], "OAuth2": [] }, { "bearer": [], "key": [] }]),
                json!([{ "cookie": ["me"] }, { "OAuth2": ["me"] }, { "bearer": ["me"] }]),
            ]
        );
        assert!(security.document(said.clone()).unwrap() == said, "twice is once");
        let said = Security::bearer().scopes([("me", "Who"), ("a", "A")]).document(document(&own)).unwrap();
        assert_eq!(securities(&said)[3..5], [json!([{ "bearer": ["me"] }]), json!([{ "bearer": ["me"] }])]);
    }

    #[test]
    fn what_holds_for_all_operations_is_offered_and_demanded_too() {
        let mut whole = document(&[Value::Null]);
        whole.security = serde_json::from_value(json!([{ "bearer": ["me"] }])).unwrap();
        let security = Security::password("/token");
        assert!(security.clone().document(whole.clone()).is_err(), "nobody has described the scope");
        let said = security.scopes([("me", "Who")]).document(whole).unwrap();
        let said = serde_json::to_value(said.security).unwrap();
        assert_eq!(said, json!([{ "OAuth2": ["me"] }, { "bearer": ["me"] }]));
    }

    #[test]
    fn schemes_are_declared() {
        let schemes = |security: Security, own: &[Value]| {
            let said = security.document(document(own)).unwrap();
            serde_json::to_value(said.components.unwrap().security_schemes).unwrap()
        };
        let bearer = schemes(Security::bearer(), &[]);
        assert_eq!(bearer.as_object().unwrap().len(), 1);
        assert_eq!((&bearer["bearer"]["scheme"], &bearer["bearer"]["bearerFormat"]), (&"bearer".into(), &"JWT".into()));
        let all = Security::password("/token").refresh("/token/refresh").scopes([("me", "Who you are")]);
        let all = schemes(all, &[json!([{ "cookie": ["me"] }])]);
        let flow = json!({ "tokenUrl": "/token", "refreshUrl": "/token/refresh", "scopes": { "me": "Who you are" } });
        assert_eq!(all["OAuth2"]["flows"], json!({ "password": flow }));
        assert_eq!((&all["cookie"]["in"], &all["cookie"]["name"]), (&"cookie".into(), &ACCESS_COOKIE.into()));
    }

    #[test]
    fn every_mistake_about_scopes_at_once() {
        let described = [("me", "Who you are"), ("nobody", "Nothing"), ("two words", "No scope")];
        let security = Security::bearer().scopes(described).other_scopes([("elsewhere", "Of another API")]);
        let own = [json!([{ "bearer": ["me", "items"] }]), json!([{ "key": ["role"] }, { "cookie": ["pages"] }])];
        let Err(errors) = security.document(document(&own)) else { panic!("all of it is wrong") };
        let expected = [
            ConfigError::Scope("two words".to_owned()),
            ConfigError::ScopeNotDescribed("items".to_owned()),
            ConfigError::ScopeNotDescribed("pages".to_owned()),
            ConfigError::ScopeNotDemanded("nobody".to_owned()),
            ConfigError::ScopeNotDemanded("two words".to_owned()),
        ];
        assert!(errors.iter().eq(&expected), "{errors}");
    }
}
