//! Strict JSON: RFC 8259 by `serde_json`, and on top of it what RFC 7519 §4 and RFC 8725 ask for. No member is named
//! twice at any depth, and nesting is bounded.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Why a text was refused, for operators.
pub(crate) type Malformed = &'static str;

/// How a document visits its top-level members.
pub(crate) trait Members<'de> {
    /// Takes the value of the member `name` from `map`; [`skip`] passes over what is of no interest.
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, depth: u8) -> Result<(), A::Error>;
}

/// Reads `text` as one JSON object with nothing behind it, nested `depth` levels at most, its own included.
pub(crate) fn read_object<'de>(text: &'de str, depth: u8, members: &mut impl Members<'de>) -> Result<(), Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_map(Object { members, depth: depth.saturating_sub(1) })
        .map_err(|_| "not a JSON object")?;
    deserializer.end().map_err(|_| "text behind the JSON object")
}

/// Passes over a value of any kind and checks it all the same. `depth` is how many levels it may nest.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A, depth: u8) -> Result<(), A::Error> {
    map.next_value_seed(Skip { depth })
}

struct Object<'a, M> {
    members: &'a mut M,
    depth: u8,
}

impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            names.add(name.clone()).map_err(de::Error::custom)?;
            self.members.member(&name, &mut map, self.depth)?;
        }
        Ok(())
    }
}

/// Member names seen in one object. A few are compared one by one; more, and those spelt with escapes, go through a
/// keyed hash, so that the cost stays linear whatever the names are.
#[derive(Default)]
struct Names<'de> {
    few: [&'de str; FEW],
    length: usize,
    more: Option<HashSet<Cow<'de, str>>>,
}

const FEW: usize = 24;

impl<'de> Names<'de> {
    fn add(&mut self, name: Cow<'de, str>) -> Result<(), Malformed> {
        let repeated = self.few.iter().take(self.length).any(|other| *other == name)
            || match (&name, self.few.get_mut(self.length)) {
                (Cow::Borrowed(text), Some(free)) if self.more.is_none() => {
                    *free = *text;
                    self.length += 1;
                    false
                }
                _ => !self.more.get_or_insert_default().insert(name),
            };
        if repeated { Err("a member is named twice") } else { Ok(()) }
    }
}

/// A string, borrowed from the input where it has no escapes.
pub(crate) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct Skip {
    depth: u8,
}

impl Skip {
    fn inner<E: de::Error>(&self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { depth } = self.inner()?;
        while seq.next_element_seed(Skip { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { depth } = self.inner()?;
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            names.add(name).map_err(de::Error::custom)?;
            map.next_value_seed(Skip { depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl<'de> Members<'de> for Nothing {
        fn member<A: MapAccess<'de>>(&mut self, _: &str, map: &mut A, depth: u8) -> Result<(), A::Error> {
            skip(map, depth)
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
            "{\"a\":1e999}",
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
}
