//! What takes the place of the standard library, of `arc-swap` and of `tokio` while something is proved.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    hash::Hash,
    sync::Arc,
    task::{Poll, Waker},
};

pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, atomic};

/// In the place of `arc_swap::ArcSwapOption`: a reader has one of the values that were stored, whole, and never one that was
/// replaced before one that it has seen.
pub(crate) struct ArcSwapOption<T>(RwLock<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(crate) fn from_pointee(value: Option<T>) -> Self {
        Self(RwLock::new(value.map(Arc::new)))
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.0.read().unwrap().clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        drop(self.swap(value));
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.0.write().unwrap(), value)
    }
}

/// In the place of `quick_cache::sync::Cache`: what was inserted is found by all until it is replaced. Nothing is pushed out.
pub(crate) struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(_: usize) -> Self {
        Self(Mutex::default())
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.0.lock().unwrap().insert(key, value);
    }
}

/// In the place of `tokio::sync::Notify`, for one who waits: a notice that comes before somebody waits is kept, once.
pub(crate) struct Notify(Mutex<(bool, Option<Waker>)>);

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((false, None)))
    }

    pub(crate) fn notify_one(&self) {
        let waker = {
            let mut noticed = self.0.lock().unwrap();
            noticed.0 = true;
            noticed.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn notified(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            let mut noticed = self.0.lock().unwrap();
            if std::mem::take(&mut noticed.0) {
                return Poll::Ready(());
            }
            noticed.1 = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

pub(crate) mod watch {
    //! In the place of `tokio::sync::watch`: the last value that was sent, and nobody who waits for one misses it.

    use super::{Future, Mutex, Poll, Waker, poll_fn};

    pub(crate) struct Sender<T>(Mutex<(T, Vec<Waker>)>);

    pub(crate) struct Receiver<'s, T>(&'s Sender<T>);

    impl<T: Clone> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new((value, Vec::new())))
        }

        pub(crate) fn borrow(&self) -> Box<T> {
            Box::new(self.0.lock().unwrap().0.clone())
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            let (before, wakers) = {
                let mut sent = self.0.lock().unwrap();
                (std::mem::replace(&mut sent.0, value), std::mem::take(&mut sent.1))
            };
            wakers.into_iter().for_each(Waker::wake);
            before
        }

        pub(crate) fn subscribe(&self) -> Receiver<'_, T> {
            Receiver(self)
        }
    }

    impl<T: Clone> Receiver<'_, T> {
        pub(crate) fn wait_for(&mut self, is_it: impl Fn(&T) -> bool) -> impl Future<Output = Result<(), ()>> {
            let sender = self.0;
            poll_fn(move |cx| {
                let mut sent = sender.0.lock().unwrap();
                if is_it(&sent.0) {
                    return Poll::Ready(Ok(()));
                }
                sent.1.push(cx.waker().clone());
                Poll::Pending
            })
        }
    }
}

/// Runs `proof` in every order of its threads' steps in which they interrupt each other `most` times, or fewer; threads also
/// take turns wherever one waits or ends, which is not counted. Panics at the first order in which the proof does.
pub(crate) fn in_every_order(most: usize, proof: impl Fn() + Send + Sync + 'static) {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = orders.preemption_bound.or(Some(most));
    orders.check(proof);
}
