//! An API whose access tokens are in cookies, and in the same browser the page that may use it and pages that may not.
//!
//! Cookies go along with requests that pages of the same *site* cause, whatever their origin. So the answers have to say who may
//! show them: an image is shown, and a script run, without CORS being asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    http::HeaderName,
    routing::{get, post},
};
use portcullis::{
    AuthorizationServer,
    browser::{ACCESS_COOKIE, CSRF_COOKIE, CsrfGuard, REFRESH_COOKIE},
    cors::{CorsPolicy, CorsStrictLayer},
    endpoint::SessionCookies,
    jwt::{Algorithm, SigningKey},
    principal::Principal,
    session::SessionPolicy,
    store::MemoryStore,
    transport::SecureHeadersLayer,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{ATTEMPT, Driver, TURN, framed, site::Site};
use crate::login::{PASSWORD, form, hasher, users};

/// Four pixels.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\
    \x00\x00\x00\x0dIHDR\x00\x00\x00\x02\x00\x00\x00\x02\x08\x00\x00\x00\x00W\xddR\xf8\
    \x00\x00\x00\x0cIDATx\xdac`\xf8\x0f\x84\x00\x06\x00\x01\xff\xad,7%\
    \x00\x00\x00\x00IEND\xaeB`\x82";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FORM: &str = "application/x-www-form-urlencoded";

/// What a page can have loaded without `fetch`: an image or a script. Says what came of it, and how wide it is.
const LOAD: &str = r#"
    const element = document.createElement($.tag);
    if ($.cors) element.crossOrigin = $.cors;
    const outcome = new Promise((done) => { element.onload = () => done("loaded"); element.onerror = () => done("refused"); });
    element.src = $.url;
    document.body.append(element);
    return [await outcome, element.naturalWidth ?? 0];
"#;

/// `/account`, `/picture`, `/settings.js` and `/act` need the cookie; so does `/shared`, which says itself who may show it. `/logo`
/// is for everybody.
fn api(origin: &str, app: &str, users: &Arc<MemoryStore>, acts: &Arc<AtomicUsize>) -> Router {
    let guard = CsrfGuard::builder().trusted_origins([app]).build().unwrap();
    let server = AuthorizationServer::builder(origin, "orders", SigningKey::generate(Algorithm::EdDsa).unwrap())
        .first_party_login(Arc::clone(users) as _, hasher())
        .sessions(Arc::clone(users) as _, SessionPolicy::default().grace(Duration::from_secs(10)))
        .session_cookies(SessionCookies::new(guard.clone()).access_in_cookie())
        .build()
        .unwrap();
    let acts = Arc::clone(acts);
    let act = move || async move { acts.fetch_add(1, Relaxed).to_string() };
    let account = |caller: Principal| async move { Json(json!({ "subject": caller.subject() })) };
    let picture = || async { ([("content-type", "image/png")], PICTURE) };
    let shared = || async { ([(RESOURCE_POLICY, "cross-origin")], [("content-type", "image/png")], PICTURE) };
    let settings = || async { ([("content-type", "text/javascript")], "window.leaked = true;") };
    let cors = CorsPolicy::builder().origins([app]).request_headers(["content-type"]).credentials().build().unwrap();
    Router::new()
        .route("/account", get(account))
        .route("/picture", get(picture))
        .route("/shared", get(shared))
        .route("/settings.js", get(settings))
        .route("/act", post(act))
        .layer(server.resource_server().authenticate_cookie(guard))
        .route("/logo", get(picture))
        .merge(server.routes())
        .layer(SecureHeadersLayer::new())
        .layer(CorsStrictLayer::new(cors))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_151_req_156_what_a_cookie_opens_no_other_origin_shows_reads_or_does() {
    let _turn = TURN.lock().await;
    let Some(browser) = Driver::start("cookie-mode").await else { return };
    timeout(Duration::from_secs(200), cookie_mode(&browser)).await.unwrap();
    browser.quit().await;
}

/// An answer to `fetch`, if the page may read it.
async fn fetched(
    browser: &Driver,
    method: &str,
    url: String,
    content_type: Option<&str>,
    body: &str,
) -> (Value, String) {
    let mut attempt = json!({ "url": url, "method": method, "mode": "cors", "credentials": "include" });
    if let Some(content_type) = content_type {
        attempt["headers"] = json!({ "content-type": content_type });
        attempt["body"] = body.into();
    }
    let learned = browser.run(ATTEMPT, &attempt).await;
    (learned[0].clone(), learned[1].as_str().unwrap_or_default().to_owned())
}

/// What a page that may use the API learns must not have the tokens in it that the cookies have.
async fn hidden(browser: &Driver, api: &str, shown: &str) {
    browser.open(&format!("{api}/logo")).await;
    let (cookies, seen) = (browser.cookies().await, browser.value("document.cookie").await.unwrap());
    let seen = seen.as_str().unwrap();
    assert!(seen.starts_with(&format!("{CSRF_COOKIE}=")) && !seen.contains(';'), "{seen}");
    for name in [ACCESS_COOKIE, REFRESH_COOKIE] {
        let cookie = cookies.iter().find(|cookie| cookie["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        let value = cookie["value"].as_str().unwrap();
        assert!(cookie["httpOnly"] == true && value.len() > 40 && !shown.contains(value), "{cookie}: {shown}");
    }
    let shown: Value = serde_json::from_str(shown).unwrap();
    assert!(shown["expires_in"].is_number() && shown.get("access_token").is_none(), "{shown}");
}

fn load(tag: &str, cors: Option<&str>, url: &str) -> Value {
    json!({ "tag": tag, "cors": cors, "url": url })
}

async fn cookie_mode(browser: &Driver) {
    let (users, acts) = (users().await, Arc::new(AtomicUsize::new(0)));
    let app = Site::of_pages("app.portcullis.example", Vec::new()).await;
    let api = Site::serve("api.portcullis.example", |origin| api(origin, &app.origin, &users, &acts)).await;
    let at = |path: &str| format!("{}{path}", api.origin);
    let (loaded, refused) = (json!(["loaded", 2]), json!(["refused", 0]));

    browser.open(&app.origin).await;
    assert_eq!(fetched(browser, "GET", at("/account"), None, "").await.0, 401, "nobody is signed in yet");
    let login = form("alice", PASSWORD, "").replace("grant_type=password&", "");
    let (status, shown) = fetched(browser, "POST", at("/session"), Some(FORM), &login).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(browser.value("document.cookie").await.unwrap(), "");
    hidden(browser, &api.origin, &shown).await;
    browser.open(&app.origin).await;
    let (status, shown) = fetched(browser, "POST", at("/session/refresh"), None, "").await;
    assert_eq!(status, 200, "{shown}");
    hidden(browser, &api.origin, &shown).await;
    browser.open(&app.origin).await;
    let used = async |before: usize| {
        let (status, account) = fetched(browser, "GET", at("/account"), None, "").await;
        assert_eq!((status, account.as_str()), (200.into(), r#"{"subject":"user:id-alice"}"#));
        let (status, act) = fetched(browser, "POST", at("/act"), None, "").await;
        assert_eq!((status, act, acts.load(Relaxed)), (200.into(), before.to_string(), before + 1));
        assert_eq!(browser.run(LOAD, &load("img", Some("use-credentials"), &at("/picture"))).await, loaded);
    };
    used(0).await;
    // Not without CORS: the API does not know this page from others of its site then.
    assert_eq!(browser.run(LOAD, &load("img", None, &at("/picture"))).await, refused);
    assert_eq!(browser.run(LOAD, &load("img", None, &at("/shared"))).await, loaded);

    let forms = [FORM, "text/plain", "multipart/form-data"];
    let forms = forms.map(|kind| format!("<form method=post enctype={kind} action='{}'></form>", at("/act")));
    // Another site, to which the cookies are not sent; and another origin of the same site, to which they are.
    for (host, carried) in [("evil.example", false), ("evil.portcullis.example", true)] {
        let stranger = Site::of_pages(host, forms.to_vec()).await;
        browser.open(&stranger.origin).await;
        let by_cookie = if carried { &loaded } else { &refused };
        assert_eq!(browser.run(LOAD, &load("img", None, &at("/logo"))).await, loaded, "{host}: images do load");
        assert_eq!(browser.run(LOAD, &load("img", None, &at("/shared"))).await, *by_cookie, "{host}");
        for (tag, path) in [("img", "/picture"), ("script", "/account"), ("script", "/settings.js")] {
            for cors in [None, Some("anonymous"), Some("use-credentials")] {
                let load = load(tag, cors, &at(path));
                assert_eq!(browser.run(LOAD, &load).await, refused, "{host} {load}");
            }
        }
        assert_eq!(browser.value("typeof window.leaked").await.unwrap(), "undefined", "{host}");
        for attempt in attempts(&api.origin) {
            let learned = browser.run(ATTEMPT, &attempt).await;
            // What came without a credential is for nobody in particular, and still nobody looks into it.
            let by_cookie = carried && attempt["credentials"] == "include";
            let opaque = attempt["mode"] == "no-cors" && !by_cookie;
            assert_eq!(learned, if opaque { "opaque" } else { "refused" }, "{host} {attempt}");
            assert_eq!(acts.load(Relaxed), 1, "{host} {attempt}");
        }
        framed(browser, &at("/account")).await;
        for number in 0..forms.len() {
            browser.open(&format!("{}/form/{number}", stranger.origin)).await;
            browser.until(&format!("location.origin === {:?} && document.readyState === 'complete'", api.origin)).await;
            let status = browser.value("performance.getEntriesByType('navigation')[0].responseStatus").await.unwrap();
            assert_eq!(status, if carried { 403 } else { 401 }, "{host} {number}");
            assert_eq!(acts.load(Relaxed), 1, "{host} {number}");
        }
    }
    // Nobody was signed out by it.
    browser.open(&app.origin).await;
    used(1).await;
}

/// `fetch` of all kinds that no preflight request holds up, and one that one does.
fn attempts(api: &str) -> Vec<Value> {
    let mut attempts = Vec::new();
    for credentials in ["include", "same-origin", "omit"] {
        let mut attempt = |mode: &str, method: &str, path: &str, content_type: Option<&str>| {
            let url = format!("{api}{path}");
            let mut attempt = json!({ "url": url, "method": method, "mode": mode, "credentials": credentials });
            if let Some(content_type) = content_type {
                attempt["headers"] = json!({ "content-type": content_type });
                attempt["body"] = "a=b".into();
            }
            attempts.push(attempt);
        };
        for mode in ["cors", "no-cors"] {
            for path in ["/account", "/picture", "/settings.js"] {
                attempt(mode, "GET", path, None);
            }
            for content_type in [None, Some(FORM), Some("text/plain")] {
                attempt(mode, "POST", "/act", content_type);
            }
        }
        attempt("cors", "POST", "/act", Some("application/json"));
    }
    attempts
}
