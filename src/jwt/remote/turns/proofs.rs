//! In every order of steps: of those who ask at once one fetch answers all, nobody misses its end, and what it brought is seen.
//!
//! The issuer is a number that grows when it publishes a key. Stand-ins take the place of tokio's `watch` and `Notify`, and of
//! `arc-swap`. Not here: the time for one fetch and for waiting, after which a request goes on alone, and a task that is aborted
//! (tests with tokio's clock).

use std::sync::Arc;

use loom::{future::block_on, sync::atomic::AtomicUsize, thread};

use super::*;
use crate::sync::{ArcSwapOption, in_every_order};

struct Fetches {
    turns: Turns,
    issuer: AtomicUsize,
    current: ArcSwapOption<usize>,
    fetched: AtomicUsize,
    ambiguous: AtomicUsize,
}

impl Fetches {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(Duration::from_secs(3600)),
            issuer: AtomicUsize::new(1),
            current: ArcSwapOption::from_pointee(Some(1)),
            fetched: AtomicUsize::new(0),
            ambiguous: AtomicUsize::new(0),
        })
    }

    /// As the task does each time.
    fn round(&self, now: Instant, outcome: Result<(), ()>) {
        let number = self.turns.begin(now);
        assert_eq!(self.fetched.fetch_add(1, Ordering::SeqCst) + 1, usize::try_from(number).unwrap(), "one at a time");
        if outcome.is_ok() {
            let published = self.issuer.load(Ordering::SeqCst);
            self.ambiguous.store(published, Ordering::Relaxed);
            self.current.store(Some(Arc::new(published)));
        }
        self.turns.note(outcome.is_err());
        self.turns.end(number);
    }

    fn current(&self) -> usize {
        self.current.load().map_or(0, |current| *current)
    }
}

/// As a request does whose token is signed by key 2, which the issuer has published before.
fn asks(fetches: &Fetches, now: Instant) -> bool {
    let Some(awaited) = fetches.turns.ask(now) else { return false };
    block_on(fetches.turns.wait_for(awaited.number()));
    if fetches.current() < 2
        && let Awaited::OnTime(_) = awaited
        && let Some(again) = fetches.turns.ask(now)
    {
        block_on(fetches.turns.wait_for(again.number()));
    }
    true
}

#[test]
fn of_two_who_ask_at_once_one_fetch_answers_both() {
    let now = Instant::now();
    in_every_order(2, move || {
        let fetches = Fetches::new();
        fetches.issuer.store(2, Ordering::SeqCst);
        let ask = |fetches: &Arc<Fetches>| {
            let fetches = Arc::clone(fetches);
            thread::spawn(move || {
                let waited = asks(&fetches, now);
                // Who comes when it has ended is not kept waiting, and finds the same.
                assert!(fetches.current() == 2, "{waited}");
                assert_eq!(fetches.ambiguous.load(Ordering::Relaxed), 2, "what goes with the set is seen with it");
            })
        };
        let (one, two) = (ask(&fetches), ask(&fetches));
        block_on(fetches.turns.wanted.notified());
        assert!(fetches.turns.are_asked_for());
        fetches.round(now, Ok(()));
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(fetches.fetched.load(Ordering::SeqCst), 1, "one in a cooldown");
        assert!(fetches.turns.ask(now).is_none() && !fetches.turns.are_asked_for());
    });
}

/// A fetch on time may have been answered before the key was there: who has joined that one asks for another.
#[test]
fn who_asks_while_a_fetch_on_time_is_on_its_way_gets_the_key_all_the_same() {
    let now = Instant::now();
    in_every_order(2, move || {
        let fetches = Fetches::new();
        let task = thread::spawn({
            let fetches = Arc::clone(&fetches);
            move || {
                fetches.round(now, Ok(()));
                if fetches.turns.are_asked_for() || fetches.issuer.load(Ordering::SeqCst) < 3 {
                    block_on(fetches.turns.wanted.notified());
                    fetches.round(now, Ok(()));
                }
            }
        });
        fetches.issuer.store(2, Ordering::SeqCst);
        assert!(asks(&fetches, now));
        assert_eq!(fetches.current(), 2);
        // Lets the task go that has fetched it on time.
        fetches.turns.wanted.notify_one();
        task.join().unwrap();
    });
}

/// A token of an unknown key is answered 503 as long as that key may be one that could not be had.
#[test]
fn while_fetches_fail_there_is_no_moment_without_doubt() {
    let now = Instant::now();
    in_every_order(3, move || {
        let fetches = Fetches::new();
        let asked = fetches.turns.ask(now).unwrap();
        assert_eq!(asked, Awaited::Asked(1));
        let task = thread::spawn({
            let fetches = Arc::clone(&fetches);
            move || fetches.round(now, Err(()))
        });
        assert!(fetches.turns.are_in_doubt(), "on its way, or failed");
        block_on(fetches.turns.wait_for(asked.number()));
        assert!(fetches.turns.are_in_doubt() && fetches.turns.has_failed());
        task.join().unwrap();
    });
}

#[test]
fn an_outage_that_is_over_leaves_no_doubt_to_who_has_waited() {
    let now = Instant::now();
    in_every_order(3, move || {
        let fetches = Fetches::new();
        fetches.round(now, Err(()));
        let asked = fetches.turns.ask(now).unwrap();
        let task = thread::spawn({
            let fetches = Arc::clone(&fetches);
            move || fetches.round(now, Ok(()))
        });
        block_on(fetches.turns.wait_for(asked.number()));
        assert!(!fetches.turns.are_in_doubt());
        task.join().unwrap();
    });
}
