//! What a new password must be like (NIST SP 800-63B-4 §3.1.1.2). Pure: nothing is hashed, stored or asked for.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::{
    common,
    context::{LEAST_BESIDE, LEAST_WORD, MAX_WORD, PasswordContext, add_parts, collect, folded, is_of_context},
    pattern,
    refusal::{CharacterKind, PasswordRefusal, PasswordRefusals},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    secret::Secret,
};

/// Longest password, in bytes.
const MAX_PASSWORD: usize = 1024;
/// The least that a policy may ask for.
const LEAST: usize = 8;
const MAX_WORDS: usize = 1000;

/// What a new password must be like. Looked at when a password is chosen, never at a login.
///
/// | rule | default | bound |
/// |---|---|---|
/// | least length | 15 code points after NFC | 8 to 64 |
/// | most length | 1,024 bytes, in any normal form | fixed |
/// | common passwords, names and words | 45,520 refused, in any case | fixed |
/// | words of the context | the user's name | see [`PasswordContext`]; 1,000 words of the program's |
/// | rows and repetitions | refused | fixed |
/// | composition | none | [`legacy_composition`](PasswordPolicyBuilder::legacy_composition) |
///
/// Every character is allowed, spaces and control characters too, but NUL: other programs end a text there, so that a
/// hash that is moved to one would open to the part before it. Passwords never expire.
///
/// A word of the context is refused if fewer than 8 code points are left beside all such words, wherever they stand and
/// however often. A text repeated counts once: it is refused if what is repeated is shorter than the least length, or a
/// common password. A row is refused: a text of which four code points at the most, and a third at the most, are
/// neither the same as the one before nor its neighbour in the alphabet or on the keyboard. All comparisons ignore case
/// and compatibility forms (NFKC).
///
/// ```
/// use portcullis::password::{PasswordContext, PasswordPolicy, PasswordRefusal};
///
/// let policy = PasswordPolicy::builder().service_name("Acme Orders").build()?;
/// let context = PasswordContext::new().user_name("alice");
/// assert!(policy.check(&"correct horse battery staple".into(), &context).is_ok());
///
/// let refusals = policy.check(&"alice@acme".into(), &context).unwrap_err();
/// let reasons: Vec<_> = refusals.iter().collect();
/// assert_eq!(reasons, [PasswordRefusal::TooShort { least: 15, given: 10 }, PasswordRefusal::Context]);
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordPolicy {
    least: usize,
    /// Folded.
    words: Vec<String>,
    composition: Composition,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self { least: 15, words: Vec::new(), composition: Composition::default() }
    }
}

/// Builder of a [`PasswordPolicy`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PasswordPolicyBuilder {
    policy: PasswordPolicy,
    /// As they were given.
    words: Vec<String>,
}

/// Kinds of character that a password must have, for those who are told to ask for them.
///
/// NIST SP 800-63B-4 §3.1.1.2 and ASVS 6.2.5 forbid such rules: people meet them with `Password1!`, which is guessed as
/// soon as `password`, and write down the rest.
///
/// ```
/// use portcullis::password::{Composition, PasswordPolicy};
///
/// let policy = PasswordPolicy::builder().legacy_composition(Composition::default().digit().symbol()).build()?;
/// assert!(policy.check(&"correct horse battery staple".into(), &Default::default()).is_err());
/// assert!(policy.check(&"correct horse battery staple 4".into(), &Default::default()).is_ok());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Composition {
    /// In the order of [`KINDS`].
    kinds: [bool; 4],
}

type Fits = fn(char) -> bool;
const KINDS: [(CharacterKind, Fits); 4] = [
    (CharacterKind::LowerCase, char::is_lowercase),
    (CharacterKind::UpperCase, char::is_uppercase),
    (CharacterKind::Digit, char::is_numeric),
    (CharacterKind::Symbol, |character| !character.is_alphanumeric()),
];

impl Composition {
    /// Asks for a lower-case letter.
    pub const fn lower_case(self) -> Self {
        let [_, upper, digit, symbol] = self.kinds;
        Self { kinds: [true, upper, digit, symbol] }
    }

    /// Asks for an upper-case letter.
    pub const fn upper_case(self) -> Self {
        let [lower, _, digit, symbol] = self.kinds;
        Self { kinds: [lower, true, digit, symbol] }
    }

    /// Asks for a digit.
    pub const fn digit(self) -> Self {
        let [lower, upper, _, symbol] = self.kinds;
        Self { kinds: [lower, upper, true, symbol] }
    }

    /// Asks for a character that is neither letter nor digit.
    pub const fn symbol(self) -> Self {
        let [lower, upper, digit, _] = self.kinds;
        Self { kinds: [lower, upper, digit, true] }
    }
}

impl PasswordPolicyBuilder {
    /// Sets the least length, in code points after NFC: 15 unless set, 8 to 64.
    ///
    /// Less than 15 is for passwords that never open anything alone (NIST SP 800-63B-4 §3.1.1.2): where they do,
    /// whoever has the hashes guesses what is shorter.
    pub fn least(mut self, code_points: usize) -> Self {
        self.policy.least = code_points;
        self
    }

    /// Sets the least length to 8, for a program that always asks for a second factor beside the password.
    pub fn second_factor(self) -> Self {
        self.least(LEAST)
    }

    /// Adds the service's name, which counts as a whole and in its parts.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.words([name])
    }

    /// Adds words of the program's own, such as its products: 1,000 at the most, each of 3 code points to 256 bytes. They
    /// count as a whole and in their parts.
    pub fn words<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Asks for kinds of character, which standards forbid; for those who must all the same.
    pub fn legacy_composition(mut self, composition: Composition) -> Self {
        self.policy.composition = composition;
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each setting out of bounds.
    pub fn build(self) -> Result<PasswordPolicy, ConfigErrors> {
        let Self { mut policy, words } = self;
        let mut errors = ConfigErrors::default();
        errors.bound_number("least password length", policy.least, LEAST, pattern::LONGEST);
        errors.bound_number("words in a password policy", words.len(), 0, MAX_WORDS);
        for word in words {
            if word.len() > MAX_WORD || folded(&word).chars().count() < LEAST_WORD {
                errors.push(ConfigError::PasswordWord(word));
            } else {
                add_parts(&mut policy.words, &word);
            }
        }
        errors.finish(Some(policy))
    }
}

impl PasswordPolicy {
    /// Begins a policy with the defaults of the table above.
    pub fn builder() -> PasswordPolicyBuilder {
        PasswordPolicyBuilder::default()
    }

    /// The least length, in code points.
    pub const fn least(&self) -> usize {
        self.least
    }

    /// Whether a password may be chosen by somebody of whom so much is known.
    ///
    /// # Errors
    ///
    /// [`PasswordRefusals`], with every reason at once. One that is too long is looked at no further.
    pub fn check(&self, password: &Secret<String>, context: &PasswordContext) -> Result<(), PasswordRefusals> {
        PasswordRefusals::unless_empty(self.reasons(password.expose(), context))
    }

    /// As [`check`](Self::check), for a password that is to replace another: the same one, in whatever normal form, is
    /// refused as well.
    ///
    /// # Errors
    ///
    /// [`PasswordRefusals`], with every reason at once.
    pub fn check_change(
        &self,
        current: &Secret<String>,
        new: &Secret<String>,
        context: &PasswordContext,
    ) -> Result<(), PasswordRefusals> {
        let mut reasons = self.reasons(new.expose(), context);
        // Bounded first: nothing of any length is normalised.
        let short = current.expose().len() <= MAX_PASSWORD && new.expose().len() <= MAX_PASSWORD;
        if short && current.expose().nfc().eq(new.expose().nfc()) {
            reasons.push(PasswordRefusal::SameAsBefore);
        }
        PasswordRefusals::unless_empty(reasons)
    }

    fn reasons(&self, password: &str, context: &PasswordContext) -> Vec<PasswordRefusal> {
        let bytes = |characters: &mut dyn Iterator<Item = char>| characters.map(char::len_utf8).sum::<usize>();
        // In its longest form as well: whoever types it on another keyboard must not be refused for that.
        if password.len() > MAX_PASSWORD || bytes(&mut password.nfd()) > MAX_PASSWORD {
            return vec![PasswordRefusal::TooLong { most: MAX_PASSWORD }];
        }
        let given = password.nfc().count();
        let folded = folded(password);
        let characters: Zeroizing<Vec<char>> = Zeroizing::new(folded.chars().collect());
        let unit = pattern::unit(&characters);
        let common = common::contains(&folded)
            || unit.is_some_and(|unit| common::contains(&collect(unit.iter().copied())))
            || padded(&folded).is_some_and(common::contains);
        let repetitive = unit.is_some_and(|unit| unit.len() < self.least) || pattern::is_row(&characters);
        let lacks = |fits: Fits| !password.nfc().any(fits);
        let mut reasons = Vec::new();
        let mut add = |applies: bool, reason| reasons.extend(applies.then_some(reason));
        add(given < self.least, PasswordRefusal::TooShort { least: self.least, given });
        add(password.contains('\0'), PasswordRefusal::Nul);
        add(common, PasswordRefusal::Common);
        add(is_of_context(&folded, self.words.iter().chain(&context.words)), PasswordRefusal::Context);
        add(repetitive, PasswordRefusal::Repetitive);
        for (asked, (kind, fits)) in self.composition.kinds.into_iter().zip(KINDS) {
            add(asked && lacks(fits), PasswordRefusal::Composition(kind));
        }
        reasons
    }
}

/// What is left without a few digits, spaces or signs around it: what a short password is made long with.
fn padded(folded: &str) -> Option<&str> {
    let left = folded.trim_matches(|character: char| !character.is_alphabetic());
    let few = folded.chars().count().saturating_sub(left.chars().count()) < LEAST_BESIDE;
    (few && left.len() < folded.len()).then_some(left)
}

#[cfg(test)]
mod tests {
    use crate::ident::LoginName;

    use super::*;
    use PasswordRefusal::{Common, Context, Nul, Repetitive, TooLong, TooShort};

    fn reasons(policy: &PasswordPolicy, password: &str, context: &PasswordContext) -> Vec<PasswordRefusal> {
        let verdict = policy.check(&password.into(), context);
        verdict.err().map(|refusals| refusals.iter().collect()).unwrap_or_default()
    }

    fn eight() -> PasswordPolicy {
        PasswordPolicy::builder().second_factor().build().unwrap()
    }

    #[test]
    fn req_161_fifteen_code_points_or_eight_beside_a_second_factor() {
        let sixty_four = PasswordPolicy::builder().least(64).build().unwrap();
        let (default, text) = (PasswordPolicy::default(), "dwq8rj2x5kvb7mzt");
        for (policy, least) in [(&default, 15), (&eight(), 8), (&sixty_four, 64)] {
            let text: Vec<char> = text.repeat(4).replace(' ', "").chars().collect();
            let of = |length: usize| text.iter().rev().take(length).collect::<String>();
            assert_eq!(policy.least(), least);
            assert_eq!(
                reasons(policy, &of(least - 1), &PasswordContext::new())[0],
                TooShort { least, given: least - 1 }
            );
            assert!(!reasons(policy, &of(least), &PasswordContext::new()).contains(&TooShort { least, given: least }));
        }
        for least in [0, 1, 7, 65, usize::MAX] {
            let error = ConfigError::Number { setting: "least password length", given: least, least: 8, most: 64 };
            assert_eq!(PasswordPolicy::builder().least(least).build().unwrap_err(), error.into());
        }
        let long = "it was the best of times, it was the worst of times, it was the age of wisdom, it was the age";
        assert_eq!(reasons(&default, long, &PasswordContext::new()), [], "64 and more are allowed");
    }

    #[test]
    fn req_164_length_is_counted_in_code_points_of_one_normal_form() {
        for (password, given) in [
            ("zwölf Boxkämpf", 14),
            ("zwo\u{308}lf Boxka\u{308}mpf", 14),
            ("пять слов текс", 14),
            ("\u{1f512}\u{1f427}\u{1f9ca}\u{1f525}", 4),
            ("\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}", 5),
            ("", 0),
        ] {
            assert_eq!(
                reasons(&PasswordPolicy::default(), password, &PasswordContext::new()),
                [TooShort { least: 15, given }],
                "{password}"
            );
        }
        for good in [
            "zwölf Boxkämpfe",
            "zwo\u{308}lf Boxka\u{308}mpfe",
            "пять слов текста",
            "\u{1f512}\u{1f427}\u{1f9ca}\u{1f525} four of them",
            " \t spaces count, too \u{7f}",
        ] {
            assert_eq!(reasons(&PasswordPolicy::default(), good, &PasswordContext::new()), [], "{good}");
        }
    }

    #[test]
    fn req_170_more_than_1024_bytes_in_any_normal_form_are_refused() {
        let text: String = (0..1100).map(|n: usize| char::from(b'a' + u8::try_from(n * n % 23).unwrap())).collect();
        let accents: String = (0..400).map(|n| if n % 2 == 0 { 'é' } else { 'x' }).collect::<String>() + &text[..200];
        for (password, refused) in
            [(&text[..1024], false), (&text[..1025], true), (&accents, false), (&accents.replace('x', "é"), true)]
        {
            let expected = if refused { vec![TooLong { most: 1024 }] } else { vec![] };
            assert_eq!(
                reasons(&PasswordPolicy::default(), password, &PasswordContext::new()),
                expected,
                "{}",
                password.len()
            );
        }
        assert!(accents.replace('x', "é").len() <= 1024, "composed it would fit");
        // What unfolds to eleven times its length is bounded all the same.
        assert_eq!(reasons(&PasswordPolicy::default(), &"\u{fdfa}".repeat(341), &PasswordContext::new()), []);
    }

    #[test]
    fn req_165_common_and_trivial_passwords_are_refused() {
        for (password, expected) in [
            ("manchesterunited", vec![Common]),
            ("ManchesterUnited", vec![Common]),
            ("ｍａｎｃｈｅｓｔｅｒｕｎｉｔｅｄ", vec![Common]),
            ("1qaz2wsx3edc4rfv", vec![Common]),
            ("Congratulations", vec![Common]),
            ("123456789012345", vec![Common, Repetitive]),
            ("aaaaaaaaaaaaaaa", vec![Repetitive]),
            ("abcabcabcabcabc", vec![Repetitive]),
            ("passwordpassword", vec![Common, Repetitive]),
            ("Password PASSWORD password", vec![Repetitive]),
            ("qwertyuiopasdfghjkl", vec![Repetitive]),
            ("password1", vec![TooShort { least: 15, given: 9 }, Common]),
            ("", vec![TooShort { least: 15, given: 0 }]),
            ("tr0ub4dor&3\0and more", vec![Nul]),
            // Made long with little.
            ("password1234567", vec![Common]),
            ("-iloveyou!!2026", vec![Common]),
            ("manchesterunited ", vec![Common]),
            ("\u{200b}manchesterunited", vec![Common]),
            ("manchesterunited 1234567", vec![]),
            // The whole is compared, not its parts.
            ("manchesterunited and other songs", vec![]),
            ("password but not that one", vec![]),
        ] {
            assert_eq!(reasons(&PasswordPolicy::default(), password, &PasswordContext::new()), expected, "{password}");
        }
        for (password, expected) in [
            ("trustno1", vec![Common]),
            ("iloveyou", vec![Common]),
            ("ILOVEYOUILOVEYOU", vec![Common]),
            ("abcdefgh", vec![Common, Repetitive]),
            ("dwq8rj2x", vec![]),
        ] {
            assert_eq!(reasons(&eight(), password, &PasswordContext::new()), expected, "{password}");
        }
    }

    #[test]
    fn req_165_names_are_refused_with_little_else() {
        let policy = PasswordPolicy::builder().service_name("Acme Orders").words(["Kaffeemühle"]).build().unwrap();
        let context = PasswordContext::new().email("Bartholomew.Smith@initech.example");
        for (password, refused) in [
            ("bartholomew.smith@initech.example", true),
            ("bartholomew-SMITH", true),
            ("BartholomewSmith2026!", true),
            ("smithsmithsmith1", true),
            ("acmeordersacme!!", true),
            ("Acme Orders 2026", true),
            ("kaffeemühle 1234567", false),
            ("kaffeemühle 123456", true),
            ("Kaffeemu\u{308}hle 1", true),
            ("ａｃｍｅ－ｏｒｄｅｒｓ－１", true),
            ("initech.example!", true),
            ("the smith sold a chair", false),
            ("acme dwq8rj2x5kvb", false),
        ] {
            let found = reasons(&policy, password, &context).contains(&Context);
            assert_eq!(found, refused, "{password}");
        }
        assert_eq!(reasons(&policy, "bartholomewsmith", &PasswordContext::new()), [], "nobody of that name");
        let name = PasswordContext::from(&LoginName::parse("Ａl").unwrap());
        assert_eq!(reasons(&policy, "all alone at altamont", &name), [], "two letters are in any text");
        let long = PasswordContext::new().word(&"é".repeat(100_000));
        assert_eq!(long.words.iter().map(String::len).collect::<Vec<_>>(), [256], "bounded");
        for word in ["", "ab", "\u{e9}\u{e9}", &"x".repeat(257)] {
            let error = PasswordPolicy::builder().words([word]).build().unwrap_err();
            assert_eq!(error, ConfigError::PasswordWord(word.to_owned()).into());
        }
        assert!(PasswordPolicy::builder().words(vec!["word"; 1001]).build().is_err());
    }

    #[test]
    fn req_162_no_rules_of_composition_unless_they_are_asked_for() {
        for plain in
            ["correct horse battery staple", "KORREKTESPFERDBATTERIE", "314159265358979323", "……—–,,:;!?)(][}{"]
        {
            assert_eq!(reasons(&PasswordPolicy::default(), plain, &PasswordContext::new()), [], "{plain}");
        }
        let all = Composition::default().lower_case().upper_case().digit().symbol();
        let policy = PasswordPolicy::builder().legacy_composition(all).build().unwrap();
        let missing = |password: &str| -> Vec<&'static str> {
            let reasons = reasons(&policy, password, &PasswordContext::new()).into_iter();
            let kind = |reason| if let PasswordRefusal::Composition(kind) = reason { kind.name() } else { "?" };
            reasons.map(kind).collect()
        };
        assert_eq!(missing("correct horse battery staple"), ["upper_case", "digit"]);
        assert_eq!(missing("KORREKTESPFERDBATTERIE"), ["lower_case", "digit", "symbol"]);
        assert_eq!(missing("Correct horse battery staple 4"), [""; 0]);
        assert_eq!(missing("Élan vital et étoile ٣"), [""; 0], "of any script");
    }

    #[test]
    fn another_password_is_another_in_any_normal_form() {
        let change = |current: &str, new: &str| {
            let verdict = PasswordPolicy::default().check_change(&current.into(), &new.into(), &PasswordContext::new());
            verdict.err().map(|refusals| refusals.iter().collect::<Vec<_>>()).unwrap_or_default()
        };
        assert_eq!(change("zwölf Boxkämpfer", "zwo\u{308}lf Boxkämpfer"), [PasswordRefusal::SameAsBefore]);
        assert_eq!(change("short", "short"), [TooShort { least: 15, given: 5 }, PasswordRefusal::SameAsBefore]);
        assert_eq!(change("zwölf Boxkämpfer", "zwölf boxkämpfer"), []);
        let long = "x".repeat(100_000);
        assert_eq!(change(&long, &long), [TooLong { most: 1024 }]);
    }

    #[test]
    fn refusals_are_for_programs_and_for_people() {
        let policy = PasswordPolicy::builder().legacy_composition(Composition::default().digit()).build().unwrap();
        let refusals = policy.check(&"alice".into(), &PasswordContext::new().user_name("Alice")).unwrap_err();
        assert_eq!(
            serde_json::to_value(&refusals).unwrap(),
            serde_json::json!([
                {"code": "password_too_short", "least": 15, "given": 5, "message": "the password has 5 characters; 15 are the least"},
                {"code": "password_context", "message": "the password is a name that belongs to you or to this service, with little else"},
                {"code": "password_composition", "needs": "digit", "message": "the password has no digit"},
            ])
        );
        assert!(!format!("{refusals} {refusals:?}").contains("alice"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// The verdict is on the password, not on the keyboard.
        #[test]
        fn req_164_the_verdict_is_the_same_in_any_normal_form(text in "[\\PC\u{0}-\u{ff}é\u{300}-\u{308}Å\u{212b}]{0,400}") {
            let all = Composition::default().lower_case().upper_case().digit().symbol();
            let policy = PasswordPolicy::builder().words(["Café"]).legacy_composition(all).build().unwrap();
            let verdict = |text: String| reasons(&policy, &text, &PasswordContext::new().user_name("Zoë"));
            proptest::prop_assert_eq!(verdict(text.nfc().collect()), verdict(text.nfd().collect()));
        }
    }
}
