//! An issuer of one's own, for tests: keys, and tokens right and wrong.

#![expect(clippy::panic, reason = "a test without its authority cannot go on")]

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Map, Value, json};

use super::{
    flaw::{Flaw, FlawedToken, Forge},
    key_server::{KeyServer, KeyService},
    principal::{AUDIENCE, ISSUER, TestPrincipal},
};
#[cfg(feature = "jwks-client")]
use crate::jwt::{RemoteJwks, RemoteJwksBuilder};
use crate::{
    clock::{Clock, SystemClock},
    jwt::{Algorithm, ClaimsPolicy, KeySet, KeySource, ManualKeys, SigningKey, Verifier},
    resource_server::ResourceServer,
};

/// Signs tokens, and makes the things that accept them. Cheap to clone; clones are the same authority.
///
/// ```
/// use portcullis::{clock::{Clock, SystemClock}, rejection::Rejection, testing::{Flaw, TestAuthority}};
///
/// let authority = TestAuthority::new();
/// let (verifier, now) = (authority.verifier(), SystemClock.now());
/// assert!(verifier.verify_at(authority.token("me items").as_bytes(), now).is_ok());
///
/// for flaw in Flaw::ALL {
///     let flawed = authority.flawed(*flaw);
///     assert!(verifier.verify_at(flawed.token.as_bytes(), now).is_err_and(|rejection| flawed.meets(rejection)));
/// }
///
/// let before = authority.token("me");
/// authority.rotate();
/// assert!(verifier.verify_at(before.as_bytes(), now).is_ok());
/// authority.withdraw_old_keys();
/// assert_eq!(verifier.verify_at(before.as_bytes(), now).unwrap_err(), Rejection::UnknownKey);
/// authority.begin_outage();
/// assert_eq!(verifier.verify_at(before.as_bytes(), now).unwrap_err(), Rejection::KeysUnavailable);
/// ```
///
/// It is `https://id.example`, for the audience `api`, and signs with `EdDSA`, unless made otherwise. Its methods panic if the
/// system gives no random bytes, or the library does not sign.
#[derive(Clone)]
pub struct TestAuthority {
    issuer: String,
    audience: String,
    algorithm: Algorithm,
    clock: Arc<dyn Clock>,
    tokens: Arc<AtomicU64>,
    keys: Arc<Mutex<Keys>>,
    /// What `api` and `verifier` see of the keys.
    live: ManualKeys,
}

struct Keys {
    /// Of which tokens are signed with the last.
    all: Vec<Arc<SigningKey>>,
    down: bool,
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

fn generate(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap_or_else(|error| panic!("no key: {error}"))
}

fn set_of(keys: &[Arc<SigningKey>]) -> KeySet {
    let set = KeySet::new(keys.iter().map(|key| key.verifying_key()));
    set.unwrap_or_else(|errors| panic!("no set of keys: {errors}"))
}

impl TestAuthority {
    /// An authority with a fresh key.
    pub fn new() -> Self {
        Self::with_name(ISSUER, AUDIENCE)
    }

    /// One of this name, whose tokens are for this audience.
    pub fn with_name(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let all = vec![Arc::new(generate(Algorithm::EdDsa))];
        let live = ManualKeys::new(set_of(&all));
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithm: Algorithm::EdDsa,
            clock: Arc::new(SystemClock),
            tokens: Arc::default(),
            keys: Arc::new(Mutex::new(Keys { all, down: false })),
            live,
        }
    }

    /// The same name, with a fresh key of this algorithm: any but those of shared secrets, which nobody can publish.
    ///
    /// Comes before [`api`](Self::api), [`verifier`](Self::verifier) and clones: what was made before keeps to the key that was
    /// there then, and accepts none of the tokens that are signed from now on.
    #[must_use]
    pub fn algorithm(self, algorithm: Algorithm) -> Self {
        let all = vec![Arc::new(generate(algorithm))];
        assert!(all.iter().all(|key| !key.jwks().keys.is_empty()), "a shared secret cannot be published");
        let live = ManualKeys::new(set_of(&all));
        Self { algorithm, keys: Arc::new(Mutex::new(Keys { all, down: false })), live, ..self }
    }

    /// Sets where the time is read, by it and by [`api`](Self::api): the system's clock unless set. An `api` that was made before
    /// keeps to the clock that was there then.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Its name, the `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom its tokens are for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What a token of it must say, with all defaults.
    pub fn policy(&self) -> ClaimsPolicy {
        let policy = ClaimsPolicy::builder(self.issuer.as_str(), self.audience.as_str()).build();
        policy.unwrap_or_else(|errors| panic!("no policy: {errors}"))
    }

    /// Its keys as they are now.
    pub fn key_set(&self) -> KeySet {
        set_of(&self.keys().all)
    }

    /// Its keys as they are at any time: rotations and outages are seen at once.
    pub fn key_source(&self) -> KeySource {
        self.live.clone().into()
    }

    /// Accepts its tokens, with the keys as they are at any time.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(self.policy(), self.live.clone())
    }

    /// Protects routes with its tokens, by its clock, with the keys as they are at any time.
    pub fn api(&self) -> ResourceServer {
        ResourceServer::new(self.policy(), self.live.clone()).clock(Arc::clone(&self.clock))
    }

    /// A good token of `user:7` with these scopes.
    pub fn token(&self, scopes: &str) -> String {
        self.token_for(&TestPrincipal::user("user:7").scopes(scopes))
    }

    /// A token that says this of its bearer: a good one, unless its claims are not.
    pub fn token_for(&self, caller: &TestPrincipal) -> String {
        let signed = self.key().sign(&self.claims(caller));
        signed.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A token of `user:7` that is wrong in this way, and what it must meet. It has no scopes: for what demands some only after
    /// the token was looked at that does not matter; otherwise [`flawed_for`](Self::flawed_for) takes a caller who has them.
    pub fn flawed(&self, flaw: Flaw) -> FlawedToken {
        self.flawed_for(flaw, &TestPrincipal::user("user:7"))
    }

    /// As [`flawed`](Self::flawed), of somebody else.
    pub fn flawed_for(&self, flaw: Flaw, caller: &TestPrincipal) -> FlawedToken {
        let (key, stranger) = (self.key(), generate(self.algorithm));
        // With the name of the real one, but where it is to be unknown.
        let stranger = match key.kid().filter(|_| flaw != Flaw::UnknownKey) {
            Some(kid) => stranger.with_kid(kid),
            None => stranger,
        };
        let forge = Forge { key: &key, stranger: &stranger, claims: self.claims(caller), now: self.clock.now() };
        forge.make(flaw).unwrap_or_else(|_| panic!("{flaw:?} cannot be made"))
    }

    /// Goes on with a fresh key. The keys before it stay good for the tokens that they have signed.
    pub fn rotate(&self) {
        let key = Arc::new(generate(self.algorithm));
        let mut keys = self.keys();
        keys.all.push(key);
        self.show(&keys);
    }

    /// Takes back all keys but the one in use: what they have signed is no longer good.
    pub fn withdraw_old_keys(&self) {
        let mut keys = self.keys();
        let old = keys.all.len().saturating_sub(1);
        keys.all.drain(..old);
        self.show(&keys);
    }

    /// From now on its keys cannot be had: [`api`](Self::api) answers 503, and so does the server of its keys.
    ///
    /// What a [`RemoteJwks`](Self::remote) has fetched before stays good, for as long as that was told to keep it.
    pub fn begin_outage(&self) {
        let mut keys = self.keys();
        keys.down = true;
        self.show(&keys);
    }

    /// Its keys can be had again.
    pub fn end_outage(&self) {
        let mut keys = self.keys();
        keys.down = false;
        self.show(&keys);
    }

    /// Its keys as it publishes them (RFC 7517 §5); `None` during an outage.
    pub fn key_document(&self) -> Option<Value> {
        let keys = self.keys();
        let published = keys.all.iter().flat_map(|key| key.jwks().keys).collect::<Vec<_>>();
        (!keys.down).then(|| json!({ "keys": published }))
    }

    /// A service that answers every request with its keys, or with 503 during an outage.
    pub fn key_service(&self) -> KeyService {
        KeyService::new(self.clone())
    }

    /// The same on a free port of loopback, over HTTP/1.1, until it is dropped.
    ///
    /// # Errors
    ///
    /// Those of the system: there is no port.
    pub fn serve_keys(&self) -> std::io::Result<KeyServer> {
        KeyServer::start(self.clone())
    }

    /// Fetches its keys from [`key_service`](Self::key_service), as from another server, without a network.
    #[cfg(feature = "jwks-client")]
    pub fn remote(&self) -> RemoteJwksBuilder {
        RemoteJwks::builder("https://id.example/keys").http_service(self.key_service())
    }

    fn claims(&self, caller: &TestPrincipal) -> Map<String, Value> {
        let id = format!("test-{}", self.tokens.fetch_add(1, Ordering::Relaxed));
        caller.to_claims(&self.issuer, &self.audience, &id, self.clock.now())
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> Arc<SigningKey> {
        self.keys().all.last().cloned().unwrap_or_else(|| panic!("there is always a key"))
    }

    fn show(&self, keys: &Keys) {
        self.live.set((!keys.down).then(|| set_of(&keys.all)));
    }
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestAuthority").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
