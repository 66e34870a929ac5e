//! All of a token's claims, read a second time where a policy looks beyond the registered ones. Pure.

use std::cell::OnceCell;

use serde_json::{Map, Value};

use super::claims::RegisteredClaims;
use crate::rejection::Rejection;

/// The claims of a token, read when they are first asked for. The first reading has established that the text is strict.
pub(super) struct Payload<'c> {
    registered: &'c RegisteredClaims,
    claims: OnceCell<Map<String, Value>>,
}

impl<'c> Payload<'c> {
    pub(super) const fn of(registered: &'c RegisteredClaims) -> Self {
        Self { registered, claims: OnceCell::new() }
    }

    pub(super) const fn registered(&self) -> &'c RegisteredClaims {
        self.registered
    }

    pub(super) fn claims(&self) -> Result<&Map<String, Value>, Rejection> {
        if let Some(claims) = self.claims.get() {
            return Ok(claims);
        }
        let claims = serde_json::from_str(self.registered.payload());
        let claims = claims.map_err(|_| Rejection::MalformedToken("not a JSON object"))?;
        Ok(self.claims.get_or_init(|| claims))
    }

    /// A claim that says something: `null` says nothing.
    pub(super) fn get(&self, name: &str) -> Result<Option<&Value>, Rejection> {
        Ok(self.claims()?.get(name).filter(|value| !value.is_null()))
    }
}
