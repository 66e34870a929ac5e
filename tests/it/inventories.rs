//! Every route of the programs of this repository, and who may call it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{extract::ConnectInfo, http::HeaderValue};
use portcullis::{
    AuthorizationServer,
    browser::CsrfGuard,
    client::{Client, GrantType, HashedSecret},
    endpoint::{Registration, SessionCookies},
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    openapi::docs,
    secret::Secret,
    session::SessionPolicy,
    store::{MemoryStore, PasswordHash, UserRecord, UserStore as _},
    testing::{inventory, inventory::Inventory},
};
use serde_json::json;

use crate::{auth_server as routes, auth_server_watch as watch, login::hasher, support::now};

const ISSUER: &str = "https://id.example";

/// The example `auth_server` with all that it can have, forgotten about one route if told so.
async fn of_auth_server(forget: bool) -> Inventory {
    let store = Arc::new(MemoryStore::new());
    let user = UserId::random().unwrap();
    let (login, password) = (LoginName::parse("alice").unwrap(), PasswordHash::from_phc("none"));
    let scopes = "me items admin".parse().unwrap();
    store.insert(UserRecord { id: user.clone(), login, password, scopes, disabled: false }).await.unwrap();
    let pem = include_bytes!("../keys/ed25519.pem");
    let [key, signer] = [(); 2].map(|()| SigningKey::from_pem(Algorithm::EdDsa, pem).unwrap());
    let secret = HashedSecret::of(&Secret::from("tool: 32 characters that nobody guesses")).unwrap();
    let tool = Client::confidential("tool", secret).grant(GrantType::ClientCredentials).scopes(["items"]);
    let server = AuthorizationServer::builder(ISSUER, "api", key)
        .first_party_login(store.clone(), hasher())
        .sessions(store, SessionPolicy::default().grace(Duration::from_secs(10)))
        .session_cookies(SessionCookies::new(CsrfGuard::builder().build().unwrap()).access_in_cookie())
        .registration(Registration::new().scopes(["me", "items"]))
        .client(tool.introspects(["api"]))
        .build()
        .unwrap();
    let api = server.resource_server();
    let (app, document) = routes::routes(&server, &api).unwrap().split_for_parts();
    let document = server.document(document, routes::SCOPES).unwrap();
    let app = app.merge(docs("/docs", &document));
    let readiness = server.readiness().and(&api.readiness());
    let figures = watch::recorder().unwrap().handle();
    let app = app.with_state(server).merge(watch::routes(&readiness, figures, watch::Scrapers::ThisMachine));
    let app = if forget { app.route("/admin/export", axum::routing::get(async || "all of it")) } else { app };
    let made = AtomicU64::new(0);
    let token = move |scope: String| {
        let claims = json!({
            "iss": ISSUER, "aud": "api", "sub": user.subject(), "client_id": "app",
            "jti": format!("t-{}", made.fetch_add(1, Relaxed)),
            // Ahead by less than the leeway, so that to sign out everywhere is not to sign out those who come after.
            "iat": now() + 20, "exp": now() + 600, "auth_time": now(), "scope": scope,
        });
        std::future::ready(signer.sign(&claims).unwrap())
    };
    inventory(app, &document)
        .tokens(token)
        .prepare(|request| {
            // As a page of the same origin, for what keeps sessions in cookies.
            request.headers_mut().insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        })
        // What keeps a page signed in, which `cookies` tests.
        .untried(["client", "cookie", "refresh_cookie"])
        .open([
            "POST /session",
            "DELETE /session",
            "POST /token",
            "POST /token/refresh",
            "POST /revoke",
            "POST /register",
            "GET /.well-known/jwks.json",
            "GET /.well-known/oauth-authorization-server",
            // Which are not in the document, because they show it.
            "GET /docs",
            "GET /docs/",
            "GET /docs/{file}",
            // Which are not in it either: they are for whoever runs the server. The figures are for peers on its machine alone,
            // such as this one.
            "GET /health",
            "GET /ready",
            "GET /metrics",
        ])
        .run()
        .await
}

/// `cargo test --test it inventories -- --nocapture` prints it.
#[tokio::test]
async fn every_route_of_auth_server() {
    let inventory = of_auth_server(false).await;
    std::io::Write::write_all(&mut std::io::stdout(), format!("{inventory}\n").as_bytes()).unwrap();
    inventory.assert_complete();
}

#[tokio::test]
async fn a_route_that_is_added_to_auth_server_and_forgotten_is_found() {
    let inventory = of_auth_server(true).await;
    let found: Vec<&str> = inventory.gaps().iter().map(|gap| &*gap.path).collect();
    assert_eq!(found, ["/admin/export"], "{inventory}");
}
