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
/// A body that cannot be read in exactly one way, because it is of another type, malformed, has the field twice or not at all, is
/// refused with 400: a handler might read an account out of it that nobody has counted.
///
/// Accounts count as [`LoginName`](crate::ident::LoginName) has them: NFKC and lower case. A handler that takes still more spellings for
/// one account, because its database folds accents, must say so by [`canonical`](Self::canonical), or each of them can be guessed at
/// anew; and one that takes them for two accounts must not, or whoever has the one clears the failures of the other. White space
/// around a name is refused for that reason, unless it is said what it means.
#[derive(Clone, Debug)]
pub struct AccountField {
    kind: Kind,
    optional: bool,
    canonical: Option<fn(&str) -> String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Named { name: String, form: bool, json: bool },
    Own(ReadAccount),
}

/// Reads the account out of a body of 16 KiB at most: `None` if it names none.
pub type ReadAccount = fn(&HeaderMap, &Bytes) -> Result<Option<String>, UnreadableAccount>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) account: Option<Secret<String>>,
    pub(super) device_token: Option<Secret<String>>,
}

/// A body cannot be read in exactly one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("body cannot be read in one way")]
pub struct UnreadableAccount;

const DEVICE_TOKEN: &str = "device_token";

impl AccountField {
    /// This parameter of an `application/x-www-form-urlencoded` body.
    pub fn form(name: impl Into<String>) -> Self {
        Self::of(Kind::Named { name: name.into(), form: true, json: false })
    }

    /// This member, a string, of the object that an `application/json` body is.
    pub fn json(name: impl Into<String>) -> Self {
        Self::of(Kind::Named { name: name.into(), form: false, json: true })
    }

    /// Either, by the content type.
    pub fn form_or_json(name: impl Into<String>) -> Self {
        Self::of(Kind::Named { name: name.into(), form: true, json: true })
    }

    /// Wherever `read` finds it, as in a gRPC message. It must find what the handler finds, and refuse what it is not sure of.
    pub fn read_by(read: ReadAccount) -> Self {
        Self::of(Kind::Own(read))
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, optional: false, canonical: None }
    }

    /// Lets requests pass that name no account, as attempts of their address alone: for a route where people also sign in by
    /// other means. What is lost: a handler that finds an account elsewhere, such as in the query, is guessed at without end.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Sets what of an account's name counts, before it is taken for a login name: what the handler looks up.
    #[must_use]
    pub fn canonical(self, canonical: fn(&str) -> String) -> Self {
        Self { canonical: Some(canonical), ..self }
    }

    pub(super) fn read(&self, headers: &HeaderMap, body: &Bytes) -> Result<Asked, UnreadableAccount> {
        let asked = self.find(headers, body)?;
        let counts = |account: Secret<String>| match self.canonical {
            Some(canonical) => Ok(Secret::new(canonical(account.expose()))),
            None if account.expose().trim() == account.expose() => Ok(account),
            None => Err(UnreadableAccount),
        };
        let account = asked.account.map(counts).transpose()?;
        if account.is_none() && !self.optional {
            return Err(UnreadableAccount);
        }
        Ok(Asked { account, ..asked })
    }

    fn find(&self, headers: &HeaderMap, body: &Bytes) -> Result<Asked, UnreadableAccount> {
        match &self.kind {
            Kind::Own(read) => {
                let account = read(headers, body)?.map(Secret::new);
                Ok(Asked { account, device_token: None })
            }
            Kind::Named { name, form: true, .. } if form::is_form(headers) => in_form(name, body),
            Kind::Named { name, json: true, .. } if is_json(headers) => in_json(name, body),
            Kind::Named { .. } if body.is_empty() => Ok(Asked::default()),
            Kind::Named { .. } => Err(UnreadableAccount),
        }
    }
}

fn in_form(name: &str, body: &Bytes) -> Result<Asked, UnreadableAccount> {
    let form = Form::parse(body).map_err(|_| UnreadableAccount)?;
    let get = |name| form.get(name).map(Secret::from);
    Ok(Asked { account: get(name), device_token: get(DEVICE_TOKEN) })
}

fn in_json(name: &str, body: &Bytes) -> Result<Asked, UnreadableAccount> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let asked = json.deserialize_map(Members(name)).map_err(|_| UnreadableAccount)?;
    json.end().map_err(|_| UnreadableAccount)?;
    Ok(asked)
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
        let fields = [AccountField::form("u"), AccountField::json("u"), AccountField::form_or_json("u")];
        let [form, json, both] = fields.map(AccountField::optional);
        let deep = format!(r#"{{"x":{}{},"u":"a"}}"#, "[".repeat(200), "]".repeat(200));
        for (field, kind, body, expected) in [
            (&form, FORM, "u=a&p=b", Ok(Some("a"))),
            (&form, FORM, "p=b", Ok(None)),
            (&form, FORM, "u=&p=b", Ok(None)),
            (&form, FORM, "u=a&u=b", Err(UnreadableAccount)),
            (&form, FORM, "u=a&%75=b", Err(UnreadableAccount)),
            (&form, FORM, "u=%ff", Err(UnreadableAccount)),
            (&form, JSON, r#"{"u":"a"}"#, Err(UnreadableAccount)),
            (&form, "multipart/form-data; boundary=x", "--x", Err(UnreadableAccount)),
            (&form, "", "u=a", Err(UnreadableAccount)),
            (&form, "", "", Ok(None)),
            (&json, JSON, r#"{"p":[{"u":"b"}],"u":"a\u0062"}"#, Ok(Some("ab"))),
            (&json, "application/login+JSON", r#"{"u":"a"}"#, Ok(Some("a"))),
            (&json, JSON, r#"{"p":1}"#, Ok(None)),
            (&json, JSON, r#"{"u":"a","u":"b"}"#, Err(UnreadableAccount)),
            (&json, JSON, r#"{"u":"a","\u0075":"b"}"#, Err(UnreadableAccount)),
            (&json, JSON, r#"{"u":"a","U":"b"}"#, Err(UnreadableAccount)),
            (&json, JSON, r#"{"u":7}"#, Err(UnreadableAccount)),
            (&json, JSON, r#"{"u":null}"#, Err(UnreadableAccount)),
            (&json, JSON, r#"["a"]"#, Err(UnreadableAccount)),
            (&json, JSON, r#"{"u":"a"} x"#, Err(UnreadableAccount)),
            (&json, JSON, "", Err(UnreadableAccount)),
            (&json, JSON, &deep, Ok(Some("a"))),
            (&json, FORM, "u=a", Err(UnreadableAccount)),
            (&both, FORM, "u=a", Ok(Some("a"))),
            (&both, JSON, r#"{"u":"a"}"#, Ok(Some("a"))),
            (&both, "text/plain", "u=a", Err(UnreadableAccount)),
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
        for body in ["p=b", "u=", ""] {
            let asked = AccountField::form("u").read(&headers, &Bytes::from_static(body.as_bytes()));
            assert_eq!(asked.err(), Some(UnreadableAccount), "an account must be named: {body}");
        }
        let folded = AccountField::form("u").canonical(|name| name.replace('é', "e"));
        let trimmed = AccountField::form("u").canonical(|name| name.trim().to_owned());
        assert_eq!(form.read(&headers, &Bytes::from_static(b"u=+a")).err(), Some(UnreadableAccount));
        for (field, body, expected) in [(&trimmed, "u=+a%09", "a"), (&folded, "u=%C3%A9", "e")] {
            let account = field.read(&headers, &Bytes::from_static(body.as_bytes())).unwrap().account.unwrap();
            assert_eq!(account.expose(), expected);
        }
        let asked = form.read(&headers, &Bytes::from_static(b"u=a&device_token=t")).unwrap();
        assert_eq!(asked.device_token.unwrap().expose(), "t");
    }
}
