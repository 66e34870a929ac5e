//! One copy for each core of what all requests touch.
//!
//! Two threads that count references to the same value, or take the same lock, wait for each other's cache line, which costs
//! more than the rest of a request to a token that is known. With a copy each they do not meet.

use std::{
    cell::Cell,
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Copies that more cores would share.
const MOST: usize = 64;

/// A value for each core; threads take turns in getting one.
#[derive(Debug)]
pub(crate) struct Striped<T> {
    first: Apart<T>,
    others: Box<[Apart<T>]>,
}

impl<T> Striped<T> {
    /// As many as there are cores.
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        let first = Apart(make());
        Self { first, others: std::iter::repeat_with(make).map(Apart).take(Self::count() - 1).collect() }
    }

    pub(crate) fn count() -> usize {
        static COUNT: OnceLock<usize> = OnceLock::new();
        *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).min(MOST))
    }

    /// The one for this thread.
    pub(crate) fn own(&self) -> &T {
        self.at(place())
    }

    fn at(&self, place: usize) -> &T {
        self.others.get(place % (self.others.len() + 1)).unwrap_or(&self.first)
    }
}

/// This thread's number, in the order in which threads came to ask.
fn place() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    const NONE: usize = usize::MAX;
    thread_local!(static PLACE: Cell<usize> = const { Cell::new(NONE) });
    PLACE.with(|place| {
        if place.get() == NONE {
            place.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        place.get()
    })
}

/// A value that shares its cache lines with no other, nor with what the processor fetches along with them.
#[derive(Clone, Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_have_numbers_and_numbers_have_copies_of_their_own() {
        assert_eq!(place(), place());
        let threads: HashSet<usize> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(place)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(threads.len(), 8);
        let (mut made, count) = (0, Striped::<()>::count());
        let striped = Striped::new(|| {
            made += 1;
            made
        });
        let copies: HashSet<&usize> = (7..7 + count).map(|place| striped.at(place)).collect();
        assert_eq!((made, copies.len()), (count, count));
        assert_eq!(striped.at(7), striped.at(7 + count));
    }
}
