//! What browsers send by themselves: cookies, and where a request comes from.

mod csrf;

pub use self::csrf::{CsrfGuard, CsrfGuardBuilder};

/// Name of the cookie with a session's refresh token.
pub const REFRESH_COOKIE: &str = "__Host-portcullis-refresh";
/// Name of the cookie with an access token, where it is held in one.
pub const ACCESS_COOKIE: &str = "__Host-portcullis-access";
/// Name of the cookie with the token against forged requests, which scripts of the same host read.
pub const CSRF_COOKIE: &str = "__Host-portcullis-csrf";
