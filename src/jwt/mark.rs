//! What tells access tokens from others, where their header does not. Pure.

use serde_json::Value;

use super::payload::Payload;
use crate::rejection::Rejection;

/// What access tokens have, or have not.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// This claim is there, and one of these.
    Is(String, Vec<Value>),
    /// One of these claims is there; why a token without is refused.
    OneOf(&'static [&'static str], Rejection),
    /// None of these claims is there.
    NoneOf(&'static [&'static str]),
    /// This claim, if it is there, is not this.
    Not(&'static str, &'static str),
}

impl Mark {
    /// A token with `cnf` is bound to a key that its sender must prove to have (RFC 7800 §3, RFC 8705 §3.1, RFC 9449 §6.1).
    /// Nobody asks for that proof here: taken for a bearer token, whoever has stolen it could use it.
    pub(crate) const SENDER_CONSTRAINED: Self = Self::NoneOf(&["cnf"]);

    /// Whether a token has it, or has it not.
    pub(super) fn check(&self, payload: &Payload<'_>) -> Result<(), Rejection> {
        let has_one = |names: &[&str]| {
            names.iter().try_fold(false, |found, name| Ok::<_, Rejection>(found | payload.get(name)?.is_some()))
        };
        let (holds, otherwise) = match self {
            Self::Is(name, allowed) => {
                (payload.get(name)?.is_some_and(|value| allowed.contains(value)), Rejection::WrongType)
            }
            Self::OneOf(names, otherwise) => (has_one(names)?, *otherwise),
            Self::NoneOf(names) => (!has_one(names)?, Rejection::WrongType),
            Self::Not(name, refused) => {
                (payload.get(name)?.is_none_or(|value| value != *refused), Rejection::ClaimNotAllowed)
            }
        };
        if holds { Ok(()) } else { Err(otherwise) }
    }
}
