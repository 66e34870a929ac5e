//! What the token endpoint answers where the style is that of FastAPI's security tutorial, as far as the tutorial has an answer.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

#[cfg(feature = "password")]
pub(super) use self::login::{incorrect, missing, of_login};
use crate::rejection::detail;

/// An answer that has no case of its own, in the form of all: `response` but for its body.
pub(super) fn plain(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let status = response.status();
    let body = detail(status, status.canonical_reason().unwrap_or_default()).into_body();
    response.map(|_| Full::new(body))
}

#[cfg(feature = "password")]
mod login {
    use bytes::Bytes;
    use http::{HeaderValue, Response, StatusCode, header::WWW_AUTHENTICATE};
    use http_body_util::Full;

    use crate::{
        endpoint::{error::EndpointError, private_json},
        form::Form,
        rejection::{BEARER, detail},
    };

    /// A login that was refused, in the tutorial's terms. Anything else stays as it is.
    pub(in crate::endpoint) fn of_login(error: EndpointError, form: &Form) -> EndpointError {
        let (username, password) = (form.get("username").is_some(), form.get("password").is_some());
        match error {
            EndpointError::InvalidGrant => EndpointError::IncorrectLogin,
            EndpointError::InvalidRequest(_) if !(username && password) => {
                EndpointError::LoginMissing { username, password }
            }
            other => other,
        }
    }

    /// One answer to all logins that fail, as in the chapter about JWTs.
    pub(in crate::endpoint) fn incorrect() -> Response<Full<Bytes>> {
        let body = detail(StatusCode::UNAUTHORIZED, "Incorrect username or password").into_body();
        let mut response = private_json(StatusCode::UNAUTHORIZED, body);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(BEARER));
        response
    }

    /// What `OAuth2PasswordRequestForm` says of fields that it needs: which are missing, and nothing of what is in the others.
    pub(in crate::endpoint) fn missing(username: bool, password: bool) -> Response<Full<Bytes>> {
        let field =
            |name: &str| format!(r#"{{"type":"missing","loc":["body","{name}"],"msg":"Field required","input":null}}"#);
        let missing = [("username", username), ("password", password)].into_iter().filter(|(_, there)| !there);
        let fields: Vec<String> = missing.map(|(name, _)| field(name)).collect();
        private_json(StatusCode::UNPROCESSABLE_ENTITY, format!(r#"{{"detail":[{}]}}"#, fields.join(",")))
    }
}
