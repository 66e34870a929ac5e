//! What a policy says, in three values, and how such answers combine. Pure.

use std::sync::Arc;

use super::step_up::StepUp;
use crate::scope::ScopeSet;

/// What a policy says of a request.
///
/// Three values, combined as Kleene does: what does not answer never opens a door, nor does its contrary.
///
/// ```
/// use portcullis::authz::{Decision, Denial};
///
/// let (yes, no, open) = (Decision::Allow, Decision::from(false), Decision::Undecided("directory"));
/// assert_eq!(no, Decision::Deny(Denial::Forbidden));
/// assert_eq!(no.clone().and(open.clone()), no);
/// assert_eq!(yes.clone().or(open.clone()), yes);
/// assert_eq!(yes.and(open.clone()), open);
/// assert_eq!(open.clone().not(), open);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Decision {
    /// The caller may.
    Allow,
    /// The caller may not.
    Deny(Denial),
    /// Nobody knows, because of what is named, for the log: 503.
    Undecided(&'static str),
}

/// Why a caller may not, and so what they are told.
///
/// In the order of what is told where several hold: what no other token of theirs would change comes first.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Denial {
    /// The user is disabled, or gone: 401 `invalid_token`.
    UserInactive,
    /// They may not, whatever they are granted: 403.
    Forbidden,
    /// They lack scopes, of which these are needed: 403 `insufficient_scope`.
    Scope(ScopeSet),
    /// They must sign in again, or in a stronger way: 401 `insufficient_user_authentication` (RFC 9470).
    Authentication(Arc<StepUp>),
}

impl Denial {
    const fn rank(&self) -> u8 {
        match self {
            Self::UserInactive => 0,
            Self::Forbidden => 1,
            Self::Scope(_) => 2,
            Self::Authentication(_) => 3,
        }
    }

    /// Both, told as one: scopes are added up, sign-ins are those that satisfy both.
    fn both(self, other: Self) -> Self {
        match (self, other) {
            (Self::Scope(one), Self::Scope(other)) => Self::Scope(one.union(&other)),
            (Self::Authentication(one), Self::Authentication(other)) => {
                Self::Authentication(Arc::new(one.with(&other)))
            }
            (one, other) if other.rank() < one.rank() => other,
            (one, _) => one,
        }
    }

    /// Either would have done: told is what is easiest to come by, unless they are disabled or gone. Of several scopes all are named.
    fn either(self, other: Self) -> Self {
        match (self, other) {
            (Self::Scope(one), Self::Scope(other)) => Self::Scope(one.union(&other)),
            (gone @ Self::UserInactive, _) | (_, gone @ Self::UserInactive) => gone,
            (one, other) if other.rank() > one.rank() => other,
            (one, _) => one,
        }
    }
}

impl Decision {
    /// Both must allow.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny(one), Self::Deny(other)) => Self::Deny(one.both(other)),
            (deny @ Self::Deny(_), _) | (_, deny @ Self::Deny(_)) => deny,
            (Self::Undecided(what), _) | (_, Self::Undecided(what)) => Self::Undecided(what),
            (Self::Allow, Self::Allow) => Self::Allow,
        }
    }

    /// One of them must allow.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Allow, _) | (_, Self::Allow) => Self::Allow,
            (Self::Undecided(what), _) | (_, Self::Undecided(what)) => Self::Undecided(what),
            (Self::Deny(one), Self::Deny(other)) => Self::Deny(one.either(other)),
        }
    }

    /// The contrary. What is undecided stays so, and so does that somebody is disabled or gone.
    #[expect(clippy::should_implement_trait, reason = "`!decision` would read as a condition")]
    pub fn not(self) -> Self {
        match self {
            Self::Allow => Self::Deny(Denial::Forbidden),
            Self::Deny(Denial::UserInactive) => Self::Deny(Denial::UserInactive),
            Self::Deny(_) => Self::Allow,
            Self::Undecided(what) => Self::Undecided(what),
        }
    }

    /// Whether nothing that is added with [`and`](Self::and) can change it.
    pub(super) const fn is_denied(&self) -> bool {
        matches!(self, Self::Deny(_))
    }

    /// Whether nothing that is added with [`or`](Self::or) can change it.
    pub(super) const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

impl From<bool> for Decision {
    /// `true` allows, `false` forbids.
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny(Denial::Forbidden) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scope(names: &str) -> Denial {
        Denial::Scope(names.parse().unwrap())
    }

    fn age(seconds: u64) -> Denial {
        Denial::Authentication(Arc::new(StepUp::within(Duration::from_secs(seconds))))
    }

    /// Yes, no, and nobody knows, as numbers: the larger is nearer to yes.
    fn value(decision: &Decision) -> i8 {
        match decision {
            Decision::Allow => 1,
            Decision::Undecided(_) => 0,
            Decision::Deny(_) => -1,
        }
    }

    #[test]
    fn the_three_values_combine_as_kleene_has_it() {
        let all = [
            Decision::Allow,
            Decision::Undecided("x"),
            Decision::Deny(Denial::Forbidden),
            Decision::Deny(scope("a")),
            Decision::Deny(age(5)),
        ];
        let gone = Decision::Deny(Denial::UserInactive);
        assert_eq!(gone.clone().not(), gone);
        for one in &all {
            assert_eq!(value(&one.clone().not()), -value(one), "not {one:?}");
            for other in &all {
                let (and, or) = (one.clone().and(other.clone()), one.clone().or(other.clone()));
                assert_eq!(value(&and), value(one).min(value(other)), "{one:?} and {other:?}");
                assert_eq!(value(&or), value(one).max(value(other)), "{one:?} or {other:?}");
                let mirrored = one.clone().not().or(other.clone().not());
                assert_eq!(value(&and.not()), value(&mirrored), "not ({one:?} and {other:?})");
                for third in &all {
                    let left = one.clone().and(other.clone()).and(third.clone());
                    assert_eq!(value(&left), value(one).min(value(other)).min(value(third)));
                }
            }
        }
    }

    #[test]
    fn of_several_reasons_one_is_told() {
        let inactive = || Denial::UserInactive;
        for (one, other, both, either) in [
            (inactive(), Denial::Forbidden, inactive(), inactive()),
            (inactive(), age(5), inactive(), inactive()),
            (Denial::Forbidden, scope("a"), Denial::Forbidden, scope("a")),
            (scope("a"), age(5), scope("a"), age(5)),
            (scope("a"), scope("b a"), scope("a b"), scope("a b")),
            (age(5), age(9), age(5), age(5)),
            (Denial::Forbidden, age(5), Denial::Forbidden, age(5)),
        ] {
            assert_eq!(one.clone().both(other.clone()), both, "{one:?} and {other:?}");
            assert_eq!(other.clone().both(one.clone()), both, "{other:?} and {one:?}");
            assert_eq!(one.clone().either(other.clone()), either, "{one:?} or {other:?}");
            if one.rank() != other.rank() {
                assert_eq!(other.clone().either(one.clone()), either, "{other:?} or {one:?}");
            }
        }
    }
}
