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
/// Values are compared as JSON: type and value must agree. A claim that is an array has to have one member in the set; one that is
/// missing is not in it.
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
    allowed: Arc<HashSet<Value>>,
    id: DemandId,
}

impl Claim {
    /// Demands that the claim `name` is one of `allowed`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoAllowedValue`] if there is none.
    pub fn one_of<V: Into<Value>>(name: &str, allowed: impl IntoIterator<Item = V>) -> Result<Self, ConfigErrors> {
        let allowed: HashSet<Value> = allowed.into_iter().map(Into::into).collect();
        if allowed.is_empty() {
            return Err(ConfigError::NoAllowedValue(name.to_owned()).into());
        }
        Ok(Self { name: name.into(), allowed: Arc::new(allowed), id: DemandId::new() })
    }

    fn has(&self, value: &Value) -> bool {
        match value {
            Value::Array(members) => members.iter().any(|member| self.allowed.contains(member)),
            value => self.allowed.contains(value),
        }
    }
}

impl Policy for Claim {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let caller = access.caller();
        let look = || caller.claim(&self.name).is_some_and(|value| self.has(&value));
        Decision::from(self.id.is_met(caller, look)).into()
    }
}
