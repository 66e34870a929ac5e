//! Pages of a document: Swagger UI, from files that are compiled in.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Path},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::authz::Public;

/// Where the document is, beside the page.
const DOCUMENT: &str = "openapi.json";
/// What the page needs, and nothing else: scripts and styles are files, pictures are in the style sheet.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";
const POLICY_OF_PAGE: &str = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes for reading and trying out `document`: Swagger UI at `path`, and the document itself as `openapi.json` below it.
///
/// "Authorize" signs in with the flows that the document names: see
/// [`AuthorizationServer::document`](crate::AuthorizationServer::document). What it gets is gone with a reload. Nothing is loaded from
/// elsewhere, and the page's `Content-Security-Policy` allows nothing else: requests go to its own origin, and to those that
/// the document names as servers or for tokens. [`SecureHeadersLayer`](crate::transport::SecureHeadersLayer) around it leaves
/// that as it is.
///
/// The routes are open. Put them inside a layer, or leave them out, where strangers are not to read the document.
///
/// ```
/// # let document = utoipa::openapi::OpenApi::default();
/// let docs: axum::Router = portcullis::openapi::docs("/docs", &document);
/// ```
///
/// `path` begins with `/`, as axum wants it. At `/` the page takes every path of one segment, so that axum panics where another
/// route has a parameter there; inside `nest`, that is those below the prefix.
pub fn docs<S: Clone + Send + Sync + 'static>(path: &str, document: &OpenApi) -> Router<S> {
    let path = path.trim_end_matches('/');
    let page = Arc::new(Page::new(document));
    let index = Arc::clone(&page);
    // Relative, so that it fits wherever the router is nested.
    let last = path.rsplit('/').next().unwrap_or_default();
    let slash = format!("{last}/");
    let router = Router::new()
        .route(
            &format!("{path}/"),
            get(move |OriginalUri(asked): OriginalUri| async move { index.index(asked.path()) }),
        )
        .route(&format!("{path}/{{file}}"), get(move |Path(file): Path<String>| async move { page.file(&file) }));
    let router = match path {
        "" => router,
        path => router.route(path, get(move || async move { (StatusCode::SEE_OTHER, [(LOCATION, slash)]) })),
    };
    router.layer(Public)
}

/// What is served.
struct Page {
    /// `None` if it cannot be written as JSON.
    document: Option<String>,
    config: Arc<Config<'static>>,
    policy: HeaderValue,
}

impl Page {
    fn new(document: &OpenApi) -> Self {
        // A badge would ask the validator of Swagger's makers about the document, and a bar would load any other.
        let config = Config::new([format!("./{DOCUMENT}")]).use_base_layout().validator_url("none");
        let config = config.persist_authorization(false);
        Self { document: document.to_json().ok(), config: Arc::new(config), policy: policy(document) }
    }

    fn index(&self, asked: &str) -> Response {
        match asked.rsplit('/').next() {
            None | Some("") => self.file(""),
            // Nested, `/` has no slash at its end, and what the page names would be looked for beside it.
            Some(last) => (StatusCode::SEE_OTHER, [(LOCATION, format!("{last}/index.html"))]).into_response(),
        }
    }

    fn file(&self, name: &str) -> Response {
        if name == DOCUMENT {
            return match &self.document {
                Some(document) => fields(document.clone(), "application/json", "no-cache"),
                None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            };
        }
        let file = match utoipa_swagger_ui::serve(name, Arc::clone(&self.config)) {
            Ok(Some(file)) => file,
            Ok(None) => return StatusCode::NOT_FOUND.into_response(),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        // The files of a version do not change; which version it is does, with this crate.
        let caching =
            if matches!(name, "" | "index.html" | "swagger-initializer.js") { "no-cache" } else { "max-age=3600" };
        let mut response = compiled_in(file, caching);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

fn compiled_in(file: SwaggerFile<'static>, caching: &'static str) -> Response {
    let mut response = fields(file.bytes, &file.content_type, caching);
    if file.gzpipped {
        // Where another crate has turned on the feature `gzip`, they are compiled in that way.
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn fields(body: impl Into<Body>, content_type: &str, caching: &'static str) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("text/plain")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The policy of the page: its own origin, and those that the document sends it to.
fn policy(document: &OpenApi) -> HeaderValue {
    let own = POLICY.to_owned();
    let all = origins(document).iter().fold(own, |all, origin| all + " " + origin);
    let whole = format!("{all}; {POLICY_OF_PAGE}");
    HeaderValue::from_str(&whole).unwrap_or(HeaderValue::from_static(POLICY))
}

/// Origins of servers, those of single operations included, and of endpoints that the page asks for tokens, as far as the
/// document names whole addresses.
fn origins(document: &OpenApi) -> BTreeSet<String> {
    let json = serde_json::to_value(document).unwrap_or_default();
    let items = || json.get("paths").and_then(Value::as_object).into_iter().flat_map(|items| items.values());
    let operations = items().filter_map(Value::as_object).flat_map(|item| item.values());
    let others = items().filter_map(|item| item.get("additionalOperations")?.as_object()).flat_map(|all| all.values());
    let with_servers = [&json].into_iter().chain(items()).chain(operations).chain(others);
    let servers = with_servers.filter_map(|one| one.get("servers")?.as_array()).flatten();
    let servers = servers.filter_map(|server| server.get("url"));
    let schemes = || json.pointer("/components/securitySchemes").and_then(Value::as_object).into_iter().flatten();
    let discovery = schemes().filter_map(|(_, scheme)| scheme.get("openIdConnectUrl"));
    let flows = schemes().filter_map(|(_, scheme)| scheme.get("flows")?.as_object()).flatten();
    let tokens = flows.flat_map(|(_, flow)| ["tokenUrl", "refreshUrl"].map(|name| flow.get(name))).flatten();
    servers.chain(discovery).chain(tokens).filter_map(Value::as_str).filter_map(origin).collect()
}

/// Scheme, host and port of an address, if nothing in them means anything to a policy.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    (!host.is_empty() && host.bytes().all(plain)).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_addresses() {
        for (url, expected) in [
            ("https://api.example/v1", Some("https://api.example")),
            ("http://127.0.0.1:8080/token?x", Some("http://127.0.0.1:8080")),
            ("https://[::1]:8443", Some("https://[::1]:8443")),
            ("/token", None),
            ("token", None),
            ("//api.example/token", None),
            ("ftp://api.example", None),
            ("https://", None),
            ("https://a;script-src *", None),
            ("https://{host}.example", None),
            ("https://*", None),
            ("https://user@api.example", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn what_is_packed_says_so() {
        for gzpipped in [true, false] {
            let config = Arc::new(Config::new(["./openapi.json"]));
            let mut file = utoipa_swagger_ui::serve("index.css", config).unwrap().unwrap();
            file.gzpipped = gzpipped;
            let response = compiled_in(file, "no-cache");
            let encoding = response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
            assert_eq!(encoding, gzpipped.then_some(&b"gzip"[..]));
        }
    }

    #[test]
    fn the_policy_names_where_the_document_sends_the_page() {
        let json = serde_json::json!({
            "openapi": "3.1.0", "info": { "title": "t", "version": "1" },
            "paths": { "/a": {
                "servers": [{ "url": "https://item.example" }],
                "get": { "responses": {}, "servers": [{ "url": "https://operation.example/v1" }] },
            } },
            "servers": [{ "url": "/" }, { "url": "https://api.example/v1" }],
            "components": { "securitySchemes": { "oauth2": { "type": "oauth2", "flows": { "password": {
                "tokenUrl": "https://id.example/token", "refreshUrl": "/token/refresh", "scopes": {} } } },
                "oidc": { "type": "openIdConnect", "openIdConnectUrl": "https://oidc.example/.well-known/openid-configuration" } } },
        });
        let policy = policy(&serde_json::from_value(json).unwrap());
        let policy = policy.to_str().unwrap();
        assert!(
            policy.contains(
                "connect-src 'self' https://api.example https://id.example https://item.example https://oidc.example \
                 https://operation.example; base-uri 'none'"
            ),
            "{policy}"
        );
        let policy = super::policy(&OpenApi::default());
        assert!(policy.to_str().unwrap().contains("connect-src 'self'; base-uri 'none'"), "{policy:?}");
    }
}
