//! Strict JSON, read in one pass: the grammar of RFC 8259 and, on top of it, what RFC 7519 §4 and RFC 8725 ask for. No
//! member is named twice at any depth, and nesting is bounded.
//!
//! Ours, because a token's claims are flat and short: reading them this way takes half the time of a general parser,
//! and nothing is copied. Strings with escapes, where the subtleties lie, are handed to `serde_json`; a test compares
//! the verdicts of both on texts of every kind.

use std::{borrow::Cow, collections::HashSet};

/// Why a text was refused, for operators.
pub(crate) type Malformed = &'static str;

const NOT_JSON: Malformed = "not a JSON object";

/// How a document takes its top-level members.
pub(crate) trait Members<'a> {
    /// Takes the value of the member `name`, or passes over it with [`Value::skip`].
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed>;
}

/// Reads `text` as one JSON object with nothing behind it, nested `depth` levels at most, its own included.
pub(crate) fn read_object<'a>(text: &'a str, depth: u8, members: &mut impl Members<'a>) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    reader.object(depth, &mut |name, value| members.member(name, value))?;
    reader.space();
    if reader.at == text.len() { Ok(()) } else { Err("text behind the JSON object") }
}

/// A value that has not been read yet. One that is neither taken nor skipped makes the document malformed.
pub(crate) struct Value<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: u8,
}

impl<'a> Value<'_, 'a> {
    /// A string, borrowed from the text where it has no escapes.
    pub(crate) fn string(self) -> Result<Cow<'a, str>, Malformed> {
        self.reader.string()
    }

    /// A number, as it is spelt.
    pub(crate) fn number(self) -> Result<&'a str, Malformed> {
        self.reader.number()
    }

    /// Calls `each` with every string of an array of strings. `None` if the value is no array.
    pub(crate) fn strings(self) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let mut strings = Vec::new();
        self.reader.array(self.depth, &mut |value| {
            strings.push(value.string()?);
            Ok(())
        })?;
        Ok(strings)
    }

    /// Whether the value begins like an array.
    pub(crate) fn is_array(&self) -> bool {
        self.reader.peek() == Some(b'[')
    }

    /// Passes over a value of any kind, and checks it all the same.
    pub(crate) fn skip(self) -> Result<(), Malformed> {
        match self.reader.peek() {
            Some(b'"') => self.reader.string().map(drop),
            Some(b'{') => self.reader.object(self.depth, &mut |_, value| value.skip()),
            Some(b'[') => self.reader.array(self.depth, &mut |value| value.skip()),
            Some(b't') => self.reader.literal("true"),
            Some(b'f') => self.reader.literal("false"),
            Some(b'n') => self.reader.literal("null"),
            _ => self.reader.number().map(drop),
        }
    }
}

/// A place in a text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The text from `start` to here.
    fn since(&self, start: usize) -> Result<&'a str, Malformed> {
        self.text.get(start..self.at).ok_or(NOT_JSON)
    }

    fn literal(&mut self, literal: &str) -> Result<(), Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += literal.len();
        if rest.starts_with(literal) { Ok(()) } else { Err(NOT_JSON) }
    }

    fn object(
        &mut self,
        depth: u8,
        member: &mut impl FnMut(&str, Value<'_, 'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut names = Names::default();
        self.list(b'{', b'}', depth, &mut |reader, depth| {
            let name = reader.string()?;
            reader.space();
            if !reader.take(b':') {
                return Err(NOT_JSON);
            }
            reader.space();
            member(&name, Value { reader, depth })?;
            names.add(name)
        })
    }

    fn array(
        &mut self,
        depth: u8,
        element: &mut impl FnMut(Value<'_, 'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.list(b'[', b']', depth, &mut |reader, depth| element(Value { reader, depth }))
    }

    /// What stands between `open` and `close`, with commas in between.
    fn list(
        &mut self,
        open: u8,
        close: u8,
        depth: u8,
        item: &mut impl FnMut(&mut Self, u8) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(open) {
            return Err(NOT_JSON);
        }
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.space();
        if self.take(close) {
            return Ok(());
        }
        loop {
            self.space();
            item(self, depth)?;
            self.space();
            match self.next() {
                Some(b',') => {}
                Some(byte) if byte == close => return Ok(()),
                _ => return Err(NOT_JSON),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at;
        if !self.take(b'"') {
            return Err(NOT_JSON);
        }
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += plain_prefix(rest);
        if self.peek() == Some(b'"') {
            let text = self.since(start + 1)?;
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        loop {
            match self.next() {
                Some(b'\\') => self.at += 1,
                Some(b'"') => break,
                Some(_) => {}
                None => return Err(NOT_JSON),
            }
        }
        serde_json::from_str(self.since(start)?).map(Cow::Owned).map_err(|_| NOT_JSON)
    }

    /// RFC 8259 §6: no leading zero, no plus, digits on both sides of the point.
    fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        self.since(start)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NOT_JSON) }
    }
}

/// How many bytes come before the first quote, backslash or control character. Eight at a time: "Determine if a word
/// has a byte less than n", Bit Twiddling Hacks. The lowest byte that is marked is one; those above it may not be.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let marked = below(word, b' ') | below(quote, 1) | below(backslash, 1);
        if marked != 0 {
            return at * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..b' ');
    words.len() * 8 + rest.iter().take_while(plain).count()
}

/// Member names seen in one object. A few are compared one by one; more, and those spelt with escapes, go through a
/// keyed hash, so that the cost stays linear whatever the names are.
#[derive(Default)]
struct Names<'a> {
    few: [(u64, &'a str); FEW],
    length: usize,
    more: Option<HashSet<Cow<'a, str>>>,
}

const FEW: usize = 24;

impl<'a> Names<'a> {
    fn add(&mut self, name: Cow<'a, str>) -> Result<(), Malformed> {
        let mark = mark(&name);
        let repeated = self.few.iter().take(self.length).any(|(other, text)| *other == mark && *text == name)
            || match (&name, self.few.get_mut(self.length)) {
                (Cow::Borrowed(text), Some(free)) if self.more.is_none() => {
                    *free = (mark, *text);
                    self.length += 1;
                    false
                }
                _ => !self.more.get_or_insert_default().insert(name),
            };
        if repeated { Err("a member is named twice") } else { Ok(()) }
    }
}

/// Length and first bytes of a name: mostly different where names are, and cheap to compare.
fn mark(name: &str) -> u64 {
    name.bytes().take(7).fold(name.len() as u64, |mark, byte| (mark << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl<'a> Members<'a> for Nothing {
        fn member(&mut self, _: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
            value.skip()
        }
    }

    fn accepts(text: &str, depth: u8) -> bool {
        read_object(text, depth, &mut Nothing).is_ok()
    }

    #[test]
    fn req_072_req_073_duplicate_members_are_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1},{"b":1,"c":2,"b":3}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert!(!accepts(text, 16), "{text}");
        }
        for text in [r#"{"a":{"a":{"a":1}}}"#, r#"{"a":[{"b":1},{"b":1}]}"#, r#"{"A":1,"a":2}"#, "{}", " {\n} "] {
            assert!(accepts(text, 16), "{text}");
        }
        // Beyond the few that are compared one by one.
        let many = (0..1000).map(|n| format!("\"m{n}\":{n}")).collect::<Vec<_>>().join(",");
        assert!(accepts(&format!("{{{many}}}"), 16));
        for again in ["m0", "m23", "m24", "m999"] {
            assert!(!accepts(&format!("{{{many},\"{again}\":0}}"), 16), "{again}");
        }
    }

    #[test]
    fn strings_end_where_they_should() {
        for length in 0..40 {
            let plain = "x".repeat(length);
            for (end, expected) in [
                ("\"y", length),
                ("\\y", length),
                ("\u{1f}y", length),
                ("\u{0}\"", length),
                (" !#\u{7f}é\u{80}", length + 8),
            ] {
                // Bytes behind the end must not matter.
                for tail in ["", "xxxxxxxxxxxxxxxx", "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}"] {
                    let text = format!("{plain}{end}{tail}");
                    let expected = if expected == length || !tail.starts_with('x') { expected } else { text.len() };
                    assert_eq!(plain_prefix(text.as_bytes()), expected.min(text.len()), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(accepts(&nested(16), 16));
        assert!(!accepts(&nested(17), 16));
        assert!(!accepts(&nested(20_000), 16), "no stack is spent on it either");
        assert!(accepts("{\"a\":{}}", 2) && !accepts("{\"a\":{}}", 1));
    }

    #[test]
    fn only_one_whole_object_is_read() {
        for text in [
            "",
            "null",
            "[]",
            "\"a\"",
            "1",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":NaN}",
            "{\"a\":'b'}",
            "{a:1}",
            "{\"a\":1,}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\u{1}\"}",
            "\u{feff}{}",
            "{/**/}",
        ] {
            assert!(!accepts(text, 16), "{text:?}");
        }
    }

    /// What is no number for us is none for `serde_json`, which knows no number beyond the range of `f64` besides.
    fn agrees(text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
        let ours = read_object(text, 120, &mut Nothing);
        let explained = match (&theirs, ours) {
            (Ok(_), Err(why)) => why == "a member is named twice" || why == "nested too deeply",
            (Err(error), Ok(())) => error.to_string().starts_with("number out of range"),
            _ => true,
        };
        proptest::prop_assert!(explained, "{text:?}: {ours:?}, {theirs:?}");
        Ok(())
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

        #[test]
        fn verdicts_agree_with_serde_json(
            text in r#"\{("[a-c\\u0-9"]{0,3}" ?: ?([-0-9eE.+]{1,6}|true|nul|"[^"]{0,5}"|\[[0-9, "]{0,4}\]|\{\}),?){0,3}\} ?"#,
        ) {
            agrees(&text)?;
        }

        #[test]
        fn verdicts_agree_on_broken_texts(at in 0_usize..90, byte in proptest::prelude::any::<u8>()) {
            let text = r#"{"a":[1,-2.5e+3,0,"x\u00e9\n",{"b":null,"c":[]}], "d" : true,"e":"\ud83d\ude00","f":{}}"#;
            let mut bytes = text.as_bytes().to_vec();
            let length = bytes.len();
            bytes[at % length] = byte;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                agrees(text)?;
            }
        }
    }
}
