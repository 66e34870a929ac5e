//! The requests, and the sentence that each is answered with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::servers::World;
use crate::support::now;

/// What is answered, on any server and over any wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sentence {
    /// Over HTTP, with `error` in the body.
    pub status: u16,
    pub error: Option<&'static str>,
    pub retry: bool,
    /// In both.
    pub challenge: Option<&'static str>,
    /// Over gRPC.
    pub code: u16,
    pub message: &'static str,
}

const fn silent(status: u16, code: u16, message: &'static str) -> Sentence {
    Sentence { status, error: None, retry: status == 503, challenge: None, code, message }
}

const fn challenged(status: u16, code: u16, message: &'static str, challenge: &'static str) -> Sentence {
    Sentence { challenge: Some(challenge), ..silent(status, code, message) }
}

const fn erring(status: u16, code: u16, error: &'static str, text: &'static str, challenge: &'static str) -> Sentence {
    Sentence { error: Some(error), ..challenged(status, code, text, challenge) }
}

pub const PASSES: Sentence = silent(200, 0, "");
pub const STRANGER: Sentence = challenged(401, 16, "Unauthorized", "Bearer realm=\"test\"");
pub const INVALID_REQUEST: Sentence = erring(
    400,
    16,
    "invalid_request",
    "the request must carry exactly one well-formed bearer credential",
    "Bearer realm=\"test\", error=\"invalid_request\", \
     error_description=\"the request must carry exactly one well-formed bearer credential\"",
);
const INVALID_TOKEN: Sentence = erring(
    401,
    16,
    "invalid_token",
    "the access token is expired, revoked, malformed or not valid here",
    "Bearer realm=\"test\", error=\"invalid_token\", \
     error_description=\"the access token is expired, revoked, malformed or not valid here\"",
);
const SCOPE: &str = "the access token does not carry the scope that is needed";
const A: Sentence = erring(
    403,
    7,
    "insufficient_scope",
    SCOPE,
    "Bearer realm=\"test\", error=\"insufficient_scope\", \
     error_description=\"the access token does not carry the scope that is needed\", scope=\"a\"",
);
pub const A_AND_B: Sentence = erring(
    403,
    7,
    "insufficient_scope",
    SCOPE,
    "Bearer realm=\"test\", error=\"insufficient_scope\", \
     error_description=\"the access token does not carry the scope that is needed\", scope=\"a b\"",
);
/// Of layers within each other, the innermost first.
const B_AND_A: Sentence = erring(
    403,
    7,
    "insufficient_scope",
    SCOPE,
    "Bearer realm=\"test\", error=\"insufficient_scope\", \
     error_description=\"the access token does not carry the scope that is needed\", scope=\"b a\"",
);
const FORBIDDEN: Sentence = challenged(403, 7, "Forbidden", "Bearer realm=\"test\"");
const STEP_UP: Sentence = erring(
    401,
    16,
    "insufficient_user_authentication",
    "a newer or stronger authentication is needed",
    "Bearer realm=\"test\", error=\"insufficient_user_authentication\", \
     error_description=\"a newer or stronger authentication is needed\", acr_values=\"phr\", max_age=\"300\"",
);
const UNAVAILABLE: Sentence = silent(503, 14, "Service Unavailable");
const BROKEN: Sentence = silent(500, 13, "Internal Server Error");

/// A request, to one of the [places](super::servers), and its answer.
pub struct Row {
    pub what: &'static str,
    pub place: &'static str,
    /// Each is a field `Authorization`.
    pub credentials: fn(&World) -> Vec<String>,
    pub says: Sentence,
    /// How the reason begins, which is told in the log alone; nothing where it passes.
    pub why: &'static str,
}

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Bearer {token}")]
}

pub fn good(world: &World) -> Vec<String> {
    bearer(&world.token(|_| {}))
}

pub fn none(_: &World) -> Vec<String> {
    Vec::new()
}

pub fn claiming(world: &World, name: &str, value: impl Into<Value>) -> Vec<String> {
    bearer(&world.token(|claims| claims[name] = value.into()))
}

/// The parts of another good token.
fn others(world: &World) -> Vec<String> {
    world.token(|claims| claims["sub"] = "user:1".into()).split('.').map(str::to_owned).collect()
}

/// The token of a good credential, its parts changed.
fn forged(world: &World, change: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
    let mut parts: Vec<String> = world.token(|_| {}).split('.').map(str::to_owned).collect();
    change(&mut parts);
    bearer(&parts.join("."))
}

fn header(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

const fn row(
    what: &'static str,
    place: &'static str,
    (says, why): (Sentence, &'static str),
    credentials: fn(&World) -> Vec<String>,
) -> Row {
    Row { what, place, credentials, says, why }
}

pub static ROWS: &[Row] = &[
    row("good", "Closed", (PASSES, ""), good),
    row("good, the scheme in capitals", "Closed", (PASSES, ""), |w| vec![good(w)[0].replace("Bearer", "BEARER")]),
    row("good, where two scopes are demanded", "Both", (PASSES, ""), good),
    row("good, where a claim is demanded", "Claim", (PASSES, ""), good),
    row("good, just signed in", "Fresh", (PASSES, ""), good),
    row("good, a user who is active", "User", (PASSES, ""), good),
    row("no credential, where all may", "Open", (PASSES, ""), none),
    row("no credential", "Closed", (STRANGER, "no credential"), none),
    row("no credential, where strangers pass a layer", "Optional", (STRANGER, "no credential"), none),
    row("another scheme", "Closed", (STRANGER, "credential of another scheme"), |_| vec!["Basic YTpi".to_owned()]),
    row("another scheme, that begins alike", "Closed", (STRANGER, "credential of another scheme"), |w| {
        vec![good(w)[0].replace("Bearer", "BearerX")]
    }),
    row("a scheme alone", "Closed", (INVALID_REQUEST, "malformed credential"), |_| vec!["Bearer".to_owned()]),
    row("an empty field", "Closed", (INVALID_REQUEST, "malformed credential"), |_| vec![String::new()]),
    row("two tokens in a field", "Closed", (INVALID_REQUEST, "malformed credential"), |w| {
        vec![format!("{} x", good(w)[0])]
    }),
    row("characters that no token has", "Closed", (INVALID_REQUEST, "malformed credential"), |_| bearer("a\"b")),
    row("malformed, where strangers pass a layer", "Optional", (INVALID_REQUEST, "malformed credential"), |_| {
        vec!["Bearer".to_owned()]
    }),
    row("two fields", "Closed", (INVALID_REQUEST, "more than one"), |w| [good(w), good(w)].concat()),
    row("two fields, one of another scheme", "Closed", (INVALID_REQUEST, "more than one"), |w| {
        [good(w), vec!["Basic YTpi".to_owned()]].concat()
    }),
    row("two fields, the other first", "Closed", (INVALID_REQUEST, "more than one"), |w| {
        [vec!["Basic YTpi".to_owned()], good(w)].concat()
    }),
    row("9 KiB", "Closed", (INVALID_TOKEN, "token of 9216 bytes"), |_| bearer(&"a".repeat(9 * 1024))),
    row("no token at all", "Closed", (INVALID_TOKEN, "malformed token"), |_| bearer("abc")),
    row("expired", "Closed", (INVALID_TOKEN, "token expired"), |w| claiming(w, "exp", now() - 3600)),
    row("not valid yet", "Closed", (INVALID_TOKEN, "token not valid before"), |w| claiming(w, "nbf", now() + 3600)),
    row("another audience", "Closed", (INVALID_TOKEN, "another audience"), |w| claiming(w, "aud", "invoices")),
    row("another issuer", "Closed", (INVALID_TOKEN, "another issuer"), |w| claiming(w, "iss", "https://evil.example")),
    row("another key", "Closed", (INVALID_TOKEN, "no key"), |w| bearer(&w.stranger.token("a b"))),
    row("another signature", "Closed", (INVALID_TOKEN, "bad signature"), |w| {
        forged(w, |parts| parts[2].clone_from(&others(w)[2]))
    }),
    row("another payload", "Closed", (INVALID_TOKEN, "bad signature"), |w| {
        forged(w, |parts| parts[1].clone_from(&others(w)[1]))
    }),
    row("another type", "Closed", (INVALID_TOKEN, "token of another type"), |_| bearer(&World::typed("JWT"))),
    row("alg: none", "Closed", (INVALID_TOKEN, "malformed token"), |w| {
        forged(w, |parts| {
            parts[0] = header(&json!({ "alg": "none", "typ": "at+jwt" }));
            parts[2] = String::new();
        })
    }),
    row("alg: none, with a signature", "Closed", (INVALID_TOKEN, "no key"), |w| {
        forged(w, |parts| parts[0] = header(&json!({ "alg": "none", "typ": "at+jwt" })))
    }),
    row("revoked", "Closed", (INVALID_TOKEN, "token revoked"), |w| claiming(w, "jti", "t-revoked")),
    row("expired, where strangers pass a layer", "Optional", (INVALID_TOKEN, "token expired"), |w| {
        claiming(w, "exp", now() - 3600)
    }),
    row("the outer scope is missing", "Closed", (A, "scope missing"), |w| claiming(w, "scope", "b")),
    row("the inner scope is missing", "Closed", (B_AND_A, "scope missing"), |w| claiming(w, "scope", "a")),
    row("one of two scopes is missing", "Both", (A_AND_B, "scope missing"), |w| claiming(w, "scope", "b")),
    row("no scope", "Both", (A_AND_B, "scope missing"), |w| claiming(w, "scope", "")),
    row("a scope in capitals", "Both", (A_AND_B, "scope missing"), |w| claiming(w, "scope", "a B")),
    row("another claim", "Claim", (FORBIDDEN, "denied by policy"), |w| claiming(w, "tier", "lead")),
    row("signed in too long ago", "Fresh", (STEP_UP, "authentication too old"), |w| {
        claiming(w, "auth_time", now() - 3600)
    }),
    row("signed in too weakly", "Fresh", (STEP_UP, "authentication too old"), |w| claiming(w, "acr", "pwd")),
    row("no keys", "Keyless", (UNAVAILABLE, "verification keys unavailable"), good),
    row("no keys, nor a credential", "Keyless", (STRANGER, "no credential"), none),
    row("a policy that cannot tell", "Undecided", (UNAVAILABLE, "policy undecided: directory"), good),
    row(
        "a policy that asks, and is not answered",
        "Unanswered",
        (UNAVAILABLE, "policy undecided: no answer in time"),
        good,
    ),
    row("nobody verifies", "Unverified", (BROKEN, "JwtVerifyLayer is missing"), good),
    row("nobody decides", "Forgotten", (BROKEN, "no layer has decided"), good),
    row("a user who is disabled", "User", (INVALID_TOKEN, "user disabled"), |w| claiming(w, "sub", "user:8")),
    row("a client, where users are asked for", "User", (FORBIDDEN, "denied by policy"), |w| claiming(w, "sub", "app")),
    row("a user who is gone", "User", (INVALID_TOKEN, "user gone"), |w| claiming(w, "sub", "user:9")),
];
