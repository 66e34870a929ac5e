//! Keys over the network, from a server that misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{Router, routing::any};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::{
    ResourceServer,
    clock::UnixSeconds,
    config::ConfigError,
    jwt::{Algorithm, ClaimsPolicy, KeySet, RemoteJwks, RemoteJwksBuilder, SigningKey, Verifier},
    rejection::Rejection,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    stores::Folder,
    support::{AUDIENCE, Authority, ISSUER, Log, get, get_with, now, send, serve},
};

/// What the key server does with a request.
#[derive(Clone, Debug)]
enum Behaviour {
    /// Status line, header lines, body.
    Answer(&'static str, String, Vec<u8>),
    Hang,
    /// A byte a second.
    Trickle,
    /// So many bytes, and no end of JSON.
    Flood(usize),
    HangUp,
}

impl Behaviour {
    fn json(body: &Value) -> Self {
        Self::Answer("200 OK", "cache-control: max-age=3600\r\n".to_owned(), body.to_string().into_bytes())
    }
}

/// A server that counts its requests and stops when dropped.
struct KeyServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyServer {
    async fn new(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (behaviour, requests) = (Arc::new(Mutex::new(behaviour)), Arc::new(AtomicU64::new(0)));
        let (shared, count) = (Arc::clone(&behaviour), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let behaviour = shared.lock().unwrap().clone();
                tokio::spawn(answer(stream, behaviour));
            }
        });
        Self { address, behaviour, requests, task }
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn publish(&self, keys: &[Value]) {
        self.behave(Behaviour::json(&json!({ "keys": keys })));
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Settings that let a test see things happen.
    fn quick(&self) -> RemoteJwksBuilder {
        let second = Duration::from_secs(1);
        RemoteJwks::builder(self.url()).timeout(Duration::from_millis(500)).cooldown(second).refresh(second, second)
    }
}

async fn answer(mut stream: TcpStream, behaviour: Behaviour) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    match behaviour {
        Behaviour::Answer(status, headers, body) => {
            let head =
                format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
        Behaviour::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        Behaviour::Trickle => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{").await;
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = stream.write_all(b" ").await;
            }
        }
        Behaviour::Flood(bytes) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let chunk = vec![b' '; 1 << 16];
            for _ in 0..bytes >> 16 {
                if stream.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
        Behaviour::HangUp => {}
    }
}

/// A key pair, and the public half as its server would publish it.
struct Issuer {
    authority: Authority,
    jwk: Value,
}

impl Issuer {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = SigningKey::from_der(Algorithm::EdDsa, pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.kid(), "alg": "EdDSA", "use": "sig" });
        Self { authority: Authority(key), jwk }
    }

    fn token(&self) -> String {
        self.authority.token("me")
    }
}

fn policy() -> ClaimsPolicy {
    ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap()
}

async fn verdict(verifier: &Verifier, token: &str) -> Result<(), Rejection> {
    verifier.verify(token.as_bytes(), UnixSeconds::new(now())).await.map(drop)
}

/// Waits until `done`, for ten seconds at most.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !done().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_key_ids_cause_one_fetch_in_a_cooldown() {
    let issuer = Issuer::new();
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let keys = RemoteJwks::builder(server.url()).start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    let good = issuer.token();
    let parts: Vec<&str> = good.split('.').collect();
    let begin = Instant::now();
    let mut floods = Vec::new();
    for flood in 0..10 {
        let (verifier, rest) = (verifier.clone(), format!("{}.{}", parts[1], parts[2]));
        floods.push(tokio::spawn(async move {
            for n in 0..10_000 {
                let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"made-up-{flood}-{n}"}}"#);
                let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
                assert_eq!(verdict(&verifier, &token).await, Err(Rejection::UnknownKey));
            }
        }));
    }
    let mut good_ones = 0;
    while !floods.iter().all(JoinHandle::is_finished) {
        assert_eq!(verdict(&verifier, &good).await, Ok(()));
        good_ones += 1;
        tokio::task::yield_now().await;
    }
    for flood in floods {
        flood.await.unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(25), "within one cooldown of 30 s: {:?}", begin.elapsed());
    assert_eq!(server.requests(), 2, "one at the start, one for 100,000 made-up key ids");
    assert!(good_ones > 100, "good tokens verified all the while: {good_ones}");
}

/// What a server may do wrong, and what a start in that state and a good set before it come to.
fn misbehaviours(good: &Issuer) -> Vec<(&'static str, Behaviour)> {
    let ok = |headers: &str, body: &[u8]| Behaviour::Answer("200 OK", headers.to_owned(), body.to_vec());
    let set = json!({ "keys": [good.jwk] }).to_string().into_bytes();
    let many: Vec<Value> = (0..65).map(|n| json!({ "kty": "x", "kid": n.to_string() })).collect();
    let redirect = |to: &str| Behaviour::Answer("302 Found", format!("location: {to}\r\n"), vec![]);
    vec![
        ("500", Behaviour::Answer("500 Internal Server Error", String::new(), set.clone())),
        ("404", Behaviour::Answer("404 Not Found", String::new(), b"{}".to_vec())),
        ("hangs", Behaviour::Hang),
        ("trickles", Behaviour::Trickle),
        ("64 MB", Behaviour::Flood(64 << 20)),
        ("gzip", ok("content-encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])),
        ("HTML", ok("content-type: text/html\r\n", b"<html><body>Sign in</body></html>")),
        ("empty", ok("", b"")),
        ("an empty set", ok("", br#"{"keys":[]}"#)),
        ("no usable key", ok("", br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#)),
        ("too many keys", Behaviour::json(&json!({ "keys": many }))),
        ("redirects to a file", redirect("file:///etc/passwd")),
        ("redirects to another host", redirect("http://localhost:9/keys")),
        ("redirects for ever", redirect("/keys")),
        ("hangs up", Behaviour::HangUp),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_137_whatever_the_key_server_does_no_good_token_is_called_bad() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (good, unknown) = (issuer.token(), other.token());
    let cases = misbehaviours(&issuer).into_iter().map(|(name, behaviour)| {
        let (good, unknown, jwk) = (good.clone(), unknown.clone(), issuer.jwk.clone());
        async move {
            // From the start: nothing to verify with.
            let server = KeyServer::new(behaviour.clone()).await;
            let keys = server.quick().start().unwrap();
            let verifier = Verifier::new(policy(), keys.clone());
            until(name, async || keys.status().failing).await;
            assert!(!keys.status().ready, "{name}");
            for token in [&good, &unknown] {
                assert_eq!(verdict(&verifier, token).await, Err(Rejection::KeysUnavailable), "{name}");
            }
            // Then all is well, and the keys come by themselves.
            server.publish(&[jwk]);
            until(name, async || verdict(&verifier, &good).await.is_ok()).await;
            assert_eq!(verdict(&verifier, &unknown).await, Err(Rejection::UnknownKey), "{name}");
            // Then it happens again, and the last good set is used.
            server.behave(behaviour);
            until(name, async || keys.status().failing).await;
            for _ in 0..20 {
                assert_eq!(verdict(&verifier, &good).await, Ok(()), "{name}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // A key that cannot be looked for may be a good one.
            assert_eq!(verdict(&verifier, &unknown).await, Err(Rejection::KeysUnavailable), "{name}");
        }
    });
    futures::future::join_all(cases).await;
}

/// Zeros, so many megabytes of them, compressed: one block with the fixed codes of RFC 1951 §3.2.6, of a zero and repetitions
/// of 258 bytes, 13 bits each.
fn bomb(megabytes: usize) -> Vec<u8> {
    let (mut bomb, mut bits, mut held) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], 0_u64, 0);
    let mut put = |code: &str| {
        for bit in code.bytes() {
            bits |= u64::from(bit == b'1') << held;
            held += 1;
            if held == 8 {
                bomb.push(u8::try_from(bits).unwrap());
                (bits, held) = (0, 0);
            }
        }
    };
    let (last, fixed, zero, repeat, end) = ("1", "10", "00110000", "1100010100000", "0000000");
    put(&[last, fixed, zero].concat());
    for _ in 0..(megabytes << 20) / 258 {
        put(repeat);
    }
    put(end);
    put("0000000");
    bomb.extend([0; 8]);
    bomb
}

/// Bytes allocated at one time by everything on the client's thread, which fetches, reads and keeps.
#[test]
fn memory_stays_bounded_whatever_the_key_server_sends() {
    const MOST: u64 = 4 << 20;
    let issuer = Issuer::new();
    let good = Behaviour::json(&json!({ "keys": [issuer.jwk] }));
    let apart = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = apart.block_on(KeyServer::new(good.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys = runtime.block_on(async {
        let keys = server.quick().start().unwrap();
        keys.ready().await;
        keys
    });
    let full = |start: &str, repeated: &str, end: &str| {
        let middle = repeated.repeat((256 * 1024 - start.len() - end.len()) / repeated.len());
        Behaviour::Answer("200 OK", String::new(), format!("{start}{middle}{end}").into_bytes())
    };
    let headers = |text: &str| Behaviour::Answer("200 OK", text.to_owned(), bomb(64));
    for (name, behaviour) in [
        ("64 MB", Behaviour::Flood(64 << 20)),
        ("a gzip bomb", headers("content-type: application/json\r\ncontent-encoding: gzip\r\n")),
        ("a gzip bomb that says not to be one", headers("content-type: application/json\r\n")),
        ("endless headers", headers(&"x: y\r\n".repeat(1 << 20))),
        ("many keys", full(r#"{"keys":[0"#, ",0", "]}")),
        ("a key of many members", full(r#"{"keys":[{"a":[0"#, ",0", "]}]}")),
        ("many nested ones", full(r#"{"keys":[{"a":[0"#, ",[[{}]]", "]}]}")),
        ("unknown members", full(r#"{"keys":[],"x":[0"#, ",0", "]}")),
    ] {
        server.behave(behaviour);
        let failing = until(name, async || keys.status().failing);
        let used = allocation_counter::measure(|| runtime.block_on(failing));
        assert!(used.bytes_max < MOST, "{name}: {} bytes", used.bytes_max);
        server.behave(good.clone());
        runtime.block_on(until(name, async || !keys.status().failing));
    }
}

#[tokio::test]
async fn the_last_good_set_is_kept_up_to_a_limit() {
    let issuer = Issuer::new();
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let keys = server.quick().keep(Duration::from_secs(3)).start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys.clone());
    server.behave(Behaviour::HangUp);
    until("an outage", async || keys.status().failing).await;
    assert_eq!(verdict(&verifier, &issuer.token()).await, Ok(()));
    until("the limit", async || verdict(&verifier, &issuer.token()).await.is_err()).await;
    assert_eq!(verdict(&verifier, &issuer.token()).await, Err(Rejection::KeysUnavailable), "503, not 401");
}

/// To the moment, though a fetch that hangs is under way; and told as what it is, in the one outage that there was.
#[tokio::test]
async fn the_limit_of_the_last_good_set_does_not_wait_for_a_fetch() {
    let log = Log::default();
    let _guard = log.capture();
    let issuer = Issuer::new();
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let second = Duration::from_secs(1);
    let builder = RemoteJwks::builder(server.url()).timeout(20 * second).refresh(second, second).keep(4 * second);
    let keys = builder.start().unwrap();
    keys.ready().await;
    let good = Instant::now();
    server.behave(Behaviour::HangUp);
    until("an outage", async || keys.status().failing).await;
    server.behave(Behaviour::Hang);
    let verifier = Verifier::new(policy(), keys.clone());
    until("the limit", async || verdict(&verifier, &issuer.token()).await.is_err()).await;
    assert!(good.elapsed() > 3 * second && good.elapsed() < 8 * second, "{:?}", good.elapsed());
    assert_eq!(verdict(&verifier, &issuer.token()).await, Err(Rejection::KeysUnavailable));
    let text = log.text();
    assert_eq!(
        (text.matches("outage begun").count(), text.matches("last good keys dropped").count()),
        (1, 1),
        "{text}"
    );
}

/// Some issuers publish their one key without an id, or use an id again. What is signed with a new one must not be called
/// forged until the next fetch on time.
#[tokio::test]
async fn a_new_key_under_an_old_id_or_none_is_found() {
    for kid in [None, Some("current")] {
        let publish = |issuer: &Issuer| {
            let mut jwk = issuer.jwk.clone();
            match kid {
                Some(kid) => jwk["kid"] = kid.into(),
                None => drop(jwk.as_object_mut().unwrap().remove("kid")),
            }
            jwk
        };
        let named = |mut issuer: Issuer| {
            if let Some(kid) = kid {
                issuer.authority = Authority(issuer.authority.0.with_kid(kid));
            }
            issuer
        };
        let (old, new, forged) = (named(Issuer::new()), named(Issuer::new()), named(Issuer::new()));
        let server = KeyServer::new(Behaviour::json(&json!({ "keys": [publish(&old)] }))).await;
        let keys = RemoteJwks::builder(server.url()).start().unwrap();
        keys.ready().await;
        let verifier = Verifier::new(policy(), keys);
        assert_eq!(verdict(&verifier, &old.token()).await, Ok(()));
        server.publish(&[publish(&new)]);
        assert_eq!(verdict(&verifier, &new.token()).await, Ok(()), "{kid:?}");
        assert_eq!(verdict(&verifier, &old.token()).await, Err(Rejection::BadSignature), "withdrawn");
        server.behave(Behaviour::HangUp);
        for _ in 0..100 {
            assert_eq!(verdict(&verifier, &forged.token()).await, Err(Rejection::BadSignature), "401, come what may");
        }
        assert_eq!(server.requests(), 2, "within one cooldown");
    }
}

#[tokio::test]
async fn req_086_req_087_one_bad_key_does_not_spoil_a_set_and_two_of_one_id_spoil_that_id() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let mut clash = two.jwk.clone();
    clash["kid"] = "same".into();
    let mut same = Issuer::new();
    same.jwk["kid"] = "same".into();
    same.authority = Authority(same.authority.0.with_kid("same"));
    let bad = json!({ "kty": "RSA", "n": "AAAA", "e": "AQAB", "kid": "bad" });
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [bad, one.jwk, clash, same.jwk] }))).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    assert_eq!(keys.status().skipped, 1);
    let verifier = Verifier::new(policy(), keys);
    assert_eq!(verdict(&verifier, &one.token()).await, Ok(()));
    assert_eq!(verdict(&verifier, &same.token()).await, Err(Rejection::KeyIdRepeated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_gives_no_wrong_verdict() {
    rotation_under_load(|verifier| verifier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_gives_no_wrong_verdict_where_nothing_is_remembered() {
    rotation_under_load(Verifier::without_cache).await;
}

async fn rotation_under_load(with: fn(Verifier) -> Verifier) {
    let (old, new) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [old.jwk] }))).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    let verifier = with(Verifier::new(policy(), keys.clone()));
    let load = |token: String, times: usize| {
        let verifier = verifier.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                assert_eq!(verdict(&verifier, &token).await, Ok(()));
                tokio::task::yield_now().await;
            }
        })
    };
    // The issuer publishes the new key and signs with it at once; nobody told us.
    let before = load(old.token(), 2500);
    server.publish(&[old.jwk.clone(), new.jwk.clone()]);
    let overlap = [load(new.token(), 2500), load(old.token(), 2500), load(new.token(), 2500)];
    before.await.unwrap();
    for each in overlap {
        each.await.unwrap();
    }
    // The old key is withdrawn: it stops verifying with the next fetch, and does not come back.
    // One token throughout, so that it has been remembered by then.
    let remembered = old.token();
    for _ in 0..20 {
        assert_eq!(verdict(&verifier, &remembered).await, Ok(()));
    }
    server.publish(std::slice::from_ref(&new.jwk));
    until("withdrawal", async || verdict(&verifier, &remembered).await.is_err()).await;
    for _ in 0..100 {
        assert_eq!(verdict(&verifier, &remembered).await, Err(Rejection::UnknownKey));
        assert_eq!(verdict(&verifier, &new.token()).await, Ok(()));
    }
}

/// What was verified with the key that stays need not be verified again: it takes fewer allocations than that.
#[tokio::test]
async fn an_added_key_leaves_remembered_what_the_others_verified() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [old.jwk] }))).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys.clone());
    let allocations = |token: &str| {
        let check = || verifier.verify_at(token.as_bytes(), UnixSeconds::new(now())).map(drop);
        allocation_counter::measure(|| assert_eq!(check(), Ok(()))).count_total
    };
    let (remembered, first) = (old.token(), old.authority.token_with(|claims| claims["jti"] = "t-2".into()));
    allocations(&remembered);
    assert_eq!(allocations(&remembered), 0, "a hit");
    server.publish(&[new.jwk.clone(), old.jwk.clone()]);
    let fetches = keys.status().fetches;
    until("a fetch", async || keys.status().fetches >= fetches + 2).await;
    let (looked_at_again, new) = (allocations(&remembered), allocations(&first));
    assert!(looked_at_again < new, "{looked_at_again} allocations, {new} for a new one");
    assert_eq!(allocations(&remembered), 0, "a hit");
}

/// Nobody waits for longer than one fetch may take, whoever began it; only so many wait at all; and whoever has a known key
/// waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_key_server_that_hangs_is_bounded() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let keys = server.quick().timeout(Duration::from_secs(2)).start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    server.behave(Behaviour::Hang);
    let begin = Instant::now();
    let waiting: Vec<_> = (0..2000)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), other.token());
            tokio::spawn(async move {
                let begin = Instant::now();
                assert_eq!(verdict(&verifier, &token).await, Err(Rejection::KeysUnavailable));
                begin.elapsed()
            })
        })
        .collect();
    while begin.elapsed() < Duration::from_secs(1) {
        let one = Instant::now();
        assert_eq!(verdict(&verifier, &issuer.token()).await, Ok(()));
        assert!(one.elapsed() < Duration::from_millis(500), "{:?}", one.elapsed());
    }
    let mut at_once = 0;
    for each in waiting {
        let waited = each.await.unwrap();
        assert!(waited < Duration::from_secs(4), "{waited:?}");
        at_once += usize::from(waited < Duration::from_secs(1));
    }
    assert!((2000 - 1024..2000).contains(&at_once), "{at_once} were answered at once");
}

/// A fetch on time that began before the rotation cannot bring the new key; whoever joins it asks again.
#[tokio::test]
async fn a_request_that_joins_a_fetch_on_time_gets_the_key_that_came_after() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (before, after) = (json!({ "keys": [old.jwk] }).to_string(), json!({ "keys": [old.jwk, new.jwk] }).to_string());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let service = tower::service_fn(move |_: http::Request<http_body_util::Empty<bytes::Bytes>>| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        let body = bytes::Bytes::from(if call < 2 { before.clone() } else { after.clone() });
        async move {
            if call == 1 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(body)))
        }
    });
    let second = Duration::from_secs(1);
    let builder = RemoteJwks::builder("https://id.example/keys").refresh(second, second).http_service(service);
    let keys = builder.start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    until("a fetch on time", async || calls.load(Ordering::SeqCst) == 2).await;
    assert_eq!(verdict(&verifier, &new.token()).await, Ok(()));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

/// Two keys that nothing tells apart are an outage, which is told; a token that does not say which of two it means is a bad
/// token.
#[tokio::test]
async fn req_087_keys_without_ids_that_clash_are_told() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let log = Log::default();
    let _guard = log.capture();
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [one.jwk, two.jwk] }))).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys.clone());
    let [_, rest] = one.token().splitn(2, '.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let nameless = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"at+jwt"}"#));
    assert_eq!(verdict(&verifier, &nameless).await, Err(Rejection::AmbiguousKey), "401, and told");
    assert_eq!((keys.status().ambiguous, log.text().matches("ambiguous").count()), (0, 0), "{}", log.text());
    let without = |issuer: &Issuer| {
        let mut jwk = issuer.jwk.clone();
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    server.publish(&[without(&one), without(&two)]);
    until("a clash", async || keys.status().ambiguous == 1).await;
    assert_eq!(verdict(&verifier, &one.token()).await, Err(Rejection::KeyIdRepeated), "503");
    assert_eq!(log.text().matches("1 ids of several").count(), 1, "{}", log.text());
}

/// A runtime that ends takes the task with it: keys that nobody withdraws any more must not verify for ever.
#[test]
fn keys_end_with_the_runtime_that_fetched_them() {
    let log = Log::default();
    let _guard = log.capture();
    let issuer = Issuer::new();
    let set = json!({ "keys": [issuer.jwk] }).to_string();
    let service = tower::service_fn(move |_: http::Request<http_body_util::Empty<bytes::Bytes>>| {
        let set = bytes::Bytes::from(set.clone());
        async move { Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(set))) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys = runtime.block_on(async {
        let keys = RemoteJwks::builder("https://id.example/keys").http_service(service).start().unwrap();
        keys.ready().await;
        keys
    });
    let verifier = Verifier::new(policy(), keys.clone());
    let check = || verifier.verify_at(issuer.token().as_bytes(), UnixSeconds::new(now())).map(drop);
    assert_eq!(check(), Ok(()));
    drop(runtime);
    assert_eq!(check(), Err(Rejection::KeysUnavailable));
    assert!(keys.status().stopped && !keys.status().ready);
    assert_eq!(log.text().matches("outage begun").count(), 1, "{}", log.text());
}

#[tokio::test]
async fn keys_are_refreshed_ahead_of_their_expiry_without_any_request() {
    let issuer = Issuer::new();
    let body = json!({ "keys": [issuer.jwk] }).to_string().into_bytes();
    let server = KeyServer::new(Behaviour::Answer("200 OK", "cache-control: max-age=6\r\n".to_owned(), body)).await;
    let second = Duration::from_secs(1);
    let keys = RemoteJwks::builder(server.url()).refresh(second, 60 * second).start().unwrap();
    keys.ready().await;
    let begin = Instant::now();
    until("a refresh", async || server.requests() == 2).await;
    assert!(begin.elapsed() < 6 * second, "4/5 of 6 s: {:?}", begin.elapsed());
    keys.stop();
    tokio::time::sleep(6 * second).await;
    assert_eq!(server.requests(), 2, "stopped");
    assert_eq!(verdict(&Verifier::new(policy(), keys), &issuer.token()).await, Ok(()), "the keys stay");
}

#[tokio::test]
async fn the_task_ends_with_its_last_handle() {
    let issuer = Issuer::new();
    let body = json!({ "keys": [issuer.jwk] }).to_string().into_bytes();
    let server = KeyServer::new(Behaviour::Answer("200 OK", "cache-control: max-age=1\r\n".to_owned(), body)).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    until("refreshes", async || server.requests() >= 2).await;
    drop(verifier);
    let seen = server.requests();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(server.requests() <= seen + 1, "one may have been on its way");
}

#[tokio::test]
async fn discovery_takes_the_address_from_the_issuer_that_was_asked_for() {
    let issuer = Issuer::new();
    let keys = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let metadata = KeyServer::new(Behaviour::Hang).await;
    let name = format!("http://{}", metadata.address);
    for (named, address, good) in [
        (name.clone(), keys.url(), true),
        (format!("{name}/"), keys.url(), false),
        (name.replace("http", "HTTP"), keys.url(), false),
        ("https://evil.example".to_owned(), keys.url(), false),
        (name.clone(), "http://evil.example/keys".to_owned(), false),
        (name.clone(), "file:///etc/passwd".to_owned(), false),
    ] {
        metadata.behave(Behaviour::json(&json!({ "issuer": named, "jwks_uri": address })));
        for builder in [RemoteJwks::discover_openid(&name), RemoteJwks::discover_oauth(&name)] {
            let remote = builder.start().unwrap();
            until("a fetch", async || remote.status().fetches > 0).await;
            assert_eq!((remote.status().ready, remote.status().failing), (good, !good), "{named} {address}");
        }
    }
}

#[tokio::test]
async fn a_seed_file_serves_a_start_during_an_outage() {
    let (issuer, folder) = (Issuer::new(), Folder::new("seed"));
    let path = folder.file("keys.json");
    std::fs::write(&path, json!({ "keys": [issuer.jwk] }).to_string()).unwrap();
    let server = KeyServer::new(Behaviour::HangUp).await;
    let keys = server.quick().seed_file(&path).start().unwrap();
    let verifier = Verifier::new(policy(), keys.clone());
    assert_eq!(verdict(&verifier, &issuer.token()).await, Ok(()), "before the first fetch has ended");
    until("a failure", async || keys.status().failing).await;
    assert_eq!(verdict(&verifier, &issuer.token()).await, Ok(()));
    std::fs::write(&path, "{}").unwrap();
    let errors = server.quick().seed_file(&path).start().unwrap_err();
    assert!(matches!(errors.iter().next(), Some(ConfigError::Seed { .. })), "{errors}");
}

#[tokio::test]
async fn any_service_may_fetch() {
    let issuer = Issuer::new();
    let set = json!({ "keys": [issuer.jwk] }).to_string();
    let service = tower::service_fn(move |request: http::Request<http_body_util::Empty<bytes::Bytes>>| {
        let set = set.clone();
        async move {
            assert_eq!(request.uri(), "https://id.example/keys");
            Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(set))))
        }
    });
    let keys = RemoteJwks::builder("https://id.example/keys").http_service(service).start().unwrap();
    keys.ready().await;
    assert_eq!(verdict(&Verifier::new(policy(), keys), &issuer.token()).await, Ok(()));
}

/// Metadata of an issuer on the network that point at our own loopback, and a lifetime that overflows.
#[tokio::test]
async fn a_hostile_key_server_neither_reaches_inside_nor_ends_the_task() {
    let issuer = Issuer::new();
    let set = json!({ "keys": [issuer.jwk] }).to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<http_body_util::Empty<bytes::Bytes>>| {
        let (set, uri) = (set.clone(), request.uri().to_string());
        seen.lock().unwrap().push(uri.clone());
        let metadata = json!({ "issuer": "https://id.example", "jwks_uri": "http://127.0.0.1:9/keys" }).to_string();
        let body = if uri.contains("well-known") { metadata } else { set };
        let response = http::Response::builder().header("cache-control", format!("max-age={}", u64::MAX));
        async move { response.body(http_body_util::Full::new(bytes::Bytes::from(body))) }
    });
    let remote = RemoteJwks::discover_openid("https://id.example").http_service(service.clone()).start().unwrap();
    until("a fetch", async || remote.status().fetches > 0).await;
    assert!(remote.status().failing);
    assert!(asked.lock().unwrap().iter().all(|uri| uri.starts_with("https://id.example/")), "{asked:?}");
    let second = Duration::from_secs(1);
    let keys = RemoteJwks::builder("https://id.example/keys").refresh(second, second).http_service(service);
    let keys = keys.start().unwrap();
    until("a second fetch", async || keys.status().fetches >= 2).await;
    assert!(keys.status().ready && !keys.status().failing);
}

#[tokio::test]
async fn a_service_that_panics_is_an_outage_and_a_stopped_task_makes_nobody_wait() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let calls = Arc::new(AtomicU64::new(0));
    let (set, counted) = (json!({ "keys": [issuer.jwk] }).to_string(), Arc::clone(&calls));
    let service = tower::service_fn(move |_: http::Request<http_body_util::Empty<bytes::Bytes>>| {
        let (set, call) = (set.clone(), counted.fetch_add(1, Ordering::SeqCst));
        async move {
            assert_ne!(call, 0, "the first call panics");
            Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(set))))
        }
    });
    let keys = RemoteJwks::builder("https://id.example/keys").timeout(Duration::from_secs(60)).http_service(service);
    let keys = keys.start().unwrap();
    let verifier = Verifier::new(policy(), keys.clone());
    until("a panic", async || keys.status().failing).await;
    assert_eq!(verdict(&verifier, &issuer.token()).await, Err(Rejection::KeysUnavailable));
    until("keys", async || verdict(&verifier, &issuer.token()).await.is_ok()).await;
    keys.stop();
    until("the end", async || keys.status().stopped).await;
    let begin = Instant::now();
    assert_eq!(verdict(&verifier, &other.token()).await, Err(Rejection::KeysUnavailable));
    keys.ready().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(verdict(&verifier, &issuer.token()).await, Ok(()));
}

/// Without waiting, too, a key that is being looked for is not a bad one.
#[tokio::test]
async fn verify_at_during_an_outage_is_503() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let keys = RemoteJwks::builder(server.url()).start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    server.behave(Behaviour::Hang);
    let at = |token: &str| verifier.verify_at(token.as_bytes(), UnixSeconds::new(now())).map(drop);
    for _ in 0..3 {
        assert_eq!(at(&other.token()), Err(Rejection::KeysUnavailable));
        assert_eq!(at(&issuer.token()), Ok(()));
    }
}

/// Servers behind one address may write the same set in different orders: what was remembered stays good.
#[tokio::test]
async fn the_same_keys_in_another_order_are_the_same_set() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let log = Log::default();
    let _guard = log.capture();
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [one.jwk, two.jwk] }))).await;
    let keys = server.quick().start().unwrap();
    keys.ready().await;
    server.publish(&[two.jwk.clone(), one.jwk.clone()]);
    let fetches = keys.status().fetches;
    until("a fetch", async || keys.status().fetches >= fetches + 2).await;
    assert_eq!(log.text().matches("keys fetched").count(), 1, "{}", log.text());
}

#[tokio::test]
async fn every_mistake_is_named() {
    let second = Duration::from_secs(1);
    let errors = RemoteJwks::builder("http://id.example/keys")
        .timeout(Duration::ZERO)
        .cooldown(Duration::ZERO)
        .refresh(2 * second, second)
        .keep(Duration::from_secs(8 * 24 * 3600))
        .most_keys(0)
        .algorithms([])
        .start()
        .unwrap_err();
    assert_eq!(errors.iter().count(), 7, "{errors}");
    let secret = RemoteJwks::builder("https://id.example/keys").algorithms([Algorithm::Hs256]).start().unwrap_err();
    assert_eq!(secret.iter().count(), 1, "{secret}");
    assert!(errors.iter().any(|error| *error == ConfigError::KeyAddress("http://id.example/keys".to_owned())));
}

#[tokio::test]
async fn req_137_req_188_an_outage_over_a_socket_is_503_and_is_told_once() {
    let log = Log::default();
    let _guard = log.capture();
    let issuer = Issuer::new();
    let server = KeyServer::new(Behaviour::Answer("500 Internal Server Error", String::new(), vec![])).await;
    let keys = server.quick().start().unwrap();
    let api = ResourceServer::new(policy(), keys.clone()).realm("test").unwrap();
    let app = serve(Router::new().route("/me", any(|| async { "me" })).layer(api.authenticate())).await;
    until("an outage", async || keys.status().failing).await;
    for _ in 0..20 {
        let reply = get_with(app.address, "/me", &issuer.token()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{reply:?}");
        assert_eq!(reply.header("www-authenticate"), None, "an outage does not look like a bad token");
    }
    let bearer = format!("authorization: Bearer {}", issuer.token());
    let grpc = send(app.address, "POST /me", &[b"content-type: application/grpc", bearer.as_bytes()], b"").await;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("14")), "UNAVAILABLE");
    assert_eq!(get(app.address, "/me", &[]).await.status, 401, "no credential is no credential");
    server.publish(std::slice::from_ref(&issuer.jwk));
    until("keys", async || get_with(app.address, "/me", &issuer.token()).await.status == 200).await;
    let text = log.text();
    assert_eq!(text.matches("outage begun").count(), 1, "{text}");
    assert_eq!(text.matches("outage over").count(), 1, "{text}");
    assert_eq!(text.matches("ERROR").count(), 1, "not for each request: {text}");
}

#[tokio::test]
async fn a_request_with_a_new_key_waits_for_it_and_then_passes() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [old.jwk] }))).await;
    let keys = RemoteJwks::builder(server.url()).start().unwrap();
    keys.ready().await;
    let api = ResourceServer::new(policy(), keys).realm("test").unwrap();
    let app = serve(Router::new().route("/me", any(|| async { "me" })).layer(api.authenticate())).await;
    server.publish(std::slice::from_ref(&new.jwk));
    assert_eq!(get_with(app.address, "/me", &new.token()).await.status, 200);
    assert_eq!(get_with(app.address, "/me", &old.token()).await.status, 401, "withdrawn");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn req_066_keys_never_cross_issuers() {
    let (ours, theirs) = (Issuer::new(), Issuer::new());
    let keys = |issuer: &Issuer| KeySet::new([issuer.authority.0.verifying_key()]).unwrap();
    let partner = "https://partner.example";
    let lax = ClaimsPolicy::builder(partner, "billing").danger_any_token_type().require_claim("tier", ["gold"]);
    let verifier = Verifier::new(policy(), keys(&ours)).trust(lax.build().unwrap(), keys(&theirs)).unwrap();
    let signed = |issuer: &Issuer, iss: &str, aud: &str, tier: &str| {
        issuer.authority.token_with(|claims| {
            claims["iss"] = iss.into();
            claims["aud"] = aud.into();
            claims["tier"] = tier.into();
        })
    };
    for (token, expected) in [
        (signed(&ours, ISSUER, AUDIENCE, "lead"), Ok(())),
        (signed(&theirs, partner, "billing", "gold"), Ok(())),
        (signed(&theirs, ISSUER, AUDIENCE, "gold"), Err(Rejection::UnknownKey)),
        (signed(&ours, partner, "billing", "gold"), Err(Rejection::UnknownKey)),
        (signed(&ours, ISSUER, "billing", "gold"), Err(Rejection::WrongAudience)),
        (signed(&theirs, partner, AUDIENCE, "gold"), Err(Rejection::WrongAudience)),
        (signed(&theirs, partner, "billing", "lead"), Err(Rejection::ClaimNotAllowed)),
        (signed(&ours, "https://else.example", AUDIENCE, "gold"), Err(Rejection::WrongIssuer)),
        (signed(&theirs, &format!("{partner}/"), "billing", "gold"), Err(Rejection::WrongIssuer)),
    ] {
        assert_eq!(verdict(&verifier, &token).await, expected);
    }
    let mapped = ClaimsPolicy::builder("https://third.example", AUDIENCE).map_scopes([("reader", "orders:read")]);
    let verifier = verifier.trust(mapped.build().unwrap(), keys(&theirs)).unwrap();
    let third = theirs.authority.token_with(|claims| {
        claims["iss"] = "https://third.example".into();
        claims["scope"] = "admin reader".into();
    });
    for _ in 0..20 {
        let caller = verifier.verify_at(third.as_bytes(), UnixSeconds::new(now())).unwrap().principal();
        assert_eq!(caller.scopes().collect::<Vec<_>>(), ["orders:read"], "nor does `admin` of another issuer count");
    }
    let twice = verifier.trust(policy(), keys(&theirs)).unwrap_err();
    assert_eq!(twice, ConfigError::IssuerTwice(ISSUER.to_owned()).into());
}

/// A token of an issuer that nobody trusts must not cause a fetch at one that is.
#[tokio::test]
async fn a_foreign_issuer_causes_no_fetch() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let server = KeyServer::new(Behaviour::json(&json!({ "keys": [issuer.jwk] }))).await;
    let keys = server.quick().refresh(Duration::from_secs(60), Duration::from_secs(60)).start().unwrap();
    keys.ready().await;
    let verifier = Verifier::new(policy(), keys);
    let foreign = stranger.authority.token_with(|claims| claims["iss"] = "https://else.example".into());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(verdict(&verifier, &foreign).await, Err(Rejection::WrongIssuer));
    assert_eq!(server.requests(), 1);
    assert_eq!(verdict(&verifier, &stranger.token()).await, Err(Rejection::UnknownKey));
    assert_eq!(server.requests(), 2, "while an unknown key of a trusted one does");
}
