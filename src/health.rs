//! Whether a program can do its work: for load balancers and orchestrators, which ask again and again.
//!
//! `/health` says that the process answers: whoever restarts it asks there. `/ready` says that the keys and stores that it needs
//! answer: whoever sends requests here asks there. A store that is down is no reason to restart a program, and one that several
//! machines share takes all of them out of rotation, which is why the two are apart.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "password"))] {
//! use axum::Router;
//! use portcullis::AuthorizationServer;
//!
//! fn app(server: &AuthorizationServer) -> Router {
//!     // GET /health, GET /ready
//!     Router::new().merge(server.readiness().routes()).merge(server.routes())
//! }
//! # }
//! ```

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, join_all},
};
use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use crate::{
    audit, metrics,
    store::{StoreError, within},
};

/// For how long a look counts.
const KEPT: Duration = Duration::from_secs(1);
/// How long one is waited for: longer than any check may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a program needs to be ready, each with a name and a way to see whether it answers. Cheap to clone; clones share what they
/// have seen.
///
/// Anybody may ask, so asking costs little: there is one look at a time, all who come meanwhile wait for it, and it counts for a
/// second. Checks run beside each other, 1.5 seconds each at the most. Needs a Tokio runtime with its timer enabled.
///
/// | name | of | fails if |
/// |---|---|---|
/// | `signing_keys` | an [`AuthorizationServer`](crate::AuthorizationServer) | there is no key that may sign |
/// | `users`, `sessions` | the same, where it has them | the store does not answer |
/// | `revocations` | both, where there is a list | it cannot be told what was called back, and tokens are refused for it |
/// | `login_attempts` | an [`AuthorizationServer`](crate::AuthorizationServer) whose limits are counted in a store, and logins refused without it | that does not answer |
/// | `issuer_keys` | a [`ResourceServer`](crate::ResourceServer) | keys of an issuer are not there. While it does not answer, its last good ones are |
///
/// ```
/// # #[cfg(feature = "password")]
/// # async fn example(server: portcullis::AuthorizationServer, api: portcullis::ResourceServer) {
/// use portcullis::health::Readiness;
/// # async fn ping() -> Result<(), std::io::Error> { Ok(()) }
///
/// // What a server needs, what an API needs that accepts others' tokens, and what the program needs besides.
/// let readiness = server.readiness().and(&api.readiness()).check("orders_database", || ping());
/// for name in readiness.look().await.failing() {
///     println!("{name} does not answer");
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Readiness(Arc<Inner>);

#[derive(Default)]
struct Inner {
    checks: Vec<Arc<Check>>,
    seen: Mutex<Option<Seen>>,
}

struct Check {
    name: &'static str,
    probe: Box<dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>,
    /// Whether somebody else tells when it begins to fail.
    told_elsewhere: bool,
    failing: AtomicBool,
}

/// The last look, which may be going on.
struct Seen {
    begun: Instant,
    looking: Shared<BoxFuture<'static, (Report, Instant)>>,
}

/// What was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report(Arc<[(&'static str, bool)]>);

impl Report {
    /// Whether all that is needed answers.
    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|(_, answers)| *answers)
    }

    /// Each check, and whether it went well.
    pub fn checks(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().copied()
    }

    /// The names of what does not answer.
    pub fn failing(&self) -> impl Iterator<Item = &'static str> {
        self.checks().filter(|(_, answers)| !answers).map(|(name, _)| name)
    }
}

impl Readiness {
    /// Nothing yet, which is always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Needs this besides: `probe` is called once a second at the most, and only while somebody asks. Everybody sees the name; why it
    /// fails is told to the log alone, once, when that begins.
    #[must_use]
    pub fn check<F, E>(self, name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let probe = move || probe().map(|answer| answer.map_err(|e| StoreError::unavailable(e.to_string()))).boxed();
        self.needs(name, false, probe)
    }

    /// Needs all that `other` needs besides.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        self.with(other.0.checks.iter().map(Arc::clone))
    }

    /// Needs this besides, of which somebody else may tell.
    pub(crate) fn needs(
        self,
        name: &'static str,
        told_elsewhere: bool,
        probe: impl Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
    ) -> Self {
        let check = Check { name, probe: Box::new(probe), told_elsewhere, failing: AtomicBool::new(false) };
        self.with([Arc::new(check)])
    }

    fn with(self, more: impl IntoIterator<Item = Arc<Check>>) -> Self {
        let checks = self.0.checks.iter().cloned().chain(more).collect();
        Self(Arc::new(Inner { checks, seen: Mutex::default() }))
    }

    /// Looks, or says what was seen within the last second.
    pub async fn look(&self) -> Report {
        let looking = self.looking();
        match looking {
            Some(looking) => {
                time::timeout(PATIENCE, looking).await.map_or_else(|_| self.nothing_answers(), |(report, _)| report)
            }
            None => self.nothing_answers(),
        }
    }

    fn nothing_answers(&self) -> Report {
        Report(self.0.checks.iter().map(|check| (check.name, false)).collect())
    }

    /// The look that is going on, or the last one if it still counts, or a new one. `None` outside a Tokio runtime.
    fn looking(&self) -> Option<Shared<BoxFuture<'static, (Report, Instant)>>> {
        let runtime = Handle::try_current().ok()?;
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Seen { begun, looking }) = &*seen {
            let counts = match looking.peek() {
                Some((_, ended)) => ended.elapsed() < KEPT,
                // Its runtime may be there and drive nothing.
                None => begun.elapsed() < PATIENCE,
            };
            if counts {
                return Some(looking.clone());
            }
        }
        let (checks, failed) = (self.0.checks.clone(), self.nothing_answers());
        // A task of its own: whoever asked first may hang up, and the others wait for it still.
        let task = runtime.spawn(async move {
            let answers = join_all(checks.iter().map(|check| check.look())).await;
            (Report(answers.into()), Instant::now())
        });
        let looking = task.map(|ended| ended.unwrap_or_else(|_| (failed, Instant::now()))).boxed().shared();
        *seen = Some(Seen { begun: Instant::now(), looking: looking.clone() });
        Some(looking)
    }
}

impl Check {
    async fn look(&self) -> (&'static str, bool) {
        // What a program gives may panic, and is to be asked again all the same.
        let probe = AssertUnwindSafe(async { within((self.probe)()).await }).catch_unwind().await;
        let answer = probe.unwrap_or_else(|_| Err(StoreError::unavailable("the check has panicked")));
        metrics::ready(self.name, answer.is_ok());
        let was_failing = self.failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            _ if self.told_elsewhere => {}
            Ok(()) if was_failing => audit::outage_over(self.name, ""),
            Err(error) if !was_failing => audit::outage_begun(self.name, "", error),
            _ => {}
        }
        (self.name, answer.is_ok())
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.checks.iter().map(|check| check.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::AtomicUsize,
    };

    use super::*;

    fn counted(looks: &Arc<AtomicUsize>) -> Readiness {
        let looks = Arc::clone(looks);
        Readiness::new().check("counted", move || {
            looks.fetch_add(1, Ordering::Relaxed);
            time::sleep(Duration::from_millis(100)).map(Ok::<_, &str>)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_look_at_a_time_and_it_counts_for_a_second() {
        let looks = Arc::new(AtomicUsize::new(0));
        let readiness = counted(&looks);
        let all = join_all((0..1000).map(|_| readiness.look())).await;
        assert!(all.iter().all(Report::is_ready));
        for (wait, expected) in [(0, 1), (900, 1), (101, 2)] {
            time::sleep(Duration::from_millis(wait)).await;
            readiness.look().await;
            assert_eq!(looks.load(Ordering::Relaxed), expected, "{wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_hangs_up_stops_nobody_elses_look() {
        let looks = Arc::new(AtomicUsize::new(0));
        let readiness = counted(&looks);
        assert!(readiness.look().now_or_never().is_none());
        assert!(readiness.look().await.is_ready());
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_fails_or_panics_is_named_in_time_and_asked_again() {
        let up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&up);
        let readiness = Readiness::new()
            .check("good", || ready(Ok::<_, &str>(())))
            .check("hangs", pending::<Result<(), &str>>)
            .check("panics", || -> std::future::Ready<Result<(), &str>> { panic!("its own fault") })
            .and(
                &Readiness::new()
                    .check("recovers", move || ready(seen.load(Ordering::Relaxed).then_some(()).ok_or(""))),
            );
        let begun = Instant::now();
        let report = readiness.look().await;
        assert_eq!(report.failing().collect::<Vec<_>>(), ["hangs", "panics", "recovers"]);
        assert_eq!(begun.elapsed(), Duration::from_millis(1500), "beside each other");
        up.store(true, Ordering::Relaxed);
        time::sleep(KEPT).await;
        assert_eq!(readiness.look().await.failing().collect::<Vec<_>>(), ["hangs", "panics"]);
    }

    #[test]
    fn without_a_runtime_nothing_is_ready() {
        let readiness = Readiness::new().check("good", || ready(Ok::<_, &str>(())));
        assert_eq!(readiness.look().now_or_never().map(|report| report.is_ready()), Some(false));
    }
}
