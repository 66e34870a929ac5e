//! What a FastAPI service that was written after its security tutorial answers. Pure.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use super::{Needs, field};
use crate::rejection::{BearerError, Challenge, Rejection};

/// The challenge of a bare scheme. RFC 6750 §3 asks for a parameter at least; clients of that service have never seen one.
pub(crate) const BEARER: &str = "Bearer";

/// What becomes of the challenge.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Asks {
    Nothing,
    /// The scheme alone.
    Bearer,
    /// The scheme, and all scopes that are needed, as far as they are known.
    Scopes,
    /// Whatever it is otherwise: the tutorial has no such case.
    AsEver,
}

/// Status, challenge, and words. As the tutorial's chapters say where they have the case, and otherwise as it would be, in the
/// form that FastAPI gives to every error.
pub(super) fn answer(rejection: Rejection) -> (StatusCode, Asks, &'static str) {
    let verdict = rejection.verdict();
    let (status, phrase) = (verdict.status, verdict.status.canonical_reason().unwrap_or_default());
    match (verdict.challenge, rejection) {
        // "Simple OAuth2": `get_current_active_user`.
        (_, Rejection::UserInactive) => (StatusCode::BAD_REQUEST, Asks::Nothing, "Inactive user"),
        // `OAuth2PasswordBearer` itself.
        (Challenge::Plain, _) if status == StatusCode::UNAUTHORIZED => (status, Asks::Bearer, "Not authenticated"),
        // "OAuth2 with JWT", "OAuth2 scopes": `credentials_exception`. There, what is no token is a bad one.
        (Challenge::Error(BearerError::InvalidToken | BearerError::InvalidRequest), _) => {
            (StatusCode::UNAUTHORIZED, Asks::Scopes, "Could not validate credentials")
        }
        // "OAuth2 scopes": `get_current_user`.
        (Challenge::Error(BearerError::InsufficientScope), _) => {
            (StatusCode::UNAUTHORIZED, Asks::Scopes, "Not enough permissions")
        }
        (Challenge::Error(error @ BearerError::InsufficientUserAuthentication), _) => {
            (status, Asks::AsEver, error.description())
        }
        (Challenge::Plain | Challenge::Silent, _) => (status, Asks::Nothing, phrase),
    }
}

/// `Bearer scope="me items"`.
pub(super) fn scopes(needs: Option<Needs<'_>>) -> Option<HeaderValue> {
    match needs? {
        Needs::Scopes(scopes) if !scopes.is_empty() => Some(field(&format!("{BEARER} scope=\"{scopes}\""))),
        Needs::Scopes(_) | Needs::Authentication { .. } => None,
    }
}

/// An error as FastAPI writes it. `detail` is ours, and needs no escapes.
pub(crate) fn detail(status: StatusCode, detail: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!(r#"{{"detail":"{detail}"}}"#)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UnixSeconds, rejection::AnswerStyle, rejection::Answers, rejection::Wire, throttle::Limit};

    #[test]
    fn the_tutorials_cases_and_the_others() {
        use Rejection as R;
        const BAD: (u16, Asks, &str) = (401, Asks::Scopes, "Could not validate credentials");
        const NONE: (u16, Asks, &str) = (401, Asks::Bearer, "Not authenticated");
        let at = UnixSeconds::new(1);
        for (rejection, expected) in [
            (R::NoCredential, NONE),
            (R::OtherScheme, NONE),
            (R::MalformedCredential, BAD),
            (R::RepeatedCredential, BAD),
            (R::TokenTooLong { bytes: 2, most: 1 }, BAD),
            (R::BadSignature, BAD),
            (R::WrongAudience, BAD),
            (R::Expired { exp: at, now: at }, BAD),
            (R::Revoked, BAD),
            (R::UserInactive, (400, Asks::Nothing, "Inactive user")),
            (R::UserGone, (401, Asks::Scopes, "Could not validate credentials")),
            (R::InsufficientScope, (401, Asks::Scopes, "Not enough permissions")),
            (R::PolicyDenied, (403, Asks::Nothing, "Forbidden")),
            (R::ClaimNotAllowed, (403, Asks::Nothing, "Forbidden")),
            (R::CrossSite("x"), (403, Asks::Nothing, "Forbidden")),
            (R::Plaintext, (403, Asks::Nothing, "Forbidden")),
            (R::LoginUnreadable, (400, Asks::Nothing, "Bad Request")),
            (R::TooManyAttempts { limit: Limit::Address, seconds: 3 }, (429, Asks::Nothing, "Too Many Requests")),
            (R::KeysUnavailable, (503, Asks::Nothing, "Service Unavailable")),
            (R::NoDecision, (500, Asks::Nothing, "Internal Server Error")),
            (R::InsufficientAuthentication, (401, Asks::AsEver, "a newer or stronger authentication is needed")),
        ] {
            let (status, asks, words) = answer(rejection);
            assert_eq!((status.as_u16(), asks, words), expected, "{rejection:?}");
        }
    }

    #[test]
    fn grpc_is_as_ever() {
        let (ever, style) = (Answers::default(), Answers::default().style(AnswerStyle::FastApi));
        for wire in [Wire::Grpc, Wire::GrpcWeb, Wire::GrpcWebText] {
            for rejection in [Rejection::NoCredential, Rejection::InsufficientScope, Rejection::UserInactive] {
                let needs = "me items".parse().unwrap();
                let told = |answers: &Answers| format!("{:?}", answers.refuse(rejection, Some(&needs), wire));
                assert_eq!(told(&style), told(&ever), "{wire:?} {rejection:?}");
            }
        }
    }

    #[test]
    fn what_is_demanded_is_in_the_challenge_as_far_as_it_is_known() {
        let challenge = |answers: &Answers, rejection, needs: Option<&str>| {
            let needs = needs.map(|needs| needs.parse().unwrap());
            let response = answers.refuse(rejection, needs.as_ref(), Wire::Http);
            response.headers()["www-authenticate"].to_str().unwrap().to_owned()
        };
        let style = Answers::for_realm("orders").unwrap().style(AnswerStyle::FastApi);
        let route = style.demanding(&"me items".parse().unwrap());
        for (answers, rejection, needs, expected) in [
            (&style, Rejection::NoCredential, None, "Bearer"),
            (&style, Rejection::BadSignature, None, "Bearer"),
            (&style, Rejection::InsufficientScope, None, "Bearer"),
            (&style, Rejection::InsufficientScope, Some("me items"), "Bearer scope=\"me items\""),
            (&route, Rejection::BadSignature, None, "Bearer scope=\"me items\""),
            (&route, Rejection::InsufficientScope, Some("me items admin"), "Bearer scope=\"me items admin\""),
            (&route, Rejection::NoCredential, None, "Bearer"),
            (&style.demanding(&"".parse().unwrap()), Rejection::BadSignature, None, "Bearer"),
        ] {
            assert_eq!(challenge(answers, rejection, needs), expected, "{rejection:?}");
        }
        let ever = Answers::for_realm("orders").unwrap();
        let text = challenge(&ever, Rejection::BadSignature, None);
        for same in [
            ever.demanding(&"me items".parse().unwrap()),
            ever.clone().style(AnswerStyle::FastApi).style(AnswerStyle::Standard),
            route.style(AnswerStyle::Standard),
        ] {
            assert_eq!(challenge(&same, Rejection::BadSignature, None), text);
        }
        let step_up = style.refuse(Rejection::InsufficientAuthentication, None, Wire::Http);
        let ever = ever.refuse(Rejection::InsufficientAuthentication, None, Wire::Http);
        assert_eq!(step_up.headers()["www-authenticate"], ever.headers()["www-authenticate"]);
    }
}
