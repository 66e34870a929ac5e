//! Answers refusals at a walk. A client that is refused at once asks again at once, and a hundred of those take the processor from
//! everybody else; one that has to wait for its refusal costs next to nothing meanwhile.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tokio::time;

/// Refusals in a second that are answered at once.
const AT_ONCE: u32 = 100;
/// Those that wait at most; more are answered at once, because each takes memory.
const MOST_WAITING: usize = 1024;

#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    second: AtomicU64,
    refused: AtomicU32,
    waiting: AtomicUsize,
}

impl Default for Pace {
    fn default() -> Self {
        let (second, refused, waiting) = Default::default();
        Self { start: Instant::now(), second, refused, waiting }
    }
}

impl Pace {
    /// Resolves when a refusal may be answered: at once or, beyond so many in this second, with the next one.
    pub(super) async fn keep(&self) {
        let Some(wait) = self.wait(self.start.elapsed()) else { return };
        let waiting = Waiting::one(&self.waiting);
        if waiting.0.load(Ordering::Relaxed) <= MOST_WAITING {
            time::sleep(wait).await;
        }
    }

    /// How long one more refusal waits, so long after the start. Counts of two seconds may mix at their border.
    fn wait(&self, since: Duration) -> Option<Duration> {
        if self.second.swap(since.as_secs(), Ordering::Relaxed) != since.as_secs() {
            self.refused.store(0, Ordering::Relaxed);
        }
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        let rest = Duration::from_secs(1).saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        (before >= AT_ONCE).then_some(rest)
    }
}

/// One of those who wait, for as long as they do.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;

    #[test]
    fn so_many_refusals_in_a_second_and_the_others_with_the_next() {
        let pace = Pace::default();
        let at = |milliseconds| pace.wait(Duration::from_millis(milliseconds));
        assert!((0..100).all(|_| at(1250).is_none()));
        assert_eq!((at(1250), at(1900)), (Some(Duration::from_millis(750)), Some(Duration::from_millis(100))));
        assert!((0..100).all(|_| at(2000).is_none()), "the next second");
        assert!(at(2000).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded_and_may_go_away() {
        let pace = Pace::default();
        let mut waiting: Vec<_> = (0..MOST_WAITING + 100).map(|_| Box::pin(pace.keep())).collect();
        waiting.retain_mut(|refusal| refusal.now_or_never().is_none());
        assert!((MOST_WAITING - 100..=MOST_WAITING).contains(&waiting.len()), "{}", waiting.len());
        let begun = time::Instant::now();
        if waiting.len() == MOST_WAITING {
            assert!(pace.keep().now_or_never().is_some(), "there is no room");
        }
        waiting.truncate(10);
        join_all(waiting).await;
        assert!(begun.elapsed() <= Duration::from_secs(1));
        assert_eq!(pace.waiting.load(Ordering::Relaxed), 0);
    }
}
