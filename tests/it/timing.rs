//! Whether the time of a refusal tells anything. Not a gate, because it needs a machine that is left alone:
//! `cargo test --release --test it --features legacy-hashes -- --ignored timing --nocapture` takes two minutes.
//!
//! Each kind of login is timed hundreds of times, all in turns and each turn in another order. Two kinds count as
//! different if either test says so with a probability below `ALPHA`, shared among all comparisons of a table (Bonferroni).
//! The controls are what it looks like where a defence is missing: they have to be found different.

#![allow(clippy::cast_precision_loss, clippy::print_stdout, reason = "tables of times")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Request, header::CONTENT_TYPE};
use portcullis::{
    AuthorizationServer,
    client_ip::ClientIp,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::{Lockout, LoginLimiter, Quota, Who},
    password::{Argon2Params, Legacy, PasswordHasher},
    secret::Secret,
    store::{MemoryStore, PasswordHash, StoreFuture, UserRecord, UserStore},
};
use tokio::sync::Mutex;
use tower::ServiceExt as _;

use crate::{
    login::{PASSWORD, form},
    statistics::{mann_whitney, median, welch},
    support::{post_token, serve},
};

const ROUNDS: usize = 400;
const WARM_UP: usize = 20;
const ALPHA: f64 = 0.001;

const PBKDF2: &str = "pbkdf2_sha256$12000$seasalt$Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s=";
const BCRYPT: &str = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";

/// Name of the kind, user name, password.
const LOGINS: [(&str, &str, &str); 6] = [
    ("wrong password", "alice", "wrong"),
    ("no such user", "nobody", "wrong"),
    ("disabled, right password", "mallory", PASSWORD),
    ("locked, right password", "lucy", PASSWORD),
    ("hash by PBKDF2", "paul", "wrong"),
    ("hash by bcrypt", "bob", "wrong"),
];

/// They would be in each other's way.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Numbers that look random (splitmix64).
struct Mixed(u64);

impl Mixed {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 33) as usize % bound
    }
}

/// Times each of `kinds`, in milliseconds.
async fn times(kinds: usize, mut call: impl AsyncFnMut(usize)) -> Vec<Vec<f64>> {
    let (mut times, mut mixed) = (vec![Vec::with_capacity(ROUNDS); kinds], Mixed(7));
    let mut order: Vec<usize> = (0..kinds).collect();
    for round in 0..WARM_UP + ROUNDS {
        for last in (1..kinds).rev() {
            order.swap(last, mixed.below(last + 1));
        }
        for &kind in &order {
            let begin = Instant::now();
            call(kind).await;
            if round >= WARM_UP {
                times[kind].push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    times
}

/// Prints how each kind compares with the first, and says which differ.
fn compare(title: &str, names: &[&str], times: &[Vec<f64>]) -> Vec<bool> {
    let limit = ALPHA / (2 * (names.len() - 1)) as f64;
    println!("\n{title}: n = {ROUNDS} of each, different below p = {limit:.1e}");
    println!("{:28} {:>9} {:>9} {:>7} {:>9} {:>7} {:>9}", "", "median ms", "mean ms", "U as z", "p", "t", "p");
    let mut different = Vec::new();
    for (name, sample) in names.iter().zip(times) {
        let (u, t) = (mann_whitney(sample, &times[0]), welch(sample, &times[0]));
        let differs = u.probability < limit || t.probability < limit;
        let (median, mean) = (median(sample), sample.iter().sum::<f64>() / sample.len() as f64);
        println!(
            "{name:28} {median:9.3} {mean:9.3} {:7.2} {:9.2e} {:7.2} {:9.2e}{}",
            u.statistic,
            u.probability,
            t.statistic,
            t.probability,
            if differs { "  different" } else { "" }
        );
        different.push(differs);
    }
    different
}

fn pool() -> PasswordHasher {
    PasswordHasher::builder()
        .params(Argon2Params::new(7 * 1024, 5, 1).unwrap())
        .stored_legacy(Legacy::Pbkdf2Sha256 { iterations: 12_000 })
        .stored_legacy(Legacy::Bcrypt { cost: 6 })
        .concurrency(1)
        .build()
        .unwrap()
}

async fn users(hasher: &PasswordHasher) -> Arc<MemoryStore> {
    let users = Arc::new(MemoryStore::new());
    let own = hasher.hash(Secret::from(PASSWORD)).await.unwrap();
    let imported = |text: &str| PasswordHash::from_phc(text);
    for (name, password, disabled) in [
        ("alice", own.clone(), false),
        ("lucy", own.clone(), false),
        ("mallory", own, true),
        ("paul", imported(PBKDF2), false),
        ("bob", imported(BCRYPT), false),
    ] {
        let (id, login) = (UserId::parse(name).unwrap(), LoginName::parse(name).unwrap());
        let user = UserRecord { id, login, password, scopes: "me".parse().unwrap(), disabled };
        users.insert(user).await.unwrap();
    }
    users
}

/// With limits that are silent about the one account that is locked.
async fn server(users: Arc<dyn UserStore>, hasher: PasswordHasher) -> AuthorizationServer {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let limits = LoginLimiter::builder().per_address(Quota::per_minute(1_000_000)).silent();
    let limits = limits.per_account(Lockout::default().free(100)).build().unwrap();
    let who = Who { address: Some(ADDRESS.into()), account: Some("lucy"), ..Who::default() };
    while limits.begin(who).await.is_ok() {}
    let server = AuthorizationServer::builder("https://id.example", "orders", key).first_party_login(users, hasher);
    server.login_limits(limits).build().unwrap()
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Keeps all other accounts from being locked.
async fn forgive(server: &AuthorizationServer, user: &str) {
    let name = if user == "lucy" { "nobody at all" } else { user };
    server.unlock(&LoginName::parse(name).unwrap()).await.unwrap();
}

/// Asks the endpoint itself, without a network.
async fn ask(server: &AuthorizationServer, user: &str, password: &str) {
    forgive(server, user).await;
    let request = Request::builder()
        .extension(ClientIp(ADDRESS))
        .method(Method::POST)
        .uri("/token")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form(user, password, ""))
        .unwrap();
    assert_eq!(server.token_endpoint().oneshot(request).await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, on a machine that is left alone"]
async fn timing_of_a_refusal_tells_nothing() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let pool = pool();
    let users = users(&pool).await;
    let names = LOGINS.map(|(name, _, _)| name);
    let mut different = Vec::new();

    let server = server(users, pool).await;
    let measured = times(LOGINS.len(), async |kind| ask(&server, LOGINS[kind].1, LOGINS[kind].2).await).await;
    different.extend(compare("POST /token, the service itself", &names, &measured));

    let socket = serve(server.routes()).await;
    let post = async |kind: usize| {
        let (_, user, password) = LOGINS[kind];
        forgive(&server, user).await;
        assert_eq!(post_token(socket.address, &form(user, password, "")).await.status, 400);
    };
    let measured = times(LOGINS.len(), post).await;
    different.extend(compare("POST /token, over loopback", &names, &measured));
    assert!(different.iter().all(|different| !different), "see the tables");
}

/// Takes a seventh of a login longer to find those that it has.
struct Telling(Arc<MemoryStore>);

impl UserStore for Telling {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        Box::pin(async move {
            let found = self.0.find_by_login(login).await?;
            let until = Instant::now() + Duration::from_millis(if found.is_some() { 2 } else { 0 });
            while Instant::now() < until {
                black_box(());
            }
            Ok(found)
        })
    }
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        self.0.find_by_id(id)
    }
    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        self.0.insert(user)
    }
    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        self.0.replace_hash(id, hash)
    }
    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        self.0.swap_hash(id, from, to)
    }
    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        self.0.set_disabled(id, disabled)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, on a machine that is left alone"]
async fn timing_without_a_defence_is_found_out() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let pool = pool();
    let users = users(&pool).await;

    let telling = server(Arc::new(Telling(Arc::clone(&users))), pool.clone()).await;
    let measured = times(2, async |kind| ask(&telling, LOGINS[kind].1, LOGINS[kind].2).await).await;
    let names = ["wrong password, 2 ms more", "no such user"];
    assert_eq!(compare("Control: a store that tells", &names, &measured), [false, true]);

    let good = server(Arc::clone(&users) as _, pool.clone()).await;
    let without_dummy = async |kind: usize| {
        let (_, user, password) = LOGINS[kind];
        // As a server does that hashes only where there is a hash to compare with.
        if users.find_by_login(&LoginName::parse(user).unwrap()).await.unwrap().is_some() {
            ask(&good, user, password).await;
        }
    };
    let measured = times(2, without_dummy).await;
    let names = ["wrong password", "no such user"];
    assert_eq!(compare("Control: no hash for unknown users", &names, &measured), [false, true]);

    let mut hashes = Vec::new();
    for user in ["alice", "paul", "bob"] {
        let user = users.find_by_login(&LoginName::parse(user).unwrap()).await.unwrap().unwrap();
        hashes.push(user.password);
    }
    // `verify` does not make up for what a cheaper hash leaves.
    let bare = async |kind: usize| assert!(!pool.verify("wrong".into(), hashes[kind].clone()).await.unwrap());
    let measured = times(3, bare).await;
    let names = ["own hash", "hash by PBKDF2", "hash by bcrypt"];
    assert_eq!(compare("Control: hashes at their own cost", &names, &measured), [false, true, true]);
}
