//! In every order of steps: of those who ask at once one reads, all who join see what it brought, and nobody waits for ever.
//!
//! A ticket stands for the task and its future, which are tokio's: that one which has ended wakes those who wait is theirs to
//! keep. Not here: that a reading is cut off in time, and that whoever needs a newer one asks again (tests with tokio's clock).

use std::sync::Arc;

use loom::{
    sync::{Condvar, Mutex, atomic::AtomicUsize},
    thread,
};

use super::*;
use crate::sync::in_every_order;

/// A reading that goes on until its thread has ended, whatever became of that.
#[derive(Clone)]
struct Ticket(Arc<(Mutex<bool>, Condvar)>);

impl Running for Ticket {
    fn goes_on(&self) -> bool {
        !*self.0.0.lock().unwrap()
    }
}

impl Ticket {
    fn wait(&self) {
        let (ended, bell) = &*self.0;
        let mut ended = ended.lock().unwrap();
        while !*ended {
            ended = bell.wait(ended).unwrap();
        }
    }

    fn end(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[derive(Default)]
struct Store {
    flight: Arc<Flight<Ticket>>,
    /// How many readings are going on, how many have begun, and what they have brought.
    going: AtomicUsize,
    begun: AtomicUsize,
    copy: AtomicUsize,
}

/// How a reading ends.
#[derive(Clone, Copy)]
enum End {
    Well,
    Failed,
    /// As a task does that is aborted, or whose runtime goes.
    Unseen,
}

const NOW: UnixSeconds = UnixSeconds::new(100);

impl Store {
    fn join(self: &Arc<Self>, end: End) -> Option<Ticket> {
        self.flight.join(NOW, || {
            let (store, ticket) = (Arc::clone(self), Ticket(Arc::default()));
            let own = ticket.clone();
            thread::spawn(move || {
                assert_eq!(store.going.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
                store.begun.fetch_add(1, Ordering::Relaxed);
                store.going.fetch_sub(1, Ordering::Relaxed);
                match end {
                    End::Well => {
                        store.copy.store(1, Ordering::Relaxed);
                        store.flight.ended_well(NOW);
                    }
                    End::Failed => drop(store.flight.failed(NOW)),
                    End::Unseen => {}
                }
                own.end();
            });
            Some(ticket)
        })
    }
}

/// Two ask at once, with `end` for the readings that they begin; what each of them finds when it has waited.
fn two_ask(end: End, find: fn(&Arc<Store>, bool)) {
    in_every_order(3, move || {
        let store = Arc::new(Store::default());
        let ask = move |store: &Arc<Store>| {
            let waiting = Waiting::one(&store.flight, 2).expect("there is room for two");
            let ticket = store.join(end);
            if let Some(ticket) = &ticket {
                ticket.wait();
            }
            drop(waiting);
            find(store, ticket.is_some());
        };
        let other = thread::spawn({
            let store = Arc::clone(&store);
            move || ask(&store)
        });
        ask(&store);
        other.join().unwrap();
        assert_eq!(store.flight.waiting(), 0, "all places are given back");
    });
}

#[test]
fn all_who_join_a_reading_see_what_it_brought() {
    two_ask(End::Well, |store, joined| {
        assert!(joined, "nothing has failed");
        assert_eq!((store.flight.read(), store.copy.load(Ordering::Relaxed)), (Some(NOW), 1));
        assert!(!store.flight.is_failing());
    });
}

#[test]
fn whoever_sees_that_it_was_read_sees_what_was_read() {
    in_every_order(3, || {
        let store = Arc::new(Store::default());
        let reading = store.join(End::Well).unwrap();
        // Without having joined it.
        if store.flight.read().is_some() {
            assert_eq!(store.copy.load(Ordering::Relaxed), 1);
        }
        reading.wait();
    });
}

#[test]
fn all_who_join_one_that_fails_see_that_and_nobody_asks_again_at_once() {
    two_ask(End::Failed, |store, _| {
        assert!(store.flight.is_failing() && store.flight.read().is_none());
        assert_eq!(store.begun.load(Ordering::Relaxed), 1, "in this second");
        assert!(store.join(End::Failed).is_none());
    });
}

#[test]
fn nobody_waits_for_a_reading_that_died_unseen_and_the_next_one_reads_again() {
    two_ask(End::Unseen, |store, joined| {
        assert!(joined && !store.flight.is_failing());
        // Each of the two may begin one, as often as it finds that there is none.
        assert!((1..=2).contains(&store.begun.load(Ordering::Relaxed)));
    });
    in_every_order(3, || {
        let store = Arc::new(Store::default());
        store.join(End::Unseen).unwrap().wait();
        store.join(End::Well).unwrap().wait();
        assert_eq!(store.flight.read(), Some(NOW));
    });
}

#[test]
fn no_more_wait_than_there_are_places_for() {
    in_every_order(3, || {
        let flight = Arc::new(Flight::<Ticket>::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let ask = |flight: &Arc<Flight<Ticket>>, inside: &AtomicUsize| {
            let Some(_waiting) = Waiting::one(flight, 1) else { return };
            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "one place");
            inside.fetch_sub(1, Ordering::Relaxed);
        };
        let other = thread::spawn({
            let (flight, inside) = (Arc::clone(&flight), Arc::clone(&inside));
            move || ask(&flight, &inside)
        });
        ask(&flight, &inside);
        other.join().unwrap();
        assert_eq!(flight.waiting(), 0);
        assert!(Waiting::one(&flight, 1).is_some(), "and it is free again");
    });
}
