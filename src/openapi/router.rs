//! One declaration for both: the layer around a route, and what its document says of it.

use std::convert::Infallible;

use axum::{
    extract::Request,
    response::IntoResponse,
    routing::{MethodRouter, Route},
};
use tower_layer::Layer;
use tower_service::Service;
use utoipa::openapi::{Components, path::Paths};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    demands::{BEARER, COOKIE, Demands},
    operation::{self, PROBLEM},
};
#[cfg(feature = "password")]
use crate::authorization_server::ProtectUsersLayer;
use crate::{
    authz::{AuthorizeLayer, CurrentUserLayer, Policy, Public, RequireScopesLayer},
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

impl<C> Declares for AuthenticateLayer<C> {
    fn demands(&self) -> Demands {
        Demands::credential(&[BEARER], self.is_optional())
    }
}

impl<C: CustomClaims> Declares for CookieAuthenticateLayer<C> {
    fn demands(&self) -> Demands {
        let schemes: &[&str] = match self.reads() {
            (true, true) => &[COOKIE, BEARER],
            (true, false) => &[COOKIE],
            (false, _) => &[BEARER],
        };
        Demands::credential(schemes, self.is_optional())
    }
}

impl<P: Policy> Declares for AuthorizeLayer<P> {
    fn demands(&self) -> Demands {
        Demands::scopes(self.policy().alternatives())
    }
}

impl<P: Policy, C> Declares for ProtectLayer<P, C> {
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
        Demands::caller()
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

impl<S: Clone + Send + Sync + 'static> OpenApiRouterExt for OpenApiRouter<S> {
    fn declare<L: Declares + RouteLayer>(self, layer: L) -> Self {
        let demands = layer.demands();
        let mut router = self.layer(layer);
        let document = router.get_openapi_mut();
        let all = document.security.clone();
        let mut refuses = false;
        for operation in document.paths.paths.values_mut().flat_map(operation::operations) {
            operation::declare(operation, all.as_deref(), &demands);
            refuses = !demands.0.is_empty();
        }
        if refuses {
            let components = document.components.get_or_insert_with(Components::new);
            components.schemas.entry(PROBLEM.to_owned()).or_insert_with(operation::problem);
        }
        router
    }
}

impl<S: Clone + Send + Sync + 'static> OpenApiRouterExt for UtoipaMethodRouter<S> {
    fn declare<L: Declares + RouteLayer>(self, layer: L) -> Self {
        let (mut schemas, mut paths, routes): (Vec<_>, Paths, MethodRouter<S>) = self;
        let demands = layer.demands();
        for operation in paths.paths.values_mut().flat_map(operation::operations) {
            operation::declare(operation, None, &demands);
        }
        if !demands.0.is_empty() && !schemas.iter().any(|(name, _)| name == PROBLEM) {
            schemas.push((PROBLEM.to_owned(), operation::problem()));
        }
        (schemas, paths, routes.layer(layer))
    }
}
