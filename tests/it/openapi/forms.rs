//! What the server's own endpoints take and answer, against the schemas that the document has of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Request},
};
use portcullis::{
    AuthorizationServer,
    client::{Client, GrantType, HashedSecret},
    endpoint::{Registration, SessionCookies},
    password::PasswordHasher,
    rejection::AnswerStyle,
    secret::Secret,
    session::SessionPolicy,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{SECRET, builder, guard, json_of};
use crate::login::{PASSWORD, hasher};

/// A server with every endpoint, where `alice` can sign in.
async fn server(hasher: &PasswordHasher, style: AnswerStyle) -> AuthorizationServer {
    let users = crate::login::users().await;
    let secret = HashedSecret::of(&Secret::from(SECRET)).unwrap();
    let tool = Client::confidential("tool", secret).grant(GrantType::ClientCredentials).scopes(["a"]);
    builder()
        .first_party_login(Arc::clone(&users) as _, hasher.clone())
        .sessions(users as _, SessionPolicy::default().grace(Duration::from_secs(10)))
        .session_cookies(SessionCookies::new(guard()))
        .registration(Registration::new().scopes(["me"]))
        .answer_style(style)
        .client(tool.introspects(["https://api.example/shop"]))
        .build()
        .unwrap()
}

/// Whether a value is of a schema, and has nothing that the schema does not name.
fn conforms(document: &Value, schema: &Value, value: &Value, what: &str) {
    let named = schema["$ref"].as_str().map(|target| document.pointer(&target[1..]).unwrap());
    let schema = named.unwrap_or(schema);
    if let Some(forms) = schema["oneOf"].as_array() {
        // Those of one type differ in what they need.
        let needs = |form: &&Value| {
            let form = form["$ref"].as_str().map_or(*form, |target| document.pointer(&target[1..]).unwrap());
            form["required"].as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
        };
        return conforms(document, forms.iter().find(needs).unwrap_or_else(|| panic!("{what}: {value}")), value, what);
    }
    match value {
        Value::Object(members) => {
            assert_eq!(schema["type"], "object", "{what}");
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(members.contains_key(name.as_str().unwrap()), "{what} has no {name}");
            }
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, member) in members {
                let property = properties.get(name).unwrap_or_else(|| panic!("{what}: {name} is not in the document"));
                conforms(document, property, member, &format!("{what}.{name}"));
            }
        }
        Value::Array(items) => {
            assert_eq!(schema["type"], "array", "{what}");
            for item in items {
                conforms(document, &schema["items"], item, what);
            }
        }
        Value::String(_) => assert_eq!(schema["type"], "string", "{what}"),
        Value::Number(_) => assert_eq!(schema["type"], "integer", "{what}"),
        Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{what}"),
        Value::Null => assert_eq!(schema["type"], "null", "{what}"),
    }
}

struct Documented {
    app: Router,
    document: Value,
}

impl Documented {
    /// Sends a request as the document has it, and compares the answer with what is said there.
    async fn ask(
        &self,
        one: &str,
        fields: &[(&str, &str)],
        form: &[(&str, &str)],
        expected: u16,
    ) -> (HeaderMap, Value) {
        let (method, path) = one.split_once(' ').unwrap();
        let template = if path.starts_with("/shop/sessions/") { "/shop/sessions/{id}" } else { path };
        let operation = &self.document["paths"][template][method];
        let named = &operation["requestBody"]["content"][FORM]["schema"];
        for (name, _) in form {
            assert!(named["properties"][name].is_object(), "{one}: {name} is not in the document");
        }
        for name in named["required"].as_array().into_iter().flatten().filter(|_| expected < 300) {
            assert!(form.iter().any(|(own, _)| name == own), "{one} without {name}");
        }
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
        let request = request.extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 4711))));
        let request = if form.is_empty() { request } else { request.header("content-type", FORM) };
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = self.app.clone().oneshot(request.body(Body::from(form.join("&"))).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        assert_eq!(parts.status, expected, "{one}: {body:?}");
        let told = &operation["responses"][expected.to_string()];
        assert!(!told.is_null(), "{one} answers {expected}");
        for name in told["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(parts.headers.contains_key(name), "{one} {expected} has no {name}");
        }
        let Some(content_type) = parts.headers.get("content-type") else {
            assert!(told["content"].is_null() && body.is_empty(), "{one} {expected}");
            return (parts.headers, Value::Null);
        };
        let value: Value = serde_json::from_slice(&body).unwrap();
        let schema = &told["content"][content_type.to_str().unwrap()]["schema"];
        assert!(schema.is_object(), "{one} {expected}: {content_type:?} is not in the document");
        conforms(&self.document, schema, &value, &format!("{one} {expected}"));
        (parts.headers, value)
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

async fn shop(style: AnswerStyle) -> Documented {
    let server = self::server(&hasher(), style).await;
    let (app, document) = server.documented_routes().split_for_parts();
    let document = server.document(document, [("", ""); 0]).unwrap();
    Documented { app, document: json_of(&document) }
}

#[tokio::test]
async fn forms_and_answers_have_the_members_that_the_document_names() {
    let shop = shop(AnswerStyle::Standard).await;
    let login = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();

    let with = |more: &[(&'static str, &'static str)]| [&login[..], more].concat();
    let more = with(&[("scope", "me"), ("device_name", "Phone"), ("resource", "https://api.example/shop")]);
    let (_, first) = shop.ask("post /shop/token", &[], &more, 200).await;
    shop.ask("post /shop/token", &[], &with(&[("device_token", &*text(&first, "device_token").leak())]), 200).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "tool"), ("client_secret", SECRET), ("scope", "a")];
    shop.ask("post /shop/token", &[], &own, 200).await;
    shop.ask("post /shop/token", &[], &[("grant_type", "nothing")], 400).await;
    shop.ask("post /shop/token", &[], &with(&[("client_id", "nobody")]), 401).await;

    let refresh_token = text(&first, "refresh_token");
    let (_, turned) = shop.ask("post /shop/token/refresh", &[], &[("refresh_token", &refresh_token)], 200).await;
    shop.ask("post /shop/token/refresh", &[], &[("refresh_token", "nothing")], 400).await;
    let again = text(&turned, "refresh_token");
    let grant = [("grant_type", "refresh_token"), ("refresh_token", &*again), ("scope", "me")];
    let (_, turned) = shop.ask("post /shop/token", &[], &grant, 200).await;

    let token = text(&turned, "access_token");
    let tool = [("client_id", "tool"), ("client_secret", SECRET)];
    let (_, told) = shop.ask("post /shop/introspect", &[], &[&tool[..], &[("token", &token)]].concat(), 200).await;
    assert_eq!(told["active"], true);
    let (_, told) = shop.ask("post /shop/introspect", &[], &[&tool[..], &[("token", "nothing")]].concat(), 200).await;
    assert_eq!(told, json!({ "active": false }));
    shop.ask("post /shop/introspect", &[], &[("token", "nothing")], 401).await;

    let bearer = format!("Bearer {token}");
    let caller = [("authorization", bearer.as_str())];
    let (_, listed) = shop.ask("get /shop/sessions", &caller, &[], 200).await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2);
    shop.ask("get /shop/sessions", &[], &[], 401).await;
    let other = listed["sessions"].as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    shop.ask(&format!("delete /shop/sessions/{}", text(other, "id")), &caller, &[], 204).await;
    shop.ask("delete /shop/sessions/nothing", &caller, &[], 404).await;

    let change = |current, new| [("current_password", current), ("new_password", new)];
    shop.ask("post /shop/password", &caller, &change(PASSWORD, "short"), 400).await;
    shop.ask("post /shop/password", &caller, &change("not the password", "another lantern, in the harbour"), 400).await;
    shop.ask("post /shop/password", &[], &change(PASSWORD, "short"), 401).await;
    shop.ask("post /shop/password", &caller, &change(PASSWORD, "another lantern, in the harbour"), 204).await;

    let register = |name, password| [("username", name), ("password", password)];
    shop.ask("post /shop/register", &[], &register("new", "a lantern in the harbour"), 201).await;
    shop.ask("post /shop/register", &[], &register("new", "a lantern in the harbour"), 409).await;
    shop.ask("post /shop/register", &[], &register("n w", "short"), 400).await;

    let page = [("sec-fetch-site", "same-origin")];
    let forged = [("sec-fetch-site", "cross-site")];
    let (begun, _) = shop.ask("post /shop/session", &page, &register("new", "a lantern in the harbour"), 200).await;
    let cookies: Vec<_> = begun.get_all("set-cookie").iter().map(|field| field.to_str().unwrap()).collect();
    let cookies: Vec<_> = cookies.iter().map(|field| field.split(';').next().unwrap()).collect();
    let cookies = cookies.join("; ");
    let within = [page[0], ("cookie", cookies.as_str())];
    shop.ask("post /shop/session/refresh", &within, &[], 200).await;
    shop.ask("post /shop/session/refresh", &page, &[], 400).await;
    shop.ask("post /shop/session/refresh", &forged, &[], 403).await;
    shop.ask("post /shop/session", &forged, &register("new", "x"), 403).await;
    shop.ask("delete /shop/session", &within, &[], 204).await;

    shop.ask("post /shop/revoke", &[], &[("token", "nothing")], 200).await;
    shop.ask("post /shop/revoke", &[], &[("token", "nothing"), ("client_id", "nobody")], 401).await;
    shop.ask("post /shop/logout", &caller, &[], 204).await;
    shop.ask("delete /shop/sessions", &caller, &[], 401).await;
    shop.ask("get /shop/.well-known/jwks.json", &[], &[], 200).await;
    shop.ask("get /.well-known/oauth-authorization-server/shop", &[], &[], 200).await;
    shop.ask("get /.well-known/oauth-protected-resource/shop", &[], &[], 200).await;
    // At last: these are counted.
    let guess = [("grant_type", "password"), ("username", "bob"), ("password", "guess")];
    for _ in 0..5 {
        shop.ask("post /shop/token", &[], &guess, 400).await;
    }
    shop.ask("post /shop/token", &[], &guess, 429).await;
    shop.ask("post /shop/session", &page, &guess[1..], 429).await;
}

#[tokio::test]
async fn in_the_style_of_fastapi_too() {
    let shop = shop(AnswerStyle::FastApi).await;
    let login = [("username", "alice"), ("password", PASSWORD)];
    let (_, tokens) = shop.ask("post /shop/token", &[], &login, 200).await;
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    shop.ask("post /shop/token/refresh", &[], &[("refresh_token", refresh_token)], 200).await;
    shop.ask("post /shop/token/refresh", &[], &[("refresh_token", "nothing")], 400).await;
    let (_, told) = shop.ask("post /shop/token", &[], &[("username", "alice")], 422).await;
    assert_eq!(told["detail"][0]["loc"], json!(["body", "password"]));
    shop.ask("post /shop/token", &[], &[("grant_type", "nothing")], 400).await;
    let of_nobody = [&login[..], &[("client_id", "nobody")]].concat();
    let (_, told) = shop.ask("post /shop/token", &[], &of_nobody, 401).await;
    assert_eq!(told["error"], "invalid_client");

    let (_, told) = shop.ask("get /shop/sessions", &[], &[], 401).await;
    assert_eq!(told, json!({ "detail": "Not authenticated" }));
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    shop.ask("delete /shop/sessions/nothing", &[("authorization", &bearer)], &[], 404).await;
    let forged = [("sec-fetch-site", "cross-site")];
    shop.ask("post /shop/session", &forged, &[("username", "new"), ("password", "x")], 403).await;
    let guess = [("username", "bob"), ("password", "guess")];
    for _ in 0..5 {
        let (_, told) = shop.ask("post /shop/token", &[], &guess, 401).await;
        assert_eq!(told, json!({ "detail": "Incorrect username or password" }));
    }
    shop.ask("post /shop/token", &[], &guess, 429).await;
    shop.ask("post /shop/session", &[("sec-fetch-site", "same-origin")], &guess, 429).await;
}
