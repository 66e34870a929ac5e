//! tonic's door: the caller in a handler, refusals as [`Status`], and layers around a single service.
//!
//! Layers stand on the server, around one service, or both. What is further in sees what is further out has found:
//!
//! ```
//! use ::tonic::{Request, Response, Status};
//! use portcullis::{principal::{ScopeName, Scoped}, tonic::CallerExt};
//!
//! struct Export;
//! impl ScopeName for Export {
//!     const SCOPE: &'static str = "reports:export";
//! }
//!
//! async fn whoami(request: Request<()>) -> Result<Response<String>, Status> {
//!     let caller = request.caller()?;
//!     Ok(Response::new(caller.subject().to_owned()))
//! }
//!
//! async fn export(request: Request<()>) -> Result<Response<String>, Status> {
//!     let caller: Scoped<Export> = request.scoped()?;
//!     Ok(Response::new(format!("reports of {}", caller.subject())))
//! }
//! ```
//!
//! With a service from `tonic-build`, here `Reports`, and one that everybody may call, here `Health`:
//!
//! ```
//! # use std::{convert::Infallible, future::{Ready, ready}, task::{Context, Poll}};
//! # use ::tonic::{body::Body, codegen::{http, Service}, server::NamedService};
//! # use ::tonic::transport::server::Router;
//! # use portcullis::{ResourceServer, config::ConfigErrors};
//! use ::tonic::transport::Server;
//! use portcullis::authz::{DenyUndecidedLayer, Public, Scopes};
//! use tower::{Layer, ServiceBuilder};
//! # #[derive(Clone)]
//! # struct Reports;
//! # #[derive(Clone)]
//! # struct Health;
//! # impl NamedService for Reports { const NAME: &'static str = "acme.Reports"; }
//! # impl NamedService for Health { const NAME: &'static str = "acme.Health"; }
//! # macro_rules! serve { ($($name:ident)+) => {$(
//! # impl Service<http::Request<Body>> for $name {
//! #     type Response = http::Response<Body>;
//! #     type Error = Infallible;
//! #     type Future = Ready<Result<http::Response<Body>, Infallible>>;
//! #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
//! #     fn call(&mut self, _: http::Request<Body>) -> Self::Future { ready(Ok(http::Response::new(Body::empty()))) }
//! # })+} }
//! # serve!(Reports Health);
//!
//! # fn server(api: &ResourceServer) -> Result<Server, ConfigErrors> {
//! let last = DenyUndecidedLayer;
//! let reports = api.protect(Scopes::all_of(["reports"])?).layer(last.layer(Reports));
//! let health = Public.layer(last.layer(Health));
//! # let mut server = Server::builder();
//! # let _:
//! #     Router =
//! server.add_service(reports).add_service(health);
//! # Ok(server)
//! # }
//! ```
//!
//! A layer that is missing is `INTERNAL`, and an event says which; never an empty value.

use std::sync::Arc;

use ::tonic::{Request, Status, metadata::MetadataMap, server::NamedService};
use http::{Extensions, header::CONTENT_TYPE};

use crate::{
    authz::{CurrentUser, DenyUndecided, MarkPublic},
    bearer::BearerExtract,
    browser::{CookieExtract, Csrf},
    client_ip::ResolveClientIp,
    cors::CorsStrict,
    gate::Gated,
    jwt::{CustomClaims, Verified},
    principal::{self, Principal, ScopeName, Scoped},
    rejection::{Answers, Needs, Rejection, Wire},
    scope::ScopeSet,
    transport::{Hsts, RequireHttps, SecureHeaders},
};

/// For handlers that refuse by themselves, with the realm `api`: the code and the message that layers answer with, the challenge
/// as metadata `www-authenticate`, the reason as the status's source, and one audit event that says why. For another realm, see
/// [`Answers::grpc_status`].
impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        Answers::default().grpc_status(rejection, None)
    }
}

impl Answers {
    /// The status that refuses a call, and one audit event that says why: as [`refuse`](Self::refuse), for handlers of tonic.
    /// [`Principal::answers`] has the realm of the layer that let the caller in.
    ///
    /// ```
    /// use ::tonic::{Code, Request, Response, Status};
    /// use portcullis::{principal::Principal, rejection::{Answers, Rejection}, tonic::CallerExt};
    ///
    /// async fn close(request: Request<()>) -> Result<Response<()>, Status> {
    ///     let caller = request.caller()?;
    ///     if caller.subject() != "user:7" {
    ///         return Err(caller.answers().grpc_status(Rejection::PolicyDenied, None));
    ///     }
    ///     Ok(Response::new(()))
    /// }
    ///
    /// let status = Answers::for_realm("orders")?.grpc_status(Rejection::Revoked, None);
    /// assert_eq!(status.code(), Code::Unauthenticated);
    /// let challenge = status.metadata().get("www-authenticate").ok_or("none")?.to_str()?;
    /// assert!(challenge.starts_with("Bearer realm=\"orders\", error=\"invalid_token\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grpc_status(&self, rejection: Rejection, scopes: Option<&ScopeSet>) -> Status {
        status(self, None, rejection, scopes)
    }
}

/// The trailers-only answer of a layer, taken apart again: one place says what an answer is made of.
fn status(answers: &Answers, caller: Option<&Principal>, rejection: Rejection, scopes: Option<&ScopeSet>) -> Status {
    let who = caller.map(Principal::who).unwrap_or_default();
    let needs = scopes.map(Needs::Scopes);
    let (mut answer, _) = answers.with_grpc().refuse_caller(who, rejection, needs, Wire::Grpc).into_parts();
    answer.headers.remove(CONTENT_TYPE);
    // A refusal over gRPC has a code.
    let mut status = Status::from_header_map(&answer.headers)
        .unwrap_or_else(|| Status::with_metadata(::tonic::Code::Internal, "", MetadataMap::new()));
    status.set_source(Arc::new(rejection));
    status
}

/// Who is calling, in a handler of tonic.
///
/// Without the layer that finds it, each method refuses with `INTERNAL`, and an event says which layer is missing. A stranger, whom
/// a layer let pass that lets strangers pass, is `UNAUTHENTICATED`.
pub trait CallerExt: sealed::Sealed {
    /// The caller.
    ///
    /// # Errors
    ///
    /// The [`Status`] to answer with, if there is none.
    fn caller(&self) -> Result<Principal, Status>;

    /// The caller, or `None` of a stranger, inside a layer that lets strangers pass.
    ///
    /// # Errors
    ///
    /// The [`Status`] to answer with, if no layer looked for one.
    fn optional_caller(&self) -> Result<Option<Principal>, Status>;

    /// The caller, who was granted the scope that `N` stands for.
    ///
    /// # Errors
    ///
    /// The [`Status`] to answer with, if there is none: `PERMISSION_DENIED` where the scope is missing, with a challenge that names
    /// it and those that layers demanded.
    fn scoped<N: ScopeName>(&self) -> Result<Scoped<N>, Status>;

    /// The user who is calling, inside [`CurrentUserLayer`](crate::authz::CurrentUserLayer).
    ///
    /// # Errors
    ///
    /// The [`Status`] to answer with, if there is none.
    fn current_user(&self) -> Result<CurrentUser, Status>;

    /// The proof that the token is good, with claims of the type that the verifying layer reads.
    ///
    /// # Errors
    ///
    /// The [`Status`] to answer with, if there is none: `INTERNAL` where the layer reads another type.
    fn verified<C: CustomClaims>(&self) -> Result<Verified<C>, Status>;
}

mod sealed {
    /// Requests alone have callers.
    pub trait Sealed {}
}

impl<T> sealed::Sealed for Request<T> {}

impl<T> CallerExt for Request<T> {
    fn caller(&self) -> Result<Principal, Status> {
        caller(self.extensions())
    }

    fn optional_caller(&self) -> Result<Option<Principal>, Status> {
        if principal::is_nobody(self.extensions()) { Ok(None) } else { self.caller().map(Some) }
    }

    fn scoped<N: ScopeName>(&self) -> Result<Scoped<N>, Status> {
        let caller = caller(self.extensions())?;
        Scoped::of(caller.clone()).ok_or_else(|| {
            let needed = Scoped::<N>::needed(&caller);
            status(&caller.answers(), Some(&caller), Rejection::InsufficientScope, Some(&needed))
        })
    }

    fn current_user(&self) -> Result<CurrentUser, Status> {
        let user = self.extensions().get().cloned();
        user.ok_or_else(|| absent(self.extensions(), Rejection::LayerMissing("CurrentUserLayer")))
    }

    fn verified<C: CustomClaims>(&self) -> Result<Verified<C>, Status> {
        // Where the layers are there and let the caller pass, they read another type of claims.
        Verified::of(self.extensions()).ok_or_else(|| absent(self.extensions(), Rejection::OtherClaims))
    }
}

fn caller(extensions: &Extensions) -> Result<Principal, Status> {
    extensions.get::<Principal>().cloned().ok_or_else(|| absent(extensions, Rejection::NoCredential))
}

/// Refuses the caller for this reason; a stranger, because there is none.
fn absent(extensions: &Extensions, rejection: Rejection) -> Status {
    let (caller, rejection) = (extensions.get::<Principal>(), principal::reason(extensions, rejection));
    status(&principal::answers(extensions), caller, rejection, None)
}

/// Layers leave a service's name as it is, so that `add_service` takes them around one.
macro_rules! keep_the_name {
    ($($middleware:ident $(<$more:ident>)?),* $(,)?) => {$(
        impl<S: NamedService $(, $more)?> NamedService for $middleware<S $(, $more)?> {
            const NAME: &'static str = S::NAME;
        }
    )*};
}
keep_the_name!(
    BearerExtract,
    CookieExtract,
    CorsStrict,
    Csrf,
    DenyUndecided,
    Gated<G>,
    Hsts,
    MarkPublic,
    RequireHttps,
    ResolveClientIp,
    SecureHeaders,
);
