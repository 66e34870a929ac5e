//! The decision: do the granted scopes satisfy a requirement?

use std::sync::Arc;

use crate::{
    config::{ConfigError, ConfigErrors},
    principal::Principal,
    scope::{Scope, ScopeSet},
    stripe::{Apart, Striped},
};

/// What a caller's scopes must contain.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    /// Each request leaves a reference with its caller; each core counts its own.
    scopes: Arc<Striped<Arc<Apart<ScopeSet>>>>,
    every: bool,
}

impl Requirement {
    /// All of `names` if `every`, else at least one of them. A requirement of nothing is a mistake.
    pub(crate) fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>, every: bool) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut scopes = Vec::new();
        let mut any = false;
        for name in names {
            any = true;
            let name = name.as_ref();
            scopes.extend(errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.to_owned()))));
        }
        if !any {
            errors.push(ConfigError::NoScope);
        }
        let scopes: ScopeSet = scopes.into_iter().collect();
        let scopes = Arc::new(Striped::new(|| Arc::new(Apart(scopes.clone()))));
        errors.finish(Some(Self { scopes, every }))
    }

    pub(crate) fn scopes(&self) -> &Arc<Apart<ScopeSet>> {
        self.scopes.own()
    }

    pub(crate) fn is_met_by(&self, caller: &Principal) -> bool {
        let mut scopes = self.scopes().iter();
        if self.every {
            scopes.all(|scope| caller.has_scope(scope))
        } else {
            scopes.any(|scope| caller.has_scope(scope))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UnixSeconds, principal::Identity};

    struct Granted(&'static str);

    impl Identity for Granted {
        fn issuer(&self) -> &'static str {
            "https://id.example"
        }
        fn subject(&self) -> &'static str {
            "user:1"
        }
        fn client_id(&self) -> Option<&str> {
            None
        }
        fn scope(&self) -> &str {
            self.0
        }
        fn session_id(&self) -> Option<&str> {
            None
        }
        fn token_id(&self) -> Option<&str> {
            None
        }
        fn auth_time(&self) -> Option<UnixSeconds> {
            None
        }
    }

    #[test]
    fn req_016_req_038_requirements() {
        for (every, needed, granted, met) in [
            (true, &["me"][..], "me", true),
            (true, &["me"], "items me", true),
            (true, &["me", "items"], "items me", true),
            (true, &["me", "items"], "me", false),
            (true, &["me"], "", false),
            (true, &["me"], "me2 m ME", false),
            (true, &["me me"], "me", false),
            (false, &["me", "items"], "items", true),
            (false, &["me", "items"], "admin", false),
            (false, &["me", "items"], "", false),
        ] {
            let requirement = Requirement::new(needed, every);
            let caller = Principal::new(Arc::new(Granted(granted)));
            assert_eq!(requirement.is_ok_and(|r| r.is_met_by(&caller)), met, "{every} {needed:?} {granted:?}");
        }
    }

    #[test]
    fn mistakes() {
        assert_eq!(Requirement::new([""; 0], true).unwrap_err(), ConfigError::NoScope.into());
        let errors = Requirement::new(["", "a b", "ok", "é"], false).unwrap_err();
        assert_eq!(errors.iter().count(), 3);
    }
}
