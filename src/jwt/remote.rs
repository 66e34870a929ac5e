//! Keys that an issuer publishes, fetched in the background and kept through its outages.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{self, Instant},
};
use tower_service::Service;

use self::{
    fetch::{Fetch, FetchError, Location},
    fetcher::Fetcher,
    turns::{Awaited, Turns},
};
use super::{
    algorithm::{ASYMMETRIC, Algorithm, Family},
    jwks::{self, Parsed},
    keyset::{KeySet, SetId},
    source::Fetched,
};
use crate::{
    config::{ConfigError, ConfigErrors},
    sync::{
        ArcSwapOption,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

mod fetch;
mod fetcher;
mod turns;

/// Requests that may wait for one fetch. Further ones are answered at once.
const MOST_WAITING: usize = 1024;

/// The keys that an issuer publishes as a JWK set. Cheap to clone.
///
/// A task fetches them in the background: ahead of their expiry, and when a token comes that no key there has signed, but
/// for that reason at most once in a cooldown, whatever comes of it. Requests never fetch; such a one waits for the task,
/// as long as one fetch may take. While the issuer does not answer, the last good set is used, and its end is
/// `503`, never `401`. The task ends with the last clone, or with [`stop`](Self::stop).
///
/// | setting | default | bound |
/// |---|---|---|
/// | address | | `https`; `http` on `localhost`, `127.0.0.1`, `[::1]` |
/// | redirects | to the same origin, 3 | fixed |
/// | time for one fetch | 5 s | 0.1 s to 60 s |
/// | body | 256 KiB, not compressed | fixed |
/// | keys | 64 | 1 to 1,024 |
/// | fetched again | at 4/5 of `max-age`, held to 1 min to 1 h | 1 s to 24 h |
/// | fetched again for a token that no key has signed | once in 30 s | 1 s to 1 h |
/// | after a failure | after 1 s, doubling to 32 s, and up to a quarter more | fixed |
/// | last good set | 24 h | 7 d |
///
/// Keys that cannot verify are skipped: other `use` or `key_ops`, shared secrets, RSA below 2,048 bits, unknown types and
/// curves, `alg` that contradicts. A set with none left is a failure. Two keys that fit one key id are of no use: their
/// tokens are answered `503`. A key that is withdrawn stops verifying with the next fetch, but for an issuer's only one: an
/// emptied set is a failure. Whoever sends made-up tokens uses up the cooldown; a new key that its issuer signs with at
/// once, before anybody can have fetched it, may have to wait for the next.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::config::ConfigErrors> {
/// use portcullis::{ResourceServer, jwt::{ClaimsPolicy, RemoteJwks}};
///
/// let keys = RemoteJwks::builder("https://id.example/.well-known/jwks.json").start()?;
/// keys.ready().await; // or answer 503 until they are there
/// let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
/// let api = ResourceServer::new(policy, keys);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RemoteJwks(Arc<Task>);

/// Ends the task when the last handle goes.
struct Task {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Task {
    fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What requests and the task know of each other.
struct Shared {
    current: ArcSwapOption<KeySet>,
    skipped: AtomicUsize,
    ambiguous: AtomicUsize,
    /// Whether the program has ended the task, as opposed to the end of its runtime.
    stopped: AtomicBool,
    waiting: AtomicUsize,
    turns: Turns,
    timeout: Duration,
}

/// How a [`RemoteJwks`] is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct JwksStatus {
    /// Whether there are keys to verify with.
    pub ready: bool,
    /// Whether the last fetch failed.
    pub failing: bool,
    /// Whether nothing is fetched any more: after [`stop`](RemoteJwks::stop), or because the runtime has ended.
    pub stopped: bool,
    /// Fetches that have ended so far.
    pub fetches: u64,
    /// Keys of the last good set that cannot verify.
    pub skipped: usize,
    /// Key ids of the last good set, none of all as one, that stand for several keys of one algorithm: tokens that need one
    /// of those are answered `503`.
    pub ambiguous: usize,
}

impl RemoteJwks {
    /// Keys at this address.
    pub fn builder(address: impl Into<String>) -> RemoteJwksBuilder {
        RemoteJwksBuilder::new(Location::Keys(address.into()))
    }

    /// Keys of this issuer, whose address is found at `<issuer>/.well-known/openid-configuration` (OpenID Connect
    /// Discovery 1.0 §4). The document must name the issuer in the same bytes.
    pub fn discover_openid(issuer: impl Into<String>) -> RemoteJwksBuilder {
        RemoteJwksBuilder::new(Location::OpenId(issuer.into()))
    }

    /// As [`discover_openid`](Self::discover_openid), from the metadata of RFC 8414 §3: `oauth-authorization-server`
    /// below `.well-known`, inserted between host and path of the issuer.
    pub fn discover_oauth(issuer: impl Into<String>) -> RemoteJwksBuilder {
        RemoteJwksBuilder::new(Location::OAuth(issuer.into()))
    }

    /// Resolves when there are keys to verify with, or when the task has been stopped. Waits as long as that takes; put a
    /// timeout around it.
    pub async fn ready(&self) {
        let turns = &self.0.shared.turns;
        loop {
            let next = turns.ended() + 1;
            if self.current().is_some() || self.0.task.is_finished() {
                return;
            }
            // Looked at now and then, because a task that is stopped tells nobody.
            let _ = time::timeout(Duration::from_secs(1), turns.wait_for(next)).await;
        }
    }

    /// How the keys are doing, for a readiness probe.
    pub fn status(&self) -> JwksStatus {
        let shared = &self.0.shared;
        JwksStatus {
            ready: shared.current.load().is_some(),
            failing: shared.turns.has_failed(),
            stopped: self.0.task.is_finished(),
            fetches: shared.turns.ended(),
            skipped: shared.skipped.load(Ordering::Relaxed),
            ambiguous: shared.ambiguous.load(Ordering::Relaxed),
        }
    }

    /// Ends fetching, for a program that shuts down. The keys stay as they are, however old they become. Where the runtime
    /// ends instead, they are dropped, and the log says so: nobody would withdraw them any more.
    pub fn stop(&self) {
        self.0.stop();
    }

    pub(crate) fn current(&self) -> Option<KeySet> {
        self.0.shared.current.load().as_deref().cloned()
    }

    pub(crate) fn are(&self, id: SetId) -> bool {
        self.0.shared.current.load().as_ref().is_some_and(|current| current.id() == id)
    }

    /// Asks the task for new keys; `None` if it has just been asked, and has answered.
    pub(crate) fn fetch_again(&self) -> Option<Fetched> {
        if self.0.task.is_finished() {
            return None;
        }
        let shared = Arc::clone(&self.0.shared);
        let awaited = shared.turns.ask(Instant::now())?;
        let place = WaitingPlace::take(shared)?;
        let before = self.current().map(|keys| keys.id());
        let wait = async move {
            let shared = &*place.0;
            shared.turns.wait_for(awaited.number()).await;
            // A fetch on time that had begun before may have been answered before the key was there.
            let same = shared.current.load().as_ref().map(|keys| keys.id()) == before;
            if let Awaited::OnTime(_) = awaited
                && same
                && let Some(again) = shared.turns.ask(Instant::now())
            {
                shared.turns.wait_for(again.number()).await;
            }
        };
        let timeout = self.0.shared.timeout;
        Some(time::timeout(timeout, wait).map(drop).boxed())
    }

    /// Whether a key that is not there may be one that could not be fetched.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.task.is_finished() || self.0.shared.turns.are_in_doubt()
    }
}

impl fmt::Debug for RemoteJwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteJwks").field(&self.status()).finish()
    }
}

/// One of the places for requests that wait, given back when dropped.
struct WaitingPlace(Arc<Shared>);

impl WaitingPlace {
    fn take(shared: Arc<Shared>) -> Option<Self> {
        let before = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared);
        (before < MOST_WAITING).then_some(place)
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Builder of a [`RemoteJwks`], which has the defaults and bounds.
#[must_use]
pub struct RemoteJwksBuilder {
    location: Location,
    algorithms: Vec<Algorithm>,
    timeout: Duration,
    cooldown: Duration,
    refresh: (Duration, Duration),
    keep: Duration,
    most_keys: usize,
    seed: Option<PathBuf>,
    fetch: Option<Fetch>,
}

impl RemoteJwksBuilder {
    fn new(location: Location) -> Self {
        Self {
            location,
            algorithms: ASYMMETRIC.to_vec(),
            timeout: Duration::from_secs(5),
            cooldown: Duration::from_secs(30),
            refresh: (Duration::from_secs(60), Duration::from_secs(3600)),
            keep: Duration::from_secs(24 * 3600),
            most_keys: 64,
            seed: None,
            fetch: None,
        }
    }

    /// Sets the algorithms that the issuer may sign with: all but those with shared secrets unless set. A key that names
    /// none gets the first that fits its type; for RSA that is `RS256` unless set.
    pub fn algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self { algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// Sets how long one fetch may take, and a request wait for it: 5 seconds unless set.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets how often unknown keys may cause a fetch: once in 30 seconds unless set.
    pub fn cooldown(self, cooldown: Duration) -> Self {
        Self { cooldown, ..self }
    }

    /// Sets the bounds to which the set's own `max-age` is held: a minute and an hour unless set.
    pub fn refresh(self, least: Duration, most: Duration) -> Self {
        Self { refresh: (least, most), ..self }
    }

    /// Sets how long the last good set is used while the issuer does not answer: a day unless set.
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    /// Sets how many keys a set may have: 64 unless set. One with more is a failure.
    pub fn most_keys(self, most_keys: usize) -> Self {
        Self { most_keys, ..self }
    }

    /// Begins with the JWK set in this file, so that a start during the issuer's outage can verify. It is read once, at the
    /// start, and counts as fetched then: a key that was withdrawn since the file was written is good until the first fetch.
    pub fn seed_file(self, path: impl Into<PathBuf>) -> Self {
        Self { seed: Some(path.into()), ..self }
    }

    /// Fetches with this service in place of the built-in client. It must not follow redirects to other origins.
    pub fn http_service<S, B>(self, service: S) -> Self
    where
        S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: fmt::Display,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self { fetch: Some(fetch::with_service(service)), ..self }
    }

    /// Starts the task; the keys are there when [`ready`](RemoteJwks::ready) resolves. Must be called in a Tokio runtime
    /// with its timer and I/O enabled.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each setting out of bounds, an address that is not `https`, or a seed file without a
    /// usable key.
    pub fn start(self) -> Result<RemoteJwks, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        errors.bound("JWKS timeout", self.timeout, Duration::from_millis(100), Duration::from_secs(60));
        errors.bound("JWKS cooldown", self.cooldown, second, hour);
        errors.bound("JWKS refresh, at the most", self.refresh.1, second, 24 * hour);
        errors.bound("JWKS refresh, at the least", self.refresh.0, second, self.refresh.1.max(second));
        errors.bound("JWKS kept", self.keep, Duration::ZERO, 7 * 24 * hour);
        errors.bound_number("JWKS keys", self.most_keys, 1, 1024);
        if self.algorithms.is_empty() {
            errors.push(ConfigError::NoKey);
        }
        if self.algorithms.iter().any(|algorithm| algorithm.family() == Family::Hmac) {
            errors.push(ConfigError::Key("a shared secret cannot be published"));
        }
        let checked = errors.keep(self.location.check());
        let fetch = match self.fetch {
            Some(fetch) => Some(fetch),
            None => errors.keep(fetch::client().map_err(ConfigError::Client)),
        };
        let runtime = errors.keep(Handle::try_current().map_err(|_| ConfigError::NoRuntime));
        let seed = self.seed.and_then(|path| errors.keep(read_seed(&path, &self.algorithms, self.most_keys)));
        let parts = checked.and(fetch).zip(runtime);
        let (fetch, runtime) = errors.finish(parts)?;
        let Parsed { keys, skipped, by_text: last_keys } = seed.unwrap_or_default();
        let seed = (!keys.is_empty()).then(|| KeySet::as_published(keys));
        let shared = Arc::new(Shared {
            ambiguous: AtomicUsize::new(seed.as_ref().map_or(0, KeySet::ids_of_several)),
            current: ArcSwapOption::from_pointee(seed),
            skipped: AtomicUsize::new(skipped),
            stopped: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            turns: Turns::new(self.cooldown),
            timeout: self.timeout,
        });
        let fetcher = Fetcher {
            shared: Arc::clone(&shared),
            location: self.location,
            fetch,
            algorithms: self.algorithms,
            most_keys: self.most_keys,
            refresh: self.refresh,
            keep: self.keep,
            last_good: Instant::now(),
            last_text: None,
            last_keys,
            failures: 0,
        };
        let task = runtime.spawn(fetcher.run()).abort_handle();
        Ok(RemoteJwks(Arc::new(Task { shared, task })))
    }
}

impl fmt::Debug for RemoteJwksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJwksBuilder").field("location", &self.location).finish_non_exhaustive()
    }
}

fn read_seed(path: &Path, algorithms: &[Algorithm], most_keys: usize) -> Result<Parsed, ConfigError> {
    let read = || {
        // One byte more than may be, so that a longer one is seen.
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        file.take(fetch::MAX_BODY as u64 + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() > fetch::MAX_BODY {
            return Err(FetchError::TooLong.to_string());
        }
        jwks::parse(&text, algorithms, most_keys, &BTreeMap::new()).map_err(|error| error.to_string())
    };
    read().map_err(|reason| ConfigError::Seed { path: path.display().to_string(), reason })
}
