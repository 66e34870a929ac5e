//! Passwords, names and words that everybody tries first: 45,520 of 8 code points and more, from Django's list and
//! zxcvbn's.
//!
//! The list is kept as 6 bytes of each word's SHA-256, sorted: 267 KiB, of which nobody reads the words by accident. Any
//! other password is taken for one of them with a probability of 2 in 10,000,000,000. `common/make.py` makes it anew,
//! `common/LICENSES.md` says whose work it is.

use aws_lc_rs::digest::{SHA256, digest};

const BYTES: usize = 6;
static LIST: &[u8] = include_bytes!("common/list.bin");

/// Whether a password is a common one. It must be [folded](super::context::folded), as the words are.
pub(super) fn contains(folded: &str) -> bool {
    let hash = digest(&SHA256, folded.as_bytes());
    let (hashes, _) = LIST.as_chunks::<BYTES>();
    hash.as_ref().first_chunk::<BYTES>().is_some_and(|hash| hashes.binary_search(hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let (hashes, rest) = LIST.as_chunks::<BYTES>();
        assert!(rest.is_empty() && hashes.len() == 45_520, "{}", hashes.len());
        assert!(hashes.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn words_of_both_sources_are_in_it() {
        for word in [
            "password",
            "iloveyou",
            "1234567890",
            "manchesterunited",
            "kartoffelpuffer",
            "passwordstandard",
            "umbrella",
            "congratulations",
        ] {
            assert!(contains(word), "{word}");
        }
        for other in ["", "1234567", "passwore", "correct horse battery staple", "Password"] {
            assert!(!contains(other), "{other}");
        }
    }

    #[test]
    fn a_million_others_are_not() {
        let taken = (0..1_000_000_u32).filter(|number| contains(&format!("{number:x}-of-a-million"))).count();
        assert_eq!(taken, 0);
    }
}
