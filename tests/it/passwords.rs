//! Hashes that are replaced when their users sign in, and what hashing takes when more is asked of it than it can do.

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis::{
    ident::{LoginName, UserId},
    password::{Argon2Params, PasswordHasher},
    secret::Secret,
    store::{MemoryStore, PasswordHash, StoreError, StoreFuture, UserRecord, UserStore},
};

use crate::{
    login::{PASSWORD, form, refused, start},
    support::{Log, post_token},
};

/// Django's own example, of `lètmein`.
#[cfg(feature = "legacy-hashes")]
const DJANGO: &str = "pbkdf2_sha256$12000$seasalt$Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s=";

fn alice() -> UserId {
    UserId::parse("id-alice").unwrap()
}

async fn with_alice(password: PasswordHash) -> Arc<MemoryStore> {
    let users = Arc::new(MemoryStore::new());
    let (login, scopes) = (LoginName::parse("alice").unwrap(), "me".parse().unwrap());
    users.insert(UserRecord { id: alice(), login, password, scopes, disabled: false }).await.unwrap();
    users
}

async fn stored(users: &dyn UserStore) -> PasswordHash {
    users.find_by_id(&alice()).await.unwrap().unwrap().password
}

/// A hash of `PASSWORD` with the cheapest parameters that there may be.
async fn old_hash() -> PasswordHash {
    let params = Argon2Params::new(7 * 1024, 5, 1).unwrap();
    let hasher = PasswordHasher::builder().params(params).concurrency(1).build().unwrap();
    hasher.hash(Secret::from(PASSWORD)).await.unwrap()
}

fn hasher() -> PasswordHasher {
    PasswordHasher::builder().concurrency(2).wait(Duration::from_secs(30)).build().unwrap()
}

/// Waits for something that nobody waits for.
async fn eventually<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    for _ in 0..2000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// What a store does when a hash is upgraded, or a user is looked at once more.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    /// It does not answer, and says so.
    Down,
    /// It does not answer, and does not say so.
    Hangs,
    /// Somebody changes the password just before.
    Changed,
    /// Another login of the same user was faster.
    Upgraded,
}

/// A store, a mood, a hash that somebody else brings, and the number of upgrades that were asked for.
struct Moody(Arc<MemoryStore>, Mood, PasswordHash, AtomicUsize);

impl UserStore for Moody {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        self.0.find_by_login(login)
    }
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        Box::pin(async move {
            if self.1 == Mood::Upgraded {
                self.0.replace_hash(id, self.2.clone()).await?;
            }
            self.0.find_by_id(id).await
        })
    }
    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        self.0.insert(user)
    }
    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        self.0.replace_hash(id, hash)
    }
    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        self.3.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match self.1 {
                Mood::Down => return Err(StoreError::unavailable("pulled the plug")),
                Mood::Hangs => std::future::pending().await,
                Mood::Changed => assert!(self.0.replace_hash(id, self.2.clone()).await?),
                Mood::Well | Mood::Upgraded => {}
            }
            self.0.swap_hash(id, from, to).await
        })
    }
    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        self.0.set_disabled(id, disabled)
    }
}

#[tokio::test]
async fn req_168_a_login_replaces_an_old_hash_and_whatever_comes_of_that_it_succeeds() {
    let (old, hasher) = (old_hash().await, hasher());
    let other = hasher.hash(Secret::from("another password")).await.unwrap();
    for mood in [Mood::Well, Mood::Down, Mood::Hangs, Mood::Changed] {
        let log = Log::default();
        let _guard = log.capture();
        let users = with_alice(old.clone()).await;
        let moody = Arc::new(Moody(Arc::clone(&users), mood, other.clone(), AtomicUsize::new(0)));
        let server = start(Arc::clone(&moody) as _, hasher.clone()).await;
        refused(&post_token(server.address, &form("alice", "wrong", "")).await, 400, "invalid_grant");
        assert_eq!(post_token(server.address, &form("alice", PASSWORD, "")).await.status, 200, "{mood:?}");
        eventually("an upgrade is tried", async || moody.3.load(Ordering::SeqCst) == 1).await;
        match mood {
            Mood::Well => {
                eventually("it is made", async || stored(&*users).await != old).await;
                let new = stored(&*users).await;
                assert!(new.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", new.expose());
                assert_eq!(post_token(server.address, &form("alice", PASSWORD, "")).await.status, 200);
                refused(&post_token(server.address, &form("alice", "wrong", "")).await, 400, "invalid_grant");
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert!(stored(&*users).await == new, "once and not again");
                assert!(log.text().contains("kind=\"hash_upgraded\""), "{}", log.text());
            }
            Mood::Down | Mood::Hangs => {
                // In its own time the next login tries again.
                let reason = "password hash not upgraded";
                eventually("it is told", async || log.text().contains(reason)).await;
                assert!(stored(&*users).await == old);
                assert_eq!(post_token(server.address, &form("alice", PASSWORD, "")).await.status, 200, "{mood:?}");
                eventually("it is tried again", async || moody.3.load(Ordering::SeqCst) == 2).await;
            }
            Mood::Changed | Mood::Upgraded => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert!(stored(&*users).await == other, "the password that was changed stays");
                refused(&post_token(server.address, &form("alice", PASSWORD, "")).await, 400, "invalid_grant");
            }
        }
        assert!(!log.text().contains(PASSWORD) && !log.text().contains("$argon2id$"), "{}", log.text());
    }
}

#[tokio::test]
async fn req_168_a_login_that_meets_the_upgrade_of_another_succeeds() {
    let (old, hasher) = (old_hash().await, hasher());
    for (password, status) in [(PASSWORD, 200), ("another password", 400)] {
        let new = hasher.hash(Secret::from(password)).await.unwrap();
        let users = with_alice(old.clone()).await;
        let moody = Arc::new(Moody(users, Mood::Upgraded, new, AtomicUsize::new(0)));
        let server = start(Arc::clone(&moody) as _, hasher.clone()).await;
        let reply = post_token(server.address, &form("alice", PASSWORD, "")).await;
        assert_eq!(reply.status, status, "{password}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(moody.3.load(Ordering::SeqCst), 0, "there is nothing left to upgrade");
    }
}

#[tokio::test]
async fn req_166_req_168_a_pepper_goes_into_the_hash_when_its_owner_signs_in() {
    let secret = || Secret::from("0123456789abcdefghijklmnopqrstuv");
    let builder = || PasswordHasher::builder().concurrency(1);
    let users = with_alice(hasher().hash(Secret::from(PASSWORD)).await.unwrap()).await;
    for (hasher, id) in [
        (builder().pepper("1", secret()).build().unwrap(), ",keyid=MQ$"),
        (builder().pepper("2", secret()).old_pepper("1", secret()).build().unwrap(), ",keyid=Mg$"),
    ] {
        let server = start(Arc::clone(&users) as _, hasher).await;
        assert_eq!(post_token(server.address, &form("alice", PASSWORD, "")).await.status, 200, "{id}");
        eventually(id, async || stored(&*users).await.expose().contains(id)).await;
        assert_eq!(post_token(server.address, &form("alice", PASSWORD, "")).await.status, 200, "{id}");
    }
    let log = Log::default();
    let _guard = log.capture();
    let server = start(Arc::clone(&users) as _, builder().pepper("3", secret()).build().unwrap()).await;
    refused(&post_token(server.address, &form("alice", PASSWORD, "")).await, 400, "invalid_grant");
    assert!(log.text().contains("stored password hash cannot be read"), "{}", log.text());
    assert!(!log.text().contains("0123456789ab"), "{}", log.text());
}

#[cfg(feature = "legacy-hashes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_168_of_many_logins_of_one_imported_user_all_succeed() {
    let builder = || PasswordHasher::builder().concurrency(2).wait(Duration::from_secs(30));
    let hasher = builder().stored_legacy(portcullis::password::Legacy::Pbkdf2Sha256 { iterations: 12_000 });
    let hasher = hasher.build().unwrap();
    for _ in 0..3 {
        let users = with_alice(PasswordHash::from_phc(DJANGO)).await;
        let server = start(Arc::clone(&users) as _, hasher.clone()).await;
        let address = server.address;
        let login = move || async move { post_token(address, &form("alice", "le\u{300}tmein", "")).await.status };
        let calls: Vec<_> = (0..16).map(|_| tokio::spawn(login())).collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), 200);
        }
        eventually("it is upgraded", async || stored(&*users).await.expose().starts_with("$argon2id$")).await;
        assert_eq!(login().await, 200, "and good");
        refused(&post_token(address, &form("alice", "letmein", "")).await, 400, "invalid_grant");
    }
}

#[cfg(feature = "legacy-hashes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_163_what_bcrypt_has_not_read_becomes_no_part_of_the_password() {
    // By Python's `bcrypt`, of 72 times `a`: whatever follows them fits as well.
    let bcrypt = "$2b$04$abcdefghijklmnopqrstuuBzzIgyKkz7xMWYSzkIjUSnxEQFQ0WNe";
    let users = with_alice(PasswordHash::from_phc(bcrypt)).await;
    let server = start(Arc::clone(&users) as _, hasher()).await;
    let login =
        async |tail: &str| post_token(server.address, &form("alice", &("a".repeat(72) + tail), "")).await.status;
    assert_eq!([login(" the rest").await, login(" a typing error").await], [200, 200]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stored(&*users).await.expose(), bcrypt, "nobody knows which was right");
    assert_eq!(login("").await, 200);
    eventually("all of it was read", async || stored(&*users).await.expose().starts_with("$argon2id$")).await;
    assert_eq!(login(" the rest").await, 400);
}

/// Kilobytes, as the kernel counts them for this process.
#[cfg(target_os = "linux")]
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// In a process of its own: others' memory would count.
#[cfg(target_os = "linux")]
#[test]
fn memory_stays_what_was_declared_whatever_is_asked_and_given_up() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "passwords::a_hundred_times_more_than_there_is_room_for", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&child.stderr));
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "the test above runs it in a process of its own"]
async fn a_hundred_times_more_than_there_is_room_for() {
    const PERMITS: usize = 2;
    const QUEUE: usize = 64;
    let base = status("VmRSS:");
    let hasher = PasswordHasher::builder().concurrency(PERMITS).queue(QUEUE).build().unwrap();
    assert_eq!(hasher.memory(), PERMITS * 19 * 1024 * 1024);
    let built = status("VmRSS:");
    assert!(built >= base + hasher.memory() / 1024, "{base} {built}: it is there before it is needed");
    let hash = hasher.hash(Secret::from(PASSWORD)).await.unwrap();
    let ends = Arc::new(Mutex::new([0_usize; 3]));
    for round in 0..100 {
        let calls: Vec<_> = (0..(PERMITS + QUEUE))
            .map(|n| {
                let (hasher, hash, ends) = (hasher.clone(), hash.clone(), Arc::clone(&ends));
                tokio::spawn(async move {
                    let verify = hasher.verify(Secret::from("wrong"), hash);
                    // All kinds of callers: most go away while they wait, some while they are served.
                    let patience = Duration::from_millis((n * 7 + round) as u64 % 40);
                    let end = match tokio::time::timeout(patience, verify).await {
                        Ok(Ok(fits)) => usize::from(fits),
                        Ok(Err(_)) => 1,
                        Err(_) => 2,
                    };
                    ends.lock().unwrap()[end] += 1;
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    }
    let [_, _, gone] = *ends.lock().unwrap();
    assert!(gone > 3000, "{gone} have gone away");
    let (peak, most) = (status("VmHWM:"), base + hasher.memory() / 1024 + 64 * 1024);
    assert!(peak <= most, "{peak} kB at the peak, {most} allowed");
    assert_eq!(hasher.verify(Secret::from(PASSWORD), hash).await, Ok(true), "and all is well again");
}
