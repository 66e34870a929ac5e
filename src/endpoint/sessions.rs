//! `GET /sessions`, `DELETE /sessions`, `DELETE /sessions/{id}` and `POST /logout`: what a user does with their own sessions.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{
    browser,
    error::EndpointError,
    for_method,
    issuer::{Issuer, failed},
    private, private_json, told,
};
use crate::{
    audit,
    clock::UnixSeconds,
    ident::{SessionId, UserId},
    jwt::{NoClaims, Verified},
    rejection::{Answers, Rejection, Wire},
    session::SessionRecord,
    store::within,
};

/// Service for a user's own sessions, behind a layer that verifies their token.
///
/// | request | answer |
/// |---|---|
/// | `GET …/sessions` | 200 with `{"sessions": […]}`, the last used first, 1,000 at the most |
/// | `DELETE …/sessions` | 204: all of them are over, this one included |
/// | `DELETE …/sessions?except=current` | 204: all but this one |
/// | `DELETE …/sessions/{id}` | 204; 404 if the user has no such session |
/// | `POST …/logout` | 204: this one is over |
///
/// When one is over, neither its refresh token nor any access token that it was given opens anything; cookies of this one that come
/// with the request are cleared. The caller must be a
/// user of this server; another's token, or a client's own, is answered 403. Bodies are not read.
#[derive(Clone)]
pub struct SessionsEndpoint {
    issuer: Arc<Issuer>,
    answers: Answers,
}

/// A session as its owner may see it.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    device: &'a str,
    network: &'a str,
    client_id: &'a str,
    scope: String,
    created_at: UnixSeconds,
    last_used_at: UnixSeconds,
    expires_at: UnixSeconds,
    current: bool,
}

impl SessionsEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>, answers: Answers) -> Self {
        Self { issuer, answers }
    }

    /// `headers` are those of the request.
    async fn answer(
        &self,
        asked: Asked,
        caller: &Verified,
        headers: &HeaderMap,
    ) -> Result<Response<Full<Bytes>>, EndpointError> {
        let down = |error| failed("session store", &error);
        let own = caller.principal();
        let (subject, current) = (own.subject(), own.session_id().and_then(SessionId::parse));
        let ended = match asked {
            Asked::List => return self.list(subject, current).await,
            Asked::LogOut => self.issuer.log_out(caller.clone()).await.map(|()| true),
            Asked::EndAll => {
                self.issuer.end_sessions_of(subject.to_owned(), None, "signed out everywhere").await.map(|_| true)
            }
            Asked::EndOthers if current.is_none() => Ok(false),
            Asked::EndOthers => {
                self.issuer.end_sessions_of(subject.to_owned(), current, "signed out elsewhere").await.map(|_| true)
            }
            Asked::End(Some(id)) => self.issuer.end_session_of(Some(subject.to_owned()), id, "ended by its user").await,
            Asked::End(None) => Ok(false),
        };
        if !ended.map_err(down)? {
            audit::not_theirs(own.who(), "no such session");
            return Ok(not_found());
        }
        let mut answer = private(StatusCode::NO_CONTENT, Bytes::new());
        let this_one = match asked {
            Asked::LogOut | Asked::EndAll => true,
            Asked::End(id) => id == current,
            Asked::List | Asked::EndOthers => false,
        };
        // They open nothing any more, and no script can delete them.
        if this_one && self.issuer.cookies.is_some() && browser::carries(headers, current) {
            browser::clear(answer.headers_mut());
        }
        Ok(answer)
    }

    async fn list(&self, subject: &str, current: Option<SessionId>) -> Result<Response<Full<Bytes>>, EndpointError> {
        let sessions = match &self.issuer.sessions {
            Some(sessions) => within(sessions.store.sessions(subject, self.issuer.clock.now())).await,
            None => Ok(Vec::new()),
        };
        let sessions = sessions.map_err(|error| failed("session store", &error))?;
        let show = |session: &SessionRecord| {
            serde_json::to_value(Shown {
                id: session.id.to_string(),
                device: &session.label,
                network: &session.network,
                client_id: &session.client_id,
                scope: session.scope.to_string(),
                created_at: session.auth_time,
                last_used_at: session.last_used,
                expires_at: session.expires_at,
                current: Some(session.id) == current,
            })
        };
        let shown = sessions.iter().map(show).collect::<Result<Vec<_>, _>>();
        let shown = shown.map_err(|error| failed("list of sessions", &error))?;
        Ok(private_json(StatusCode::OK, serde_json::json!({ "sessions": shown }).to_string()))
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    List,
    EndAll,
    EndOthers,
    /// A session, or a text that is the name of none.
    End(Option<SessionId>),
    LogOut,
}

impl Asked {
    /// Told by the method, the end of the path and the query, so that the service works wherever it is mounted.
    fn of(method: &Method, path: &str, query: Option<&str>) -> Result<Self, EndpointError> {
        let segments: Vec<&str> = path.rsplit('/').take(2).collect();
        let all = |allow| EndpointError::MethodNotAllowed { allow };
        match (segments.as_slice(), method, query) {
            // First, so that an empty or an odd name of one never means all.
            ([id, "sessions"], &Method::DELETE, _) => Ok(Self::End(SessionId::parse(id))),
            ([_, "sessions"], ..) => Err(all("DELETE")),
            (["logout", ..], &Method::POST, _) => Ok(Self::LogOut),
            (["logout", ..], ..) => Err(all("POST")),
            (["sessions", ..], &Method::GET | &Method::HEAD, _) => Ok(Self::List),
            (["sessions", ..], &Method::DELETE, None) => Ok(Self::EndAll),
            (["sessions", ..], &Method::DELETE, Some("except=current")) => Ok(Self::EndOthers),
            // Rather than to end more than was meant.
            (["sessions", ..], &Method::DELETE, Some(_)) => {
                Err(EndpointError::InvalidRequest("the query is not `except=current`"))
            }
            (["sessions", ..], ..) => Err(all("GET, HEAD, DELETE")),
            _ => Ok(Self::End(None)),
        }
    }
}

impl<B> Service<Request<B>> for SessionsEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (endpoint, method) = (self.clone(), request.method().clone());
        let wire = Wire::of(request.headers());
        let caller = Verified::<NoClaims>::of(request.extensions());
        let asked = Asked::of(request.method(), request.uri().path(), request.uri().query());
        let (parts, _) = request.into_parts();
        let answer = async move {
            let refuse = |rejection| {
                let who = caller.as_ref().map(|caller| caller.principal().who()).unwrap_or_default();
                endpoint.answers.refuse_caller(who, rejection, None, wire).map(Full::new)
            };
            let Some(caller) = &caller else { return refuse(Rejection::LayerMissing("JwtVerifyLayer")) };
            let user = caller.issuer() == endpoint.issuer.name && UserId::from_subject(caller.subject()).is_some();
            if !user {
                return refuse(Rejection::ClaimNotAllowed);
            }
            let answer = match asked {
                Ok(asked) => endpoint.answer(asked, caller, &parts.headers).await,
                Err(error) => Err(error),
            };
            told(answer)
        };
        answer.map(move |answer| Ok(for_method(&method, answer))).boxed()
    }
}

pub(super) fn not_found() -> Response<Full<Bytes>> {
    let body = r#"{"type":"about:blank","title":"Not Found","status":404}"#;
    let mut response = private(StatusCode::NOT_FOUND, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

impl fmt::Debug for SessionsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let id = SessionId::from_bytes([7; 16]);
        let item = format!("/sessions/{id}");
        let no = |allow| Err(EndpointError::MethodNotAllowed { allow });
        for (method, path, query, expected) in [
            (Method::GET, "/sessions", None, Ok(Asked::List)),
            (Method::GET, "/auth/sessions", None, Ok(Asked::List)),
            (Method::DELETE, "/auth/sessions/", None, Ok(Asked::End(None))),
            (Method::DELETE, "/sessions/sessions", None, Ok(Asked::End(None))),
            (Method::DELETE, "/sessions/logout", None, Ok(Asked::End(None))),
            (Method::DELETE, "/sessions", None, Ok(Asked::EndAll)),
            (Method::DELETE, "/sessions", Some("except=current"), Ok(Asked::EndOthers)),
            (
                Method::DELETE,
                "/sessions",
                Some("except="),
                Err(EndpointError::InvalidRequest("the query is not `except=current`")),
            ),
            (Method::DELETE, &item, None, Ok(Asked::End(Some(id)))),
            (Method::DELETE, "/sessions/x", None, Ok(Asked::End(None))),
            (Method::POST, "/sessions", None, no("GET, HEAD, DELETE")),
            (Method::GET, &item, None, no("DELETE")),
            (Method::POST, "/logout", None, Ok(Asked::LogOut)),
            (Method::GET, "/a/logout", None, no("POST")),
            (Method::DELETE, "/", None, Ok(Asked::End(None))),
        ] {
            assert_eq!(Asked::of(&method, path, query), expected, "{method} {path} {query:?}");
        }
    }
}
