//! Threads of their own for work that takes long and much memory: so many at once, a bounded queue, a bounded wait.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time};

use crate::metrics::{self, Stopwatch};

/// Who is waiting. Each lane has a queue of its own, so that a crowd in one takes no place in the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// A device from which this user has signed in before: served first.
    Known,
    /// Anybody else.
    Stranger,
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotDone {
    /// The queue is full, or the wait was too long.
    Overloaded,
    /// It panicked.
    Failed,
}

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Work that waits, first come, first served. By number, so that whoever gives up is found among thousands.
type Queue<W> = BTreeMap<u64, (Stopwatch, Job<W>)>;

/// Where somebody waits.
#[derive(Clone, Copy)]
enum Row {
    /// For a thread that is free already.
    Ready,
    Lane(Lane),
}

struct Waiting<W> {
    ready: Queue<W>,
    known: Queue<W>,
    strangers: Queue<W>,
    next: u64,
    /// Threads without work; there are never more in `ready`.
    free: usize,
    closed: bool,
}

impl<W> Waiting<W> {
    fn row(&mut self, row: Row) -> &mut Queue<W> {
        match row {
            Row::Ready => &mut self.ready,
            Row::Lane(Lane::Known) => &mut self.known,
            Row::Lane(Lane::Stranger) => &mut self.strangers,
        }
    }

    /// Where somebody new waits, if anywhere.
    fn admit(&mut self, lane: Lane, queue: usize) -> Option<Row> {
        if self.free > self.ready.len() {
            return Some(Row::Ready);
        }
        let row = Row::Lane(lane);
        (self.row(row).len() < queue).then_some(row)
    }

    fn pop(&mut self) -> Option<(Stopwatch, Job<W>)> {
        let first = |queue: &mut Queue<W>| queue.pop_first().map(|(_, waiting)| waiting);
        first(&mut self.ready).or_else(|| first(&mut self.known)).or_else(|| first(&mut self.strangers))
    }
}

struct Shared<W> {
    waiting: Mutex<Waiting<W>>,
    changed: Condvar,
}

impl<W> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        // Nothing under this lock can panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what there is to do until the pool is gone.
    fn serve(&self, worker: &mut W) {
        let mut waiting = self.lock();
        loop {
            if let Some((waited, job)) = waiting.pop() {
                waiting.free -= 1;
                drop(waiting);
                metrics::password_waits(false);
                metrics::password_waited(waited);
                // Whoever waits for it learns that it is gone; the others still need the thread.
                let _ = catch_unwind(AssertUnwindSafe(|| job(worker)));
                waiting = self.lock();
                waiting.free += 1;
            } else if waiting.closed {
                return;
            } else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Threads that each own a worker. They end when it is dropped, with what they are at.
pub(super) struct Pool<W> {
    shared: Arc<Shared<W>>,
    queue: usize,
    wait: Duration,
}

impl<W: 'static> Pool<W> {
    /// Starts `threads` of them, one after the other. Each makes its worker itself; this returns when all have.
    pub(super) fn start(
        threads: usize,
        queue: usize,
        wait: Duration,
        make: impl Fn() -> Option<W> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (ready, known, strangers) = (Queue::new(), Queue::new(), Queue::new());
        let waiting = Waiting { ready, known, strangers, next: 0, free: threads, closed: false };
        let shared = Arc::new(Shared { waiting: Mutex::new(waiting), changed: Condvar::new() });
        // Whatever goes wrong below, it ends the threads that have been started.
        let pool = Self { shared, queue, wait };
        let make = Arc::new(make);
        for _ in 0..threads {
            let (tell, told) = mpsc::channel();
            let (shared, make) = (Arc::clone(&pool.shared), Arc::clone(&make));
            let run = move || {
                step_back();
                let worker = make();
                let _ = tell.send(worker.is_some());
                drop((make, tell));
                if let Some(mut worker) = worker {
                    shared.serve(&mut worker);
                }
            };
            thread::Builder::new().name("portcullis-hash".to_owned()).spawn(run)?;
            if !told.recv().unwrap_or_default() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        Ok(pool)
    }

    /// Has `work` done by whichever thread is free first, and waits for it. Dropping the future takes back work that has not
    /// begun, place and all; what has begun goes on, and its thread with it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&mut W) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (tell, mut told) = oneshot::channel();
        let job = Box::new(move |worker: &mut W| {
            let took = Stopwatch::start();
            let done = work(worker);
            // Before it is answered: this thread has stepped back, and who has the answer may look.
            metrics::password_hashed(took);
            // Nobody may be there any more to hear it.
            let _ = tell.send(done);
        });
        let place = self.enter(lane, job).ok_or(NotDone::Overloaded).inspect_err(|_| metrics::password_shed())?;
        if let Row::Lane(_) = place.row {
            match time::timeout(self.wait, &mut told).await {
                Ok(answer) => return answer.map_err(|_| NotDone::Failed),
                Err(_) if place.leave() => {
                    metrics::password_shed();
                    return Err(NotDone::Overloaded);
                }
                Err(_) => {}
            }
        }
        told.await.map_err(|_| NotDone::Failed)
    }

    fn enter(&self, lane: Lane, job: Job<W>) -> Option<Place<'_, W>> {
        let mut waiting = self.shared.lock();
        let row = waiting.admit(lane, self.queue)?;
        let number = waiting.next;
        waiting.next += 1;
        waiting.row(row).insert(number, (Stopwatch::start(), job));
        drop(waiting);
        metrics::password_waits(true);
        self.shared.changed.notify_one();
        Some(Place { shared: &self.shared, row, number })
    }
}

impl<W> Pool<W> {
    /// Threads without work.
    pub(super) fn free(&self) -> usize {
        self.shared.lock().free
    }
}

impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// A place in a queue, which is given up when it is dropped.
struct Place<'a, W> {
    shared: &'a Shared<W>,
    row: Row,
    number: u64,
}

impl<W> Place<'_, W> {
    /// Takes the work back; `false` if it has begun.
    fn leave(&self) -> bool {
        let job = self.shared.lock().row(self.row).remove(&self.number);
        // What it holds, a password, is wiped without the lock.
        if job.is_some() {
            metrics::password_waits(false);
        }
        job.is_some()
    }
}

impl<W> Drop for Place<'_, W> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Lets other threads go first: a flood of logins is not to slow whatever else the program does.
#[cfg(target_os = "linux")]
fn step_back() {
    const LESS: i32 = 12;
    // On Linux each thread has a priority of its own. If it cannot be changed, it stays as it is.
    if let Ok(now) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, now.saturating_add(LESS).min(19));
    }
}

#[cfg(not(target_os = "linux"))]
const fn step_back() {}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin};

    use futures::FutureExt as _;

    use super::*;

    /// Work that goes on until what comes with it is dropped.
    fn gated() -> (mpsc::Sender<()>, impl FnOnce(&mut u32) + Send + 'static) {
        let (open, opened) = mpsc::channel::<()>();
        let work = move |_: &mut u32| {
            let _ = opened.recv();
        };
        (open, work)
    }

    fn pool(threads: usize, queue: usize, wait: Duration) -> Pool<u32> {
        Pool::start(threads, queue, wait, || Some(0)).unwrap()
    }

    /// Begins a call, which then waits.
    fn begun<F: Future>(mut call: std::pin::Pin<&mut F>) {
        assert!(call.as_mut().now_or_never().is_none());
    }

    async fn until(done: impl Fn() -> bool) {
        for _ in 0..5000 {
            if done() {
                return;
            }
            time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing happens");
    }

    #[tokio::test]
    async fn known_devices_go_first_and_strangers_take_none_of_their_places() {
        let pool = pool(1, 2, Duration::from_secs(20));
        let (gate, work) = gated();
        let mut busy = pin!(pool.run(Lane::Stranger, work));
        begun(busy.as_mut());
        until(|| pool.free() == 0).await;
        // Each says as the how-manieth it was served.
        let turn = |worker: &mut u32| {
            *worker += 1;
            *worker
        };
        let mut strangers = [Box::pin(pool.run(Lane::Stranger, turn)), Box::pin(pool.run(Lane::Stranger, turn))];
        for stranger in &mut strangers {
            begun(stranger.as_mut());
        }
        assert_eq!(pool.run(Lane::Stranger, turn).await, Err(NotDone::Overloaded), "their queue is full");
        let mut known = [Box::pin(pool.run(Lane::Known, turn)), Box::pin(pool.run(Lane::Known, turn))];
        for known in &mut known {
            begun(known.as_mut());
        }
        assert_eq!(pool.run(Lane::Known, turn).await, Err(NotDone::Overloaded), "theirs is bounded as well");
        drop(gate);
        busy.await.unwrap();
        let [first, second] = known;
        let [third, fourth] = strangers;
        assert_eq!((first.await, second.await, third.await, fourth.await), (Ok(1), Ok(2), Ok(3), Ok(4)));
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_frees_no_capacity_early() {
        let pool = pool(1, 0, Duration::ZERO);
        let (gate, work) = gated();
        {
            let mut slow = pin!(pool.run(Lane::Stranger, work));
            begun(slow.as_mut());
            until(|| pool.free() == 0).await;
        }
        assert_eq!(pool.run(Lane::Stranger, |_| ()).await, Err(NotDone::Overloaded), "the work goes on");
        drop(gate);
        until(|| pool.free() == 1).await;
        assert_eq!(pool.run(Lane::Stranger, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_costs_nothing_and_leaves_a_place() {
        let pool = pool(1, 1, Duration::from_secs(20));
        let (gate, work) = gated();
        let mut busy = pin!(pool.run(Lane::Stranger, work));
        begun(busy.as_mut());
        until(|| pool.free() == 0).await;
        let password = Arc::new(());
        for _ in 0..1000 {
            let held = Arc::clone(&password);
            let count = move |worker: &mut u32| {
                *worker += 1;
                drop(held);
            };
            let mut gone = pin!(pool.run(Lane::Stranger, count));
            begun(gone.as_mut());
        }
        assert_eq!(Arc::strong_count(&password), 1, "what they brought is dropped at once");
        let last = pool.run(Lane::Stranger, |worker| *worker);
        drop(gate);
        assert_eq!(last.await, Ok(0), "nobody was served");
        busy.await.unwrap();
    }

    #[tokio::test]
    async fn the_queue_and_the_wait_are_bounded() {
        let pool = pool(1, 1, Duration::from_millis(50));
        let (gate, work) = gated();
        let mut busy = pin!(pool.run(Lane::Stranger, work));
        begun(busy.as_mut());
        until(|| pool.free() == 0).await;
        let mut waiting = pin!(pool.run(Lane::Stranger, |_| ()));
        begun(waiting.as_mut());
        assert_eq!(pool.run(Lane::Stranger, |_| ()).await, Err(NotDone::Overloaded), "no place to wait");
        assert_eq!(waiting.await, Err(NotDone::Overloaded), "waited too long");
        drop(gate);
        busy.await.unwrap();
        assert_eq!(pool.run(Lane::Stranger, |_| 7).await, Ok(7), "and all is well again");
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let pool = pool(1, 4, Duration::from_secs(20));
        let fails = |_: &mut u32| panic!("on purpose");
        assert_eq!(pool.run(Lane::Stranger, fails).await, Err::<(), _>(NotDone::Failed));
        assert_eq!(pool.run(Lane::Stranger, |_| 7).await, Ok(7));
    }

    #[test]
    fn threads_have_a_name_and_a_low_priority_and_end_with_the_pool() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Worker(Arc<AtomicUsize>, Option<String>);
        impl Drop for Worker {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let alive = Arc::new(AtomicUsize::new(0));
        let make = {
            let alive = Arc::clone(&alive);
            move || {
                alive.fetch_add(1, Ordering::SeqCst);
                Some(Worker(Arc::clone(&alive), thread::current().name().map(str::to_owned)))
            }
        };
        let pool = Pool::start(3, 0, Duration::ZERO, make).unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 3);
        // No timer is needed where a thread is free.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let look = |worker: &mut Worker| {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
            (worker.1.clone(), stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(17)?.parse::<i32>().ok()))
        };
        let (name, nice) = runtime.block_on(pool.run(Lane::Known, look)).unwrap();
        assert_eq!(name.as_deref(), Some("portcullis-hash"));
        if cfg!(target_os = "linux") {
            assert!(nice.is_some_and(|nice| nice >= 12), "{nice:?}");
        }
        drop(pool);
        for _ in 0..5000 {
            if alive.load(Ordering::SeqCst) == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("threads stay");
    }

    #[test]
    fn a_worker_that_cannot_be_made_is_an_error() {
        let made = std::sync::atomic::AtomicUsize::new(0);
        let one = move || (made.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0).then_some(());
        assert!(Pool::start(2, 0, Duration::ZERO, one).is_err());
    }

    #[test]
    fn who_may_wait_where() {
        for (free, ready, own, queue, admitted) in [
            (1, 0, 0, 0, Some(true)),
            (1, 1, 0, 0, None),
            (2, 1, 0, 0, Some(true)),
            (0, 0, 0, 0, None),
            (0, 0, 0, 1, Some(false)),
            (0, 0, 1, 1, None),
            (1, 1, 1, 2, Some(false)),
        ] {
            let job = || (Stopwatch::start(), Box::new(|(): &mut ()| ()) as Job<()>);
            let jobs = |count| (0..count).map(|n| (n, job())).collect();
            let (ready, strangers) = (jobs(ready), jobs(own));
            let mut waiting = Waiting { ready, known: Queue::new(), strangers, next: 9, free, closed: false };
            let row = waiting.admit(Lane::Stranger, queue).map(|row| matches!(row, Row::Ready));
            assert_eq!(row, admitted, "{free} {own} {queue}");
        }
    }
}
