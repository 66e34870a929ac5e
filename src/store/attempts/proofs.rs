//! In every order of steps: of attempts at once no more are granted than one after the other, and what is refused or taken
//! back leaves no trace.
//!
//! Each limit has a lock of its own, so an attempt that one limit refuses has been counted by those before it for a moment:
//! another may then be refused that would not have been. Never the other way round.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::in_every_order;

const NOW: UnixSeconds = UnixSeconds::new(100);

fn key(kind: Limit) -> AttemptKey {
    AttemptKey { kind, digest: [7; 16] }
}

fn from_here(most: u32) -> Attempt {
    Attempt::default().quota(key(Limit::Address), Quota::per_minute(most))
}

fn on_account(attempt: Attempt, free: u16) -> Attempt {
    attempt.lock(key(Limit::Account), Lockout::default().free(free))
}

fn is_granted(reserved: Reserved) -> bool {
    matches!(reserved, Reserved::Granted { .. })
}

/// Whether each of two attempts is granted, at once, and what is counted then.
fn at_once(attempts: &Arc<MemoryAttempts>, [one, two]: [Attempt; 2]) -> [bool; 2] {
    let other = thread::spawn({
        let attempts = Arc::clone(attempts);
        move || is_granted(attempts.count(&one, NOW))
    });
    let two = is_granted(attempts.count(&two, NOW));
    [other.join().unwrap(), two]
}

#[test]
fn of_two_at_once_one_is_granted_where_there_is_room_for_one() {
    for attempt in [from_here(1), on_account(Attempt::default(), 1), on_account(from_here(9), 1)] {
        in_every_order(3, move || {
            let attempts = Arc::new(MemoryAttempts::new());
            let granted = at_once(&attempts, [attempt; 2]);
            assert_eq!(granted.iter().filter(|granted| **granted).count(), 1);
            assert!(!is_granted(attempts.count(&attempt, NOW)), "there is no room left");
        });
    }
}

#[test]
fn one_that_is_refused_leaves_no_trace_for_another_at_the_same_time() {
    in_every_order(3, || {
        let attempts = Arc::new(MemoryAttempts::new());
        assert!(is_granted(attempts.count(&on_account(Attempt::default(), 1), NOW)));
        let [locked, other] = at_once(&attempts, [on_account(from_here(3), 1), from_here(3)]);
        assert!(!locked && other);
        assert_eq!(attempts.count(&from_here(3), NOW), Reserved::Granted { left: [1, 0, 0] }, "two are counted");
    });
}

#[test]
fn what_is_taken_back_while_another_is_counted_is_neither_lost_nor_taken_twice() {
    for settled in [Settled::NotTried, Settled::Succeeded] {
        in_every_order(3, move || {
            let attempts = Arc::new(MemoryAttempts::new());
            let attempt = on_account(from_here(2), 2);
            assert!(is_granted(attempts.count(&attempt, NOW)));
            let other = thread::spawn({
                let attempts = Arc::clone(&attempts);
                move || attempts.take_back(&attempt, settled, NOW)
            });
            let second = is_granted(attempts.count(&attempt, NOW));
            other.join().unwrap();
            assert!(second, "there is room for two");
            let more = (0..3).filter(|_| is_granted(attempts.count(&attempt, NOW))).count();
            assert_eq!(more, 1, "two at a time, one of which is back");
        });
    }
}
