//! `application/x-www-form-urlencoded` bodies: bounded, UTF-8, no parameter twice (RFC 6749 §3.2, appendix B) but for
//! `resource` (RFC 8707 §2).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode;
use tokio::time;
use zeroize::Zeroizing;

/// Longest body, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Most parameters, known or not.
const MAX_PARAMETERS: usize = 64;
/// The one parameter that may come more than once.
const RESOURCE: &str = "resource";
/// How long a body may take to arrive.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Why a body is no form. The texts are ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FormError(pub(crate) &'static str);

/// Parameters of a request, wiped when dropped: a password is among them. The body that they were read from is the
/// server's, and is not.
pub(crate) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads the body of a request with these headers.
    pub(crate) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Self, FormError>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !is_form(headers) {
            return Err(FormError("the body must be application/x-www-form-urlencoded"));
        }
        Self::parse(&whole(body).await?)
    }

    pub(crate) fn parse(body: &Bytes) -> Result<Self, FormError> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if *name != RESOURCE && parameters.iter().any(|(other, _)| *other == *name) {
                return Err(FormError("a parameter is repeated"));
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(FormError("there are too many parameters"));
            }
            parameters.push((name.to_string(), value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's value. One without a value counts as left out.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The resources that are named: all that have a value.
    pub(crate) fn resources(&self) -> Vec<&str> {
        let named = self.0.iter().filter(|(name, value)| name == RESOURCE && !value.is_empty());
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// A parameter that must be there.
    pub(crate) fn require(&self, name: &str) -> Result<&str, FormError> {
        self.get(name).ok_or(FormError("a required parameter is missing"))
    }
}

/// A body of 16 KiB at most that arrives within 10 seconds.
pub(crate) async fn whole<B>(body: B) -> Result<Bytes, FormError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = time::timeout(MAX_TIME, Limited::new(body, MAX_BODY).collect()).await;
    let body = body.map_err(|_| FormError("the body took too long to arrive"))?;
    Ok(body.map_err(|_| FormError("the body is incomplete or too long"))?.to_bytes())
}

/// Whether the one content type is that of a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
}

/// What the one content type says, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    field.as_bytes().split(|&byte| byte == b';').next().map(<[u8]>::trim_ascii)
}

/// `+` is a space, `%xx` a byte, and the bytes must be UTF-8: none is replaced, so no two inputs become the same.
pub(crate) fn decode(text: &[u8]) -> Result<Zeroizing<String>, FormError> {
    let spaced: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect());
    // With room for all, because a vector that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(spaced.len());
    bytes.extend(percent_decode(&spaced));
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(FormError("the body is not UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        const REPEATED: FormError = FormError("a parameter is repeated");
        const NOT_UTF8: FormError = FormError("the body is not UTF-8");
        type Row<'a> = (u16, &'a [u8], &'a str, Result<Option<&'a str>, FormError>);
        let rows: &[Row<'_>] = &[
            (23, b"a=1&b=2", "b", Ok(Some("2"))),
            (23, b"a=1%202+3%2B%26%3D", "a", Ok(Some("1 2 3+&="))),
            (23, b"%61=1", "a", Ok(Some("1"))),
            (23, b"a=%C3%A9", "a", Ok(Some("é"))),
            (23, "a=é".as_bytes(), "a", Ok(Some("é"))),
            (23, b"a=b=c", "a", Ok(Some("b=c"))),
            (23, b"a=%zz%4", "a", Ok(Some("%zz%4"))),
            (23, b"a=%ff", "a", Err(NOT_UTF8)),
            (23, b"\xff=1", "a", Err(NOT_UTF8)),
            (23, b"a=%ed%a0%80", "a", Err(NOT_UTF8)),
            (24, b"a=&b=", "a", Ok(None)),
            (24, b"a&b=1", "a", Ok(None)),
            (25, b"x=1&a=2&&y", "a", Ok(Some("2"))),
            (26, b"a=1&a=1", "a", Err(REPEATED)),
            (26, b"a=1&%61=2", "a", Err(REPEATED)),
            (26, b"a=&a=1", "a", Err(REPEATED)),
            (26, b"x=1&x=2", "a", Err(REPEATED)),
            (27, b"", "a", Ok(None)),
            (27, b"=1", "a", Ok(None)),
            (27, b"A=1", "a", Ok(None)),
        ];
        for (req, body, name, expected) in rows {
            let form = Form::parse(&Bytes::from_static(body));
            let value = form.as_ref().map(|form| form.get(name)).map_err(|e| *e);
            assert_eq!(value, *expected, "req {req}: {body:?}");
        }
        let form = Form::parse(&Bytes::from_static(b"resource=a&x=1&resource=&resource=b&%72esource=a")).unwrap();
        assert_eq!(form.resources(), ["a", "b", "a"], "req 103");
        let many = (0..65).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(&many.into()).is_err());
    }

    #[test]
    fn req_023_content_types() {
        for (fields, good) in [
            (&["application/x-www-form-urlencoded"][..], true),
            (&["Application/X-WWW-Form-Urlencoded ; charset=UTF-8"], true),
            (&["application/json"], false),
            (&["application/x-www-form-urlencodedx"], false),
            (&["multipart/form-data; boundary=x"], false),
            (&[""], false),
            (&[], false),
            (&["application/x-www-form-urlencoded", "application/json"], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CONTENT_TYPE, field.parse().unwrap());
            }
            assert_eq!(is_form(&headers), good, "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_bounded_in_length_and_time() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        let fits = format!("a={}", "x".repeat(MAX_BODY - 2));
        assert!(Form::read(&headers, fits.clone()).await.is_ok());
        assert!(Form::read(&headers, fits + "x").await.is_err());
        let never = http_body_util::StreamBody::new(futures::stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >());
        let slow = Form::read(&headers, never).await.err();
        assert_eq!(slow, Some(FormError("the body took too long to arrive")));
    }
}
