//! For tests of what is built on this crate.
//!
//! | to | there is |
//! |---|---|
//! | call a handler as somebody, without a token | [`as_principal`], [`as_nobody`] |
//! | send tokens that are right | [`TestAuthority::token`], [`TestAuthority::token_for`] |
//! | send tokens that are wrong in every way, and know why they are refused | [`TestAuthority::flawed`], [`Flaw::ALL`] |
//! | rotate keys, and lose them | [`TestAuthority::rotate`], [`TestAuthority::begin_outage`] |
//! | let time go by | [`ManualClock`] |
//! | see what was told | [`EventLog`] |
#![cfg_attr(feature = "openapi", doc = "| show that no route was forgotten | [`inventory()`](inventory::inventory) |")]
//! | hold a store of one's own to what every store promises | [`stores`] |
//!
//!
//! [The guide](crate::guide::testing) has an example of each.
//!
//! # Not in programs
//!
//! Who links this can let in anybody as anyone, so it belongs into `[dev-dependencies]`:
//!
//! ```toml
//! [dependencies]
//! portcullis = { path = "../portcullis" }
//!
//! [dev-dependencies]
//! portcullis = { path = "../portcullis", features = ["testing"] }
//! ```
//!
//! No other feature turns it on, nothing outside of it uses it, and everything here is behind it but [`ManualClock`], which lets
//! nobody in and is in [`clock`](crate::clock), too; a test of this crate holds that. Programs that are built without their tests then do not have it: `cargo tree -e normal,features -i portcullis` shows which
//! features they do have.

mod authority;
mod events;
mod flaw;
#[cfg(feature = "openapi")]
pub mod inventory;
mod key_server;
mod principal;
pub mod stores;

#[cfg(feature = "openapi")]
pub use self::inventory::inventory;
pub use self::{
    authority::TestAuthority,
    events::EventLog,
    flaw::{Flaw, FlawedToken},
    key_server::{KeyServer, KeyService},
    principal::{AsPrincipal, AsPrincipalLayer, TestPrincipal, as_nobody, as_principal},
};
pub use crate::clock::ManualClock;
