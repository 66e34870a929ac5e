//! What every request counts: each thread by itself, and told to the recorder once a second.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ::metrics::{Counter, Recorder, counter, with_recorder};

use super::{
    Hot,
    names::{REQUESTS_ADMITTED, TOKEN_CACHE_LOOKUPS},
};
use crate::{clock::UnixSeconds, stripe::Apart};

const HOT: [Hot; 4] = [Hot::Known, Hot::Nobody, Hot::Hit, Hot::Miss];

fn handle(what: Hot) -> Counter {
    match what {
        Hot::Known => counter!(REQUESTS_ADMITTED, "caller" => "known"),
        Hot::Nobody => counter!(REQUESTS_ADMITTED, "caller" => "nobody"),
        Hot::Hit => counter!(TOKEN_CACHE_LOOKUPS, "result" => "hit"),
        Hot::Miss => counter!(TOKEN_CACHE_LOOKUPS, "result" => "miss"),
    }
}

/// What a thread has counted so far. It alone writes it, so that nobody waits for the line.
#[derive(Debug, Default)]
struct Counts {
    known: AtomicU64,
    nobody: AtomicU64,
    hit: AtomicU64,
    miss: AtomicU64,
}

impl Counts {
    const fn of(&self, what: Hot) -> &AtomicU64 {
        match what {
            Hot::Known => &self.known,
            Hot::Nobody => &self.nobody,
            Hot::Hit => &self.hit,
            Hot::Miss => &self.miss,
        }
    }
}

/// Up to where it has been told, and to whom.
#[derive(Debug, Default)]
struct Told {
    /// Address of the recorder that the handles are of.
    recorder: Option<usize>,
    handles: Vec<(Hot, Counter, u64)>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Apart<Counts>,
    told: Mutex<Told>,
}

impl Shared {
    /// Tells the recorder whose handles there are.
    fn tell(&self, told: &mut Told) {
        for (what, handle, before) in &mut told.handles {
            let now = self.counts.of(*what).load(Relaxed);
            handle.increment(now.wrapping_sub(*before));
            *before = now;
        }
    }

    /// Takes the handles of the recorder that there is now. One may have been installed after this thread began to count: what was
    /// counted before is lost, as it is with all other metrics.
    fn turn_to_current(&self, told: &mut Told) {
        let recorder = with_recorder(|recorder| std::ptr::from_ref::<dyn Recorder>(recorder).cast::<()>().addr());
        if told.recorder != Some(recorder) {
            self.tell(told);
            told.recorder = Some(recorder);
            told.handles = HOT.map(|what| (what, handle(what), self.counts.of(what).load(Relaxed))).into();
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's own.
struct Own {
    second: Cell<u64>,
    shared: Arc<Shared>,
}

/// Those of all threads that live.
static ALL: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

thread_local!(static OWN: Own = Own::new());

/// In no second yet.
const NEVER: u64 = u64::MAX;

impl Own {
    fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&shared));
        Self { second: Cell::new(NEVER), shared }
    }

    fn count(&self, what: Hot) {
        let count = self.shared.counts.of(what);
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[cold]
    fn count_and_tell(&self, what: Hot, now: UnixSeconds) {
        self.second.set(now.get());
        let mut told = self.shared.told();
        self.shared.turn_to_current(&mut told);
        self.count(what);
        self.shared.tell(&mut told);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.shared.tell(&mut self.shared.told());
    }
}

/// Counts one.
#[inline]
pub(crate) fn count(what: Hot, now: UnixSeconds) {
    // Not where a thread is about to end.
    let _ = OWN.try_with(|own| {
        if own.second.get() == now.get() {
            own.count(what);
        } else {
            own.count_and_tell(what, now);
        }
    });
}

pub(super) fn publish() {
    let all: Vec<_> = ALL.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    for shared in all {
        shared.tell(&mut shared.told());
    }
    // The recorder may be a new one, or one that this thread alone has.
    let _ = OWN.try_with(|own| own.shared.turn_to_current(&mut own.shared.told()));
}
