//! A bounded pool of hashing work, off the threads that serve requests.

use std::{fmt, num::NonZero, sync::Arc, thread, time::Duration};

#[cfg(feature = "legacy-hashes")]
use super::legacy::Legacy;
use super::{
    TARGET,
    argon2id::{Argon2Params, Failure},
    pepper::{Pepper, Peppers},
    pool::{Lane, NotDone, Pool},
    worker::{Check, Plan, Worker},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    secret::Secret,
    store::PasswordHash,
};

/// Hashes and checks passwords, so many at once and no more. Cheap to clone; clones share the pool.
///
/// | setting | default | bound |
/// |---|---|---|
/// | parameters | Argon2id m=19 MiB, t=2, p=1 | OWASP's least to m=256 MiB, t=10, p=8 |
/// | at once | as many as cores | 1 to 256 |
/// | waiting | 64 strangers, and as many known devices | 0 to 65,536 |
/// | longest wait | 2 s | 30 s |
/// | peppers | none | 16, of 32 to 512 bytes |
///
/// # Threads
///
/// It has threads of its own, named `portcullis-hash`, which end when the last clone is dropped. On Linux they step back
/// behind the program's other threads (nice +12), so that a flood of logins slows nothing else. They step back behind other
/// programs of the same control group as well: beside one that keeps every core busy they get a fifteenth of the time, and
/// logins are turned away as too many. Needs a Tokio runtime with its timer enabled.
///
/// A call beyond the queue fails at once, one that waits too long fails then; neither has cost a hash, nor has a caller who
/// goes away while waiting. A thread stays with its work: a caller who goes away while their password is being hashed frees
/// nothing early. Devices that have signed in before are known ones: they go first, and have a queue of their own.
///
/// # Memory
///
/// Each thread takes what the largest declared parameters need when it is built, and keeps it; [`memory`](Self::memory) says
/// how much that is in all. A stored hash that was not declared may need more, up to 256 MiB: one at a time takes that
/// besides, and gives it back. What is kept is not wiped, since the next hash overwrites it: it holds no password, but who
/// can read it can try passwords faster than against the stored hash. They can also read the passwords themselves as they
/// pass through the program.
///
/// # Time
///
/// A login costs as much as the costliest hash there is, whether or not there is such a user: what a cheaper hash leaves
/// of that is made up for with Argon2, by the clock of the thread. The costliest is the greatest of the pool's own
/// parameters, those that [`stored`](PasswordHasherBuilder::stored) declares, and those of the hashes that have been
/// checked so far. What is not made with the pool's own parameters is timed where it runs, and each login costs a sixteenth
/// more than the costliest of these. So a single user with a hash of 10,000,000 iterations makes each login as slow as
/// theirs, until the program is started anew.
#[derive(Clone)]
pub struct PasswordHasher {
    plan: Arc<Plan>,
    pool: Arc<Pool<Worker>>,
    memory: usize,
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
    /// The stored hash is in no form that is known here, asks for more than m=256 MiB, t=10, p=8, or names a pepper that is
    /// not there.
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

impl From<NotDone> for HashError {
    fn from(reason: NotDone) -> Self {
        match reason {
            NotDone::Overloaded => Self::Overloaded,
            NotDone::Failed => Self::System,
        }
    }
}

/// Builder of a [`PasswordHasher`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PasswordHasherBuilder {
    params: Argon2Params,
    stored: Vec<Argon2Params>,
    #[cfg(feature = "legacy-hashes")]
    legacy: Vec<Legacy>,
    peppers: Peppers,
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

    /// As [`stored`](Self::stored), for hashes of another algorithm.
    ///
    /// ```
    /// use portcullis::password::{Legacy, PasswordHasher};
    ///
    /// let hasher = PasswordHasher::builder().stored_legacy(Legacy::Bcrypt { cost: 6 }).build()?;
    /// # let _ = hasher;
    /// assert!(PasswordHasher::builder().stored_legacy(Legacy::Bcrypt { cost: 17 }).build().is_err());
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    #[cfg(feature = "legacy-hashes")]
    pub fn stored_legacy(mut self, legacy: Legacy) -> Self {
        self.legacy.push(legacy);
        self
    }

    /// Sets a secret that goes into each new hash and is kept outside the store, and the id by which hashes name it: 1 to 8
    /// letters, digits, hyphens and underscores (RFC 9106 §3.1, `K`; `keyid` of the PHC string). Without it, who has read
    /// the store cannot try passwords against it. A hash that names another one is replaced when its owner signs in; if that
    /// one is neither here nor an [`old_pepper`](Self::old_pepper), nobody signs in with it.
    ///
    /// ```
    /// use portcullis::{client::random_secret, password::PasswordHasher};
    ///
    /// let from_the_environment = random_secret()?;
    /// let hasher = PasswordHasher::builder().pepper("2026-11", from_the_environment).build()?;
    /// # let _ = hasher;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pepper(mut self, id: impl Into<String>, secret: Secret<String>) -> Self {
        self.peppers.current = Some(Pepper::new(id.into(), secret));
        self
    }

    /// Adds the pepper of hashes that are in the store already; 16 in all.
    pub fn old_pepper(mut self, id: impl Into<String>, secret: Secret<String>) -> Self {
        self.peppers.old.push(Pepper::new(id.into(), secret));
        self
    }

    /// Sets how many passwords are hashed at once: as many as there are cores unless set, 1 to 256.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// Sets how many calls of strangers may wait, and how many of known devices besides: 64 unless set, 65,536 at most.
    pub fn queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// Sets how long a call may wait for its turn: 2 seconds unless set, 30 at most.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Builds the pool: starts its threads, takes their memory, and waits until they have hashed twice with each of the
    /// parameters that were set or declared, to see how long that takes here: some tens of milliseconds with the
    /// defaults.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each setting out of bounds, or that there are no threads or no memory to be had.
    pub fn build(self) -> Result<PasswordHasher, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound_number("hash concurrency", self.concurrency, 1, 256);
        errors.bound_number("hash queue", self.queue, 0, 65_536);
        errors.bound("hash wait", self.wait, Duration::ZERO, Duration::from_secs(30));
        self.peppers.check(&mut errors);
        #[cfg(feature = "legacy-hashes")]
        self.legacy.iter().for_each(|legacy| legacy.check(&mut errors));
        errors.finish(Some(()))?;
        let Self { params, stored, peppers, concurrency, queue, wait, .. } = self;
        let plan = Plan::new(params, peppers, stored);
        #[cfg(feature = "legacy-hashes")]
        let plan = plan.with_legacy(self.legacy);
        let memory = concurrency.saturating_mul(plan.memory());
        let plan = Arc::new(plan);
        let make = {
            let plan = Arc::clone(&plan);
            move || Worker::new(&plan)
        };
        let pool = Pool::start(concurrency, queue, wait, make);
        let pool = pool.map_err(|error| ConfigError::HashThreads(error.to_string()))?;
        tracing::info!(target: TARGET, threads = concurrency, memory, "password hasher ready");
        Ok(PasswordHasher { plan, pool: Arc::new(pool), memory })
    }
}

impl PasswordHasher {
    /// Begins a pool with the defaults of the table above.
    pub fn builder() -> PasswordHasherBuilder {
        PasswordHasherBuilder {
            params: Argon2Params::default(),
            stored: Vec::new(),
            #[cfg(feature = "legacy-hashes")]
            legacy: Vec::new(),
            peppers: Peppers::default(),
            concurrency: thread::available_parallelism().map_or(1, NonZero::get).min(256),
            queue: 64,
            wait: Duration::from_secs(2),
        }
    }

    /// Bytes that hashing takes at the most: threads times parameters. A stored hash that was not declared may take up to
    /// 256 MiB more, one at a time.
    ///
    /// ```
    /// use portcullis::password::PasswordHasher;
    ///
    /// assert_eq!(PasswordHasher::builder().concurrency(2).build()?.memory(), 2 * 19 * 1024 * 1024);
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// Hashes `password` with a fresh salt. Dropping the future leaves work that has begun to its end.
    ///
    /// # Errors
    ///
    /// [`HashError::Overloaded`], [`HashError::TooLong`] or [`HashError::System`].
    pub async fn hash(&self, password: Secret<String>) -> Result<PasswordHash, HashError> {
        self.hash_in(Lane::Stranger, password).await
    }

    /// As [`hash`](Self::hash), for whoever goes first.
    pub(crate) async fn hash_in(&self, lane: Lane, password: Secret<String>) -> Result<PasswordHash, HashError> {
        self.run(lane, move |worker| worker.hash(password.expose())).await
    }

    /// Whether `password` is the one that `hash` was made of. Dropping the future leaves work that has begun to its end.
    ///
    /// # Errors
    ///
    /// [`HashError::Overloaded`], [`HashError::Unreadable`] or [`HashError::System`].
    pub async fn verify(&self, password: Secret<String>, hash: PasswordHash) -> Result<bool, HashError> {
        self.verify_in(Lane::Stranger, password, hash).await
    }

    pub(super) async fn verify_in(
        &self,
        lane: Lane,
        password: Secret<String>,
        hash: PasswordHash,
    ) -> Result<bool, HashError> {
        self.run(lane, move |worker| worker.verify(password.expose(), &hash)).await
    }

    /// Compares a password with a user's hash, or with none, at the cost of the costliest hash there is.
    pub(super) async fn check(
        &self,
        password: Secret<String>,
        hash: Option<PasswordHash>,
        lane: Lane,
    ) -> Result<Check, HashError> {
        self.run(lane, move |worker| worker.check(password.expose(), hash.as_ref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&mut Worker) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, HashError> {
        self.pool.run(lane, work).await?.map_err(HashError::from)
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHasher")
            .field("params", &self.plan.params)
            .field("memory", &self.memory)
            .field("free", &self.pool.free())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A password that is not the one, compared with each of these in turns: the fastest of as many rounds as a busy machine
    /// needs to come within this ratio.
    async fn fastest<const N: usize>(
        hasher: &PasswordHasher,
        cases: &[Option<PasswordHash>; N],
        most: f64,
    ) -> [f64; N] {
        let mut fastest = [f64::MAX; N];
        let mut rounds = 0;
        while rounds < 3 || (spread(&fastest) > most && rounds < 30) {
            rounds += 1;
            for (hash, fastest) in cases.iter().zip(&mut fastest) {
                let begin = Instant::now();
                let check = hasher.check("y".into(), hash.clone(), Lane::Stranger).await;
                assert!(matches!(check, Ok(Check::Differs | Check::Unreadable)), "{check:?}");
                *fastest = fastest.min(begin.elapsed().as_secs_f64());
            }
        }
        fastest
    }

    fn spread(fastest: &[f64]) -> f64 {
        let (least, most) = fastest.iter().fold((f64::MAX, 0_f64), |(least, most), &t| (least.min(t), most.max(t)));
        most / least
    }

    #[tokio::test]
    async fn req_034_a_login_costs_the_same_whatever_the_stored_parameters() {
        let heavy = Argon2Params::new(64 * 1024, 3, 4).unwrap();
        let builder = || PasswordHasher::builder().concurrency(1);
        let imported = builder().params(heavy).build().unwrap().hash("x".into()).await.unwrap();
        let hasher = builder().stored(heavy).build().unwrap();
        let own = hasher.hash("x".into()).await.unwrap();
        let broken = PasswordHash::from_phc("$argon2id$");
        // Without a defence they differ by a factor of seven.
        let fastest = fastest(&hasher, &[None, Some(own.clone()), Some(imported), Some(broken)], 1.5).await;
        assert!(spread(&fastest) <= 1.5, "{fastest:?}");
        let right = hasher.check("x".into(), Some(own), Lane::Stranger).await;
        assert_eq!(right, Ok(Check::Fits { current: true }));
        assert_eq!(hasher.memory(), 64 * 1024 * 1024, "the largest that is declared");
    }

    #[cfg(feature = "legacy-hashes")]
    #[tokio::test]
    async fn req_034_req_174_a_login_costs_the_same_whatever_made_the_hash() {
        let bcrypt = "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.";
        let pbkdf2 = "pbkdf2_sha256$12000$seasalt$Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s=";
        let scrypt = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E";
        let salt = "c29tZXNhbHRzYWx0c2FsdA$Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s";
        let argon2i = format!("$argon2i$v=19$m=4096,t=3,p=1${salt}");
        let django = format!("argon2$argon2id$v=19$m=102400,t=2,p=8${salt}");
        let hash = |text: &str| Some(PasswordHash::from_phc(text));
        let hasher = PasswordHasher::builder()
            .concurrency(1)
            .stored_legacy(Legacy::Bcrypt { cost: 8 })
            .stored_legacy(Legacy::Scrypt { log_n: 16, r: 8, p: 1 })
            .build()
            .unwrap();
        assert_eq!(hasher.memory(), (19 + 64) * 1024 * 1024 + 2 * 1024, "Argon2's, and scrypt's besides");
        // One of them takes five times what Argon2id does, and one a tenth. The last two are not declared: what they take
        // beyond that is found out from the first one on.
        let all = [None, hash(bcrypt), hash(pbkdf2), hash(scrypt), hash(&argon2i), hash(&django)];
        let fastest = fastest(&hasher, &all, 1.3).await;
        assert!(spread(&fastest) <= 1.3, "{fastest:?}");
        let right = hasher.check("lètmein".into(), hash(pbkdf2), Lane::Stranger).await;
        assert_eq!(right, Ok(Check::Fits { current: false }));
    }

    #[tokio::test]
    async fn a_hash_that_is_not_made_as_new_ones_are_is_told() {
        let old = Argon2Params::new(7 * 1024, 5, 1).unwrap();
        let secret = || Secret::from("0123456789abcdefghijklmnopqrstuv");
        let before = PasswordHasher::builder().params(old).concurrency(1).build().unwrap();
        let plain = PasswordHasher::builder().concurrency(1).build().unwrap();
        let peppered = PasswordHasher::builder().concurrency(1).pepper("1", secret()).build().unwrap();
        let turned = PasswordHasher::builder().concurrency(1).pepper("2", secret()).old_pepper("1", secret());
        let turned = turned.build().unwrap();
        for (name, made_by, checked_by, current) in [
            ("own", &plain, &plain, Some(true)),
            ("other parameters", &before, &plain, Some(false)),
            ("no pepper yet", &plain, &peppered, Some(false)),
            ("own pepper", &peppered, &peppered, Some(true)),
            ("old pepper", &peppered, &turned, Some(false)),
            ("pepper that is gone", &peppered, &plain, None),
        ] {
            let hash = made_by.hash("x".into()).await.unwrap();
            let check = checked_by.check("x".into(), Some(hash.clone()), Lane::Known).await;
            assert_eq!(check, Ok(current.map_or(Check::Unreadable, |current| Check::Fits { current })), "{name}");
            let verdict = checked_by.verify("y".into(), hash).await;
            assert_eq!(verdict, current.map(|_| false).ok_or(HashError::Unreadable), "{name}");
        }
    }

    #[test]
    fn bounds() {
        let errors = PasswordHasher::builder().concurrency(0).queue(70_000).wait(Duration::from_secs(31)).build();
        assert_eq!(errors.unwrap_err().iter().count(), 3);
    }
}
