//! In every order of steps: no demand is taken for met that nobody has found to be.

use std::sync::Arc;

use loom::thread;

use super::Met;
use crate::sync::in_every_order;

#[test]
fn demands_that_share_a_place_are_not_taken_for_each_other() {
    in_every_order(3, || {
        let met = Arc::new(Met::default());
        let writers = [1, 5].map(|demand| {
            let met = Arc::clone(&met);
            thread::spawn(move || {
                met.note(demand);
                assert!(met.has(demand) || met.has(6 - demand), "its own, or the other that has taken its place");
            })
        });
        assert!(!met.has(9) && !met.has(2));
        for writer in writers {
            writer.join().unwrap();
        }
        assert!(met.has(1) != met.has(5), "one of the two is known");
        assert!(!met.has(9) && !met.has(2));
    });
}
