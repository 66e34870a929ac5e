//! What each hashing thread has and does: memory of its own, and logins that all cost the same.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

#[cfg(feature = "legacy-hashes")]
use super::legacy::Legacy;
use super::{
    TARGET,
    argon2id::{self, Argon2Params, Failure, Memory},
    cost::{Costs, Pace, Work},
    pepper::Peppers,
    stored::{Kind, Stored},
};
use crate::store::PasswordHash;

/// How a password compares with a user's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// It is the same. `current`: its hash is as one that would be made today.
    Fits {
        current: bool,
    },
    Differs,
    /// Nobody can tell: the stored hash is none.
    Unreadable,
}

/// What all threads of a pool share.
pub(super) struct Plan {
    pub(super) params: Argon2Params,
    peppers: Peppers,
    /// Declared parameters of stored hashes.
    stored: Vec<Argon2Params>,
    #[cfg(feature = "legacy-hashes")]
    legacy: Vec<Legacy>,
    /// Bytes that a declared hash takes besides what a thread keeps. They are given back after it.
    besides: u64,
    costs: Mutex<Costs<Kind>>,
    /// As the first thread has found it.
    pace: OnceLock<Pace>,
    /// Held by the one that takes more memory than its thread keeps.
    beyond: Mutex<()>,
}

impl Plan {
    pub(super) fn new(params: Argon2Params, peppers: Peppers, stored: Vec<Argon2Params>) -> Self {
        Self {
            params,
            peppers,
            stored,
            #[cfg(feature = "legacy-hashes")]
            legacy: Vec::new(),
            besides: 0,
            costs: Mutex::new(Costs::new(params.work())),
            pace: OnceLock::new(),
            beyond: Mutex::new(()),
        }
    }

    /// Declares hashes of other algorithms.
    #[cfg(feature = "legacy-hashes")]
    pub(super) fn with_legacy(self, legacy: Vec<Legacy>) -> Self {
        Self { besides: legacy.iter().map(|legacy| legacy.memory()).max().unwrap_or_default(), legacy, ..self }
    }

    /// Blocks that each thread keeps.
    pub(super) fn blocks(&self) -> usize {
        self.stored.iter().map(|params| params.blocks()).fold(self.params.blocks(), usize::max)
    }

    /// Bytes that a thread takes at the most for hashes that were declared.
    pub(super) fn memory(&self) -> usize {
        (self.blocks() * 1024).saturating_add(usize::try_from(self.besides).unwrap_or(usize::MAX))
    }

    fn costs(&self) -> MutexGuard<'_, Costs<Kind>> {
        // Nothing under this lock can panic half-way.
        self.costs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One hashing thread's own.
pub(super) struct Worker {
    plan: Arc<Plan>,
    memory: Memory,
    pace: Pace,
}

impl Worker {
    /// Takes the memory. The first one sees how fast it is here, and what declared hashes cost, while no other is at work; the
    /// others begin with what it has seen.
    pub(super) fn new(plan: &Arc<Plan>) -> Option<Self> {
        let memory = Memory::of(plan.blocks()).ok()?;
        if let Some(pace) = plan.pace.get() {
            return Some(Self { plan: Arc::clone(plan), memory, pace: pace.clone() });
        }
        let pace = Pace::new(plan.params.work(), Duration::ZERO);
        let mut worker = Self { plan: Arc::clone(plan), memory, pace };
        // Twice, since the first time meets cold caches.
        for _ in 0..2 {
            let watch = Stopwatch::start();
            argon2id::burn("", plan.params, &mut worker.memory).ok()?;
            worker.pace = Pace::new(plan.params.work(), watch.read());
        }
        if plan.pace.set(worker.pace.clone()).is_ok() {
            for &params in &plan.stored {
                let time = worker.least_time(|memory| argon2id::burn("", params, memory))?;
                plan.costs().note(Kind::Argon2(params), worker.pace.greatest().work(time));
            }
            #[cfg(feature = "legacy-hashes")]
            for &legacy in &plan.legacy {
                // 24 bytes, as bcrypt has them.
                let time = worker.least_time(|_| legacy.derive(b"", &[0; 16], &mut [0; 24]))?;
                plan.costs().note(Kind::Legacy(legacy), worker.pace.greatest().work(time));
            }
        }
        Some(worker)
    }

    /// Hashes `password` with a fresh salt.
    pub(super) fn hash(&mut self, password: &str) -> Result<PasswordHash, Failure> {
        argon2id::hash(password, self.plan.params, self.plan.peppers.current.as_ref(), &mut self.memory)
    }

    /// Whether `password` is the one that `hash` was made of, at whatever that costs.
    pub(super) fn verify(&mut self, password: &str, hash: &PasswordHash) -> Result<bool, Failure> {
        let plan = Arc::clone(&self.plan);
        let stored = Stored::read(hash, &plan.peppers).ok_or(Failure::Unreadable)?;
        self.fits(&stored, password).map(|(fits, _)| fits)
    }

    /// Compares a password with a user's hash, or with none, at the cost of the costliest hash there is.
    pub(super) fn check(&mut self, password: &str, hash: Option<&PasswordHash>) -> Result<Check, Failure> {
        let watch = Stopwatch::start();
        let plan = Arc::clone(&self.plan);
        let own = plan.params.work();
        let stored = hash.map(|hash| Stored::read(hash, &plan.peppers));
        let (check, kind) = match &stored {
            Some(Some(stored)) => {
                let (fits, time) = self.fits(stored, password)?;
                let kind = (!stored.costs(plan.params)).then(|| (stored.kind(), self.pace.greatest().work(time)));
                let current =
                    stored.is_made_as(plan.params, plan.peppers.current.as_ref()) || !stored.has_read(password);
                (if fits { Check::Fits { current } } else { Check::Differs }, kind)
            }
            other => {
                argon2id::burn(password, plan.params, &mut self.memory)?;
                (if other.is_some() { Check::Unreadable } else { Check::Differs }, None)
            }
        };
        let has_own_cost = kind.is_none();
        if has_own_cost {
            self.pace.note(watch.read());
        }
        let costliest = {
            let mut costs = plan.costs();
            if let Some((kind, took)) = kind
                && costs.note(kind, took)
            {
                // Until now those who have it could be told from others by the time.
                tracing::warn!(
                    target: TARGET,
                    ?kind,
                    "a stored hash is of a kind that the hasher was not told of: see `stored` and `stored_legacy`"
                );
            }
            costs.costliest()
        };
        if costliest > own || !has_own_cost {
            self.burn_until(&watch, costliest, password)?;
        }
        Ok(check)
    }

    /// Works for nothing until as much time has been spent as `work` takes here and now.
    fn burn_until(&mut self, watch: &Stopwatch, work: Work, password: &str) -> Result<(), Failure> {
        // Each step leaves an eighth; the last leaves less than what anybody could time.
        const STEPS: usize = 5;
        let until = self.pace.time(work);
        let kept = u32::try_from(self.memory.blocks()).unwrap_or(u32::MAX);
        let mut speed = self.pace.latest();
        for _ in 0..STEPS {
            let begun = watch.read();
            let left = speed.work(until.saturating_sub(begun));
            let Some(rest) = left.most_of().within(kept) else { break };
            argon2id::burn(password, rest, &mut self.memory)?;
            speed = speed.or_of(rest.work(), watch.read().saturating_sub(begun));
        }
        Ok(())
    }

    /// Whether the password fits, and how long that took.
    fn fits(&mut self, stored: &Stored<'_>, password: &str) -> Result<(bool, Duration), Failure> {
        let mut fresh = Memory::default();
        let (memory, _turn) = if self.has_room(stored) {
            (&mut self.memory, None)
        } else {
            // One at a time in the whole pool, and given back at once.
            (&mut fresh, Some(self.plan.beyond.lock().unwrap_or_else(PoisonError::into_inner)))
        };
        let watch = Stopwatch::start();
        let fits = stored.fits(password, memory)?;
        Ok((fits, watch.read()))
    }

    /// Whether no more memory is needed than was declared.
    fn has_room(&self, stored: &Stored<'_>) -> bool {
        match stored {
            Stored::Argon2(hash) => hash.params().blocks() <= self.memory.blocks(),
            #[cfg(feature = "legacy-hashes")]
            Stored::Legacy(hash) => hash.takes.memory() <= self.plan.besides,
        }
    }

    /// How long this takes, the less of twice: what disturbs makes it longer, never shorter.
    fn least_time(&mut self, work: impl Fn(&mut Memory) -> Result<(), Failure>) -> Option<Duration> {
        let mut least = Duration::MAX;
        for _ in 0..2 {
            let watch = Stopwatch::start();
            work(&mut self.memory).ok()?;
            least = least.min(watch.read());
        }
        Some(least)
    }
}

/// Time that this thread has worked, without what others took of it where the system can tell.
struct Stopwatch(#[cfg(target_os = "linux")] Duration, #[cfg(not(target_os = "linux"))] std::time::Instant);

#[cfg(target_os = "linux")]
impl Stopwatch {
    fn start() -> Self {
        Self(Self::worked())
    }

    fn read(&self) -> Duration {
        Self::worked().saturating_sub(self.0)
    }

    fn worked() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
    }
}

#[cfg(not(target_os = "linux"))]
impl Stopwatch {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn read(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn more_memory_than_was_declared_is_taken_by_one_at_a_time_and_given_back() {
        let large = Argon2Params::new(64 * 1024, 1, 1).unwrap();
        let hash = argon2id::hash("x", large, None, &mut Memory::default()).unwrap();
        let plan = Arc::new(Plan::new(Argon2Params::default(), Peppers::default(), Vec::new()));
        let mut workers = [(); 2].map(|()| Worker::new(&plan).unwrap());
        let own = workers[0].hash("x").unwrap();
        // As if another thread were at it.
        let other = plan.beyond.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let [one, mut two] = workers;
        let waiting = {
            let hash = hash.clone();
            let mut one = one;
            thread::spawn(move || {
                let verdict = one.verify("x", &hash);
                tell.send(()).unwrap();
                (verdict, one.memory.blocks())
            })
        };
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
        assert_eq!(two.verify("x", &own), Ok(true), "the others go on");
        drop(other);
        assert_eq!(waiting.join().unwrap(), (Ok(true), 19 * 1024), "no more is kept than before");
        assert_eq!(two.check("y", Some(&hash)), Ok(Check::Differs));
        assert_eq!(two.memory.blocks(), 19 * 1024);
    }
}
