//! `POST /register` and `POST /password`: what both ask of a password, and how both refuse.

mod password;
mod register;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;

pub use self::{
    password::PasswordEndpoint,
    register::{RegisterEndpoint, Registration},
};
use super::{
    error::EndpointError,
    for_method,
    issuer::{Issuer, failed},
    private_json, told,
};
use crate::{
    audit,
    form::Form,
    ident::{LoginName, LoginNameError},
    login,
    password::{Breaches, HashError, PasswordContext, PasswordPolicy, PasswordRefusal, PasswordRefusals},
    rejection::{Answers, Rejection, Wire},
    secret::Secret,
};

type Answer = Result<Response<Full<Bytes>>, EndpointError>;

/// How new users and new passwords are dealt with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) policy: PasswordPolicy,
    pub(crate) breaches: Option<Breaches>,
    /// `None` if nobody may register.
    pub(crate) registration: Option<Registration>,
}

impl Accounts {
    /// Whether somebody may choose this password, the list of known ones included.
    pub(crate) async fn check(&self, name: &LoginName, password: &Secret<String>) -> Result<(), PasswordRefusals> {
        self.policy.check(password, &PasswordContext::from(name))?;
        self.compare(password).await
    }

    async fn compare(&self, password: &Secret<String>) -> Result<(), PasswordRefusals> {
        match &self.breaches {
            Some(breaches) => breaches.reason(password).await.map_or(Ok(()), |reason| Err(reason.into())),
            None => Ok(()),
        }
    }
}

/// Why something is not done: because of the request, or because of who asks.
enum NotForThem {
    Request(EndpointError),
    Caller(Rejection),
}

impl<E: Into<EndpointError>> From<E> for NotForThem {
    fn from(error: E) -> Self {
        Self::Request(error.into())
    }
}

/// The form of a `POST`.
async fn posted<B>(request: Request<B>) -> Result<Form, EndpointError>
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Err(EndpointError::MethodNotAllowed { allow: "POST" });
    }
    Ok(Form::read(&parts.headers, body).await?)
}

impl Issuer {
    /// The answer, or the refusal in the words of whoever refuses.
    async fn answer(
        &self,
        answer: Result<Response<Full<Bytes>>, NotForThem>,
        answers: &Answers,
        who: audit::Who,
        wire: Wire,
    ) -> Response<Full<Bytes>> {
        match answer {
            Ok(response) => response,
            Err(NotForThem::Request(error)) => told(Err(error)),
            Err(NotForThem::Caller(rejection)) => {
                login::refuse(self.limiter.as_ref(), answers, (who, rejection), wire).await.map(Full::new)
            }
        }
    }
}

/// What a list said against a password. One that had to answer and did not is an outage, and makes no password a bad one.
fn known(refusals: &PasswordRefusals) -> (&'static str, Answer) {
    if refusals.iter().any(|reason| reason == PasswordRefusal::NotCompared) {
        let retry_after = crate::rejection::RETRY_SECONDS;
        ("password could not be compared", Err(EndpointError::Unavailable { retry_after }))
    } else {
        ("password known", Ok(refused(None, Some(refusals))))
    }
}

/// What is answered if a password could not be hashed. `refuse` tells why it is not done, where nothing is broken.
fn hasher_failed(error: HashError, refuse: impl FnOnce(&'static str)) -> EndpointError {
    match error {
        HashError::Overloaded => {
            refuse("too many passwords are being hashed");
            // As after a login: a queue of 64 is worked off in about a second.
            EndpointError::Unavailable { retry_after: 1 }
        }
        _ => failed("password hasher", &error),
    }
}

/// A refusal that says all that is wrong. Its texts are ours.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
    error_description: &'static str,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reason {
    Password(PasswordRefusal),
    Name { code: &'static str, message: String },
}

fn refusal(status: StatusCode, error_description: &'static str, reasons: Vec<Reason>) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(&Refusal { error: "invalid_request", error_description, reasons });
    match body {
        Ok(body) => private_json(status, body),
        Err(error) => failed("refusal", &error).response(),
    }
}

fn refused(name: Option<LoginNameError>, password: Option<&PasswordRefusals>) -> Response<Full<Bytes>> {
    let name = name.map(|error| Reason::Name { code: error.code(), message: error.to_string() });
    let password = password.into_iter().flat_map(PasswordRefusals::iter).map(Reason::Password);
    let reasons = name.into_iter().chain(password).collect();
    refusal(StatusCode::BAD_REQUEST, "the name or the password cannot be used", reasons)
}
