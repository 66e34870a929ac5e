//! The decision: do the granted scopes satisfy a requirement?

use super::{
    decision::{Decision, Denial},
    demand::DemandId,
    policy::{Access, Outcome, Policy},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    principal::Principal,
    scope::{Scope, ScopeSet},
};

/// Policy that demands scopes.
///
/// ```
/// use portcullis::authz::Scopes;
///
/// let reports = Scopes::all_of(["reports:read", "audit"])?;
/// let either = Scopes::any_of(["items", "items:read"])?;
/// assert!(Scopes::all_of(["two scopes", ""]).is_err());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scopes {
    needed: ScopeSet,
    every: bool,
    id: DemandId,
}

impl Scopes {
    /// Demands every one of `scopes`.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each text that is no scope, or say that there is none.
    pub fn all_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Self::new(scopes, true)
    }

    /// Demands at least one of `scopes`. The challenge names them all.
    ///
    /// # Errors
    ///
    /// As [`all_of`](Self::all_of).
    pub fn any_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Self::new(scopes, false)
    }

    fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>, every: bool) -> Result<Self, ConfigErrors> {
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
        errors.finish(Some(Self { needed: scopes.into_iter().collect(), every, id: DemandId::new() }))
    }

    /// Whether every one is demanded, and not one of them.
    pub const fn is_every(&self) -> bool {
        self.every
    }

    fn is_met_by(&self, caller: &Principal) -> bool {
        let mut scopes = self.needed.iter();
        if self.every {
            scopes.all(|scope| caller.has_scope(scope))
        } else {
            scopes.any(|scope| caller.has_scope(scope))
        }
    }
}

impl Policy for Scopes {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let caller = access.caller();
        if self.id.is_met(caller, || self.is_met_by(caller)) {
            Decision::Allow
        } else {
            Decision::Deny(Denial::Scope(self.needed.clone()))
        }
        .into()
    }

    fn scopes(&self) -> ScopeSet {
        self.needed.clone()
    }

    fn alternatives(&self) -> Vec<ScopeSet> {
        if self.every {
            return vec![self.needed.clone()];
        }
        self.needed
            .iter()
            .filter_map(|scope| Scope::parse(scope).ok())
            .map(|scope| [scope].into_iter().collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
            let requirement = Scopes::new(needed, every);
            let caller = Principal::new(Arc::new(Granted(granted)));
            assert_eq!(requirement.is_ok_and(|r| r.is_met_by(&caller)), met, "{every} {needed:?} {granted:?}");
        }
    }

    #[test]
    fn mistakes() {
        assert_eq!(Scopes::new([""; 0], true).unwrap_err(), ConfigError::NoScope.into());
        let errors = Scopes::new(["", "a b", "ok", "é"], false).unwrap_err();
        assert_eq!(errors.iter().count(), 3);
    }
}
