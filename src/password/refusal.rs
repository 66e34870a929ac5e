//! Why a password is not accepted: for people in English, for programs as a code with numbers.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// One reason why a password is not accepted.
///
/// `Display` says it in English, to the person whose password it is. It serialises as an object with the
/// [`code`](Self::code), the numbers that belong to it, and that text as `message`, so that a front end can say it in
/// another language. Nothing of the password is in it.
///
/// ```
/// use portcullis::password::PasswordRefusal;
///
/// let refusal = PasswordRefusal::TooShort { least: 15, given: 9 };
/// assert_eq!(
///     serde_json::to_string(&refusal)?,
///     r#"{"code":"password_too_short","least":15,"given":9,"message":"the password has 9 characters; 15 are the least"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordRefusal {
    /// It has fewer code points than the policy asks for.
    #[error("the password has {given} characters; {least} are the least")]
    TooShort {
        /// How many it must have.
        least: usize,
        /// How many it has, after NFC.
        given: usize,
    },
    /// It takes more bytes than a password may, as it is or in one of its normal forms.
    #[error("the password takes more than {most} bytes")]
    TooLong {
        /// How many it may take.
        most: usize,
    },
    /// It contains the character NUL.
    #[error("the password contains a NUL character")]
    Nul,
    /// It is one of those that everybody tries first: a common password, or a word or a name alone.
    #[error("the password is a common one, or a word or a name alone, which others try first")]
    Common,
    /// It is made of the user's name, the service's name, or the like, and little else.
    #[error("the password is a name that belongs to you or to this service, with little else")]
    Context,
    /// It is a short text repeated, or a row of the alphabet or of the keyboard.
    #[error("the password repeats itself, or follows the alphabet or the keyboard")]
    Repetitive,
    /// It is in a list of passwords that became known.
    #[error("the password is in a list of passwords that became known; somebody else may have used it")]
    Breached,
    /// It could not be compared with the list of those that became known: try again later.
    #[error("the password could not be compared with those that became known; try again later")]
    NotCompared,
    /// It is the one that it was to replace.
    #[error("the password is the same as before")]
    SameAsBefore,
    /// It has no character of a kind that [`Composition`](super::Composition) asks for.
    #[error("the password has no {0}")]
    Composition(CharacterKind),
}

/// A kind of character that [`Composition`](super::Composition) may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CharacterKind {
    /// A lower-case letter of any script.
    LowerCase,
    /// An upper-case letter of any script.
    UpperCase,
    /// A digit, or another number.
    Digit,
    /// Neither letter nor digit; a space is one.
    Symbol,
}

impl CharacterKind {
    /// Stable name, as it is serialised.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LowerCase => "lower_case",
            Self::UpperCase => "upper_case",
            Self::Digit => "digit",
            Self::Symbol => "symbol",
        }
    }
}

impl fmt::Display for CharacterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LowerCase => "lower-case letter",
            Self::UpperCase => "upper-case letter",
            Self::Digit => "digit",
            Self::Symbol => "symbol",
        })
    }
}

impl PasswordRefusal {
    /// Stable name, for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "password_too_short",
            Self::TooLong { .. } => "password_too_long",
            Self::Nul => "password_nul",
            Self::Common => "password_common",
            Self::Context => "password_context",
            Self::Repetitive => "password_repetitive",
            Self::Breached => "password_breached",
            Self::NotCompared => "password_not_compared",
            Self::SameAsBefore => "password_same_as_before",
            Self::Composition(_) => "password_composition",
        }
    }
}

impl Serialize for PasswordRefusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code())?;
        match *self {
            Self::TooShort { least, given } => {
                map.serialize_entry("least", &least)?;
                map.serialize_entry("given", &given)?;
            }
            Self::TooLong { most } => map.serialize_entry("most", &most)?,
            Self::Composition(kind) => map.serialize_entry("needs", kind.name())?,
            Self::Nul
            | Self::Common
            | Self::Context
            | Self::Repetitive
            | Self::Breached
            | Self::NotCompared
            | Self::SameAsBefore => {}
        }
        map.serialize_entry("message", &format_args!("{self}"))?;
        map.end()
    }
}

/// Every reason why a password is not accepted, at once. There is at least one. Serialises as an array.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PasswordRefusals(Vec<PasswordRefusal>);

impl PasswordRefusals {
    /// The reasons, if there are any.
    pub(crate) fn unless_empty(reasons: Vec<PasswordRefusal>) -> Result<(), Self> {
        if reasons.is_empty() { Ok(()) } else { Err(Self(reasons)) }
    }

    /// The reasons. There is at least one.
    pub fn iter(&self) -> impl Iterator<Item = PasswordRefusal> + '_ {
        self.0.iter().copied()
    }
}

impl From<PasswordRefusal> for PasswordRefusals {
    fn from(reason: PasswordRefusal) -> Self {
        Self(vec![reason])
    }
}

impl fmt::Display for PasswordRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PasswordRefusals {}
