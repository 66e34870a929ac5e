//! Words that others would try as somebody's password, and how they are found in one. Pure.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::ident::LoginName;

/// So much must be left of a password beside words of its context: no more than the shortest password may have by itself.
pub(super) const LEAST_BESIDE: usize = 8;
/// The shortest word of a context that counts, in code points. Shorter ones are in any text.
pub(super) const LEAST_WORD: usize = 3;
/// Longest word or name of a context, in bytes. Of longer ones the rest does not count.
pub(super) const MAX_WORD: usize = 256;

/// What is known of whoever chooses a password: names that others would try.
///
/// Each counts as a whole and in its parts, so that `alice.smith@acme.example` stands for `alice`, `smith`, `acme` and
/// `example` as well. Parts of one or two code points do not count, nor does what a name has beyond 256 bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct PasswordContext {
    /// Folded.
    pub(super) words: Vec<String>,
}

impl PasswordContext {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what the user signs in as.
    pub fn user_name(self, name: &str) -> Self {
        self.word(name)
    }

    /// Adds the user's e-mail address: the part before the `@`, and the domain.
    pub fn email(self, address: &str) -> Self {
        address.split('@').fold(self.word(address), Self::word)
    }

    /// Adds another word: a name, a town, a birthday.
    pub fn word(mut self, word: &str) -> Self {
        add_parts(&mut self.words, word);
        self
    }
}

impl From<&LoginName> for PasswordContext {
    fn from(name: &LoginName) -> Self {
        Self::new().user_name(name.as_str())
    }
}

/// Whether a password has such words in it and little else.
pub(super) fn is_of_context<'a>(folded: &str, words: impl Iterator<Item = &'a String>) -> bool {
    let mut covered = vec![false; folded.len()];
    for word in words {
        for (at, _) in folded.match_indices(word.as_str()) {
            if let Some(place) = covered.get_mut(at..at + word.len()) {
                place.fill(true);
            }
        }
    }
    let beside = folded.char_indices().filter(|(at, _)| covered.get(*at) == Some(&false)).count();
    covered.contains(&true) && beside < LEAST_BESIDE
}

/// Adds a text as a whole and in its parts, folded.
pub(super) fn add_parts(words: &mut Vec<String>, text: &str) {
    let bounded = (0..=text.len().min(MAX_WORD)).rev().find_map(|end| text.get(..end));
    let whole = folded(bounded.unwrap_or_default());
    for word in std::iter::once(whole.as_str()).chain(whole.split(|character: char| !character.is_alphanumeric())) {
        if word.chars().nth(LEAST_WORD - 1).is_some() && !words.iter().any(|other| other == word) {
            words.push(word.to_owned());
        }
    }
}

/// What looks alike compares alike: NFKC, lower case, NFKC, as in a [`LoginName`].
pub(super) fn folded(text: &str) -> Zeroizing<String> {
    if text.is_ascii() {
        return Zeroizing::new(text.to_ascii_lowercase());
    }
    let lower = collect(text.nfkc().flat_map(char::to_lowercase));
    collect(lower.nfkc())
}

/// With room for all at once, because a text that grows leaves copies behind.
pub(super) fn collect(characters: impl Iterator<Item = char> + Clone) -> Zeroizing<String> {
    let mut text = String::with_capacity(characters.clone().map(char::len_utf8).sum());
    text.extend(characters);
    Zeroizing::new(text)
}
