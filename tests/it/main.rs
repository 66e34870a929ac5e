//! What the crate promises, seen from outside: tables over real sockets, mocks around layers, programs that run.
//!
//! Names carry the number of the requirement that they prove; the guide's list of requirements names them back.

#![allow(unreachable_pub, reason = "modules of one program")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::items_after_statements,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod accounts;
mod architecture;
mod attacks;
mod audit;
mod audit_events;
mod audit_lines;
mod audit_program;
mod audit_queue;
#[path = "../../examples/auth_server/routes.rs"]
mod auth_server;
#[path = "../../examples/auth_server/watch.rs"]
mod auth_server_watch;
mod breaches;
mod browser;
mod cookies;
mod cors;
mod costs;
mod crashes;
mod csrf;
mod endpoints;
mod fastapi;
#[cfg(target_os = "linux")]
mod faults;
mod grpc;
mod guide;
mod health;
mod hygiene;
mod inventories;
mod key_rings;
mod keys;
mod layers;
mod limits;
mod login;
mod machines;
mod metrics;
mod openapi;
mod operators;
mod passwords;
mod policies;
mod programs;
mod providers;
mod remote;
mod revocation;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;
mod sessions;
#[cfg(feature = "redis")]
mod shared_limits;
mod spans;
mod statistics;
mod stores;
mod support;
mod testing;
#[cfg(feature = "legacy-hashes")]
mod timing;
mod transport;
mod verdicts;
mod wire;
