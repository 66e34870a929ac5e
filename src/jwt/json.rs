//! Strict JSON, read in one pass: the grammar of RFC 8259 and, on top of it, what RFC 7519 §4 and RFC 8725 ask for. No
//! member is named twice at any depth, and nesting is bounded.
//!
//! Ours, because general parsers let a member pass that is named twice, or take longer and copy more. Strings with escapes,
//! where the subtleties lie, are handed to `serde_json`; a test compares the verdicts of both on texts of every kind.

use std::{borrow::Cow, collections::HashSet};

use memchr::memchr2;

/// Why a text was refused, for operators.
pub(crate) type Malformed = &'static str;

const NOT_JSON: Malformed = "not a JSON object";

/// How a document takes its top-level members.
pub(crate) trait Members<'a> {
    /// Takes the value of the member `name`, or passes over it with [`Value::skip`].
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<Member, Malformed>;
}

/// How a member was known, so that it is known again if it comes twice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    /// It is one of the document's own, by a number of up to 31: a bit is enough to remember it.
    Own(u8),
    /// It is another one: its name must be remembered.
    Other,
}

/// Reads `text` as one JSON object with nothing behind it, nested `depth` levels at most, its own included.
pub(crate) fn read_object<'a>(text: &'a str, depth: u8, members: &mut impl Members<'a>) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0, controls: has_controls(text) };
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

    /// A number.
    pub(crate) fn number(self) -> Result<Number<'a>, Malformed> {
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

    /// Whether the value begins like a string.
    pub(crate) fn is_string(&self) -> bool {
        self.reader.peek() == Some(b'"')
    }

    /// Passes over a value of any kind, and checks it all the same.
    pub(crate) fn skip(self) -> Result<(), Malformed> {
        match self.reader.peek() {
            Some(b'"') => self.reader.string().map(drop),
            Some(b'{') => self.reader.object(self.depth, &mut |_, value| value.skip().map(|()| Member::Other)),
            Some(b'[') => self.reader.array(self.depth, &mut |value| value.skip()),
            Some(b't') => self.reader.literal("true"),
            Some(b'f') => self.reader.literal("false"),
            Some(b'n') => self.reader.literal("null"),
            _ => self.reader.number().map(drop),
        }
    }
}

/// A number as it is spelt, and its value where it is nothing but one to nineteen digits.
pub(crate) struct Number<'a> {
    pub(crate) spelt: &'a str,
    pub(crate) whole: Option<u64>,
}

/// A place in a text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether a control character stands anywhere. None may stand in a string, and most texts have none.
    controls: bool,
}

/// Without an early exit, so that the compiler looks at many bytes at a time.
fn has_controls(text: &str) -> bool {
    text.bytes().fold(0, |found, byte| found | u8::from(byte < b' ')) != 0
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        // A branch, which is predicted: what follows need not wait for the byte.
        if self.peek() != Some(byte) {
            return false;
        }
        self.at += 1;
        true
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
        member: &mut impl FnMut(&str, Value<'_, 'a>) -> Result<Member, Malformed>,
    ) -> Result<(), Malformed> {
        let mut own = 0_u32;
        let mut names = Names::default();
        self.list(b'{', b'}', depth, &mut |reader, depth| {
            let name = reader.string()?;
            reader.space();
            if !reader.take(b':') {
                return Err(NOT_JSON);
            }
            reader.space();
            let fresh = match member(&name, Value { reader, depth })? {
                Member::Own(number) => {
                    let bit = 1_u32.checked_shl(number.into()).unwrap_or_default();
                    let fresh = own & bit == 0;
                    own |= bit;
                    fresh
                }
                Member::Other => names.add(name),
            };
            if fresh { Ok(()) } else { Err("a member is named twice") }
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

    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at;
        let Some((b'"', rest)) = self.rest().split_first() else {
            return Err(NOT_JSON);
        };
        let length = memchr2(b'"', b'\\', rest).ok_or(NOT_JSON)?;
        let end = start + 1 + length;
        if rest.get(length) == Some(&b'"') {
            self.at = end + 1;
            let text = self.text.get(start + 1..end).ok_or(NOT_JSON)?;
            if self.controls && has_controls(text) {
                return Err(NOT_JSON);
            }
            return Ok(Cow::Borrowed(text));
        }
        self.at = end;
        self.escaped(start).map(Cow::Owned)
    }

    /// The string that began at `start`, up to whose first escape it has been read.
    #[cold]
    fn escaped(&mut self, start: usize) -> Result<String, Malformed> {
        loop {
            match self.next() {
                Some(b'\\') => self.at += 1,
                Some(b'"') => break,
                Some(_) => {}
                None => return Err(NOT_JSON),
            }
        }
        serde_json::from_str(self.since(start)?).map_err(|_| NOT_JSON)
    }

    /// RFC 8259 §6: no leading zero, no plus, digits on both sides of the point.
    fn number(&mut self) -> Result<Number<'a>, Malformed> {
        let start = self.at;
        let negative = self.take(b'-');
        let whole = if self.take(b'0') { 0 } else { self.digits()? };
        let plain = !negative && self.at - start < 20;
        let digits_end = self.at;
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let whole = (plain && self.at == digits_end).then_some(whole);
        Ok(Number { spelt: self.since(start)?, whole })
    }

    /// One or more digits, and their value if there are fewer than twenty.
    fn digits(&mut self) -> Result<u64, Malformed> {
        let (mut length, mut value) = (0, 0_u64);
        for byte in self.rest().iter().take_while(|byte| byte.is_ascii_digit()) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            length += 1;
        }
        self.at += length;
        if length > 0 { Ok(value) } else { Err(NOT_JSON) }
    }
}

/// Member names seen in one object, but for those that the document knows. A few are compared one by one; more, and those
/// spelt with escapes, go through a keyed hash, so that the cost stays linear whatever the names are.
#[derive(Default)]
struct Names<'a> {
    few: [&'a str; FEW],
    length: usize,
    more: Option<HashSet<Cow<'a, str>>>,
}

const FEW: usize = 8;

impl<'a> Names<'a> {
    /// Whether `name` has not been seen before.
    fn add(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.iter().take(self.length).any(|other| *other == name) {
            return false;
        }
        match (&name, self.few.get_mut(self.length)) {
            (Cow::Borrowed(text), Some(free)) if self.more.is_none() => {
                *free = text;
                self.length += 1;
                true
            }
            _ => self.more.get_or_insert_default().insert(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl<'a> Members<'a> for Nothing {
        fn member(&mut self, _: &str, value: Value<'_, 'a>) -> Result<Member, Malformed> {
            value.skip().map(|()| Member::Other)
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
        for again in ["m0", "m15", "m16", "m999"] {
            assert!(!accepts(&format!("{{{many},\"{again}\":0}}"), 16), "{again}");
        }
    }

    #[test]
    fn strings_end_where_they_should() {
        struct First(Option<String>);
        impl<'a> Members<'a> for First {
            fn member(&mut self, _: &str, value: Value<'_, 'a>) -> Result<Member, Malformed> {
                self.0 = Some(value.string()?.into_owned());
                Ok(Member::Other)
            }
        }
        let read = |text: &str| {
            let mut first = First(None);
            read_object(text, 16, &mut first).ok().and(first.0)
        };
        for length in 0..70 {
            let plain = "x".repeat(length);
            for (inside, expected) in [
                ("", Some("")),
                (r#"\""#, Some("\"")),
                (r"\\", Some("\\")),
                (r"\u00e9é", Some("éé")),
                (" !#\u{7f}é\u{80}", Some(" !#\u{7f}é\u{80}")),
                ("\u{1f}", None),
                ("\n", None),
                ("\u{0}", None),
            ] {
                for (before, behind) in [("", ""), (" \n", "\r\t"), ("", "     ")] {
                    let text = format!("{before}{{\"a\":\"{plain}{inside}{plain}\"{behind}}}");
                    let expected = expected.map(|expected| format!("{plain}{expected}{plain}"));
                    assert_eq!(read(&text), expected, "{text:?}");
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
