//! How recent and how strong the caller's authentication must be (RFC 9470). Pure.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    decision::{Decision, Denial},
    policy::{Access, Outcome, Policy},
};
use crate::{
    clock::UnixSeconds,
    config::{ConfigError, ConfigErrors},
    rejection::Needs,
};

/// Longest value of `acr`, in bytes.
const MAX_ACR: usize = 256;
/// How far the clock of whoever signed the caller in may be ahead.
const LEEWAY: Duration = Duration::from_secs(30);

/// Policy that asks for a newer or a stronger sign-in: 401 `insufficient_user_authentication` with what would do, so that the
/// client can ask for just that (RFC 9470).
///
/// Looks at the claims `auth_time` and `acr`, in the words of whoever issued the token: with several issuers, see
/// [`IssuedBy`](super::IssuedBy). A credential without them is not known to be new, or strong: refused. Tokens of
/// [`AuthorizationServer`](crate::AuthorizationServer) have `auth_time`; its users sign in with a password and nothing else, so they have no `acr`.
///
/// ```
/// use std::time::Duration;
/// use portcullis::authz::{AuthorizeLayer, StepUp};
///
/// let transfer = AuthorizeLayer::new(StepUp::within(Duration::from_secs(300)).acr(["phr", "phrh"])?);
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepUp {
    max_age: Option<Duration>,
    acr_values: Vec<String>,
}

impl StepUp {
    /// At most so long ago: in whole seconds, rounded up, and one at the least.
    pub const fn within(max_age: Duration) -> Self {
        let seconds = max_age.as_secs().saturating_add((max_age.subsec_nanos() > 0) as u64);
        let max_age = Duration::from_secs(if seconds == 0 { 1 } else { seconds });
        Self { max_age: Some(max_age), acr_values: Vec::new() }
    }

    /// In one of these ways, whatever its age.
    ///
    /// # Errors
    ///
    /// As [`acr`](Self::acr).
    pub fn by<S: Into<String>>(acr_values: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Self { max_age: None, acr_values: Vec::new() }.acr(acr_values)
    }

    /// In one of these ways as well: the value of `acr` is one of them.
    ///
    /// # Errors
    ///
    /// [`ConfigError::AuthenticationContext`] for each that is empty, longer than 256 bytes, or has a character that the challenge
    /// cannot carry: anything but printable ASCII, spaces, quotes, backslashes. [`ConfigError::NoAllowedValue`] if there is none.
    pub fn acr<S: Into<String>>(mut self, values: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        for value in values.into_iter().map(Into::into) {
            let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if (1..=MAX_ACR).contains(&value.len()) && value.bytes().all(fits) {
                self.acr_values.push(value);
            } else {
                errors.push(ConfigError::AuthenticationContext(value));
            }
        }
        if self.acr_values.is_empty() && errors.iter().next().is_none() {
            errors.push(ConfigError::NoAllowedValue("acr".to_owned()));
        }
        errors.finish(Some(self))
    }

    /// What a client needs to know of it.
    pub(super) fn needs(&self) -> Needs<'_> {
        let max_age = self.max_age.map(|age| age.as_secs());
        Needs::Authentication { max_age, acr_values: &self.acr_values }
    }

    /// What satisfies both, as far as there is such a thing.
    pub(super) fn with(&self, other: &Self) -> Self {
        let max_age = self.max_age.into_iter().chain(other.max_age).min();
        let acr_values = match (self.acr_values.is_empty(), other.acr_values.is_empty()) {
            (true, _) => other.acr_values.clone(),
            (_, true) => self.acr_values.clone(),
            _ => {
                let both: Vec<_> = self.acr_values.iter().filter(|v| other.acr_values.contains(v)).cloned().collect();
                // No way is good enough for both: name those that are for one, rather than none.
                if both.is_empty() { self.acr_values.clone() } else { both }
            }
        };
        Self { max_age, acr_values }
    }

    /// Decides about somebody who signed in at `auth_time`, in the way `acr`.
    pub(super) fn is_met(&self, auth_time: Option<UnixSeconds>, acr: Option<&str>, now: UnixSeconds) -> bool {
        // A moment that has not come yet says nothing, unless it is the clocks that differ.
        let has_been = |then: UnixSeconds| then <= now.saturating_add(LEEWAY);
        let recent = |max| auth_time.is_some_and(|then: UnixSeconds| has_been(then) && now <= then.saturating_add(max));
        let strong = || acr.is_some_and(|acr| self.acr_values.iter().any(|value| value == acr));
        self.max_age.is_none_or(recent) && (self.acr_values.is_empty() || strong())
    }
}

impl Policy for StepUp {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let caller = access.caller();
        let acr = if self.acr_values.is_empty() { None } else { caller.claim("acr") };
        let met = self.is_met(caller.auth_time(), acr.as_ref().and_then(Value::as_str), access.at());
        if met { Decision::Allow } else { Decision::Deny(Denial::Authentication(Arc::new(self.clone()))) }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_185_how_old_and_how_strong() {
        let now = UnixSeconds::new(10_000);
        let within = StepUp::within(Duration::from_secs(300));
        let strong = StepUp::by(["phr", "phrh"]).unwrap();
        let both = within.clone().acr(["phr"]).unwrap();
        for (policy, auth_time, acr, met) in [
            (&within, Some(10_000), None, true),
            (&within, Some(9_700), None, true),
            (&within, Some(9_699), None, false),
            (&within, Some(10_030), None, true),
            (&within, Some(10_031), None, false),
            (&within, Some(u64::MAX), None, false),
            (&within, Some(0), Some("phr"), false),
            (&within, None, Some("phr"), false),
            (&strong, None, Some("phr"), true),
            (&strong, None, Some("phrh"), true),
            (&strong, None, Some("PHR"), false),
            (&strong, None, Some("phr phrh"), false),
            (&strong, None, Some(""), false),
            (&strong, Some(10_000), None, false),
            (&both, Some(9_999), Some("phr"), true),
            (&both, Some(9_999), Some("phrh"), false),
            (&both, Some(1), Some("phr"), false),
        ] {
            assert_eq!(
                policy.is_met(auth_time.map(UnixSeconds::new), acr, now),
                met,
                "{policy:?} {auth_time:?} {acr:?}"
            );
        }
    }

    #[test]
    fn values_fit_the_challenge() {
        let needs = |step_up: &StepUp| step_up.needs().to_string();
        for (millis, seconds) in [(0, "1"), (900, "1"), (5_000, "5"), (5_001, "6")] {
            let told = needs(&StepUp::within(Duration::from_millis(millis)));
            assert_eq!(told, format!(", max_age=\"{seconds}\""), "{millis}");
        }
        let acr = StepUp::by(["phr", "urn:mace:incommon:iap:silver"]).unwrap();
        assert_eq!(needs(&acr), ", acr_values=\"phr urn:mace:incommon:iap:silver\"");
        let both = acr.with(&StepUp::within(Duration::from_secs(9)).acr(["phr"]).unwrap());
        assert_eq!(needs(&both), ", acr_values=\"phr\", max_age=\"9\"");
        let apart = StepUp::by(["a"]).unwrap().with(&StepUp::by(["b"]).unwrap());
        assert_eq!(needs(&apart), ", acr_values=\"a\"");
        for bad in ["", "two words", "a\"b", "a\\b", "é", "a\r\nset-cookie: x", &"x".repeat(257)] {
            let error = ConfigError::AuthenticationContext(bad.to_owned());
            assert_eq!(StepUp::by([bad]).unwrap_err(), error.into(), "{bad:?}");
        }
        assert_eq!(StepUp::by([""; 0]).unwrap_err(), ConfigError::NoAllowedValue("acr".to_owned()).into());
    }
}
