//! What a machine keeps of a store's content, read again as it is used.
//!
//! No task waits for its time: a reading is begun by whoever finds that it is due, goes on beside the request that began it and
//! whatever becomes of that, and is waited for only where what there is has become too old. So there is nothing to start, to
//! stop or to die unseen, and an idle program asks its store for nothing.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{self, Instant},
};

use self::flight::{Flight, Waiting};
use crate::{audit, clock::UnixSeconds, metrics, store::StoreError};

mod flight;

/// How long a reading may take, and how long one is waited for.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long one may take that reads all there is.
pub(crate) const TIMEOUT_OF_ALL: Duration = Duration::from_secs(15);
/// How many may wait for one.
const MOST_WAITING: usize = 1024;

/// How old a copy may become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ages {
    /// When to read again.
    pub(crate) due: Duration,
    /// When it is of no use any more.
    pub(crate) stale: Duration,
}

/// What is to be done with a copy of this age.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Age {
    Fresh,
    /// Good, but it is time to read again.
    Due,
    /// Of no use before it has been read again.
    Stale,
}

impl Ages {
    /// Decides as of `now` about a copy that was read at `read`.
    pub(crate) fn of(self, read: Option<UnixSeconds>, now: UnixSeconds) -> Age {
        match read {
            None => Age::Stale,
            // A clock that was set back says nothing about the age, but for a little.
            Some(read) if now.saturating_add(self.stale) < read => Age::Stale,
            Some(read) if now < read => Age::Due,
            Some(read) if now >= read.saturating_add(self.stale) => Age::Stale,
            Some(read) if now >= read.saturating_add(self.due) => Age::Due,
            Some(_) => Age::Fresh,
        }
    }
}

/// A reading that is going on. Resolves when it has ended, well or not.
pub(crate) type Reading = BoxFuture<'static, ()>;

/// When a copy was read, and the one reading that may be going on.
#[derive(Debug, Default)]
pub(crate) struct Follow(Arc<Flight<Running>>);

#[derive(Clone, Debug)]
struct Running {
    /// Some time after it must have ended.
    until: Instant,
    task: AbortHandle,
    ended: Shared<Reading>,
}

impl flight::Running for Running {
    fn goes_on(&self) -> bool {
        if self.task.is_finished() {
            return false;
        }
        let in_time = Instant::now() < self.until;
        if !in_time {
            // Its runtime is there, and drives nothing.
            self.task.abort();
        }
        in_time
    }
}

impl Follow {
    /// How old the copy is as of `now`. Costs a look at two numbers.
    pub(crate) fn age(&self, ages: Ages, now: UnixSeconds) -> Age {
        ages.of(self.0.read(), now)
    }

    /// Whether the last reading has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.is_failing()
    }

    /// Whether a reading has ever ended well.
    pub(crate) fn has_read(&self) -> bool {
        self.0.read().is_some()
    }

    /// Begins a reading, if none is going on and none has just failed, and does not wait for it.
    pub(crate) fn begin(&self, what: &'static str, now: UnixSeconds, read: impl FnOnce() -> Read) {
        drop(self.reading(what, now, read));
    }

    /// Joins the reading that is going on, or begins one. `None` if one has just failed, or if too many are waiting.
    pub(crate) fn join(&self, what: &'static str, now: UnixSeconds, read: impl FnOnce() -> Read) -> Option<Reading> {
        let waiting = Waiting::one(&self.0, MOST_WAITING)?;
        let reading = self.reading(what, now, read)?;
        let wait = async move {
            let _ = time::timeout(TIMEOUT + Duration::from_millis(100), reading).await;
            drop(waiting);
        };
        Some(wait.boxed())
    }

    /// The reading that is going on, or a new one. `None` outside a Tokio runtime.
    fn reading(&self, what: &'static str, now: UnixSeconds, read: impl FnOnce() -> Read) -> Option<Shared<Reading>> {
        let begin = || {
            let (runtime, state, Read { most, read }) = (Handle::try_current().ok()?, Arc::clone(&self.0), read());
            // A task of its own: whoever began it may go away, and those who have joined it wait for it still.
            let task = runtime.spawn(audit::carried(async move {
                let begun = Instant::now();
                // A store of the program's own may panic; it must be asked again all the same.
                let read = AssertUnwindSafe(time::timeout(most, read)).catch_unwind().await;
                let outcome = match read {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Err(StoreError::unavailable("no answer in time")),
                    Err(_) => Err(StoreError::unavailable("the store has panicked")),
                };
                end(&state, what, now, begun.elapsed(), outcome);
            }));
            let handle = task.abort_handle();
            let ended = task.map(drop).boxed().shared();
            Some(Running { until: Instant::now() + most + TIMEOUT, task: handle, ended })
        };
        self.0.join(now, begin).map(|running| running.ended)
    }
}

#[cfg(all(test, portcullis_loom))]
impl Follow {
    /// As after a reading that was begun at `now`.
    pub(crate) fn has_read_as_of(&self, now: UnixSeconds) {
        self.0.ended_well(now);
    }
}

/// Reads, and takes over what was read.
pub(crate) struct Read {
    /// How long it may take.
    pub(crate) most: Duration,
    pub(crate) read: BoxFuture<'static, Result<(), StoreError>>,
}

/// Notes how a reading ended, and tells when that is news.
fn end(
    state: &Flight<Running>,
    what: &'static str,
    begun: UnixSeconds,
    took: Duration,
    outcome: Result<(), StoreError>,
) {
    match outcome {
        Ok(()) => {
            metrics::read(what, "", begun);
            if state.ended_well(begun) {
                audit::outage_over(what, "");
            }
        }
        Err(error) => {
            if state.failed(begun.saturating_add(took)) {
                audit::outage_begun(what, "", &error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGES: Ages = Ages { due: Duration::from_secs(1), stale: Duration::from_secs(5) };

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    fn read(read: impl Future<Output = Result<(), StoreError>> + Send + 'static) -> Read {
        Read { most: TIMEOUT, read: read.boxed() }
    }

    #[test]
    fn ages() {
        for (read, now, expected) in [
            (None, 100, Age::Stale),
            (Some(100), 100, Age::Fresh),
            (Some(100), 101, Age::Due),
            (Some(100), 104, Age::Due),
            (Some(100), 105, Age::Stale),
            (Some(100), 99, Age::Due),
            (Some(100), 95, Age::Due),
            (Some(100), 94, Age::Stale),
        ] {
            assert_eq!(AGES.of(read.map(at), at(now)), expected, "{read:?} {now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_reading_at_a_time_and_none_again_in_the_second_in_which_one_failed() {
        let follow = Follow::default();
        let never = || read(futures::future::pending());
        let unasked = || -> Read { panic!("there is one already") };
        assert_eq!(follow.age(AGES, at(7)), Age::Stale);
        let first = follow.join("test", at(7), never).unwrap();
        let second = follow.join("test", at(7), unasked).unwrap();
        futures::future::join(first, second).await;
        assert_eq!(follow.age(AGES, at(7)), Age::Stale, "it took too long");
        for now in [7, 8] {
            assert!(follow.join("test", at(now), unasked).is_none(), "{now}: it has ended at 8");
        }
        assert!(follow.is_failing() && !follow.has_read());
        follow.join("test", at(9), || read(async { panic!("its own fault") })).unwrap().await;
        assert!(follow.is_failing());
        follow.join("test", at(10), || read(async { Ok(()) })).unwrap().await;
        assert_eq!((follow.age(AGES, at(10)), follow.is_failing()), (Age::Fresh, false));
        assert_eq!(follow.0.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_goes_on_when_whoever_began_it_has_gone() {
        let follow = Follow::default();
        let slow = || read(time::sleep(Duration::from_secs(1)).map(Ok));
        drop(follow.join("test", at(1), slow));
        time::sleep(Duration::from_secs(2)).await;
        assert_eq!(follow.age(AGES, at(2)), Age::Due);
    }

    #[test]
    fn without_a_runtime_nothing_is_read() {
        let follow = Follow::default();
        assert!(follow.join("test", at(1), || panic!("nobody would wait for it")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_counted() {
        let follow = Follow::default();
        let never = || read(futures::future::pending());
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| follow.join("test", at(1), never).unwrap()).collect();
        assert!(follow.join("test", at(1), never).is_none());
        drop(waiting);
        assert!(follow.join("test", at(1), never).is_some());
    }
}
