//! A claim that must be one of a fixed set. Pure.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use super::{
    decision::Decision,
    demand::DemandId,
    policy::{Access, Outcome, Policy},
};
use crate::config::{ConfigError, ConfigErrors};

/// Policy that allows callers whose claim is in a fixed set: 403 to others, in the same bytes whatever the route would have
/// answered, because it is not asked.
///
/// Values are compared as JSON: type and value must agree. A claim that is an array is in the set if it is there as it is, or has a
/// member there; one that is missing is neither in nor out. What it means is said by whoever issued the token: with several issuers,
/// see [`IssuedBy`](super::IssuedBy).
///
/// ```
/// use portcullis::authz::{AuthorizeLayer, Claim};
///
/// let mills = AuthorizeLayer::new(Claim::one_of("industry", ["C17", "C24"])?);
/// assert!(Claim::one_of("industry", [""; 0]).is_err());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Claim {
    name: Arc<str>,
    set: Arc<HashSet<Value>>,
    within: bool,
    id: DemandId,
}

impl Claim {
    /// Demands that the claim `name` is one of `allowed`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoAllowedValue`] if there is none.
    pub fn one_of<V: Into<Value>>(name: &str, allowed: impl IntoIterator<Item = V>) -> Result<Self, ConfigErrors> {
        Self::new(name, allowed.into_iter().map(Into::into).collect(), true)
    }

    /// Demands that the claim `name` is there, and is none of `refused`.
    ///
    /// # Errors
    ///
    /// As [`one_of`](Self::one_of).
    pub fn none_of<V: Into<Value>>(name: &str, refused: impl IntoIterator<Item = V>) -> Result<Self, ConfigErrors> {
        Self::new(name, refused.into_iter().map(Into::into).collect(), false)
    }

    fn new(name: &str, set: HashSet<Value>, within: bool) -> Result<Self, ConfigErrors> {
        if set.is_empty() {
            return Err(ConfigError::NoAllowedValue(name.to_owned()).into());
        }
        Ok(Self { name: name.into(), set: Arc::new(set), within, id: DemandId::new() })
    }

    fn allows(&self, value: &Value) -> bool {
        let members = value.as_array().into_iter().flatten();
        let found = self.set.contains(value) || members.into_iter().any(|member| self.set.contains(member));
        found == self.within
    }
}

impl Policy for Claim {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let caller = access.caller();
        let look = || caller.claim(&self.name).is_some_and(|value| self.allows(&value));
        Decision::from(self.id.is_met(caller, look)).into()
    }
}
