//! The gate: one credential in, of a cookie or a header, or a refusal out.

use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{super::CsrfGuard, Source};
use crate::{
    audit::Preflights,
    caching,
    gate::{Finish, FinishFuture, GateBody, GateFuture, sealed},
    rejection::{Answers, Wire},
};

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Layer that applies [`CookieExtract`]; the [module docs](crate::browser) have an example.
///
/// Browsers send cookies with requests that other sites cause, so there is no such layer without a guard, which it asks itself:
///
/// ```
/// # let guard = portcullis::browser::CsrfGuard::builder().build()?;
/// let layer = portcullis::browser::CookieExtractLayer::new(guard);
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
///
/// ```compile_fail,E0061
/// # let guard = portcullis::browser::CsrfGuard::builder().build()?;
/// let layer = portcullis::browser::CookieExtractLayer::new();
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CookieExtractLayer {
    source: Source,
    optional: bool,
    answers: Answers,
    preflights: Preflights,
}

impl CookieExtractLayer {
    /// Reads the cookie alone, and refuses requests without it.
    pub fn new(guard: CsrfGuard) -> Self {
        Self::reading(Source::Cookie(guard))
    }

    /// Exactly [`BearerExtractLayer::required`](crate::bearer::BearerExtractLayer::required), for services that are of one type with
    /// cookies and without.
    #[cfg_attr(
        not(any(test, feature = "password")),
        expect(dead_code, reason = "the endpoints that need it come with passwords")
    )]
    pub(crate) fn header_alone() -> Self {
        Self::reading(Source::Header)
    }

    fn reading(source: Source) -> Self {
        Self { source, optional: false, answers: Answers::default(), preflights: Preflights::default() }
    }

    /// Takes the `Authorization` field of requests that come without the cookie: for an API of pages and of programs. The guard is
    /// not asked of those, because no browser adds that field by itself.
    pub fn or_bearer(self) -> Self {
        let source = match self.source {
            Source::Cookie(guard) | Source::Either(guard) => Source::Either(guard),
            Source::Header => Source::Header,
        };
        Self { source, ..self }
    }

    /// Lets requests without a credential pass, as [`Credential::Absent`](crate::bearer::Credential::Absent). A bad credential, or
    /// the cookie in a request that the guard refuses, is refused all the same.
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Whether it reads the cookie, and whether the header.
    #[cfg(feature = "openapi")]
    pub(crate) const fn reads(&self) -> (bool, bool) {
        match self.source {
            Source::Cookie(_) => (true, false),
            Source::Either(_) => (true, true),
            Source::Header => (false, true),
        }
    }

    /// Whether requests without a credential pass.
    #[cfg(feature = "openapi")]
    pub(crate) const fn is_optional(&self) -> bool {
        self.optional
    }

    /// Sets the realm of the challenges: `api` unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }
}

impl<S> Layer<S> for CookieExtractLayer {
    type Service = CookieExtract<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CookieExtract { inner, layer: self.clone() }
    }
}

/// Middleware that reads the credential of a cookie; the [module docs](crate::browser) have an example.
#[derive(Clone, Debug)]
pub struct CookieExtract<S> {
    inner: S,
    layer: CookieExtractLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CookieExtract<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = FinishFuture<GateFuture<S::Future>, CookieFinish>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let CookieExtractLayer { source, optional, answers, preflights } = &self.layer;
        preflights.look(request.method(), request.headers());
        let varies = !matches!(source, Source::Header);
        let (credential, is_private) = source.read(&request, *optional);
        let future = match credential {
            Ok(credential) => {
                request.extensions_mut().insert(credential);
                GateFuture::forwarded(self.inner.call(request))
            }
            Err(rejection) => {
                GateFuture::refused(request.method(), answers.refuse(rejection, None, Wire::of(request.headers())))
            }
        };
        FinishFuture::new(future, CookieFinish { varies, is_private })
    }
}

/// What [`CookieExtract`] adds to an answer: `Vary: Cookie`; `Cache-Control: no-store` and `Cross-Origin-Resource-Policy: same-origin`
/// where a cookie was the credential and the handler says nothing of the kind itself.
#[derive(Clone, Copy, Debug)]
pub struct CookieFinish {
    varies: bool,
    is_private: bool,
}

impl sealed::Sealed for CookieFinish {}

impl Finish for CookieFinish {
    fn finish(self, headers: &mut HeaderMap) {
        if self.varies {
            caching::vary(headers, &HeaderValue::from_static("Cookie"));
        }
        if self.is_private {
            caching::keep_private(headers);
            // Nor may a page of another origin show it, as an image say, which asks no CORS (Fetch, "cross-origin resource policy").
            headers.entry(RESOURCE_POLICY).or_insert(HeaderValue::from_static("same-origin"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt as _;
    use http::header::{AUTHORIZATION, COOKIE};
    use tower::service_fn;

    use super::{super::super::ACCESS_COOKIE, *};
    use crate::bearer::{BearerExtractLayer, Credential};

    #[test]
    fn without_cookies_it_is_what_reads_the_header() {
        let inner = || {
            service_fn(|request: Request<()>| {
                let Some(Credential::Bearer(token)) = request.extensions().get() else { panic!("no token") };
                let seen = HeaderValue::from_bytes(token.as_bytes()).unwrap();
                std::future::ready(Ok::<_, Infallible>(Response::builder().header("seen", seen).body(()).unwrap()))
            })
        };
        let answers = Answers::for_realm("test").unwrap();
        let cookie = format!("{ACCESS_COOKIE}=abc");
        for fields in [
            &[][..],
            &[(COOKIE, cookie.as_str())],
            &[(AUTHORIZATION, "Bearer abc")],
            &[(AUTHORIZATION, "Bearer abc"), (COOKIE, &cookie)],
            &[(AUTHORIZATION, "Bearer a b")],
            &[(AUTHORIZATION, "Basic YTpi")],
            &[(AUTHORIZATION, "Bearer abc"), (AUTHORIZATION, "Bearer abc")],
        ] {
            let request = || {
                let new = Request::post("/").header("sec-fetch-site", "cross-site");
                fields.iter().fold(new, |request, (name, value)| request.header(name, *value)).body(()).unwrap()
            };
            let ours =
                CookieExtractLayer::header_alone().or_bearer().answers(answers.clone()).layer(inner()).call(request());
            let theirs = BearerExtractLayer::required().answers(answers.clone()).layer(inner()).call(request());
            let (ours, theirs) = (ours.now_or_never().unwrap().unwrap(), theirs.now_or_never().unwrap().unwrap());
            assert_eq!((ours.status(), ours.headers()), (theirs.status(), theirs.headers()), "{fields:?}");
        }
    }
}
