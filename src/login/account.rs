//! Which account a request asks for: read in one way, so that no handler reads another out of it.

use bytes::Bytes;
use http::HeaderMap;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::{
    form::{self, Form},
    secret::Secret,
};

/// Where a request for a login names the account: one field of its body.
///
/// A body that cannot be read in exactly one way, because it is of another type, malformed, or has the field twice, is refused
/// with 400: a handler might read an account out of it that nobody has counted. One without the field is an attempt of its
/// address alone.
#[derive(Clone, Debug)]
pub struct AccountField {
    name: String,
    bodies: Bodies,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bodies {
    Form,
    Json,
    Both,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) account: Option<Secret<String>>,
    pub(super) device_token: Option<Secret<String>>,
}

/// The body cannot be read in one way.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

const DEVICE_TOKEN: &str = "device_token";

impl AccountField {
    /// This parameter of an `application/x-www-form-urlencoded` body.
    pub fn form(name: impl Into<String>) -> Self {
        Self { name: name.into(), bodies: Bodies::Form }
    }

    /// This member, a string, of the object that an `application/json` body is.
    pub fn json(name: impl Into<String>) -> Self {
        Self { name: name.into(), bodies: Bodies::Json }
    }

    /// Either, by the content type.
    pub fn form_or_json(name: impl Into<String>) -> Self {
        Self { name: name.into(), bodies: Bodies::Both }
    }

    pub(super) fn read(&self, headers: &HeaderMap, body: &Bytes) -> Result<Asked, Unreadable> {
        if self.bodies != Bodies::Json && form::is_form(headers) {
            self.in_form(body)
        } else if self.bodies != Bodies::Form && is_json(headers) {
            self.in_json(body)
        } else if body.is_empty() {
            Ok(Asked::default())
        } else {
            Err(Unreadable)
        }
    }

    fn in_form(&self, body: &Bytes) -> Result<Asked, Unreadable> {
        let form = Form::parse(body).map_err(|_| Unreadable)?;
        let get = |name| form.get(name).map(Secret::from);
        Ok(Asked { account: get(&self.name), device_token: get(DEVICE_TOKEN) })
    }

    fn in_json(&self, body: &Bytes) -> Result<Asked, Unreadable> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let asked = json.deserialize_map(Members(&self.name)).map_err(|_| Unreadable)?;
        json.end().map_err(|_| Unreadable)?;
        Ok(asked)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = form::media_type(headers) else { return false };
    // axum's `Json` takes `application/*+json` as well.
    let kind = kind.to_ascii_lowercase();
    kind == b"application/json" || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

/// Takes two members out of an object, each of which may be there once.
struct Members<'a>(&'a str);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Asked;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Asked, A::Error> {
        let twice = || serde::de::Error::custom("a member comes twice");
        let mut asked = Asked::default();
        while let Some(name) = map.next_key::<String>()? {
            let member = if name == self.0 {
                &mut asked.account
            } else if name == DEVICE_TOKEN {
                &mut asked.device_token
            } else {
                // Some frameworks do not tell cases apart.
                if name.eq_ignore_ascii_case(self.0) {
                    return Err(twice());
                }
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if member.replace(Secret::new(map.next_value::<String>()?)).is_some() {
                return Err(twice());
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::CONTENT_TYPE};

    use super::*;

    #[test]
    fn an_account_is_read_in_one_way_or_not_at_all() {
        const FORM: &str = "application/x-www-form-urlencoded";
        const JSON: &str = "application/json; charset=utf-8";
        let (form, json, both) = (AccountField::form("u"), AccountField::json("u"), AccountField::form_or_json("u"));
        let deep = format!(r#"{{"x":{}{},"u":"a"}}"#, "[".repeat(200), "]".repeat(200));
        for (field, kind, body, expected) in [
            (&form, FORM, "u=a&p=b", Ok(Some("a"))),
            (&form, FORM, "p=b", Ok(None)),
            (&form, FORM, "u=&p=b", Ok(None)),
            (&form, FORM, "u=a&u=b", Err(Unreadable)),
            (&form, FORM, "u=a&%75=b", Err(Unreadable)),
            (&form, FORM, "u=%ff", Err(Unreadable)),
            (&form, JSON, r#"{"u":"a"}"#, Err(Unreadable)),
            (&form, "multipart/form-data; boundary=x", "--x", Err(Unreadable)),
            (&form, "", "u=a", Err(Unreadable)),
            (&form, "", "", Ok(None)),
            (&json, JSON, r#"{"p":[{"u":"b"}],"u":"a\u0062"}"#, Ok(Some("ab"))),
            (&json, "application/login+JSON", r#"{"u":"a"}"#, Ok(Some("a"))),
            (&json, JSON, r#"{"p":1}"#, Ok(None)),
            (&json, JSON, r#"{"u":"a","u":"b"}"#, Err(Unreadable)),
            (&json, JSON, r#"{"u":"a","\u0075":"b"}"#, Err(Unreadable)),
            (&json, JSON, r#"{"u":"a","U":"b"}"#, Err(Unreadable)),
            (&json, JSON, r#"{"u":7}"#, Err(Unreadable)),
            (&json, JSON, r#"{"u":null}"#, Err(Unreadable)),
            (&json, JSON, r#"["a"]"#, Err(Unreadable)),
            (&json, JSON, r#"{"u":"a"} x"#, Err(Unreadable)),
            (&json, JSON, "", Err(Unreadable)),
            (&json, JSON, &deep, Ok(Some("a"))),
            (&json, FORM, "u=a", Err(Unreadable)),
            (&both, FORM, "u=a", Ok(Some("a"))),
            (&both, JSON, r#"{"u":"a"}"#, Ok(Some("a"))),
            (&both, "text/plain", "u=a", Err(Unreadable)),
        ] {
            let mut headers = HeaderMap::new();
            if !kind.is_empty() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            let asked = field.read(&headers, &Bytes::from(body.to_owned()));
            let account = asked.map(|asked| asked.account.map(|account| account.expose().clone()));
            assert_eq!(account, expected.map(|account| account.map(str::to_owned)), "{field:?} {kind} {body}");
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(FORM))]);
        let asked = form.read(&headers, &Bytes::from_static(b"u=a&device_token=t")).unwrap();
        assert_eq!(asked.device_token.unwrap().expose(), "t");
    }
}
