//! A whole life of a server, with a secret in every place where one can be.

#[cfg(feature = "redis")]
use std::io::{Read as _, Write as _};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, routing::get as route};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::{
    AuthorizationServer,
    audit::{AuditLayer, AuditTrail, AuditTrailBuilder, JsonLines},
    browser::CsrfGuard,
    client::{Client, GrantType, HashedSecret, random_secret},
    clock::{ManualClock, UnixSeconds},
    endpoint::{Registration, SessionCookies},
    ident::LoginName,
    jwt::{Algorithm, ClaimsPolicy, KeyRing, RemoteJwks, SigningKey},
    login::{AccountField, Lockout, LoginLimiter, LoginLimiterBuilder, LoginRateLimitLayer, Quota},
    password::{BreachClient, PasswordHasher},
    secret::Secret,
    session::SessionPolicy,
    store::{AuditTable, EventQuery, Store, UserStore as _},
    testing::{EventLog, Flaw, TestAuthority},
};
use serde_json::json;
use tokio::net::TcpStream;

use super::{
    needles::{Found, Needles},
    recorder::Recorder,
    shown,
};
use crate::{
    audit_events::Users,
    sessions::{Flaky, Mood},
    stores::Folder,
    support::{Reply, Server, now, send, serve},
};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
/// For which pages may ask twice.
const GRACE: Duration = Duration::from_secs(10);
const SAME: &str = "sec-fetch-site: same-origin";
/// What a user would type: with characters that each encoding writes in its own way.
const RIGHT: &str = "zebra \"quartz\" & lamp + 4711\\ö";
const WRONG: &str = "walrus 'onyx' & kettle + 0815\\ü";
const NEWER: &str = "ostrich <amber> & anvil % 2342/ä";
const AS_NAME: &str = "typed-as-a-name-by-mistake-1f9e";
const IN_QUERY: &str = "typed-into-the-query-by-mistake-77";
const IN_JSON: &str = "sent as \"JSON\" by mistake, 3133";
const IN_PARTS: &str = "sent in parts by mistake, 90210";
const TOKEN_IN_QUERY: &str = "token-in-the-query-by-mistake-5150";
/// Of databases and key servers that are not there.
const OF_URL: &str = "p4ss-of-a-url-8c1d2e";

/// Of a key server that wants one.
const OF_QUERY: &str = "key-in-an-address-4f7a90";

/// All that is planted, and all in which it is looked for.
pub struct Run {
    recorder: Recorder,
    needles: Needles,
    /// What was told, and where.
    told: Vec<(&'static str, Vec<u8>)>,
    begun: Instant,
    answers: usize,
}

pub fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

/// A server, and where what it says is kept.
struct World {
    server: Server,
    clock: Arc<ManualClock>,
    log: EventLog,
    trail: AuditTrail,
    /// Redis has none.
    table: Option<AuditTable>,
    secrets: Vec<(&'static str, String)>,
}

impl Run {
    pub fn begin() -> Self {
        static RECORDER: std::sync::OnceLock<Recorder> = std::sync::OnceLock::new();
        let recorder = RECORDER.get_or_init(|| {
            let recorder = Recorder::default();
            recorder.install();
            recorder
        });
        recorder.take();
        let mut needles = Needles::default();
        for (name, secret) in [
            ("the right password", RIGHT),
            ("a wrong password", WRONG),
            ("the new password", NEWER),
            ("a password as name", AS_NAME),
            ("a password in the query", IN_QUERY),
            ("a password in JSON", IN_JSON),
            ("a password in parts", IN_PARTS),
            ("a token in the query", TOKEN_IN_QUERY),
            ("a password of a URL", OF_URL),
            ("a key in an address", OF_QUERY),
        ] {
            needles.add(name, secret);
        }
        Self { recorder: recorder.clone(), needles, told: Vec::new(), begun: Instant::now(), answers: 0 }
    }

    /// Something that was told.
    pub fn told(&mut self, place: &'static str, text: &[u8]) {
        self.told.push((place, text.to_vec()));
    }

    /// Searches all of it, and says how much that was.
    pub fn finish(mut self) {
        let logged = self.recorder.take();
        self.told("log", &logged);
        let (secrets, needles) = self.needles.count();
        let bytes: usize = self.told.iter().map(|(_, text)| text.len()).sum();
        println!(
            "{secrets} secrets in {needles} needles, searched for in {bytes} bytes, {} answers, {:.1} s:",
            self.answers,
            self.begun.elapsed().as_secs_f64()
        );
        let mut found = Vec::new();
        let mut places: Vec<&'static str> = self.told.iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let texts = self.told.iter().filter(|(own, _)| *own == place).map(|(_, text)| text.as_slice());
            let text = texts.collect::<Vec<_>>().join(&b'\n');
            let hits = self.needles.search(&text);
            println!("  {place}: {} bytes, {} found", text.len(), hits.len());
            assert!(!text.is_empty(), "nothing was told in {place}");
            let report = |hit: &Found| format!("{} as {} in {place}: {}", hit.name, hit.encoding, hit.around);
            found.extend(hits.iter().map(report));
        }
        for target in ["portcullis", "portcullis::audit", "hyper", "h2", "reqwest"] {
            let text = String::from_utf8_lossy(&logged);
            let lines = text.lines().filter(|line| line.split(' ').nth(1).is_some_and(|own| own.starts_with(target)));
            println!("  of the log, {} lines are of {target}", lines.count());
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Keeps an answer that holds no secret of its own.
    fn answered(&mut self, reply: &Reply, is_meant: bool) {
        self.answers += 1;
        for (name, value) in &reply.headers {
            if name != "set-cookie" {
                self.told("answers", format!("{name}: {value}\n").as_bytes());
            }
        }
        // A login that ends in an outage makes its device known all the same.
        if !is_meant {
            self.told("answers", &reply.body);
        }
    }

    /// Asks, and keeps the answer.
    async fn ask(&mut self, address: SocketAddr, line: &str, headers: &[&str], body: &str) -> Reply {
        self.ask_for(address, line, headers, body, false).await
    }

    /// Asks for something whose answer is a secret, if it is good.
    async fn ask_for(
        &mut self,
        address: SocketAddr,
        line: &str,
        headers: &[&str],
        body: &str,
        is_meant: bool,
    ) -> Reply {
        let mut fields: Vec<&[u8]> = headers.iter().map(|field| field.as_bytes()).collect();
        if !body.is_empty() && !headers.iter().any(|field| field.starts_with("content-type")) {
            fields.push(FORM.as_bytes());
        }
        let reply = send(address, line, &fields, body.as_bytes()).await;
        self.answered(&reply, is_meant && reply.status == 200);
        self.plant(&reply);
        reply
    }

    /// Whatever an answer gives is a secret from now on.
    fn plant(&mut self, reply: &Reply) {
        if let Ok(body) = serde_json::from_slice::<serde_json::Value>(&reply.body) {
            for name in ["access_token", "refresh_token", "device_token"] {
                if let Some(token) = body[name].as_str() {
                    self.needles.add_token(name, token);
                }
            }
        }
        for (_, field) in reply.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
            if value.len() >= 16 {
                self.needles.add_token(&format!("cookie {name}"), value);
            }
        }
    }

    /// Everything, with the stores behind this URL.
    pub async fn everything(&mut self, url: &str) {
        let folder = Folder::new("hygiene-audit");
        let json_lines = folder.file("audit.jsonl");
        let world = self.world(url, &json_lines).await;
        let at = world.server.address;
        self.accounts(at, &world).await;
        self.sessions(at, &world.clock).await;
        self.pages(at, &world.clock).await;
        self.programs(at, &world).await;
        self.bad_tokens(at).await;
        self.other_keys().await;
        self.outages().await;
        self.addresses_with_passwords().await;
        shown::everything(self).await;
        // The events, as each sink has them.
        let events = world.log.events(&world.trail).await;
        assert!(events.len() > 40, "{}", events.len());
        self.told("events", format!("{events:#?}").as_bytes());
        let lines = std::fs::read(&json_lines).unwrap();
        assert_eq!(String::from_utf8_lossy(&lines).lines().count(), events.len());
        self.told("lines of JSON", &lines);
        let Some(table) = world.table else { return };
        assert!(world.trail.flush(Duration::from_secs(10)).await);
        let (mut rows, mut query) = (Vec::new(), EventQuery::new());
        loop {
            let page = table.events(query.clone()).await.unwrap();
            let Some(last) = page.last() else { break };
            query = query.after(last.id.clone());
            rows.extend(page);
        }
        assert_eq!(rows.len(), events.len());
        self.told("rows of the table", format!("{rows:#?}").as_bytes());
    }

    fn secret(&mut self, name: &str) -> String {
        let secret = random_secret().unwrap().expose().clone();
        self.needles.add(name, &secret);
        secret
    }

    async fn world(&mut self, url: &str, json_lines: &std::path::Path) -> World {
        let store = Store::connect(url).await.unwrap();
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
        // Redis has no users, and no keys.
        let memory = Store::connect("memory:").await.unwrap();
        let users = store.users().or_else(|| memory.users()).unwrap();
        let [sealing, pepper, csrf, limiter, one, two] =
            ["sealing secret", "pepper", "CSRF secret", "limiter's secret", "client's secret", "other client's secret"]
                .map(|name| self.secret(name));
        let hasher = PasswordHasher::builder().pepper("p1", Secret::new(pepper)).concurrency(2).build().unwrap();
        let keys = store.keys().or_else(|| memory.keys()).unwrap();
        let keys = KeyRing::stored(keys, Algorithm::Es256, Secret::new(sealing)).open().await.unwrap();
        let quota = Quota::per_minute(10_000);
        let limits = LoginLimiter::builder().per_address(quota).per_account(Lockout::default().free(3));
        let limits = limits.registrations(quota).secret(Secret::new(limiter)).silent();
        let limits = store.attempts().into_iter().fold(limits, LoginLimiterBuilder::store);
        let limits = limits.build().unwrap();
        let guard = CsrfGuard::builder().secret(Secret::new(csrf)).build().unwrap();
        let client = |id: &str, secret: &str| {
            let secret = HashedSecret::of(&Secret::from(secret)).unwrap();
            Client::confidential(id, secret).grant(GrantType::ClientCredentials).scopes(["items"])
        };
        let handle = AuthorizationServer::builder("https://id.example", "orders", keys)
            .first_party_login(Arc::clone(&users), hasher.clone())
            .login_limits(limits.clone())
            .sessions(store.sessions(), SessionPolicy::default().grace(GRACE))
            .clock(Arc::clone(&clock) as _)
            .session_cookies(SessionCookies::new(guard.clone()).access_in_cookie())
            .registration(Registration::new().scopes(["me"]))
            .client(client("one", &one))
            .client(client("two", &two))
            .build()
            .unwrap();
        let api = handle.resource_server();
        let at = |path: &str| Router::new().route(path, route(|| async { "in" }).post(|| async { "in" }));
        // A program's own way to sign in, with forms and JSON.
        let own = at("/own").layer(LoginRateLimitLayer::new(limits, AccountField::form_or_json("username")));
        let log = EventLog::new();
        let lines = JsonLines::append(json_lines).unwrap();
        let trail = AuditTrail::builder().sink(log.clone()).sink(lines).admitted_one_in(1);
        let table = store.audit();
        let trail = table.iter().cloned().fold(trail, AuditTrailBuilder::sink).start().unwrap();
        let app = at("/items")
            .layer(api.require(["items"]).unwrap())
            .merge(at("/me").layer(handle.current_user().unwrap()))
            .layer(api.authenticate())
            .merge(at("/page").layer(api.authenticate_cookie(guard)))
            .merge(own)
            .merge(handle.routes())
            .layer(AuditLayer::new(trail.clone()));
        World { server: serve(app).await, clock, log, trail, table, secrets: vec![("one", one), ("two", two)] }
    }

    async fn accounts(&mut self, at: SocketAddr, world: &World) {
        for name in ["alice", "bob"] {
            let register = encoded(&[("username", name), ("password", RIGHT)]);
            assert_eq!(self.ask(at, "POST /register", &[], &register).await.status, 201);
            assert_eq!(self.ask(at, "POST /register", &[], &register).await.status, 409);
        }
        self.ask(at, "POST /register", &[], &encoded(&[("username", AS_NAME), ("password", AS_NAME)])).await;
        self.ask(at, "POST /register", &[], &encoded(&[("username", "a"), ("password", "123456789012")])).await;
        let good = login("alice", RIGHT);
        assert_eq!(self.ask_for(at, "POST /token", &[], &good, true).await.status, 200);
        for (line, headers, body) in [
            ("POST /token", vec![], login("alice", WRONG)),
            ("POST /token", vec![], login("nobody", RIGHT)),
            ("POST /token", vec![], login(AS_NAME, RIGHT)),
            ("POST /token", vec![], login("alice", RIGHT) + "&scope=admin"),
            ("POST /token", vec![], login("alice", RIGHT) + &format!("&password={}", encoded_text(WRONG))),
            (&format!("POST /token?username=alice&password={IN_QUERY}"), vec![], "grant_type=password".to_owned()),
            (&format!("GET /token?password={IN_QUERY}"), vec![], String::new()),
            ("POST /token", vec!["content-type: application/json"], json!({ "password": IN_JSON }).to_string()),
            ("POST /token", vec!["content-type: multipart/form-data; boundary=x"], parts()),
            (
                "POST /own",
                vec!["content-type: application/json"],
                json!({ "username": 7, "password": IN_JSON }).to_string(),
            ),
            ("POST /own", vec!["content-type: application/json"], format!("{{\"password\": \"{WRONG}")),
            ("POST /own", vec!["content-type: multipart/form-data; boundary=x"], parts()),
            ("POST /token", vec!["authorization: Basic !!!"], good.clone()),
            ("POST /token", vec![&basic("alice", RIGHT)], "grant_type=client_credentials".to_owned()),
        ] {
            let reply = self.ask(at, line, &headers, &body).await;
            assert!(reply.status >= 400, "{line} {body}: {reply:?}");
        }
        // Locked, silently; and more at once than are hashed.
        for _ in 0..5 {
            assert_eq!(self.ask(at, "POST /token", &[], &login("bob", WRONG)).await.status, 400);
        }
        assert_eq!(self.ask(at, "POST /token", &[], &login("bob", RIGHT)).await.status, 400);
        let shed = login("nobody", RIGHT);
        let form = [FORM.as_bytes()];
        let replies = join_all((0..90).map(|_| send(at, "POST /token", &form, shed.as_bytes()))).await;
        assert!(replies.iter().any(|reply| reply.status == 503));
        for reply in &replies {
            self.answered(reply, false);
        }
        drop(world.log.events(&world.trail).await);
    }

    async fn sessions(&mut self, at: SocketAddr, clock: &ManualClock) {
        let field = |reply: &Reply, name: &str| reply.json()[name].as_str().unwrap().to_owned();
        let reply = self.ask_for(at, "POST /token", &[], &login("alice", RIGHT), true).await;
        let (spent, access) = (field(&reply, "refresh_token"), bearer(&field(&reply, "access_token")));
        let in_query = format!("/me?access_token={TOKEN_IN_QUERY}");
        for (path, status) in [("/me", 200), ("/sessions", 200), (&in_query, 400)] {
            assert_eq!(self.ask(at, &format!("GET {path}"), &[&access], "").await.status, status, "{path}");
        }
        assert_eq!(self.ask(at, "GET /items", &[&access], "").await.status, 403);
        assert_eq!(self.ask(at, &format!("GET {in_query}"), &[], "").await.status, 401);
        let again = format!("refresh_token={spent}");
        let reply = self.ask_for(at, "POST /token/refresh", &[], &again, true).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        clock.advance(GRACE);
        let foreign = encoded(&[("refresh_token", &format!("{}A", &spent[..spent.len() - 1]))]);
        for body in [&again, &foreign, "refresh_token=not-a-refresh-token", &again] {
            assert_eq!(self.ask(at, "POST /token/refresh", &[], body).await.status, 400);
        }
        let reply = self.ask_for(at, "POST /token", &[], &login("alice", RIGHT), true).await;
        let access = bearer(&field(&reply, "access_token"));
        for (current, new, status) in [(WRONG, NEWER, 400), (RIGHT, "short", 400), (RIGHT, NEWER, 204)] {
            let body = encoded(&[("current_password", current), ("new_password", new)]);
            let reply = self.ask(at, "POST /password", &[&access], &body).await;
            assert_eq!(reply.status, status, "{reply:?}");
        }
        let revoke = format!("token={}", field(&reply, "refresh_token"));
        assert_eq!(self.ask(at, "POST /revoke", &[], &revoke).await.status, 200);
        assert_eq!(self.ask(at, "POST /logout", &[&access], "").await.status, 401);
        let reply = self.ask_for(at, "POST /token", &[], &login("alice", NEWER), true).await;
        let access = bearer(&field(&reply, "access_token"));
        assert_eq!(self.ask(at, "DELETE /sessions/AAAAAAAAAAAAAAAAAAAAAA", &[&access], "").await.status, 404);
        assert_eq!(self.ask(at, "POST /logout", &[&access], "").await.status, 204);
    }

    async fn pages(&mut self, at: SocketAddr, clock: &ManualClock) {
        let reply = self.ask_for(at, "POST /session", &[SAME], &login("alice", NEWER), true).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let pair = |field: &str| field.split(';').next().unwrap().to_owned();
        let jar = |reply: &Reply| -> Vec<String> {
            let set = reply.headers.iter().filter(|(name, _)| name == "set-cookie");
            set.map(|(_, field)| pair(field)).collect()
        };
        let cookies = format!("cookie: {}", jar(&reply).join("; "));
        assert_eq!(self.ask(at, "GET /page", &[SAME, &cookies], "").await.status, 200);
        for (line, headers, status) in [
            ("POST /page", vec![cookies.as_str(), "sec-fetch-site: cross-site"], 403),
            ("POST /page", vec![&cookies, "x-csrf-token: AAAA"], 403),
            ("POST /session/refresh", vec![&cookies, "origin: https://evil.example"], 403),
            ("POST /session/refresh", vec![SAME, &cookies, "authorization: Bearer x"], 400),
        ] {
            assert_eq!(self.ask(at, line, &headers, "").await.status, status, "{line} {headers:?}");
        }
        let reply = self.ask_for(at, "POST /session/refresh", &[SAME, &cookies], "", true).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let newer = format!("cookie: {}", jar(&reply).join("; "));
        assert_eq!(self.ask(at, "DELETE /session", &[SAME, &newer], "").await.status, 204);
        clock.advance(GRACE);
        assert_eq!(self.ask(at, "POST /session/refresh", &[SAME, &cookies], "").await.status, 400, "spent");
        assert_eq!(self.ask(at, "POST /session", &[SAME], &login("alice", WRONG)).await.status, 400);
    }

    async fn programs(&mut self, at: SocketAddr, world: &World) {
        let [(_, one), (_, two)] = &world.secrets[..] else { panic!() };
        let credentials = "grant_type=client_credentials";
        let reply = self.ask_for(at, "POST /token", &[&basic("one", one)], credentials, true).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();
        let by = |id: &str, secret: &str| encoded(&[("client_id", id), ("client_secret", secret)]);
        for (line, body, status) in [
            ("POST /token", format!("{credentials}&{}", by("one", two)), 401),
            ("POST /token", format!("{credentials}&{}", by("three", one)), 401),
            ("POST /token", format!("{credentials}&scope=admin&{}", by("one", one)), 400),
            ("POST /introspect", format!("token={token}&{}", by("one", one)), 200),
            ("POST /introspect", format!("token={token}&{}", by("two", two)), 200),
            ("POST /introspect", format!("token={token}"), 401),
            ("POST /revoke", format!("token={token}&{}", by("two", two)), 400),
            ("POST /revoke", format!("token={token}&{}", by("one", one)), 200),
        ] {
            let reply = self.ask(at, line, &[], &body).await;
            assert_eq!(reply.status, status, "{line} {body}: {reply:?}");
        }
        assert_eq!(self.ask(at, "GET /items", &[&bearer(&token)], "").await.status, 401, "called back");
    }

    /// Over HTTP/1.1, over HTTP/2, and as gRPC.
    async fn bad_tokens(&mut self, at: SocketAddr) {
        let authority = TestAuthority::with_name("https://id.example", "orders");
        let app = Router::new().route("/", route(|| async { "in" }).post(|| async { "in" }));
        let server = serve(app.layer(authority.api().authenticate())).await;
        let mut tokens = vec![("a good token", authority.token("me"))];
        for flaw in Flaw::ALL {
            let flawed = authority.flawed(*flaw);
            self.told("shown", format!("{flawed:?}").as_bytes());
            tokens.push(("a bad token", flawed.token));
        }
        for (name, token) in tokens {
            if token.len() >= 10 && name != "a good token" || token.len() >= 60 {
                // The header of one that is signed by nobody is short, and so is what is left of others.
                self.needles.add_token(name, &token);
            }
            for address in [server.address, at] {
                self.ask(address, "GET /me", &[&bearer(&token)], "").await;
            }
            self.ask(server.address, "GET /", &[&bearer(&token)], "").await;
            self.ask(server.address, "POST /", &[&bearer(&token), "content-type: application/grpc"], "").await;
        }
        for content_type in ["application/grpc", "text/plain"] {
            let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            let connection = tokio::spawn(connection);
            for token in [authority.token("me"), authority.flawed(Flaw::ALL[0]).token] {
                self.needles.add(&format!("a token over HTTP/2 as {content_type}"), &token);
                let request = Request::post(format!("http://{}/", server.address))
                    .header("content-type", content_type)
                    .header("authorization", format!("Bearer {token}"));
                let response =
                    client.send_request(request.body(Full::<bytes::Bytes>::default()).unwrap()).await.unwrap();
                let (parts, body) = response.into_parts();
                let body = body.collect().await.unwrap();
                self.told("answers", format!("{:?}", parts.headers).as_bytes());
                self.told("answers", format!("{:?}", body.trailers()).as_bytes());
                self.told("answers", &body.to_bytes());
            }
            connection.abort();
        }
    }

    /// Keys that are given, as a PEM and as a secret; and keys that are fetched.
    async fn other_keys(&mut self) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let (pem, der) = (pair.serialize_pem(), pair.serialize_der());
        for line in pem.lines().filter(|line| !line.starts_with("--")) {
            self.needles.add("a line of the PEM", line);
        }
        // The seed, which is `d` in a JWK: RFC 8410 has it as an octet string of an octet string.
        let at = der.windows(4).position(|window| window == [0x04, 0x22, 0x04, 0x20]).unwrap() + 4;
        self.needles.add_bytes("the private key", &der[at..at + 32]);
        let hmac = self.secret("HMAC key");
        let keys = [
            SigningKey::from_pem(Algorithm::EdDsa, pem.as_bytes()).unwrap(),
            SigningKey::hmac(Algorithm::Hs256, hmac.as_bytes()).unwrap(),
        ];
        for key in keys {
            self.told("shown", format!("{key:?} {:?}", key.verifying_key()).as_bytes());
            let secret = self.secret("a client's secret");
            let client = Client::confidential("c", HashedSecret::of(&Secret::from(secret.as_str())).unwrap());
            let client = client.grant(GrantType::ClientCredentials).scopes(["a"]);
            let handle = AuthorizationServer::builder("https://id.example", "orders", key).client(client);
            let handle = handle.build().unwrap();
            self.told("shown", format!("{handle:?} {:?}", handle.keys()).as_bytes());
            let server = serve(handle.routes()).await;
            let form = format!("grant_type=client_credentials&client_id=c&client_secret={secret}");
            let at = server.address;
            assert_eq!(self.ask_for(at, "POST /token", &[], &form, true).await.status, 200);
            for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
                self.ask(at, &format!("GET {path}"), &[], "").await;
            }
        }
        for bad in [&pem.replace("MC4", "MC5"), &hmac] {
            let error = SigningKey::from_pem(Algorithm::EdDsa, bad.as_bytes()).map(drop);
            self.told("shown", format!("{error:?}").as_bytes());
        }
        // Fetched: good, and from nowhere; with what opens the address in it.
        let authority = TestAuthority::new();
        let published = authority.serve_keys().unwrap();
        let nowhere = "http://127.0.0.1:1/keys".to_owned();
        for address in [published.address(), nowhere] {
            let address = format!("{address}?key={OF_QUERY}");
            let keys = RemoteJwks::builder(address).start().unwrap();
            let policy = ClaimsPolicy::builder(authority.issuer(), authority.audience()).build().unwrap();
            let api = portcullis::ResourceServer::new(policy, keys.clone());
            let server = serve(Router::new().route("/", route(|| async { "in" })).layer(api.authenticate())).await;
            let token = authority.token("me");
            self.needles.add_token("a token of fetched keys", &token);
            let deadline = Instant::now() + Duration::from_secs(5);
            let settled = |keys: &RemoteJwks| keys.status().ready || keys.status().failing;
            while Instant::now() < deadline && !settled(&keys) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let reply = self.ask(server.address, "GET /", &[&bearer(&token)], "").await;
            assert_eq!(reply.status, if keys.status().ready { 200 } else { 503 }, "{reply:?}");
            self.told("shown", format!("{keys:?} {:?} {api:?}", keys.status()).as_bytes());
        }
    }

    async fn outages(&mut self) {
        let memory = crate::login::users().await;
        let (sessions, users) = (Flaky::new(&memory), Users::new(Arc::clone(&memory) as _));
        let name = LoginName::parse("alice").unwrap();
        let alice = memory.find_by_login(&name).await.unwrap().unwrap();
        self.needles.add("a stored hash", alice.password.expose());
        self.told("shown", format!("{alice:?} {:?} {memory:?}", alice.public()).as_bytes());
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let handle = AuthorizationServer::builder("https://id.example", "orders", key)
            .first_party_login(Arc::clone(&users) as _, crate::login::hasher())
            .sessions(Arc::clone(&sessions) as _, SessionPolicy::default())
            .build()
            .unwrap();
        let server = serve(handle.routes()).await;
        let at = server.address;
        self.needles.add("a user's password", crate::login::PASSWORD);
        let body = login("alice", crate::login::PASSWORD);
        let reply = self.ask_for(at, "POST /token", &[], &body, true).await;
        let refresh = format!("refresh_token={}", reply.json()["refresh_token"].as_str().unwrap());
        for mood in [Mood::Down, Mood::Full, Mood::SlowToTell] {
            sessions.set(mood);
            self.ask_for(at, "POST /token", &[], &body, true).await;
            self.ask_for(at, "POST /token/refresh", &[], &refresh, true).await;
        }
        sessions.set(Mood::Well);
        users.set_down(true);
        assert_eq!(self.ask(at, "POST /token", &[], &body).await.status, 503);
    }

    /// Errors of what cannot be opened, whose addresses hold a password.
    async fn addresses_with_passwords(&mut self) {
        for scheme in ["postgres", "redis", "rediss", "mysql", "sqlite", "postgresql"] {
            for rest in ["127.0.0.1:1/db", "127.0.0.1:1/db?sslmode=bad", "not a host/%%", "h:99999/0"] {
                let url = format!("{scheme}://app:{OF_URL}@{rest}");
                let error = tokio::time::timeout(Duration::from_secs(5), Store::connect(&url)).await;
                let Ok(Err(error)) = error else { continue };
                self.told("shown", format!("{error} {error:?} {:?}", std::error::Error::source(&error)).as_bytes());
            }
        }
        for url in ["https://app:{}@id.example/keys", "http://app:{}@127.0.0.1:1/keys", "//app:{}@id.example"] {
            let url = url.replace("{}", OF_URL);
            let list = BreachClient::new(&url).map_err(|error| error.to_string());
            self.told("shown", format!("{list:?}").as_bytes());
            for builder in
                [RemoteJwks::builder(&url), RemoteJwks::discover_openid(&url), RemoteJwks::discover_oauth(&url)]
            {
                self.told("shown", format!("{builder:?}").as_bytes());
                match builder.start() {
                    Ok(keys) => self.told("shown", format!("{keys:?} {:?}", keys.status()).as_bytes()),
                    Err(error) => self.told("shown", format!("{error} {error:?}").as_bytes()),
                }
            }
        }
    }

    pub fn needles(&mut self) -> &mut Needles {
        &mut self.needles
    }
}

fn encoded_text(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub fn encoded(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", encoded_text(value))).collect::<Vec<_>>().join("&")
}

fn login(name: &str, password: &str) -> String {
    encoded(&[("grant_type", "password"), ("username", name), ("password", password)])
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn basic(id: &str, secret: &str) -> String {
    let secret = encoded_text(secret);
    format!("authorization: Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn parts() -> String {
    format!("--x\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\n{IN_PARTS}\r\n--x--\r\n")
}

/// What a PostgreSQL server logs, but for one thing that it has to be given: the name of whoever signs in, which was typed into the
/// wrong field, as the parameter of the statement that looks for the user. With how often it was.
#[cfg(feature = "postgres")]
pub fn without_names_looked_up(log: &str) -> (String, usize) {
    let (mut kept, mut names, mut last) = (String::new(), 0, "");
    for line in log.lines() {
        let is_given = line.to_lowercase().ends_with(&format!("detail:  parameters: $1 = '{AS_NAME}'"));
        if is_given && last.ends_with("FROM portcullis.users WHERE login = $1") {
            names += 1;
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
        last = line;
    }
    (kept, names)
}

/// What a Redis server is asked, as it tells whoever monitors it.
#[cfg(feature = "redis")]
pub struct Monitor {
    stream: std::net::TcpStream,
    seen: std::thread::JoinHandle<String>,
}

#[cfg(feature = "redis")]
impl Monitor {
    pub fn begin(url: &str) -> Self {
        let (password, address) = url.strip_prefix("redis://:").unwrap().split_once('@').unwrap();
        let mut stream = std::net::TcpStream::connect(address.trim_end_matches("/0")).unwrap();
        stream.write_all(format!("AUTH {password}\r\nMONITOR\r\n").as_bytes()).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let seen = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let _ = reader.read_to_end(&mut seen);
            String::from_utf8_lossy(&seen).into_owned()
        });
        Self { stream, seen }
    }

    pub fn end(self) -> String {
        std::thread::sleep(Duration::from_millis(200));
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.seen.join().unwrap()
    }
}
