//! Scopes: `scope-token *( SP scope-token )` of RFC 6749 §3.3, case-sensitive, order irrelevant.

use std::{collections::HashSet, fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Longest text of one or more scopes, in bytes.
const MAX_TEXT: usize = 4096;

/// One permission's name: one or more of %x21 / %x23-5B / %x5D-7E.
///
/// ```
/// use portcullis::scope::Scope;
///
/// assert!(Scope::parse("items:read").is_ok());
/// assert!(Scope::parse("items read").is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(Box<str>);

/// A text is not in the grammar of RFC 6749 §3.3, or is longer than 4,096 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a scope in the grammar of RFC 6749 section 3.3")]
#[non_exhaustive]
pub struct ScopeError;

impl Scope {
    /// Checks the grammar.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] if `text` is empty, too long, or contains another character.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if is_scope(text) && text.len() <= MAX_TEXT { Ok(Self(text.into())) } else { Err(ScopeError) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is a scope, but for its length. For constants as well.
pub(crate) const fn is_scope(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        #[expect(clippy::indexing_slicing, reason = "below the length")]
        if !matches!(bytes[at], 0x21 | 0x23..=0x5b | 0x5d..=0x7e) {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

/// Whether `text` is empty or one or more scopes with single spaces between them.
#[expect(clippy::needless_bitwise_bool, reason = "a branch would keep the compiler from using vectors")]
pub(crate) fn is_scope_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Without an early exit, so that the compiler looks at many bytes at a time.
    let bad = |byte: u8| u8::from((byte < 0x20) | (byte == 0x22) | (byte == 0x5c) | (byte > 0x7e));
    let two_spaces = |(one, next): (&u8, &u8)| u8::from((*one == b' ') & (*next == b' '));
    bytes.iter().fold(0, |found, &byte| found | bad(byte)) == 0
        && bytes.iter().zip(bytes.get(1..).unwrap_or_default()).fold(0, |found, pair| found | two_spaces(pair)) == 0
        && bytes.first() != Some(&b' ')
        && bytes.last() != Some(&b' ')
}

/// A set of scopes, each once, in the order in which they were first named.
///
/// ```
/// use portcullis::scope::ScopeSet;
///
/// let granted: ScopeSet = "me items".parse()?;
/// assert!(granted.contains("me"));
/// assert_eq!(granted.intersection(&"admin me".parse()?).to_string(), "me");
/// assert_eq!(granted, "items me".parse()?);
/// # Ok::<(), portcullis::scope::ScopeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Scopes that are in both sets, in this one's order.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|scope| other.contains(scope.as_str())).cloned().collect())
    }

    /// Scopes that are in either set, this one's first.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }

    /// Whether `scope` is a member.
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|member| member == scope)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads what a store kept: the grammar of [`FromStr`], without its bound, which is for what clients send.
    pub(crate) fn from_store(text: &str) -> Result<Self, ScopeError> {
        if text.is_empty() { Ok(Self::default()) } else { text.split(' ').map(Scope::parse).collect() }
    }

    /// Whether the set, as text, is one that a client could send: 4,096 bytes at most.
    pub(crate) fn is_short(&self) -> bool {
        self.iter().map(|scope| scope.len() + 1).sum::<usize>() <= MAX_TEXT + 1
    }

    /// The members' names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Scope::as_str)
    }
}

impl PartialEq for ScopeSet {
    /// Order is irrelevant (RFC 6749 §3.3).
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.iter().all(|scope| other.contains(scope))
    }
}

impl Eq for ScopeSet {}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        // Through a keyed hash: a request may name two thousand.
        let mut seen = HashSet::new();
        Self(scopes.into_iter().filter(|scope| seen.insert(scope.clone())).collect())
    }
}

impl FromStr for ScopeSet {
    type Err = ScopeError;

    /// Splits at U+0020 only. The empty text is the empty set; one of over 4,096 bytes is refused.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_TEXT { Err(ScopeError) } else { Self::from_store(text) }
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_038_grammar() {
        for (text, expected) in [
            ("", Ok("")),
            ("me", Ok("me")),
            ("me items me", Ok("me items")),
            ("Me me", Ok("Me me")),
            ("https://api.example/read!", Ok("https://api.example/read!")),
            (" me", Err(ScopeError)),
            ("me ", Err(ScopeError)),
            ("me  items", Err(ScopeError)),
            ("me\titems", Err(ScopeError)),
            ("me\u{a0}items", Err(ScopeError)),
            ("me\nitems", Err(ScopeError)),
            ("a\"b", Err(ScopeError)),
            ("a\\b", Err(ScopeError)),
            ("é", Err(ScopeError)),
            ("a\0", Err(ScopeError)),
            ("a\u{7f}", Err(ScopeError)),
        ] {
            let set = text.parse::<ScopeSet>();
            assert_eq!(set.as_ref().map(ToString::to_string).map_err(|e| *e), expected.map(String::from), "{text:?}");
            assert_eq!(is_scope_text(text), expected.is_ok(), "{text:?}");
        }
        assert!("a".repeat(4097).parse::<ScopeSet>().is_err());
    }

    #[test]
    fn sets() {
        let set = |text: &str| text.parse::<ScopeSet>().unwrap();
        assert_eq!(set("b a").intersection(&set("c b")), set("b"));
        assert_eq!(set("b a").union(&set("c b")), set("a b c"));
        assert!(!set("me").contains("m") && !set("me").contains("me2") && !set("me").contains("ME"));
    }
}
