//! Queues between those who decide and those who write it down.

use std::{
    cell::Cell,
    fmt,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::join_all};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    event::Event,
    kind::Kind,
    sink::{AuditSink, SinkError},
    tell,
};
use crate::{
    config::{ConfigError, ConfigErrors},
    metrics,
    stripe::Apart,
};

/// Events that may wait for a sink, unless set.
const QUEUE: usize = 8192;
const MOST_QUEUE: usize = 1 << 20;
/// Requests that are let through for each one that is told, unless set.
const ONE_IN: u32 = 1000;
/// Events that are handed to a sink at once.
const BATCH: usize = 256;
/// How long the first of them waits for others: to wake a thread or a database for each costs more than to write it.
const LINGER: Duration = Duration::from_millis(50);
/// The same where all of them are samples of requests that were let through, which come all the time.
const LINGER_OF_SAMPLES: Duration = Duration::from_secs(1);
/// How long a sink may take for them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a sink is told at most that events were lost to it.
const QUIET: Duration = Duration::from_secs(1);
/// When a sink that fails is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

static INSTALLED: OnceLock<AuditTrail> = OnceLock::new();

/// Hands events to sinks, each of which has a bounded queue and a task of its own. Cheap to clone; clones are one.
///
/// Sinks get events in batches, 50 ms after the first of them or when there are 256; samples of requests that were let through wait
/// for others for a second. To tell never waits: where a queue is full, the event is lost to that sink, and
/// [counted](Self::dropped); the sink is told how many were, as an event, when it gets on, once a second at most. A quarter of each
/// queue is kept free of what anybody can cause by the thousand, refusals above all, so that a flood of them does not hide what else
/// happens. `tracing` has every event as well, whether or not there is a trail.
///
/// When the last clone is dropped, what is queued is still written, for as long as the runtime lives that the trail was started on;
/// [`flush`](Self::flush) waits for that. What is queued when the runtime ends is lost, and counted.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use portcullis::audit::{AuditLayer, AuditTrail};
/// # use portcullis::audit::JsonLines;
/// # let path = std::env::temp_dir().join(format!("portcullis-doc-{}.jsonl", std::process::id()));
///
/// let trail = AuditTrail::builder().sink(JsonLines::append(&path)?).admitted_one_in(100).start()?;
/// let layer = AuditLayer::new(trail.clone());
/// // Outages, keys and settings, which belong to no request.
/// trail.install()?;
/// # std::fs::remove_file(&path)?;
/// # trail.flush(Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AuditTrail(Arc<Apart<Arc<Inner>>>);

struct Inner {
    feeds: Vec<Feed>,
    one_in: Option<NonZeroU32>,
}

struct Feed {
    name: &'static str,
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Event(Arc<Event>),
    Flush(oneshot::Sender<()>),
}

impl AuditTrail {
    /// A trail without sinks.
    pub fn builder() -> AuditTrailBuilder {
        AuditTrailBuilder { sinks: Vec::new(), queue: QUEUE, one_in: NonZeroU32::new(ONE_IN) }
    }

    /// Makes it the one for events of this process that belong to no request with an [`AuditLayer`](super::AuditLayer) around it:
    /// outages, keys, configurations. Before servers are built, or theirs are missed.
    ///
    /// # Errors
    ///
    /// [`InstalledAlready`], if there is one.
    pub fn install(&self) -> Result<(), InstalledAlready> {
        INSTALLED.set(self.clone()).map_err(|_| InstalledAlready)
    }

    /// Waits until sinks have written or refused what was told so far, for so long at most. `false` if one has not, or if their runtime has
    /// ended. It runs on any Tokio runtime whose timer is enabled.
    ///
    /// Call it when the program ends, after the last request.
    pub async fn flush(&self, most: Duration) -> bool {
        let flushed = self.0.feeds.iter().map(|feed| async {
            let (done, written) = oneshot::channel();
            feed.queue.send(Message::Flush(done)).await.is_ok() && written.await.is_ok()
        });
        timeout(most, join_all(flushed)).await.is_ok_and(|each| each.into_iter().all(|flushed| flushed))
    }

    /// How many events were lost so far, with the sink that they were lost to.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.feeds.iter().map(|feed| (feed.name, feed.dropped.load(Relaxed)))
    }

    /// The one that is installed.
    pub(super) fn installed() -> Option<&'static Self> {
        INSTALLED.get()
    }

    /// The same with a count of references of its own.
    pub(super) fn apart(&self) -> Self {
        Self(Arc::new(Apart(Arc::clone(&self.0))))
    }

    /// Whether the next request is in the sample of those whose admission is told. At random: of requests that come in turns, or
    /// through two layers, a count would see always the same ones. Whoever guesses which has won nothing.
    pub(super) fn samples(&self) -> bool {
        thread_local!(static RANDOM: Cell<u64> = const { Cell::new(0) });
        let Some(one_in) = self.0.one_in else { return false };
        // Marsaglia's xorshift, and Lemire's way from the upper half of it to a range.
        let mut random = RANDOM.get();
        if random == 0 {
            random = RandomState::new().hash_one(0) | 1;
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        RANDOM.set(random);
        ((random >> u32::BITS) * u64::from(one_in.get())) >> u32::BITS == 0
    }

    /// Queues an event for each sink that has room.
    pub(super) fn tell(&self, event: Event) {
        let is_of_anybody = event.kind.is_of_anybody();
        self.tell_if_room(event, is_of_anybody);
    }

    /// The same, but in no room that is reserved, if this is one that anybody can cause.
    pub(super) fn tell_if_room(&self, event: Event, is_of_anybody: bool) {
        if self.0.feeds.is_empty() {
            return;
        }
        let event = Arc::new(event);
        let reserved = |queue: &mpsc::Sender<Message>| queue.capacity() <= queue.max_capacity() / 4;
        for feed in &self.0.feeds {
            let is_full = is_of_anybody && reserved(&feed.queue);
            if is_full || feed.queue.try_send(Message::Event(Arc::clone(&event))).is_err() {
                feed.dropped.fetch_add(1, Relaxed);
                metrics::events_dropped(feed.name, 1);
            }
        }
    }
}

impl fmt::Debug for AuditTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks: Vec<_> = self.0.feeds.iter().map(|feed| feed.name).collect();
        f.debug_struct("AuditTrail").field("sinks", &sinks).field("admitted_one_in", &self.0.one_in).finish()
    }
}

/// A trail is installed already: there is one for a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an audit trail is installed already")]
pub struct InstalledAlready;

/// Builder of an [`AuditTrail`].
#[must_use]
pub struct AuditTrailBuilder {
    sinks: Vec<Box<dyn AuditSink>>,
    queue: usize,
    one_in: Option<NonZeroU32>,
}

impl AuditTrailBuilder {
    /// Adds a sink.
    pub fn sink(mut self, sink: impl AuditSink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Sets how many events may wait for each sink: 8,192 unless set, 1 to 1,048,576. An event takes 3 KiB at most, a common one
    /// a third of that; the sinks share them.
    pub fn queue(self, events: usize) -> Self {
        Self { queue: events, ..self }
    }

    /// Tells one of so many requests that are let through: of 1,000 unless set, at random; 1 for all, 0 for none. Refusals are told all.
    pub fn admitted_one_in(self, requests: u32) -> Self {
        Self { one_in: NonZeroU32::new(requests), ..self }
    }

    /// Starts the sinks' tasks, on the Tokio runtime that this is called in, whose timer must be enabled.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], if the queue is too long or too short, or there is no runtime.
    pub fn start(self) -> Result<AuditTrail, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound_number("audit queue", self.queue, 1, MOST_QUEUE);
        let runtime = errors.keep(Handle::try_current().map_err(|_| ConfigError::NoRuntime));
        let runtime = errors.finish(runtime)?;
        let feed = |sink: Box<dyn AuditSink>| {
            let (name, lost, quiet) = (sink.name(), Arc::new(AtomicU64::new(0)), Instant::now());
            metrics::events_dropped(name, 0);
            let (queue, events) = mpsc::channel(self.queue);
            let dropped = Arc::clone(&lost);
            runtime.spawn(Worker { sink, events, dropped, told: 0, quiet, in_hand: 0, failing: false }.run());
            Feed { name, queue, dropped: lost }
        };
        let feeds = self.sinks.into_iter().map(feed).collect();
        Ok(AuditTrail(Arc::new(Apart(Arc::new(Inner { feeds, one_in: self.one_in })))))
    }
}

impl fmt::Debug for AuditTrailBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks: Vec<_> = self.sinks.iter().map(|sink| sink.name()).collect();
        f.debug_struct("AuditTrailBuilder").field("sinks", &sinks).field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Writes what is in one sink's queue.
struct Worker {
    sink: Box<dyn AuditSink>,
    events: mpsc::Receiver<Message>,
    dropped: Arc<AtomicU64>,
    /// How many of the lost ones the sink knows of.
    told: u64,
    /// Until when it is not told of others, unless somebody waits.
    quiet: Instant,
    /// How many are being handed over.
    in_hand: u64,
    failing: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut messages = Vec::with_capacity(BATCH);
        while self.receive(&mut messages).await {
            let (mut events, mut flushes) = (Vec::with_capacity(messages.len() + 1), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Event(event) => events.push(event),
                    Message::Flush(done) => flushes.push(done),
                }
            }
            self.hand_over(events, !flushes.is_empty()).await;
            for done in flushes {
                let _ = done.send(());
            }
        }
        self.hand_over(Vec::new(), true).await;
    }

    /// Waits for something to do: what was told, or how many were lost. `false` if nothing will come.
    async fn receive(&mut self, messages: &mut Vec<Message>) -> bool {
        let next = self.events.recv_many(messages, BATCH);
        let is_more = if self.dropped.load(Relaxed) > self.told {
            timeout_at(self.quiet, next).await.map_or(true, |count| count > 0)
        } else {
            next.await > 0
        };
        let (mut end, mut seen) = (Instant::now() + LINGER_OF_SAMPLES, 0);
        while (1..BATCH).contains(&messages.len()) {
            for message in messages.iter().skip(seen) {
                match message {
                    Message::Flush(_) => return is_more,
                    Message::Event(event) if event.kind == Kind::RequestAdmitted => {}
                    Message::Event(_) => end = end.min(Instant::now() + LINGER),
                }
            }
            // They are taken out of the queue, and would be lost uncounted.
            seen = messages.len();
            self.in_hand = seen as u64;
            if timeout_at(end, self.events.recv_many(messages, BATCH - seen)).await.unwrap_or_default() == 0 {
                break;
            }
        }
        is_more
    }

    async fn hand_over(&mut self, mut events: Vec<Arc<Event>>, now: bool) {
        let dropped = self.dropped.load(Relaxed);
        self.in_hand = events.len() as u64;
        let tell = dropped > self.told && (now || Instant::now() >= self.quiet);
        if tell {
            self.quiet = Instant::now() + QUIET;
            events.push(Arc::new(tell::dropped(self.sink.name(), dropped - self.told)));
        }
        if events.is_empty() {
            return;
        }
        if !self.write(&events).await {
            self.dropped.fetch_add(self.in_hand, Relaxed);
            metrics::events_dropped(self.sink.name(), self.in_hand);
        } else if tell {
            self.told = dropped;
        }
        self.in_hand = 0;
    }

    /// Hands events over until they are taken. `false` if they never will be.
    async fn write(&mut self, events: &[Arc<Event>]) -> bool {
        let (mut pause, longest) = AGAIN;
        loop {
            let write = AssertUnwindSafe(async { timeout(PATIENCE, self.sink.write(events)).await });
            let written = match write.catch_unwind().await {
                Ok(Ok(written)) => written,
                Ok(Err(_)) => Err(SinkError::unavailable("no answer in time")),
                Err(_) => Err(SinkError::refused("the sink has panicked")),
            };
            match written {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        tell::sink_answers(self.sink.name());
                    }
                    return true;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tell::sink_fails(self.sink.name(), &error);
                    }
                    if let SinkError::Refused(_) = error {
                        return false;
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl Drop for Worker {
    /// Where the runtime ends first, what is queued is lost, and so is what was being handed over, as far as anybody knows.
    fn drop(&mut self) {
        self.events.close();
        let queued = std::iter::from_fn(|| self.events.try_recv().ok());
        let lost = self.in_hand + queued.filter(|message| matches!(message, Message::Event(_))).count() as u64;
        if lost > 0 {
            self.dropped.fetch_add(lost, Relaxed);
            tell::dropped(self.sink.name(), lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{super::kind::Kind, *};
    use crate::testing::EventLog;

    #[tokio::test]
    async fn refusals_by_the_thousand_leave_room_for_what_else_happens() {
        let log = EventLog::new();
        let trail = AuditTrail::builder().sink(log.clone()).queue(8).start().unwrap();
        let tell = |kind, count| (0..count).for_each(|_| trail.tell(Event::new(kind, Level::INFO, "")));
        let lost = || trail.dropped().map(|(_, lost)| lost).sum::<u64>();
        // Nothing is taken out of the queue meanwhile: there is one thread, and it does not wait.
        for (kind, count, expected) in [
            (Kind::CredentialMissing, 1000, 994),
            (Kind::LayersMisplaced, 10, 1004),
            (Kind::RefreshReused, 1, 1004),
            (Kind::OutageBegun, 1, 1004),
            (Kind::LoginSucceeded, 1, 1005),
        ] {
            tell(kind, count);
            assert_eq!(lost(), expected, "{kind}");
        }
        let kinds = log.kinds(&trail).await;
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::CredentialMissing).count(), 6);
        assert!(kinds.contains(&Kind::RefreshReused) && kinds.contains(&Kind::OutageBegun), "{kinds:?}");
    }
}
