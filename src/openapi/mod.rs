//! What a route demands, declared once: enforced by its layers, and drawn in an OpenAPI document and its page.

mod demands;
mod docs;
mod endpoints;
mod operation;
mod router;
mod schemas;
mod security;

pub use self::{
    demands::{BEARER, COOKIE, Demands, OAUTH2},
    docs::docs,
    router::{Declares, OpenApiRouterExt, RouteLayer, RouteService},
    security::Security,
};
