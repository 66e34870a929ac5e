//! In every order of steps: a value and its number belong together, and once the new one is seen nobody sees the old one.

use loom::thread;

use super::*;
use crate::sync::in_every_order;

#[test]
fn readers_see_the_old_or_the_new_and_never_the_old_after_the_new() {
    in_every_order(3, || {
        // Two words, so that one could be torn.
        let snapshot = Arc::new(Snapshot::new((1, 1), 1));
        let writer = thread::spawn({
            let snapshot = Arc::clone(&snapshot);
            move || {
                for new in 2..4 {
                    snapshot.replace((new, new), new);
                    assert!(snapshot.is(new) && *snapshot.get() == (new, new));
                }
            }
        });
        let mut last = 0;
        for _ in 0..2 {
            let was_replaced = !snapshot.is(1);
            let (one, two) = *snapshot.get();
            assert_eq!(one, two, "torn");
            assert!(one >= last, "older after newer");
            assert!(one > 1 || !was_replaced, "whoever sees that it is another gets another");
            assert!(one == 1 || !snapshot.is(1), "whoever has got another sees that it is");
            last = one;
        }
        writer.join().unwrap();
        assert!(snapshot.is(3) && *snapshot.get() == (3, 3));
    });
}

/// What one thread has seen and told another counts for both.
#[test]
fn what_one_reader_has_seen_is_not_older_for_the_next() {
    in_every_order(3, || {
        let snapshot = Arc::new(Snapshot::new(1, 1));
        let writer = thread::spawn({
            let snapshot = Arc::clone(&snapshot);
            move || snapshot.replace(2, 2)
        });
        let first = thread::spawn({
            let snapshot = Arc::clone(&snapshot);
            move || (*snapshot.get(), snapshot.is(1))
        });
        let (value, is_first) = first.join().unwrap();
        assert!(value == 1 || !is_first);
        assert!(*snapshot.get() >= value);
        assert!(is_first || *snapshot.get() == 2);
        writer.join().unwrap();
    });
}
