//! The example's page in a real browser, and pages of strangers in the same browser.
//!
//! Where Chromium or its driver is not installed the tests say so and pass, unless `PORTCULLIS_TEST_BROWSER` is `required`.
//! What was to be seen is in `target/browser`.

#![allow(clippy::print_stderr, reason = "told to whoever runs them: what is skipped")]

mod cookie_mode;
mod docs;
mod driver;
mod site;
#[expect(dead_code, reason = "strangers do not show their certificate")]
#[path = "../../examples/spa/tls.rs"]
mod tls;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use self::{
    driver::Driver,
    site::{PASSWORD, Program, Site},
};

/// One browser at a time: each is many processes.
static TURN: Mutex<()> = Mutex::const_new(());

/// Keeps the last access token that the page has sent where the test can find it. The page itself has no such place.
const SPY: &str = r#"
    const real = window.fetch;
    window.fetch = (url, options) => {
        window.spied = options?.headers?.authorization?.slice("Bearer ".length) ?? window.spied;
        return real(url, options);
    };
"#;

async fn sign_in(browser: &Driver, password: &str) {
    browser.visible("#sign-in").await;
    browser.type_into("#username", "demo").await;
    browser.type_into("#password", password).await;
    browser.click("#submit").await;
}

/// The access token that the page holds now.
async fn token_of(browser: &Driver) -> String {
    browser.run("window.spied = undefined", &Value::Null).await;
    browser.click("#call").await;
    browser.until("typeof window.spied === 'string' && !document.querySelector('#call').disabled").await;
    browser.value("window.spied").await.unwrap().as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_signs_in_calls_renews_is_reloaded_and_signs_out() {
    let _turn = TURN.lock().await;
    let Some(browser) = Driver::start("page").await else { return };
    timeout(Duration::from_secs(200), page(&browser)).await.unwrap();
    browser.quit().await;
}

async fn page(browser: &Driver) {
    let program = Program::start("page", "4");
    browser.open(&program.app).await;
    browser.visible("#sign-in").await;
    browser.until("document.querySelector('#error').hidden").await;

    sign_in(browser, "not the password").await;
    browser.visible("#error").await;
    assert_eq!(browser.text("#error").await, "400: the credentials are not valid");
    browser.screenshot("wrong-password").await;

    browser.run(SPY, &Value::Null).await;
    sign_in(browser, PASSWORD).await;
    browser.visible("#signed-in").await;
    browser.until("document.querySelectorAll('#devices li').length === 1").await;
    assert_eq!(browser.value("document.querySelector('#devices li').dataset.current").await.unwrap(), "true");
    assert!(browser.value("document.querySelector('#error').hidden").await.unwrap().as_bool().unwrap());
    let first = token_of(browser).await;
    browser.visible("#answer").await;
    assert!(browser.text("#answer").await.contains(r#""username": "demo""#));
    browser.screenshot("signed-in").await;

    // Renewed by itself, while nothing is clicked.
    browser.until("Number(document.querySelector('#renewals').textContent) >= 1").await;
    let second = token_of(browser).await;
    assert_ne!(first, second);
    assert!(browser.value("document.querySelector('#error').hidden").await.unwrap().as_bool().unwrap());
    // Nothing of it lies where a script could find it, now or later.
    let kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href.length]";
    assert_eq!(browser.value(kept).await.unwrap(), json!([0, 0, "", program.app.len() + 1]));

    // A reload goes on; so does a second tab, and neither gets in the way of the other.
    browser.reload().await;
    browser.visible("#signed-in").await;
    let tab = browser.tab().await;
    browser.new_tab().await;
    browser.open(&program.app).await;
    browser.visible("#signed-in").await;
    browser.until("Number(document.querySelector('#renewals').textContent) >= 3").await;
    browser.switch_to(&tab).await;
    browser.run(SPY, &Value::Null).await;
    let third = token_of(browser).await;
    assert_eq!(program.ask(Method::GET, "/me", &third).await.0, 200);
    assert_eq!(program.sessions(&third).await.as_array().unwrap().len(), 1, "all of this is one session");
    assert_eq!(program.logged("refresh token reused"), 0);

    // A session that somebody begins elsewhere is on the list, and can be ended from here.
    let elsewhere = program.watcher().await;
    browser.click("#reload").await;
    browser.until("document.querySelectorAll('#devices li').length === 2").await;
    browser.screenshot("two-devices").await;
    browser.click("#devices li[data-current=false] button").await;
    browser.until("document.querySelectorAll('#devices li').length === 1").await;
    assert_eq!(program.ask(Method::GET, "/me", &elsewhere).await.0, 401);

    let last = token_of(browser).await;
    assert_eq!(program.ask(Method::GET, "/me", &last).await.0, 200);
    browser.click("#sign-out").await;
    browser.visible("#sign-in").await;
    browser.screenshot("signed-out").await;
    for token in [&first, &second, &third, &last] {
        assert_eq!(program.ask(Method::GET, "/me", token).await.0, 401, "what was issued opens nothing any more");
    }
    browser.reload().await;
    browser.visible("#sign-in").await;
    assert!(browser.value("document.querySelector('#error').hidden").await.unwrap().as_bool().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_020_req_154_req_155_no_script_sees_the_refresh_token_and_headers_hold() {
    let _turn = TURN.lock().await;
    let Some(browser) = Driver::start("cookies").await else { return };
    timeout(Duration::from_secs(200), cookies(&browser)).await.unwrap();
    browser.quit().await;
}

async fn cookies(browser: &Driver) {
    let program = Program::start("cookies", "600");
    browser.open(&program.app).await;
    sign_in(browser, PASSWORD).await;
    browser.visible("#signed-in").await;
    // On the API's own host, where they belong, as a script there would see them, and as they are.
    browser.open(&format!("{}/.well-known/jwks.json", program.api)).await;
    let seen = browser.value("document.cookie").await.unwrap();
    assert!(seen.as_str().unwrap().starts_with("__Host-portcullis-csrf="), "{seen}");
    assert!(!seen.as_str().unwrap().contains(';'), "{seen}");
    let cookies = browser.cookies().await;
    let refresh = cookies.iter().find(|cookie| cookie["name"] == "__Host-portcullis-refresh").expect("it is there");
    for cookie in &cookies {
        assert_eq!(
            (&cookie["secure"], &cookie["sameSite"], &cookie["path"]),
            (&true.into(), &"Strict".into(), &"/".into())
        );
        assert_eq!(cookie["domain"], "api.portcullis.example", "of this host alone: {cookie}");
        assert_eq!(cookie["httpOnly"] == true, cookie["name"] != "__Host-portcullis-csrf", "{cookie}");
    }
    assert!(refresh["value"].as_str().unwrap().len() > 40);
    for url in [&program.app, &format!("{}/sessions", program.api)] {
        let headers = program.headers(url).await;
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{url}");
        assert_eq!(header("x-frame-options"), "DENY", "{url}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{url}");
        assert_eq!(header("strict-transport-security"), "max-age=63072000; includeSubDomains", "{url}");
    }
    browser.open(&program.app).await;
    browser.visible("#signed-in").await;
    browser.click("#sign-out").await;
    browser.visible("#sign-in").await;
    browser.open(&format!("{}/.well-known/jwks.json", program.api)).await;
    let left: Vec<Value> = browser.cookies().await;
    let left = left.iter().filter(|cookie| cookie["name"].as_str().unwrap().starts_with("__Host-portcullis-"));
    assert_eq!(left.filter(|cookie| cookie["httpOnly"] == false || cookie["name"] == refresh["name"]).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_never_end_hold_up_nobody() {
    let stranger = Site::of_pages("localhost", Vec::new()).await;
    let address = stranger.origin.strip_prefix("https://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build().unwrap();
    let answer = timeout(Duration::from_secs(5), client.get(&stranger.origin).send()).await.expect("an answer in time");
    assert_eq!(answer.unwrap().status(), 200);
}

/// Sends one request from whatever page is open, and says what the page learns: `refused` if `fetch` rejects, `opaque` if there is
/// an answer that nobody may look into, or else the status and the text.
const ATTEMPT: &str = r#"
    const { url, ...options } = $;
    try {
        const answer = await fetch(url, options);
        return answer.type === "opaque" && answer.status === 0 ? "opaque" : [answer.status, await answer.text()];
    } catch {
        return "refused";
    }
"#;

/// A page within a page; says whether the outer one can look into it.
const FRAME: &str = r#"
    const frame = document.createElement("iframe");
    const loaded = new Promise((done) => frame.onload = done);
    frame.src = $.url;
    document.body.append(frame);
    await loaded;
    await new Promise((done) => setTimeout(done, 500));
    try {
        return frame.contentWindow.document.body.innerText;
    } catch {
        return "refused";
    }
"#;

/// Frames a page that must not be shown within another: the browser shows an error of its own in its place.
async fn framed(browser: &Driver, url: &str) {
    assert_eq!(browser.run(FRAME, &json!({ "url": url })).await, "refused", "{url}");
    let shown = browser.value_in_frame("iframe", "location.href").await;
    assert_eq!(shown, "chrome-error://chromewebdata/", "{url}");
}

fn login_form() -> String {
    format!("username=demo&password={}&device_name=Stranger", PASSWORD.replace(' ', "+"))
}

/// Requests that a stranger's page may try, with all that it may know but has no right to use: the password and a good token.
fn attempts(api: &str, token: &str, session: &str) -> Vec<Value> {
    let form = "application/x-www-form-urlencoded";
    let bearer = json!({ "authorization": format!("Bearer {token}") });
    let mut attempts = Vec::new();
    for credentials in ["include", "omit"] {
        for mode in ["cors", "no-cors"] {
            let mut attempt = |method: &str, path: &str, headers: Value, body: Option<&str>| {
                let url = format!("{api}{path}");
                let mut attempt = json!({ "url": url, "method": method, "mode": mode, "credentials": credentials });
                attempt["headers"] = headers;
                if let Some(body) = body {
                    attempt["body"] = body.into();
                }
                attempts.push(attempt);
            };
            for path in ["/me", "/sessions", "/session", "/.well-known/jwks.json"] {
                attempt("GET", path, json!({}), None);
            }
            // Simple ones, which no preflight request holds up.
            attempt("POST", "/session/refresh", json!({}), None);
            attempt("POST", "/session/refresh", json!({ "content-type": form }), Some("scope=me"));
            attempt("POST", "/session", json!({ "content-type": form }), Some(&login_form()));
            attempt("POST", "/session", json!({ "content-type": "text/plain" }), Some(&login_form()));
            attempt("POST", "/logout", json!({}), None);
            // Those which one does: by their method, their content type or another field.
            attempt("DELETE", "/session", json!({}), None);
            attempt("DELETE", "/sessions", json!({}), None);
            attempt("POST", "/session", json!({ "content-type": "application/json" }), Some("{}"));
            attempt("POST", "/session/refresh", json!({ "x-csrf-token": "guess" }), None);
            attempt("GET", "/me", bearer.clone(), None);
            attempt("POST", "/logout", bearer.clone(), None);
            attempt("DELETE", &format!("/sessions/{session}"), bearer.clone(), None);
        }
    }
    attempts
}

/// Forms that a page posts without asking anybody.
fn forms(api: &str) -> Vec<String> {
    let hidden = |(name, value)| format!("<input type=hidden name='{name}' value='{value}'>");
    let login = [("username", "demo"), ("password", PASSWORD), ("device_name", "Stranger")].map(hidden).concat();
    let mut forms = Vec::new();
    for enctype in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"] {
        for (path, fields) in [("/session", &*login), ("/session/refresh", ""), ("/session?_method=DELETE", "")] {
            forms.push(format!("<form method=post enctype={enctype} action='{api}{path}'>{fields}</form>"));
        }
    }
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_151_req_156_req_157_a_page_of_strangers_can_neither_read_nor_act() {
    let _turn = TURN.lock().await;
    let Some(browser) = Driver::start("strangers").await else { return };
    timeout(Duration::from_secs(300), strangers(&browser)).await.unwrap();
    browser.quit().await;
}

async fn strangers(browser: &Driver) {
    let program = Program::start("strangers", "600");
    let (api, forms) = (&program.api, forms(&program.api));
    browser.open(&program.app).await;
    sign_in(browser, PASSWORD).await;
    browser.visible("#signed-in").await;
    let watcher = program.watcher().await;
    let before = program.sessions(&watcher).await;
    assert_eq!(before.as_array().unwrap().len(), 2, "the browser's and the watcher's: {before}");
    let own = before.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap()["id"].clone();
    // A use of the session would show: times are in seconds.
    sleep(Duration::from_millis(1100)).await;

    // Another site, to which the cookies are not sent; and another origin of the same site, to which they are.
    for host in ["evil.example", "evil.portcullis.example"] {
        let stranger = Site::of_pages(host, forms.clone()).await;
        browser.open(&stranger.origin).await;
        for attempt in attempts(api, &watcher, own.as_str().unwrap()) {
            let learned = browser.run(ATTEMPT, &attempt).await;
            let expected: &[&str] = if attempt["mode"] == "cors" { &["refused"] } else { &["refused", "opaque"] };
            assert!(expected.iter().any(|expected| learned == *expected), "{host} {attempt}: {learned}");
            assert_eq!(program.sessions(&watcher).await, before, "{host} {attempt}");
        }
        for (number, form) in forms.iter().enumerate() {
            browser.open(&format!("{}/form/{number}", stranger.origin)).await;
            browser.until(&format!("location.origin === {api:?} && document.readyState === 'complete'")).await;
            let status = "performance.getEntriesByType('navigation')[0].responseStatus";
            assert_eq!(browser.value(status).await.unwrap(), 403, "{host} {form}");
            assert_eq!(program.sessions(&watcher).await, before, "{host} {form}");
        }
        browser.screenshot(&format!("refused-{host}")).await;
        // Nor can the page be shown within another, to lead clicks astray. On the same site, it would have renewed its token.
        browser.open(&stranger.origin).await;
        framed(browser, &program.app).await;
        assert_eq!(program.sessions(&watcher).await, before, "{host}");
    }
    let refused = program.logged("request of another site");
    assert!(refused >= 2 * (forms.len() + 4), "they have reached the guard: {refused}");

    // The user has noticed nothing; and the same requests, from the page that may, are answered.
    browser.open(&program.app).await;
    browser.visible("#signed-in").await;
    browser.until("document.querySelectorAll('#devices li').length === 2").await;
    let after = program.sessions(&watcher).await;
    assert!(after.as_array().unwrap().iter().any(|session| session["id"] == own), "{after}");
    assert_ne!(after, before, "what the page does shows");
    for attempt in attempts(api, &watcher, "none") {
        let (url, mode) = (attempt["url"].as_str().unwrap(), &attempt["mode"]);
        if mode == "cors" && attempt["credentials"] == "include" && url.ends_with("/session/refresh") {
            let status = browser.run(ATTEMPT, &attempt).await[0].clone();
            let expected =
                if attempt["headers"] == json!({ "x-csrf-token": "guess" }) { Value::Null } else { 200.into() };
            assert_eq!(status, expected, "{attempt}");
        }
    }
    // 401 is readable, too.
    let attempt = json!({ "url": format!("{api}/me"), "method": "GET" });
    assert_eq!(browser.run(ATTEMPT, &attempt).await[0], 401);

    // Nobody is signed in by a stranger, as somebody whom they did not choose.
    browser.click("#sign-out").await;
    browser.visible("#sign-in").await;
    let before = program.sessions(&watcher).await;
    for host in ["evil.example", "evil.portcullis.example"] {
        let stranger = Site::of_pages(host, forms.clone()).await;
        for number in 0..forms.len() {
            browser.open(&format!("{}/form/{number}", stranger.origin)).await;
            browser.until(&format!("location.origin === {api:?} && document.readyState === 'complete'")).await;
        }
        assert_eq!(program.sessions(&watcher).await, before, "{host}");
        browser.open(&program.app).await;
        browser.visible("#sign-in").await;
    }
}
