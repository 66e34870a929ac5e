//! One declaration for both: the layer around a route, and what its document says of it.

use std::{
    any::Any,
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{
    extract::Request,
    response::IntoResponse,
    routing::{MethodRouter, Route},
};
use tower_layer::Layer;
use tower_service::Service;
use utoipa::openapi::{Components, ObjectBuilder, RefOr, Schema, SecurityRequirement, path::Paths};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    demands::{BEARER, COOKIE, Cause, Demands},
    operation::{self, DETAIL, MARK, PROBLEM},
};
#[cfg(feature = "password")]
use crate::authorization_server::ProtectUsersLayer;
use crate::{
    authz::{
        AuthorizeLayer, Claim, CurrentUserLayer, IssuedBy, Policy, Public, RequireScopesLayer, Scopes, SignedIn, StepUp,
    },
    config::ConfigErrors,
    jwt::CustomClaims,
    resource_server::{AuthenticateLayer, CookieAuthenticateLayer, ProtectLayer, ResourceServer},
};

/// A layer that says what it demands of callers, for [`OpenApiRouterExt::declare`].
///
/// ```
/// use axum::routing::Route;
/// use portcullis::{openapi::{Declares, Demands}, jwt::CustomClaims, AuthenticateLayer};
/// use tower_layer::Layer;
///
/// /// A layer of one's own around one of ours.
/// #[derive(Clone)]
/// struct Counted<L>(L);
///
/// impl<L: Declares> Declares for Counted<L> {
///     fn demands(&self) -> Demands {
///         self.0.demands()
///     }
/// }
/// ```
pub trait Declares {
    /// What it demands.
    fn demands(&self) -> Demands;
}

impl<C: CustomClaims> Declares for AuthenticateLayer<C> {
    fn demands(&self) -> Demands {
        Demands::credential(&[BEARER], self.is_optional()).answer_style(self.answer_style())
    }
}

impl<C: CustomClaims> Declares for CookieAuthenticateLayer<C> {
    fn demands(&self) -> Demands {
        let schemes: &[&str] = match self.reads() {
            (true, true) => &[COOKIE, BEARER],
            (true, false) => &[COOKIE],
            (false, _) => &[BEARER],
        };
        Demands::credential(schemes, self.is_optional()).answer_style(self.answer_style())
    }
}

impl<P: Policy> Declares for AuthorizeLayer<P> {
    fn demands(&self) -> Demands {
        let policy: &dyn Any = self.policy();
        let asks_nobody =
            policy.is::<SignedIn>() || policy.is::<Claim>() || policy.is::<StepUp>() || policy.is::<IssuedBy>();
        let causes: &[Cause] = match () {
            () if policy.is::<Scopes>() => &[Cause::Token, Cause::Scope],
            () if asks_nobody => &[Cause::Token, Cause::Policy],
            // Any other may say all that there is to say, or that it cannot tell.
            () => &[Cause::Token, Cause::Scope, Cause::Policy, Cause::User, Cause::Store],
        };
        Demands::refusing(self.policy().alternatives(), causes)
    }
}

impl<P: Policy, C: CustomClaims> Declares for ProtectLayer<P, C> {
    fn demands(&self) -> Demands {
        let (authenticate, authorize) = self.layers();
        authorize.demands().inside(authenticate.demands())
    }
}

#[cfg(feature = "password")]
impl<P: Policy> Declares for ProtectUsersLayer<P> {
    fn demands(&self) -> Demands {
        let (authenticate, users, authorize) = self.layers();
        authorize.demands().inside(users.demands()).inside(authenticate.demands())
    }
}

impl Declares for CurrentUserLayer {
    fn demands(&self) -> Demands {
        // Who is no user at all is forbidden, and the store may not answer.
        Demands::refusing(Vec::new(), &[Cause::Token, Cause::User, Cause::Policy, Cause::Store])
    }
}

impl Declares for Public {
    fn demands(&self) -> Demands {
        Demands::nothing()
    }
}

/// A layer that fits around axum's routes: what [`axum::Router::layer`] asks for.
pub trait RouteLayer: Layer<Route, Service: RouteService> + Clone + Send + Sync + 'static {}

impl<L> RouteLayer for L where L: Layer<Route, Service: RouteService> + Clone + Send + Sync + 'static {}

/// A service that axum can route to.
pub trait RouteService:
    Service<Request, Response: IntoResponse + 'static, Error: Into<Infallible> + 'static, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> RouteService for T where
    T: Service<Request, Response: IntoResponse + 'static, Error: Into<Infallible> + 'static, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What a route demands, said once: each method puts a layer around what is there so far, and writes into the document of it
/// what that layer demands and how it refuses.
///
/// For whole routers, and for single routes as `routes!` makes them. As with [`axum::Router::layer`], routes that are added
/// afterwards are outside, and the layer that is added last is outermost: [`authenticate`](Self::authenticate) comes last.
/// Scopes add up, alternatives multiply, and nothing that an operation said by itself is lost.
///
/// List no `paths(…)` in the document that `routes!` has as well, and nest no two routers where they share a path: `utoipa`
/// drops one of the operations, and with it what was declared. See the [guide](crate::guide::openapi); the last step of a
/// document refuses what it can see of that, by [`ConfigError::OperationLost`](crate::config::ConfigError::OperationLost).
///
/// ```
/// use portcullis::{ResourceServer, config::ConfigErrors, openapi::OpenApiRouterExt as _, principal::Principal};
/// use utoipa_axum::{router::OpenApiRouter, routes};
///
/// #[utoipa::path(get, path = "/users/me")]
/// async fn me(caller: Principal) -> String {
///     caller.subject().to_owned()
/// }
/// #[utoipa::path(get, path = "/users/me/items")]
/// async fn items() {}
/// #[utoipa::path(get, path = "/health")]
/// async fn health() {}
///
/// fn routes(api: &ResourceServer) -> Result<OpenApiRouter, ConfigErrors> {
///     let me = OpenApiRouter::new()
///         .routes(routes!(me))
///         .routes(routes!(items).require_scopes(["items"])?)
///         .require_scopes(["me"])?
///         .authenticate(api);
///     Ok(me.routes(routes!(health).public()))
/// }
/// # let key = portcullis::jwt::SigningKey::generate(portcullis::jwt::Algorithm::EdDsa)?.verifying_key();
/// # let policy = portcullis::jwt::ClaimsPolicy::builder("https://id.example", "orders").build()?;
/// # let routes = routes(&ResourceServer::new(policy, portcullis::jwt::KeySet::new([key])?))?.into_openapi();
/// # let security = |path: &str| serde_json::to_value(&routes.paths.paths[path].get.as_ref().unwrap().security).unwrap();
/// assert_eq!(security("/users/me/items"), serde_json::json!([{ "bearer": ["items", "me"] }]));
/// assert_eq!(security("/health"), serde_json::json!([]));
/// # Ok::<(), ConfigErrors>(())
/// ```
pub trait OpenApiRouterExt: Sized {
    /// Puts any layer around it that says what it demands.
    #[must_use]
    fn declare<L: Declares + RouteLayer>(self, layer: L) -> Self;

    /// Demands every one of `scopes`.
    ///
    /// # Errors
    ///
    /// As [`RequireScopesLayer::all_of`].
    fn require_scopes<N: AsRef<str>>(self, scopes: impl IntoIterator<Item = N>) -> Result<Self, ConfigErrors> {
        Ok(self.declare(RequireScopesLayer::all_of(scopes)?))
    }

    /// Demands one of `scopes`.
    ///
    /// # Errors
    ///
    /// As [`RequireScopesLayer::any_of`].
    fn require_any_scope<N: AsRef<str>>(self, scopes: impl IntoIterator<Item = N>) -> Result<Self, ConfigErrors> {
        Ok(self.declare(RequireScopesLayer::any_of(scopes)?))
    }

    /// Lets pass whom a policy allows. The document names the scopes that it asks for: [`Policy::alternatives`].
    #[must_use]
    fn authorize<P: Policy>(self, layer: AuthorizeLayer<P>) -> Self {
        self.declare(layer)
    }

    /// Refuses requests without a good token. For other ways to show one, [`declare`](Self::declare) takes
    /// [`ResourceServer::authenticate_cookie`]'s layer, and those that hold several.
    #[must_use]
    fn authenticate<C: CustomClaims>(self, api: &ResourceServer<C>) -> Self {
        self.declare(api.authenticate())
    }

    /// Lets requests without a credential pass, with no caller.
    #[must_use]
    fn authenticate_optional<C: CustomClaims>(self, api: &ResourceServer<C>) -> Self {
        self.declare(api.authenticate_optional())
    }

    /// Marks it as open on purpose. It opens nothing: inside [`authenticate`](Self::authenticate), requests without a token are
    /// refused all the same, and the document says so.
    #[must_use]
    fn public(self) -> Self {
        self.declare(Public)
    }
}

/// Declares every operation, and returns the schemas that go with it: of the refusals, and one for each operation that is
/// declared for the first time. Schemas are all that `utoipa` always keeps, so those of operations that it drops are seen.
fn declare_all(
    paths: &mut Paths,
    all: Option<&[SecurityRequirement]>,
    demands: &Demands,
) -> Vec<(String, RefOr<Schema>)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut schemas = Vec::new();
    for (path, item) in &mut paths.paths {
        for operation in operation::operations(item) {
            operation::declare(operation, all, demands);
            let mark = operation::mark(operation, || NEXT.fetch_add(1, Relaxed));
            schemas.extend(mark.map(|mark| (format!("{MARK}{mark}"), ObjectBuilder::new().title(Some(path)).into())));
        }
    }
    if !schemas.is_empty() || !paths.paths.is_empty() {
        let used = serde_json::to_string(paths).unwrap_or_default();
        for (name, schema) in [(PROBLEM, operation::problem()), (DETAIL, operation::detail())] {
            if used.contains(&format!("/{name}\"")) {
                schemas.push((name.to_owned(), schema));
            }
        }
    }
    schemas
}

impl<S: Clone + Send + Sync + 'static> OpenApiRouterExt for OpenApiRouter<S> {
    fn declare<L: Declares + RouteLayer>(self, layer: L) -> Self {
        let demands = layer.demands();
        let mut router = self.layer(layer);
        let document = router.get_openapi_mut();
        let all = document.security.clone();
        let schemas = declare_all(&mut document.paths, all.as_deref(), &demands);
        if !schemas.is_empty() {
            let components = document.components.get_or_insert_with(Components::new);
            for (name, schema) in schemas {
                components.schemas.entry(name).or_insert(schema);
            }
        }
        router
    }
}

impl<S: Clone + Send + Sync + 'static> OpenApiRouterExt for UtoipaMethodRouter<S> {
    fn declare<L: Declares + RouteLayer>(self, layer: L) -> Self {
        let (mut schemas, mut paths, routes): (Vec<_>, Paths, MethodRouter<S>) = self;
        let demands = layer.demands();
        for (name, schema) in declare_all(&mut paths, None, &demands) {
            if !schemas.iter().any(|(known, _)| *known == name) {
                schemas.push((name, schema));
            }
        }
        (schemas, paths, routes.layer(layer))
    }
}
