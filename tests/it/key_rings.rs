//! Signing keys that take turns: two machines that share a store, restarts, and a key that leaked.

use std::{sync::Arc, time::Duration};

use portcullis::{
    AuthorizationServer, ResourceServer,
    client::{Client, GrantType, HashedSecret, random_secret},
    clock::{Clock as _, ManualClock, UnixSeconds},
    jwt::{Algorithm, ClaimsPolicy, KeyRing, KeyRingError, KeySet, SigningKey, Verifier},
    rejection::Rejection,
    secret::Secret,
    store::{KeyStore, MemoryStore, SqliteStore},
};
use serde_json::Value;

use crate::{
    stores::Folder,
    support::{Reply, Server, get, now, post, serve},
};

const SECRET: &str = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
const MINUTE: Duration = Duration::from_secs(60);

/// A machine that issues tokens with keys from the store.
struct Machine {
    server: Server,
    handle: AuthorizationServer,
    secret: Secret<String>,
}

async fn machine(store: Arc<dyn KeyStore>, algorithm: Algorithm, clock: &Arc<ManualClock>) -> Machine {
    let secret = random_secret().unwrap();
    let keys = KeyRing::stored(store, algorithm, Secret::from(SECRET)).clock(Arc::clone(clock) as _);
    let handle = AuthorizationServer::builder("https://id.example", "orders", keys.open().await.unwrap())
        .client(
            Client::confidential("c", HashedSecret::of(&secret).unwrap())
                .grant(GrantType::ClientCredentials)
                .scopes(["a"]),
        )
        .clock(Arc::clone(clock) as _)
        .build()
        .unwrap();
    Machine { server: serve(handle.routes()).await, handle, secret }
}

impl Machine {
    async fn token(&self) -> String {
        let form = format!("grant_type=client_credentials&client_id=c&client_secret={}", self.secret.expose());
        let reply = post(self.server.address, "/token", &form).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn jwks(&self) -> Reply {
        get(self.server.address, "/.well-known/jwks.json", &[]).await
    }

    /// The ids of the keys that it publishes, once what is due has been read.
    async fn published(&self) -> Vec<String> {
        self.jwks().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let reply = self.jwks().await;
        let keys = reply.json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// A verifier that shares its keys.
    fn verifier(&self) -> Verifier {
        let policy = ClaimsPolicy::builder("https://id.example", "orders").build().unwrap();
        Verifier::new(policy, self.handle.keys().clone())
    }
}

fn kid(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn machines_that_share_a_store_agree_on_keys_through_a_whole_life() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let one = machine(Arc::clone(&store) as _, Algorithm::EdDsa, &clock).await;
    let two = machine(Arc::clone(&store) as _, Algorithm::EdDsa, &clock).await;
    let first = kid(&one.token().await);
    assert_eq!(first, kid(&two.token().await));
    assert_eq!((one.published().await, two.published().await), (vec![first.clone()], vec![first.clone()]));

    // Prepublished: both publish it, neither signs with it.
    clock.advance(Duration::from_secs((90 * 24 * 60 - 15) * 60));
    let published = one.published().await;
    assert_eq!(published.len(), 2, "{published:?}");
    assert_eq!(two.published().await, published);
    let second = published.iter().find(|kid| **kid != first).unwrap().clone();
    assert_eq!((kid(&one.token().await), kid(&two.token().await)), (first.clone(), first.clone()));
    // Whoever fetched the set before it came may use that for five minutes, and knows it before it signs.
    let fetched = KeySet::from_jwks(&two.jwks().await.body).unwrap();

    // Active: from one second to the next, on both, without a word between them.
    clock.advance(Duration::from_secs(15 * 60 - 1));
    let last = one.token().await;
    assert_eq!(kid(&last), first);
    clock.advance(Duration::from_secs(1));
    let (new, also) = (one.token().await, two.token().await);
    assert_eq!((kid(&new), kid(&also)), (second.clone(), second.clone()));
    let policy = ClaimsPolicy::builder("https://id.example", "orders").build().unwrap();
    let elsewhere = Verifier::new(policy, fetched);
    for token in [&last, &new] {
        assert!(elsewhere.verify_at(token.as_bytes(), clock.now()).is_ok());
        assert!(two.verifier().verify(token.as_bytes(), clock.now()).await.is_ok());
    }

    // Retiring: published for as long as anything that it has signed may live; then gone, also from the store.
    clock.advance(70 * MINUTE);
    assert_eq!(one.published().await.len(), 2);
    clock.advance(5 * MINUTE);
    assert_eq!(one.published().await, std::slice::from_ref(&second));
    assert_eq!(two.published().await, std::slice::from_ref(&second));
    // Not at once: another machine's clock may say that it is not over yet.
    assert_eq!(store.keys().await.unwrap().len(), 2);
    clock.advance(60 * MINUTE);
    one.published().await;
    assert_eq!(store.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_restart_changes_nothing_and_another_secret_opens_nothing() {
    let folder = Folder::new("ring");
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let path = folder.file(&format!("{algorithm}.db"));
        let open = || Arc::new(SqliteStore::open(&path).unwrap());
        let token = machine(open(), algorithm, &clock).await.token().await;
        let restarted = machine(open(), algorithm, &clock).await;
        assert!(restarted.verifier().verify(token.as_bytes(), clock.now()).await.is_ok(), "{algorithm}");
        assert_eq!(kid(&restarted.token().await), kid(&token));

        let other = format!("{}27", &SECRET[..62]);
        let refused = KeyRing::stored(open(), algorithm, Secret::from(other.as_str())).open().await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, KeyRingError::Store(_)) && refused.to_string().contains("another secret"),
            "{refused}"
        );
        let bytes = std::fs::read(&path).unwrap();
        let jwk = restarted.jwks().await.json();
        assert!(!jwk.to_string().contains("\"d\""));
        assert!(!bytes.windows(5).any(|window| window == b"BEGIN"), "nothing lies there in the clear");
    }
    // Another algorithm takes its turn as another key does: nobody's token dies of it.
    let path = folder.file("EdDSA.db");
    let old = machine(Arc::new(SqliteStore::open(&path).unwrap()), Algorithm::EdDsa, &clock).await.token().await;
    let changed = machine(Arc::new(SqliteStore::open(&path).unwrap()), Algorithm::Es256, &clock).await;
    assert_eq!(kid(&changed.token().await), kid(&old));
    assert_eq!(changed.published().await.len(), 2);
    clock.advance(15 * MINUTE);
    assert_ne!(kid(&changed.token().await), kid(&old));
}

#[tokio::test]
async fn keys_are_rotated_and_replaced_on_demand() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let one = machine(Arc::clone(&store) as _, Algorithm::EdDsa, &clock).await;
    let two = machine(Arc::clone(&store) as _, Algorithm::EdDsa, &clock).await;
    let first = one.token().await;
    let at = one.handle.keys().rotate(clock.now()).await.unwrap();
    assert_eq!(at, clock.now().saturating_add(15 * MINUTE));
    assert_eq!(two.handle.keys().rotate(clock.now()).await.unwrap(), at, "one is enough");
    assert_eq!(kid(&one.token().await), kid(&first));

    // Leaked: what it signed is refused here at once, and there as soon as the store is read again.
    assert!(two.verifier().verify(first.as_bytes(), clock.now()).await.is_ok());
    one.handle.keys().replace(clock.now()).await.unwrap();
    let new = one.token().await;
    assert_ne!(kid(&new), kid(&first));
    let refused = one.verifier().verify(first.as_bytes(), clock.now()).await;
    assert_eq!(refused.unwrap_err(), Rejection::UnknownKey);
    clock.advance(Duration::from_secs(6));
    assert!(two.verifier().verify(new.as_bytes(), clock.now()).await.is_ok(), "found by its id");
    assert_eq!(two.verifier().verify(first.as_bytes(), clock.now()).await.unwrap_err(), Rejection::UnknownKey);
    assert_eq!(kid(&two.token().await), kid(&new));
    assert_eq!(store.keys().await.unwrap().len(), 1, "nor does the one that was waiting come back");
    clock.advance(20 * MINUTE);
    assert_eq!(kid(&two.token().await), kid(&new));

    // A machine that was idle looks before it lets pass what the leaked key has signed.
    let leaked = two.token().await;
    assert!(two.verifier().verify(leaked.as_bytes(), clock.now()).await.is_ok());
    one.handle.keys().replace(clock.now()).await.unwrap();
    clock.advance(2 * MINUTE);
    assert_eq!(two.verifier().verify(leaked.as_bytes(), clock.now()).await.unwrap_err(), Rejection::UnknownKey);

    // A key that was left over, because the store failed half-way, goes with the next call.
    one.handle.keys().rotate(clock.now()).await.unwrap();
    let leftover = store.keys().await.unwrap();
    one.handle.keys().replace(clock.now()).await.unwrap();
    let kept = store.keys().await.unwrap();
    assert_eq!(kept.len(), 1);
    for record in leftover {
        let _ = store.add_key(record).await;
    }
    one.handle.keys().replace(clock.now()).await.unwrap();
    assert_eq!(store.keys().await.unwrap().len(), 1);
    let given = KeyRing::from(SigningKey::generate(Algorithm::EdDsa).unwrap());
    assert!(matches!(given.rotate(clock.now()).await, Err(KeyRingError::Given)));
}

#[tokio::test]
async fn many_machines_at_once_make_one_key() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let open = || {
        let ring = KeyRing::stored(Arc::clone(&store) as _, Algorithm::EdDsa, Secret::from(SECRET));
        ring.clock(Arc::clone(&clock) as _).open()
    };
    let rings = futures::future::join_all((0..8).map(|_| open())).await;
    assert_eq!(store.keys().await.unwrap().len(), 1);
    let rotated = futures::future::join_all(rings.iter().map(|ring| ring.as_ref().unwrap().rotate(clock.now()))).await;
    assert!(rotated.iter().all(|at| at.as_ref().ok() == rotated[0].as_ref().ok()));
    assert_eq!(store.keys().await.unwrap().len(), 2);
    let replaced =
        futures::future::join_all(rings.iter().map(|ring| ring.as_ref().unwrap().replace(clock.now()))).await;
    assert!(replaced.iter().any(Result::is_ok), "{replaced:?}");
    assert!(!store.keys().await.unwrap().is_empty(), "there is always one left");
}

#[tokio::test]
async fn keys_from_the_configuration_are_published_beside_the_one_that_signs() {
    let [old, active, next] = [(); 3].map(|()| SigningKey::generate(Algorithm::Es256).unwrap());
    let token = old
        .sign(&serde_json::json!({
            "iss": "https://id.example", "aud": "orders", "sub": "user:7", "client_id": "app", "jti": "1",
            "iat": now(), "exp": now() + 600,
        }))
        .unwrap();
    let name = active.kid().unwrap().to_owned();
    let ring = KeyRing::given(active, [old, next]).unwrap();
    let api = ResourceServer::new(ClaimsPolicy::builder("https://id.example", "orders").build().unwrap(), ring.clone());
    let handle = AuthorizationServer::builder("https://id.example", "orders", ring).build().unwrap();
    let app = axum::Router::new().route("/me", axum::routing::get(|| async {})).layer(api.authenticate());
    let server = serve(app.merge(handle.routes())).await;
    let keys = get(server.address, "/.well-known/jwks.json", &[]).await.json()["keys"].as_array().unwrap().clone();
    assert_eq!((keys.len(), keys[0]["kid"].as_str()), (3, Some(name.as_str())));
    assert_eq!(crate::support::get_with(server.address, "/me", &token).await.status, 200);
}

#[tokio::test]
async fn mistakes_about_rings_are_told() {
    let store = Arc::new(MemoryStore::new());
    let ring = |algorithm, secret: &str| KeyRing::stored(Arc::clone(&store) as _, algorithm, Secret::from(secret));
    let builder = ring(Algorithm::Hs256, "short").rotate_every(MINUTE).prepublish(MINUTE).retire_after(MINUTE);
    let KeyRingError::Config(errors) = builder.open().await.unwrap_err() else { panic!("settings are wrong") };
    assert_eq!(errors.iter().count(), 5, "{errors}");
    // Keys must outlive what they have signed.
    let keys = ring(Algorithm::EdDsa, SECRET).open().await.unwrap();
    let long = AuthorizationServer::builder("https://id.example", "orders", keys);
    assert!(long.danger_access_token_lifetime(Duration::from_secs(7200)).build().is_err());
}
