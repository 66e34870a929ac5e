//! What was told, in a table that can be asked.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{StoreError, StoreFuture};
use crate::audit::{AuditSink, Event, EventRecord, Kind, SinkError};

/// Events in a page at most.
const MOST_EVENTS: usize = 1000;
/// Events in a page, unless set.
const EVENTS: usize = 50;
/// Kinds that can be asked for at once. There are fewer.
const MOST_KINDS: usize = 64;
/// For how long events are kept, unless set.
const KEEP: Duration = Duration::from_secs(90 * 86400);

/// Where events are kept: of the stores here, all but Redis.
///
/// [`AuditTable`] makes a sink of it; [`testing::stores`](crate::testing::stores) holds one of your own to its promises.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`] or [`StoreError::Full`]. What is added is handed over again then.
pub trait AuditStore: Send + Sync + 'static {
    /// Adds events. One whose [`id`](EventRecord::id) is there stays as it was: each is there once, however often it comes.
    ///
    /// Some of those that happened before `forget` are cleared away, more than were added, so that none are left over; but not
    /// so many that other calls would have to wait.
    fn add_events(&self, events: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()>;

    /// Those that `query` asks for, by their time and then their id, the last first.
    fn events(&self, query: EventQuery) -> StoreFuture<'_, Vec<EventRecord>>;
}

impl<T: AuditStore + ?Sized> AuditStore for Arc<T> {
    fn add_events(&self, events: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()> {
        (**self).add_events(events, forget)
    }

    fn events(&self, query: EventQuery) -> StoreFuture<'_, Vec<EventRecord>> {
        (**self).events(query)
    }
}

/// Which events: all of them unless narrowed, the newest first, 50 in a page.
///
/// The fields are for stores; programs have the methods.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct EventQuery {
    /// Whose.
    pub subject: Option<String>,
    /// Of which kinds; of all, if none is named.
    pub kinds: Vec<Kind>,
    /// Not before this moment.
    pub since: Option<SystemTime>,
    /// Further back than the event with this id. Nothing is, if that is gone, because what is older went before it.
    pub after: Option<String>,
    /// How many at most: 1 to 1,000.
    pub most: usize,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self { subject: None, kinds: Vec::new(), since: None, after: None, most: EVENTS }
    }
}

impl EventQuery {
    /// The newest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of one subject, such as `user:7`.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Those of these kinds. With a subject, all of the subject's events of that time are looked at.
    pub fn kinds(self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let mut own: Vec<Kind> = Vec::new();
        for kind in kinds.into_iter().take(MOST_KINDS) {
            if !own.contains(&kind) {
                own.push(kind);
            }
        }
        Self { kinds: own, ..self }
    }

    /// Those that happened at that moment or later.
    pub fn since(self, since: SystemTime) -> Self {
        Self { since: Some(since), ..self }
    }

    /// The page after the one that ended with this event.
    pub fn after(self, id: impl Into<String>) -> Self {
        Self { after: Some(id.into()), ..self }
    }

    /// How many in a page: 50 unless set, 1 to 1,000. A number beyond that counts as the next one within.
    pub fn most(self, events: usize) -> Self {
        Self { most: events.clamp(1, MOST_EVENTS), ..self }
    }

    /// The same again: the field is open.
    pub(super) fn page(&self) -> usize {
        self.most.clamp(1, MOST_EVENTS)
    }
}

/// Sink that keeps events in a store, for 90 days. Clones are one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use portcullis::{audit::{AuditTrail, Kind}, store::{EventQuery, Store}};
///
/// let table = Store::connect("memory:").await?.audit().ok_or("this store keeps no events")?;
/// let trail = AuditTrail::builder().sink(table.clone()).start()?;
///
/// // A page of "recent security events":
/// let query = EventQuery::new().subject("user:7").kinds([Kind::LoginSucceeded, Kind::LoginFailed, Kind::RefreshReused]);
/// let page = table.events(query.clone()).await?;
/// let next = match page.last() {
///     Some(last) => table.events(query.after(&last.id)).await?,
///     None => Vec::new(),
/// };
/// # assert!(next.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AuditTable {
    store: Arc<dyn AuditStore>,
    keep: Option<Duration>,
}

impl AuditTable {
    /// The table in `store`.
    pub fn new(store: Arc<dyn AuditStore>) -> Self {
        Self { store, keep: Some(KEEP) }
    }

    /// Sets for how long events are kept: for 90 days unless set; for ever, if that is zero. Older ones are cleared away little by
    /// little, as new ones come.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep: Some(keep).filter(|keep| !keep.is_zero()), ..self }
    }

    /// Where they are kept.
    pub fn store(&self) -> Arc<dyn AuditStore> {
        Arc::clone(&self.store)
    }

    /// Events that are in the table, which what was told a moment ago need not be yet: the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if the store does not answer.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<EventRecord>, StoreError> {
        self.store.events(query).await
    }
}

impl fmt::Debug for AuditTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditTable").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl AuditSink for AuditTable {
    fn name(&self) -> &'static str {
        "store"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        let forget = self.keep.and_then(|keep| SystemTime::now().checked_sub(keep));
        let records = events.iter().map(|event| EventRecord::from(&**event)).collect();
        // Whatever the reason, a store may be mended: a full disk too.
        async move { self.store.add_events(records, forget).await.map_err(SinkError::unavailable) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::Level;

    use super::*;

    /// Fails as it is told, and notes what it was asked to forget.
    #[derive(Default)]
    struct Failing(Mutex<Vec<Option<SystemTime>>>, Mutex<Option<StoreError>>);

    impl AuditStore for Failing {
        fn add_events(&self, _: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()> {
            self.0.lock().unwrap().push(forget);
            let error = self.1.lock().unwrap().take();
            async { error.map_or(Ok(()), Err) }.boxed()
        }

        fn events(&self, _: EventQuery) -> StoreFuture<'_, Vec<EventRecord>> {
            async { Ok(Vec::new()) }.boxed()
        }
    }

    #[tokio::test]
    async fn whatever_a_store_says_events_come_again() {
        let store = Arc::new(Failing::default());
        let table = AuditTable::new(Arc::clone(&store) as _);
        let events = [Arc::new(Event::new(Kind::LoginFailed, Level::INFO, "login failed"))];
        for error in [StoreError::Full, StoreError::Conflict, StoreError::unavailable("gone")] {
            *store.1.lock().unwrap() = Some(error);
            assert!(matches!(table.write(&events).await, Err(SinkError::Unavailable(_))));
        }
        assert!(table.write(&events).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_older_than_it_is_kept_is_forgotten() {
        let store = Arc::new(Failing::default());
        let table = AuditTable::new(Arc::clone(&store) as _);
        let day = Duration::from_secs(86400);
        for (table, days) in [
            (table.clone(), Some(90)),
            (table.clone().keep(day), Some(1)),
            (table.clone().keep(Duration::ZERO), None),
            // Further back than there are moments.
            (table.keep(Duration::MAX), None),
        ] {
            table.write(&[]).await.unwrap();
            let forget = store.0.lock().unwrap().pop().unwrap();
            let expected = days.map(|days| SystemTime::now() - day * days);
            let apart = forget.zip(expected).map(|(forget, now)| now.duration_since(forget).unwrap());
            assert_eq!(apart.map(|apart| apart.as_secs()), days.map(|_| 0), "{table:?}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        for (asked, given) in [(0, 1), (1, 1), (1000, 1000), (1001, 1000), (usize::MAX, 1000)] {
            assert_eq!(EventQuery::new().most(asked).page(), given);
            assert_eq!(EventQuery { most: asked, ..EventQuery::new() }.page(), given);
        }
        let kinds = EventQuery::new().kinds(Kind::ALL.iter().chain(Kind::ALL).copied()).kinds;
        assert_eq!(kinds, Kind::ALL, "each once");
    }
}
