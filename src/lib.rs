//! portcullis
pub mod audit;
mod authorization_server;
pub mod authz;
#[cfg(feature = "axum")]
pub mod axum;
pub mod bearer;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod gate;
pub mod ident;
pub mod jwt;
#[cfg(feature = "password")]
pub mod password;
pub mod principal;
pub mod random;
pub mod rejection;
mod resource_server;
pub mod scope;
pub mod secret;
pub mod store;

pub use authorization_server::{AuthorizationServer, AuthorizationServerBuilder};
pub use resource_server::{AuthenticateLayer, ResourceServer};
