//! A refusal as a response: problem details for HTTP, a trailers-only answer for gRPC.

mod fastapi;

use std::{fmt, sync::Arc};

use base64_simd::STANDARD;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use self::fastapi::Asks;
#[cfg(feature = "password")]
pub(crate) use self::fastapi::BEARER;
pub(crate) use self::fastapi::detail;
use super::{BearerError, Challenge, Rejection, Verdict};
use crate::{
    audit::{self, Who},
    config::{ConfigError, ConfigErrors},
    scope::ScopeSet,
};

/// Seconds after which to try again when something that is needed does not answer.
pub(crate) const RETRY_SECONDS: u64 = 5;

/// How gates answer when they refuse: the realm that their challenges name, and the style. Cheap to clone.
///
/// Statuses and challenges follow from the [`Rejection`] and cannot be changed, but for one [`style`](Self::style) with a name.
///
/// ```
/// use portcullis::rejection::{Answers, Rejection, Wire};
///
/// let answer = Answers::for_realm("orders")?.refuse(Rejection::NoCredential, None, Wire::Http);
/// assert_eq!(answer.status(), 401);
/// assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"orders\"");
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Answers(Arc<Challenges>);

/// What statuses, challenges and bodies are like. gRPC has one style.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum AnswerStyle {
    /// As the standards say: RFC 6750 §3, RFC 9457, and RFC 6749 §5.2 at the token endpoint.
    #[default]
    Standard,
    /// As a FastAPI service answers that was written after FastAPI's security tutorial, for clients of such a service that are to
    /// find the same when it has moved here. What is lost: a client can no longer tell from status and challenge what would help,
    /// because 401 stands for a missing scope as well (RFC 6750 §3.1), and `Bearer` stands without a parameter (§3).
    ///
    /// | | status | `WWW-Authenticate` | body |
    /// |---|---|---|---|
    /// | login that fails, whatever the reason | 401 | `Bearer` | `{"detail":"Incorrect username or password"}` |
    /// | login without a user name or a password | 422 | | `{"detail":[{"type":"missing","loc":["body","username"],"msg":"Field required","input":null}]}` |
    /// | no token | 401 | `Bearer` | `{"detail":"Not authenticated"}` |
    /// | bad, expired or revoked token, or a field that holds none; user gone | 401 | `Bearer`, or `Bearer scope="…"` in the stacks of `protect` | `{"detail":"Could not validate credentials"}` |
    /// | scope missing | 401 | `Bearer scope="…"`: all that is needed | `{"detail":"Not enough permissions"}` |
    /// | user disabled, where a layer or `active_user` looks | 400 | | `{"detail":"Inactive user"}` |
    /// | policy says no; another site's request; no TLS | 403 | | `{"detail":"Forbidden"}` |
    /// | 429, 500, 503 | as ever, with `Retry-After` and the like | | `{"detail":"Too Many Requests"}` and so on |
    ///
    /// At the token endpoint a form without `grant_type` is a login. Everything else there that the tutorial has no case for, and
    /// all that the other endpoints say of their own forms and tokens, stays as RFC 6749, RFC 7009 and RFC 7662 have it: their
    /// clients are none of a tutorial's.
    FastApi,
}

/// Challenges that do not depend on the request, made once.
#[derive(Clone, Debug)]
struct Challenges {
    style: AnswerStyle,
    /// Whether gRPC is answered as gRPC.
    grpc: bool,
    /// What a route demands, as the tutorial's challenge, where the gate that reads its tokens knows.
    demanded: Option<HeaderValue>,
    realm: String,
    plain: HeaderValue,
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    insufficient_scope: HeaderValue,
    insufficient_authentication: HeaderValue,
}

/// What would have been needed: attributes of the challenge, made of what was checked to fit a quoted string.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs<'a> {
    /// All these scopes.
    Scopes(&'a ScopeSet),
    /// To sign in again: at most so many seconds ago, in one of these ways (RFC 9470 §3).
    Authentication { max_age: Option<u64>, acr_values: &'a [String] },
}

impl fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scopes(scopes) if scopes.is_empty() => Ok(()),
            Self::Scopes(scopes) => write!(f, ", scope=\"{scopes}\""),
            Self::Authentication { max_age, acr_values } => {
                if !acr_values.is_empty() {
                    write!(f, ", acr_values=\"{}\"", acr_values.join(" "))?;
                }
                max_age.map_or(Ok(()), |seconds| write!(f, ", max_age=\"{seconds}\""))
            }
        }
    }
}

/// How the request came, and so how the refusal must be framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wire {
    /// Plain HTTP: a status and problem details (RFC 9457).
    Http,
    /// gRPC: status 200 and a trailers-only answer.
    Grpc,
    /// gRPC-Web: status 200 and a trailer frame in the body.
    GrpcWeb,
    /// gRPC-Web in base64.
    GrpcWebText,
}

impl Wire {
    /// Told by the request's content type: `application/grpc`, alone, or with a format (`+proto`) or parameters after it, as the
    /// protocol's grammar has it (gRPC over HTTP/2, "Content-Type"). A longer word, such as `application/grpcs`, is another type.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(field) = headers.get(CONTENT_TYPE) else {
            return Self::Http;
        };
        let media_type = field.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        let name = media_type.split(|&byte| byte == b'+').next().unwrap_or_default();
        let is = |grpc: &str| name.eq_ignore_ascii_case(grpc.as_bytes());
        if is("application/grpc") {
            Self::Grpc
        } else if is("application/grpc-web") {
            Self::GrpcWeb
        } else if is("application/grpc-web-text") {
            Self::GrpcWebText
        } else {
            Self::Http
        }
    }
}

impl Default for Answers {
    /// Answers for the realm `api`.
    fn default() -> Self {
        Self::with_checked("api", "")
    }
}

impl Answers {
    /// Answers whose challenges name `realm` (RFC 9110 §11.5).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Realm`] if it is empty or contains a quote, a backslash, or anything but printable ASCII.
    pub fn for_realm(realm: &str) -> Result<Self, ConfigErrors> {
        let plain = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if realm.is_empty() || realm.len() > 256 || !realm.bytes().all(plain) {
            return Err(ConfigError::Realm(realm.to_owned()).into());
        }
        Ok(Self::with_checked(realm, ""))
    }

    /// The same, but that challenges name the address of the resource's metadata (RFC 9728 §5.1), which was checked.
    pub(crate) fn naming_metadata(&self, address: &str) -> Self {
        Self::with_checked(&self.0.realm, &format!(", resource_metadata=\"{address}\"")).set_like(self)
    }

    /// The same texts, with the settings of `other`.
    pub(crate) fn set_like(self, other: &Self) -> Self {
        let Challenges { style, grpc, .. } = *other.0;
        Self(Arc::new(Challenges { style, grpc, ..Challenges::clone(&self.0) }))
    }

    /// Sets what statuses, challenges and bodies are like: as the standards say, unless set.
    ///
    /// ```
    /// use portcullis::rejection::{AnswerStyle, Answers, Rejection, Wire};
    ///
    /// let answers = Answers::default().style(AnswerStyle::FastApi);
    /// let answer = answers.refuse(Rejection::NoCredential, None, Wire::Http);
    /// assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    /// assert_eq!(answer.body(), r#"{"detail":"Not authenticated"}"#);
    /// ```
    #[must_use]
    pub fn style(self, style: AnswerStyle) -> Self {
        Self(Arc::new(Challenges { style, ..Challenges::clone(&self.0) }))
    }

    /// The style that was set, for documents.
    #[cfg(feature = "openapi")]
    pub(crate) fn own_style(&self) -> AnswerStyle {
        self.0.style
    }

    /// Answers what calls itself gRPC as it does everything else. For programs without gRPC, above all for those that a proxy asks
    /// whether a request may pass (nginx's `auth_request`, forward auth): it goes by the status, and to gRPC a refusal is 200.
    ///
    /// ```
    /// use portcullis::rejection::{Answers, Rejection, Wire};
    ///
    /// assert_eq!(Answers::default().refuse(Rejection::NoCredential, None, Wire::Grpc).status(), 200);
    /// assert_eq!(Answers::default().without_grpc().refuse(Rejection::NoCredential, None, Wire::Grpc).status(), 401);
    /// ```
    #[must_use]
    pub fn without_grpc(self) -> Self {
        Self(Arc::new(Challenges { grpc: false, ..Challenges::clone(&self.0) }))
    }

    /// The same, for whoever is asked for gRPC by somebody who knows it.
    #[cfg(feature = "tonic")]
    pub(crate) fn with_grpc(&self) -> Self {
        Self(Arc::new(Challenges { grpc: true, ..Challenges::clone(&self.0) }))
    }

    /// The same, for a route that demands these scopes: the tutorial names them to whoever comes with a bad token, too.
    pub(crate) fn demanding(&self, scopes: &ScopeSet) -> Self {
        let demanded = fastapi::scopes(Some(Needs::Scopes(scopes)));
        Self(Arc::new(Challenges { demanded, ..Challenges::clone(&self.0) }))
    }

    /// The same in memory of its own, for one core to count the references to.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Challenges::clone(&self.0)))
    }

    fn with_checked(realm: &str, more: &str) -> Self {
        let plain = format!("Bearer realm=\"{realm}\"{more}");
        let with = |error: BearerError| {
            let (code, description) = (error.code(), error.description());
            field(&format!("{plain}, error=\"{code}\", error_description=\"{description}\""))
        };
        Self(Arc::new(Challenges {
            style: AnswerStyle::Standard,
            grpc: true,
            demanded: None,
            realm: realm.to_owned(),
            invalid_request: with(BearerError::InvalidRequest),
            invalid_token: with(BearerError::InvalidToken),
            insufficient_scope: with(BearerError::InsufficientScope),
            insufficient_authentication: with(BearerError::InsufficientUserAuthentication),
            plain: field(&plain),
        }))
    }

    /// The answer to a request that came over `wire`, and one audit event that says why.
    ///
    /// `scopes` is all that would have been needed; it goes into the challenge of
    /// [`InsufficientScope`](Rejection::InsufficientScope).
    pub fn refuse(&self, rejection: Rejection, scopes: Option<&ScopeSet>, wire: Wire) -> Response<Bytes> {
        self.refuse_caller(Who::default(), rejection, scopes.map(Needs::Scopes), wire)
    }

    /// As [`refuse`](Self::refuse), where it is known whose request it is.
    pub(crate) fn refuse_caller(
        &self,
        who: Who,
        rejection: Rejection,
        needs: Option<Needs<'_>>,
        wire: Wire,
    ) -> Response<Bytes> {
        let verdict = rejection.verdict();
        let wire = if self.0.grpc { wire } else { Wire::Http };
        let scopes = needs.and_then(|needs| if let Needs::Scopes(scopes) = needs { Some(scopes) } else { None });
        let fastapi = Some(rejection).filter(|_| self.0.style == AnswerStyle::FastApi).map(fastapi::answer);
        let styled = fastapi.as_ref().filter(|_| wire == Wire::Http).map(|(status, ..)| *status);
        audit::refused(rejection, styled.unwrap_or(verdict.status), who, scopes);
        let mut response = match wire {
            Wire::Http => match fastapi {
                Some((status, _, words)) => detail(status, words),
                None => http_answer(rejection, verdict),
            },
            Wire::Grpc => grpc_answer(verdict),
            Wire::GrpcWeb | Wire::GrpcWebText => {
                grpc_web_answer(verdict, self.challenge(verdict.challenge, needs).as_ref(), wire)
            }
        };
        response.extensions_mut().insert(rejection);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after(rejection, verdict).filter(|_| wire == Wire::Http) {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        let challenge = match fastapi.filter(|_| wire == Wire::Http) {
            None | Some((_, Asks::AsEver, _)) => self.challenge(verdict.challenge, needs),
            Some((_, Asks::Nothing, _)) => None,
            Some((_, Asks::Bearer, _)) => Some(HeaderValue::from_static(fastapi::BEARER)),
            Some((_, Asks::Scopes, _)) => {
                let known = fastapi::scopes(needs).or_else(|| self.0.demanded.clone());
                Some(known.unwrap_or(HeaderValue::from_static(fastapi::BEARER)))
            }
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    fn challenge(&self, challenge: Challenge, needs: Option<Needs<'_>>) -> Option<HeaderValue> {
        let with = |error: &HeaderValue| match needs {
            None => error.clone(),
            Some(needs) => {
                let text = [error.as_bytes(), needs.to_string().as_bytes()].concat();
                HeaderValue::from_bytes(&text).unwrap_or_else(|_| error.clone())
            }
        };
        Some(match challenge {
            Challenge::Silent => return None,
            Challenge::Plain => self.0.plain.clone(),
            Challenge::Error(BearerError::InvalidRequest) => self.0.invalid_request.clone(),
            Challenge::Error(BearerError::InvalidToken) => self.0.invalid_token.clone(),
            Challenge::Error(BearerError::InsufficientScope) => with(&self.0.insufficient_scope),
            Challenge::Error(BearerError::InsufficientUserAuthentication) => with(&self.0.insufficient_authentication),
        })
    }
}

/// Both realm and scopes are checked to be printable ASCII, so this keeps every text that reaches it.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"api\""))
}

/// Problem details of a quota that is used up (draft-ietf-httpapi-ratelimit-headers-10 §6).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

fn http_answer(rejection: Rejection, verdict: Verdict) -> Response<Bytes> {
    let title = verdict.status.canonical_reason().unwrap_or_default();
    let status = verdict.status.as_u16();
    let body = match verdict.challenge {
        Challenge::Error(error) => format!(
            r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{}","error":"{}"}}"#,
            error.description(),
            error.code(),
        ),
        Challenge::Plain | Challenge::Silent => match rejection {
            Rejection::TooManyAttempts { limit, .. } => format!(
                r#"{{"type":"{QUOTA_EXCEEDED}","title":"{title}","status":{status},"violated-policies":["{}"]}}"#,
                limit.name(),
            ),
            _ => format!(r#"{{"type":"about:blank","title":"{title}","status":{status}}}"#),
        },
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = verdict.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// When to try again, where that is what helps (RFC 9110 §10.2.3).
fn retry_after(rejection: Rejection, verdict: Verdict) -> Option<u64> {
    match rejection {
        Rejection::TooManyAttempts { seconds, .. } => Some(seconds),
        _ => (verdict.status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_SECONDS),
    }
}

/// Trailers-only: the headers are the trailers, and there is no body (gRPC over HTTP/2, "Responses").
fn grpc_answer(verdict: Verdict) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(verdict.grpc as u16));
    if let Ok(message) = HeaderValue::from_str(&grpc_message(verdict)) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}

/// gRPC-Web carries trailers as a last frame of the body: flag 0x80, length, header lines (PROTOCOL-WEB.md).
/// The challenge is there as well as in the head: clients make the metadata of an error from the frame.
fn grpc_web_answer(verdict: Verdict, challenge: Option<&HeaderValue>, wire: Wire) -> Response<Bytes> {
    let code = format!("grpc-status:{}\r\ngrpc-message:{}\r\n", verdict.grpc as u16, grpc_message(verdict));
    let mut trailers = code.into_bytes();
    if let Some(challenge) = challenge {
        trailers.extend_from_slice(&[b"www-authenticate:", challenge.as_bytes(), b"\r\n"].concat());
    }
    let mut frame = vec![0x80];
    frame.extend_from_slice(&u32::try_from(trailers.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(&trailers);
    let (content_type, body) = if wire == Wire::GrpcWebText {
        ("application/grpc-web-text+proto", STANDARD.encode_to_string(frame).into())
    } else {
        ("application/grpc-web+proto", frame.into())
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn grpc_message(verdict: Verdict) -> String {
    // Space to tilde but for percent stay as they are (gRPC over HTTP/2, "Status-Message").
    const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
    let text = match verdict.challenge {
        Challenge::Error(error) => error.description(),
        Challenge::Plain | Challenge::Silent => verdict.status.canonical_reason().unwrap_or_default(),
    };
    utf8_percent_encode(text, MESSAGE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_017_req_021_realms_and_texts_fit_a_quoted_string() {
        for (realm, good) in [
            ("api", true),
            ("orders & more!", true),
            ("", false),
            ("a\"b", false),
            ("a\\b", false),
            ("a\r\nset-cookie: x", false),
            ("a\tb", false),
            ("\u{7f}", false),
            ("é", false),
            (&"x".repeat(256), true),
            (&"x".repeat(257), false),
        ] {
            let answers = Answers::for_realm(realm);
            assert_eq!(answers.is_ok(), good, "{realm:?}");
            let Ok(answers) = answers else { continue };
            let challenge =
                answers.refuse(Rejection::BadSignature, None, Wire::Http).headers()[WWW_AUTHENTICATE].clone();
            assert!(
                challenge.to_str().unwrap().starts_with(&format!("Bearer realm=\"{realm}\", error=")),
                "{challenge:?}"
            );
        }
        for error in [
            BearerError::InvalidRequest,
            BearerError::InvalidToken,
            BearerError::InsufficientScope,
            BearerError::InsufficientUserAuthentication,
        ] {
            let fits = |text: &str| text.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e));
            assert!(fits(error.code()) && fits(error.description()));
        }
    }

    #[test]
    fn req_190_how_the_request_came() {
        for (content_type, wire) in [
            ("application/json", Wire::Http),
            ("application/grp", Wire::Http),
            ("text/plain; application/grpc", Wire::Http),
            ("application/grpc", Wire::Grpc),
            ("APPLICATION/GRPC+PROTO", Wire::Grpc),
            ("application/grpc+x.y-z", Wire::Grpc),
            ("application/grpc+web", Wire::Grpc),
            ("application/grpc;charset=utf-8", Wire::Grpc),
            ("application/grpc+proto ; charset=utf-8", Wire::Grpc),
            ("application/grpcx", Wire::Http),
            ("application/grpcs+proto", Wire::Http),
            ("application/grpc-proto", Wire::Http),
            ("application/grpc/proto", Wire::Http),
            ("application/grpc, application/json", Wire::Http),
            ("application/json; application/grpc", Wire::Http),
            (" application/grpc", Wire::Http),
            ("grpc", Wire::Http),
            ("", Wire::Http),
            ("application/grpc-web", Wire::GrpcWeb),
            ("application/grpc-web+proto", Wire::GrpcWeb),
            ("application/grpc-web;a=b", Wire::GrpcWeb),
            ("application/grpc-webs", Wire::Http),
            ("application/grpc-web-", Wire::Http),
            ("application/grpc-web-text", Wire::GrpcWebText),
            ("Application/gRPC-Web-Text+proto", Wire::GrpcWebText),
            ("application/grpc-web-texts", Wire::Http),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(Wire::of(&headers), wire, "{content_type}");
        }
        assert_eq!(Wire::of(&HeaderMap::new()), Wire::Http);
    }
}
