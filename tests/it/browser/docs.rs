//! The page of a document in a real browser: locks, signing in with a password, and trying routes out.

use std::{sync::Arc, time::Duration};

use portcullis::{
    AuthorizationServer,
    jwt::{Algorithm, SigningKey},
    openapi::{OpenApiRouterExt as _, docs},
    session::SessionPolicy,
    transport::SecureHeadersLayer,
};
use serde_json::json;
use tokio::time::timeout;
use utoipa_axum::routes;

use super::{Driver, TURN};
use crate::{
    auth_server as example,
    login::{PASSWORD, hasher, users},
    support::{Server, serve},
};

#[utoipa::path(get, path = "/health", responses((status = 200, description = "It is well")))]
async fn health() -> &'static str {
    "well"
}

/// What the page is not allowed to do is told by the browser.
const WATCH: &str = r#"
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
        window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile} ${event.lineNumber}`);
    });
"#;

/// The example's routes and an open one, for `alice`, who may have `me items`.
async fn shop() -> Server {
    let users = users().await;
    let server =
        AuthorizationServer::builder("https://id.example", "shop", SigningKey::generate(Algorithm::EdDsa).unwrap())
            .first_party_login(Arc::clone(&users) as _, hasher())
            .sessions(users as _, SessionPolicy::default())
            .build()
            .unwrap();
    let api = server.resource_server();
    let routes = example::routes(&server, &api).unwrap().routes(routes!(health).public());
    let (app, document) = routes.split_for_parts();
    let document = server.document(document, example::SCOPES).unwrap();
    serve(app.merge(docs("/docs", &document)).with_state(server).layer(SecureHeadersLayer::new())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_document_sees_locks_signs_in_and_tries_routes_out() {
    let _turn = TURN.lock().await;
    let Some(browser) = Driver::start("docs").await else { return };
    timeout(Duration::from_secs(200), page(&browser)).await.unwrap();
    browser.quit().await;
}

/// `open`, `closed`, or `none` where there is no lock.
async fn lock(browser: &Driver, operation: &str) -> String {
    let button = format!("document.querySelector('#operations-{operation} .authorization__btn')");
    let state = format!("{button} === null ? 'none' : {button}.querySelector('.locked') ? 'closed' : 'open'");
    browser.value(&state).await.unwrap().as_str().unwrap().to_owned()
}

/// The status of an operation that is tried out.
async fn try_out(browser: &Driver, operation: &str) -> String {
    let part = |selector: &str| format!("#operations-{operation} {selector}");
    browser.click(&part(".opblock-summary-control")).await;
    browser.click(&part(".try-out__btn")).await;
    browser.click(&part(".execute")).await;
    browser.visible(&part(".live-responses-table .response-col_status")).await;
    let status = browser.text(&part(".live-responses-table tbody .response-col_status")).await;
    status.split_whitespace().next().unwrap().to_owned()
}

async fn page(browser: &Driver) {
    let shop = shop().await;
    browser.before_pages(WATCH).await;
    browser.open(&format!("http://{}/docs", shop.address)).await;
    browser.visible("#operations-default-reports").await;
    let locks = async |expected: &[(&str, &str)]| {
        for (operation, expected) in expected {
            assert_eq!(lock(browser, operation).await, *expected, "{operation}");
        }
    };
    let open = [("default-health", "none"), ("sign-in-token", "none"), ("sign-in-revoke", "none")];
    locks(&open).await;
    let closed = ["default-me", "default-my_items", "default-reports", "sign-in-sessions"];
    locks(&closed.map(|operation| (operation, "open"))).await;
    browser.screenshot("docs-before").await;

    // Nobody has signed in.
    assert_eq!(try_out(browser, "default-health").await, "200");
    assert_eq!(try_out(browser, "default-me").await, "401");

    browser.click(".scheme-container .authorize").await;
    browser.visible("#oauth_username").await;
    let form = "const own = document.querySelector('#oauth_username').closest('.auth-container');";
    let submit = format!("{form} own.querySelector('.auth.authorize').click();");
    let errors = format!("{form} return own.querySelector('.errors')?.innerText ?? '';");
    browser.type_into("#oauth_username", "alice").await;
    browser.type_into("#oauth_password", "not the password").await;
    for scope in ["me", "admin"] {
        browser.click(&format!("label[for={scope}-password-checkbox-OAuth2] .item")).await;
    }
    browser.screenshot("docs-sign-in").await;
    browser.run(&submit, &json!(null)).await;
    browser.visible(".auth-container .errors").await;
    assert!(browser.run(&errors, &json!(null)).await.as_str().unwrap().contains("Bad Request"), "a wrong password");
    browser.type_into("#oauth_password", PASSWORD).await;
    browser.run(&submit, &json!(null)).await;
    browser
        .until("[...document.querySelectorAll('.auth-container .btn')].some((button) => button.innerText === 'Logout')")
        .await;
    browser.screenshot("docs-signed-in-dialog").await;
    browser.click(".btn-done").await;
    locks(&closed.map(|operation| (operation, "closed"))).await;
    locks(&open).await;
    browser.screenshot("docs-after").await;

    // `me` was asked for and granted, `admin` asked for and not, `items` not asked for.
    for (operation, expected) in [("default-my_items", "403"), ("default-reports", "403"), ("sign-in-sessions", "200")]
    {
        assert_eq!(try_out(browser, operation).await, expected, "{operation}");
    }
    browser.click("#operations-default-me .execute").await;
    browser.until("document.querySelector('#operations-default-me .live-responses-table tbody .response-col_status').innerText.startsWith('200')").await;
    assert!(browser.text("#operations-default-me .live-responses-table .highlight-code").await.contains("alice"));
    let seen = browser.text("#operations-default-reports .live-responses-table tbody .response-col_description").await;
    assert!(seen.contains("insufficient_scope") && seen.contains("www-authenticate"), "{seen}");
    browser.screenshot("docs-tried").await;

    // All of that within the page's policy, and nothing of it is kept.
    assert_eq!(browser.value("window.violations").await.unwrap(), json!([]));
    assert_eq!(
        browser.value("[localStorage.length, sessionStorage.length, document.cookie]").await.unwrap(),
        json!([0, 0, ""])
    );
    // Which is one that holds, whatever the page is brought to do.
    browser.run("await fetch('http://evil.example/').catch(() => {})", &json!(null)).await;
    let violations = browser.value("window.violations").await.unwrap();
    assert!(violations[0].as_str().unwrap().starts_with("connect-src http://evil.example"), "{violations}");
    browser.reload().await;
    browser.visible("#operations-default-reports").await;
    locks(&closed.map(|operation| (operation, "open"))).await;
}
