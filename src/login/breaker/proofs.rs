//! In every order of steps: of those who come when a store may be asked again one asks, and an outage is told once.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::in_every_order;

const NOW: UnixSeconds = UnixSeconds::new(100);

/// What two threads and this one are told at once, each by `tell`.
fn three(breaker: &Arc<Breaker>, tell: fn(&Breaker) -> bool) -> usize {
    let others = [0, 1].map(|_| {
        let breaker = Arc::clone(breaker);
        thread::spawn(move || tell(&breaker))
    });
    let own = tell(breaker);
    others.into_iter().map(|other| other.join().unwrap()).chain([own]).filter(|told| *told).count()
}

#[test]
fn of_many_who_come_after_a_pause_one_asks() {
    in_every_order(3, || {
        let breaker = Arc::new(Breaker::default());
        breaker.note(false, NOW);
        assert_eq!(three(&breaker, |breaker| breaker.allows(UnixSeconds::new(NOW.get() + PAUSE))), 1);
    });
}

#[test]
fn of_many_who_see_a_change_one_tells_of_it() {
    in_every_order(3, || {
        let breaker = Arc::new(Breaker::default());
        assert_eq!(three(&breaker, |breaker| breaker.note(false, NOW)), 1, "it has begun");
    });
    in_every_order(3, || {
        let breaker = Arc::new(Breaker::default());
        breaker.note(false, NOW);
        assert_eq!(three(&breaker, |breaker| breaker.note(true, NOW)), 1, "it is over");
        assert!(breaker.allows(NOW));
    });
}
