//! Passwords that are long, but have little in them: a text repeated, a row of the alphabet or of the keyboard.

/// Rows of a keyboard; that of the digits is a sequence anyway.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];
/// Longest text whose repetitions are looked for: as long as the longest length that a policy may ask for.
pub(super) const LONGEST: usize = 64;
/// So many code points that do not follow from the one before are enough for any password.
const ENOUGH: usize = 5;

/// The shortest text that, one and a half times or more, makes up all of this one.
pub(super) fn unit(text: &[char]) -> Option<&[char]> {
    let repeats = |length: &usize| text.get(*length..) == text.get(..text.len().saturating_sub(*length));
    // One and a half times, so that a separator between two of them hides nothing.
    let length = (1..=(text.len() * 2 / 3).min(LONGEST)).find(repeats)?;
    text.get(..length)
}

/// Whether nearly all of a text follows from what stands before: four code points at the most do not, and they are a
/// third of it at the most.
pub(super) fn is_row(text: &[char]) -> bool {
    let pairs = text.iter().zip(text.iter().skip(1));
    let jumps = 1 + pairs.filter(|(one, next)| !is_next(**one, **next)).count();
    jumps < ENOUGH && jumps * 3 <= text.len()
}

/// Whether a character is the same as the other, its neighbour in the alphabet or on the keyboard, or 0 beside 9.
fn is_next(one: char, other: char) -> bool {
    let beside = |row: &str| {
        let place = |character| row.find(character);
        place(one).zip(place(other)).is_some_and(|(one, other)| one.abs_diff(other) == 1)
    };
    u32::from(one).abs_diff(u32::from(other)) <= 1
        || matches!((one, other), ('0', '9') | ('9', '0'))
        || ROWS.iter().any(|row| beside(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn characters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn units() {
        for (text, expected) in [
            ("aaaaaaaaaaaaaaa", Some("a")),
            ("abcabcabcabcabc", Some("abc")),
            ("abcabcabcabcabcab", Some("abc")),
            ("passwordpassword", Some("password")),
            ("correct horse correct horse", Some("correct horse ")),
            ("ababababababac", None),
            ("correct horse battery staple", None),
            ("a random text that ends as it begins: a", None),
            ("abcdefgabc", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(unit(&characters(text)), expected.map(characters).as_deref(), "{text}");
        }
        let long = characters(&"x".repeat(63)).into_iter().chain(['y']).collect::<Vec<_>>().repeat(3);
        assert_eq!(unit(&long).map(<[char]>::len), Some(64));
    }

    #[test]
    fn rows() {
        for (text, row) in [
            ("123456789012345", true),
            ("987654321098765", true),
            ("abcdefghijklmnop", true),
            ("zyxwvutsrqponml", true),
            ("aaaaaaaabbbbbbbb", true),
            ("111222333444555", true),
            ("112233445566778899", true),
            ("qwertyuiopasdfgh", true),
            ("qwertyuiop12345", true),
            ("абвгдежзийклмноп", true),
            ("aaaa1111bbbb2222", true),
            ("correct horse battery staple", false),
            ("we were as poor as poppies", false),
            ("314159265358979", false),
            ("1029384756afkcmz", false),
            ("qwertyuiop and then some more words", false),
            ("dwq8rj2x", false),
            ("", false),
        ] {
            assert_eq!(is_row(&characters(text)), row, "{text}");
        }
    }

    /// What a password manager makes is not refused, not even from digits alone.
    #[test]
    fn random_passwords_are_no_rows() {
        for (alphabet, length, most) in [
            ("0123456789", 15, 40),
            ("abcdefghijklmnopqrstuvwxyz", 15, 5),
            ("abcdefghijklmnopqrstuvwxyz0123456789", 8, 20),
        ] {
            let alphabet = characters(alphabet);
            let random = || crate::random::bytes::<32>().unwrap().into_iter().take(length);
            let text = || random().map(|byte| alphabet[usize::from(byte) % alphabet.len()]).collect::<Vec<_>>();
            let refused = (0..20_000).map(|_| text()).filter(|text| is_row(text) || unit(text).is_some()).count();
            assert!(refused <= most, "{refused} of {length} out of {}", alphabet.len());
        }
    }
}
