//! A bounded pool of hashing work, off the threads that serve requests.

use std::{
    fmt,
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use super::argon2id::{self, Argon2Params, Failure, Memory};
use crate::{config::ConfigErrors, secret::Secret, store::PasswordHash};

/// Hashes and checks passwords, so many at once and no more. Cheap to clone; clones share the pool.
///
/// | setting | default | bound |
/// |---|---|---|
/// | parameters | Argon2id m=19 MiB, t=2, p=1 | OWASP's least to m=256 MiB, t=10, p=8 |
/// | at once | as many as cores | 1 to 256 |
/// | waiting | 64 | 0 to 65,536 |
/// | longest wait | 2 s | 30 s |
///
/// A call beyond the queue fails at once, one that waits too long fails then; neither has cost a hash. The permit stays
/// with the work: a caller who goes away while their password is being hashed frees nothing early. Needs a Tokio runtime
/// with its timer enabled.
///
/// Memory in use is at most what that many hashes take. It is kept between hashes, and not wiped: the next hash
/// overwrites it, and who can read the memory of the program can read the passwords that pass through it.
///
/// A login costs as much as the costliest hash there is, whether or not there is such a user: what a cheaper hash leaves
/// of that is made up for. The costliest is the greatest of the pool's own parameters, those that
/// [`stored`](PasswordHasherBuilder::stored) declares, and those of the hashes that have been checked so far.
#[derive(Clone)]
pub struct PasswordHasher {
    params: Argon2Params,
    costliest: Arc<Mutex<Argon2Params>>,
    /// Of those that are not hashing; never more than may hash at once.
    memories: Arc<Mutex<Vec<Memory>>>,
    /// Larger memories, for stored hashes that ask for more than was declared, are not kept.
    keep_blocks: usize,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    wait: Duration,
}

/// Why a password was neither hashed nor checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Too many calls are waiting, or this one has waited too long. Try again later.
    #[error("too many passwords are being hashed")]
    Overloaded,
    /// The password takes more than 1,024 bytes.
    #[error("password is longer than 1,024 bytes")]
    TooLong,
    /// The stored hash is not Argon2id in PHC format, or asks for more than m=256 MiB, t=10, p=8.
    #[error("stored password hash cannot be read")]
    Unreadable,
    /// The system has no random bytes or no memory to give, or is shutting down.
    #[error("password could not be hashed")]
    System,
}

impl From<Failure> for HashError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLong => Self::TooLong,
            Failure::Unreadable => Self::Unreadable,
            Failure::System => Self::System,
        }
    }
}

/// How a password compares with a user's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    Fits,
    Differs,
    /// Nobody can tell: the stored hash is none.
    Unreadable,
}

/// Builder of a [`PasswordHasher`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PasswordHasherBuilder {
    params: Argon2Params,
    stored: Vec<Argon2Params>,
    concurrency: usize,
    queue: usize,
    wait: Duration,
}

impl PasswordHasherBuilder {
    /// Sets the work that a new hash takes.
    pub fn params(self, params: Argon2Params) -> Self {
        Self { params, ..self }
    }

    /// Declares parameters of hashes that are in the store already, from before a change or from another program. Each
    /// login then costs as much as the costliest of them from the first one on; it would otherwise from the first such
    /// hash that is checked.
    pub fn stored(mut self, params: Argon2Params) -> Self {
        self.stored.push(params);
        self
    }

    /// Sets how many passwords are hashed at once: as many as there are cores unless set, 1 to 256. Tokio's blocking
    /// threads, 512 unless the program says otherwise, must be more than this.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// Sets how many calls may wait: 64 unless set, 65,536 at most.
    pub fn queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// Sets how long a call may wait for its turn: 2 seconds unless set, 30 at most.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Builds the pool. Nothing is hashed yet, and no thread is started.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each setting out of bounds.
    pub fn build(self) -> Result<PasswordHasher, ConfigErrors> {
        let Self { params, stored, concurrency, queue, wait } = self;
        let mut errors = ConfigErrors::default();
        errors.bound_number("hash concurrency", concurrency, 1, 256);
        errors.bound_number("hash queue", queue, 0, 65_536);
        errors.bound("hash wait", wait, Duration::ZERO, Duration::from_secs(30));
        let keep_blocks = stored.iter().map(|params| params.blocks()).fold(params.blocks(), usize::max);
        let costliest = stored.into_iter().fold(params, Argon2Params::or_costlier);
        errors.finish(Some(PasswordHasher {
            params,
            costliest: Arc::new(Mutex::new(costliest)),
            memories: Arc::default(),
            keep_blocks,
            running: Arc::new(Semaphore::new(concurrency.min(256))),
            admitted: Arc::new(Semaphore::new(concurrency.min(256) + queue.min(65_536))),
            wait,
        }))
    }
}

impl PasswordHasher {
    /// Begins a pool with the defaults of the table above.
    pub fn builder() -> PasswordHasherBuilder {
        PasswordHasherBuilder {
            params: Argon2Params::default(),
            stored: Vec::new(),
            concurrency: thread::available_parallelism().map_or(1, NonZero::get),
            queue: 64,
            wait: Duration::from_secs(2),
        }
    }

    /// Hashes `password` with a fresh salt. Dropping the future leaves work that has begun to its end.
    ///
    /// # Errors
    ///
    /// [`HashError::Overloaded`], [`HashError::TooLong`] or [`HashError::System`].
    pub async fn hash(&self, password: Secret<String>) -> Result<PasswordHash, HashError> {
        let params = self.params;
        self.run(move |memory| argon2id::hash(password.expose(), params, memory)).await
    }

    /// Whether `password` is the one that `hash` was made of. Dropping the future leaves work that has begun to its end.
    ///
    /// # Errors
    ///
    /// [`HashError::Overloaded`], [`HashError::Unreadable`] or [`HashError::System`].
    pub async fn verify(&self, password: Secret<String>, hash: PasswordHash) -> Result<bool, HashError> {
        let verify = move |memory: &mut Memory| argon2id::verify(password.expose(), &hash, memory);
        self.run(verify).await.map(|(fits, _)| fits)
    }

    /// Compares a password with a user's hash, or with none, at the cost of the costliest hash there is.
    pub(super) async fn check(&self, password: Secret<String>, hash: Option<PasswordHash>) -> Result<Check, HashError> {
        let costliest = Arc::clone(&self.costliest);
        let work = move |memory: &mut Memory| {
            let verdict = hash.map(|hash| argon2id::verify(password.expose(), &hash, memory));
            let done = verdict.as_ref().and_then(|verdict| verdict.as_ref().ok()).map(|(_, params)| *params);
            let rest = {
                let mut costliest = costliest.lock().unwrap_or_else(PoisonError::into_inner);
                *costliest = done.map_or(*costliest, |done| costliest.or_costlier(done));
                costliest.beyond(done)
            };
            if let Some(rest) = rest {
                argon2id::burn(password.expose(), rest, memory)?;
            }
            match verdict {
                Some(Ok((true, _))) => Ok(Check::Fits),
                Some(Ok((false, _))) | None => Ok(Check::Differs),
                Some(Err(Failure::Unreadable)) => Ok(Check::Unreadable),
                Some(Err(failure)) => Err(failure),
            }
        };
        self.run(work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, HashError> {
        let permits = self.permits().await?;
        let (memories, keep_blocks) = (Arc::clone(&self.memories), self.keep_blocks);
        let work = move || {
            // They go with the work, not with the caller: blocking work cannot be called off, so what it takes is not
            // free before it has ended, whether or not somebody still waits for it.
            let _permits = permits;
            let kept = memories.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut memory = kept.unwrap_or_default();
            let result = work(&mut memory);
            if memory.blocks() <= keep_blocks {
                memories.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            }
            result
        };
        task::spawn_blocking(work).await.map_err(|_| HashError::System)?.map_err(HashError::from)
    }

    /// A place in the house, and then a turn.
    async fn permits(&self) -> Result<[OwnedSemaphorePermit; 2], HashError> {
        let place = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| HashError::Overloaded)?;
        let turn = time::timeout(self.wait, Arc::clone(&self.running).acquire_owned());
        match turn.await {
            Ok(Ok(turn)) => Ok([place, turn]),
            Ok(Err(_)) | Err(_) => Err(HashError::Overloaded),
        }
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHasher")
            .field("params", &self.params)
            .field("free", &self.running.available_permits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    fn hasher(concurrency: usize, queue: usize, wait: Duration) -> PasswordHasher {
        PasswordHasher::builder().concurrency(concurrency).queue(queue).wait(wait).build().unwrap()
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_frees_no_capacity_early() {
        let hasher = hasher(1, 0, Duration::ZERO);
        let (finish, finished) = mpsc::channel::<()>();
        let (start, begun) = mpsc::channel();
        let slow = {
            let hasher = hasher.clone();
            tokio::spawn(async move {
                let work = move |_: &mut Memory| {
                    start.send(()).unwrap();
                    let _ = finished.recv();
                    Ok(())
                };
                hasher.run(work).await
            })
        };
        task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        slow.abort();
        assert!(slow.await.unwrap_err().is_cancelled());
        assert_eq!(hasher.run(|_| Ok(())).await, Err(HashError::Overloaded), "the work goes on");
        finish.send(()).unwrap();
        while hasher.run(|_| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_queue_and_the_wait_are_bounded() {
        let hasher = hasher(1, 1, Duration::from_millis(50));
        let turn = Arc::clone(&hasher.running).acquire_owned().await.unwrap();
        let place = Arc::clone(&hasher.admitted).try_acquire_owned().unwrap();
        let waiting = {
            let hasher = hasher.clone();
            tokio::spawn(async move { hasher.run(|_| Ok(())).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(hasher.run(|_| Ok(())).await, Err(HashError::Overloaded), "no place to wait");
        assert_eq!(waiting.await.unwrap(), Err(HashError::Overloaded), "waited too long");
        drop((turn, place));
        assert_eq!(hasher.run(|_| Ok(7)).await, Ok(7), "and all is well again");
    }

    #[tokio::test]
    async fn req_034_a_login_costs_the_same_whatever_the_stored_parameters() {
        let heavy = Argon2Params::new(64 * 1024, 3, 4).unwrap();
        let imported = PasswordHasher::builder().params(heavy).build().unwrap().hash("x".into()).await.unwrap();
        let hasher = PasswordHasher::builder().concurrency(1).stored(heavy).build().unwrap();
        let own = hasher.hash("x".into()).await.unwrap();
        let broken = PasswordHash::from_phc("$argon2id$");
        let cases = [None, Some(own.clone()), Some(imported), Some(broken)];
        let mut fastest = [f64::MAX; 4];
        let spread = |fastest: &[f64]| {
            let (least, most) = fastest.iter().fold((f64::MAX, 0_f64), |(least, most), &t| (least.min(t), most.max(t)));
            most / least
        };
        // The fastest of as many rounds as a busy machine needs; without a defence it stays at a factor of seven.
        let mut rounds = 0;
        while rounds < 3 || (spread(&fastest) > 1.5 && rounds < 30) {
            rounds += 1;
            for (hash, fastest) in cases.iter().zip(&mut fastest) {
                let begin = Instant::now();
                assert!(matches!(hasher.check("y".into(), hash.clone()).await, Ok(Check::Differs | Check::Unreadable)));
                *fastest = fastest.min(begin.elapsed().as_secs_f64());
            }
        }
        assert!(spread(&fastest) <= 1.5, "{fastest:?}");
        assert_eq!(hasher.check("x".into(), Some(own)).await, Ok(Check::Fits));
        assert_eq!(hasher.memories.lock().unwrap().len(), 1, "one at a time, one memory");
    }

    #[test]
    fn bounds() {
        let errors = PasswordHasher::builder().concurrency(0).queue(70_000).wait(Duration::from_secs(31)).build();
        assert_eq!(errors.unwrap_err().iter().count(), 3);
    }
}
