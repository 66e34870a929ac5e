//! What every store promises, as tests that any store can be run against. They panic at the first promise that is broken.
//!
//! They need a tokio runtime with its clock, better one with several threads. They name what they add at random, so they may
//! run again and again on a store that has other content, and leave some content behind. Their `now` runs up to an hour ahead,
//! so what ends within the hour may be cleared away: give them a database of their own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::sync::Arc;
//!
//! use portcullis::{store::{MemoryAttempts, MemoryStore}, testing::stores};
//!
//! let store = Arc::new(MemoryStore::new());
//! stores::users(store.clone()).await;
//! stores::sessions(store.clone()).await;
//! stores::revocations(store.clone()).await;
//! stores::keys(store.clone()).await;
//! stores::audit(store.clone()).await;
//! stores::race(store, 10, 64).await;
//! stores::attempts(Arc::new(MemoryAttempts::new())).await;
//! # }
//! ```

#![expect(clippy::panic, reason = "a promise that is broken ends the test")]

mod attempts;
mod audit;
mod keys;
mod model;
mod race;
mod revocations;
mod sessions;
mod users;

use std::time::Duration;

pub use self::{
    attempts::attempts, audit::audit, keys::keys, race::race, revocations::revocations, sessions::sessions,
    users::users,
};
use crate::{
    clock::{Clock, SystemClock, UnixSeconds},
    ident::SessionId,
    random,
    session::{SealedToken, SessionRecord, TokenDigest},
    store::{CalledBack, NewSession, Rotation, StoreError},
};

/// What a store answered.
#[track_caller]
fn answered<T>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| panic!("the store does not answer: {error}"))
}

#[track_caller]
fn conflicts<T>(answer: Result<T, StoreError>, what: &str) {
    match answer {
        Err(StoreError::Conflict) => {}
        Err(error) => panic!("{what} is a conflict, but the store said: {error}"),
        Ok(_) => panic!("{what} is a conflict, but the store did it"),
    }
}

/// Eight random bytes in hex: no other run has them.
fn unique() -> String {
    format!("{:016x}", number())
}

fn number() -> u64 {
    random::bytes().map_or_else(|_| panic!("no random bytes"), u64::from_le_bytes)
}

fn session_id() -> SessionId {
    SessionId::random().unwrap_or_else(|_| panic!("no random bytes"))
}

/// The moment `seconds` after a test began.
#[derive(Clone, Copy)]
struct Start(UnixSeconds);

impl Start {
    fn now() -> Self {
        Self(SystemClock.now())
    }

    fn at(self, seconds: u64) -> UnixSeconds {
        self.0.saturating_add(Duration::from_secs(seconds))
    }
}

/// The `n`th token of a session, whichever session it is.
fn digest(n: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(n.to_le_bytes()) {
        *byte = value;
    }
    TokenDigest::from_bytes(bytes)
}

/// What seals the `n`th token, as far as a store can tell.
fn sealed(n: u64) -> SealedToken {
    SealedToken::from_bytes([[0, 255, 10, 92].as_slice(), &n.to_le_bytes(), &[7; 36]].concat())
}

/// A session that ends 1,000 seconds after the start unless it is used; its first token is number 0.
fn session(subject: &str, start: Start) -> NewSession {
    let session = SessionRecord {
        id: session_id(),
        subject: subject.to_owned(),
        client_id: "app".to_owned(),
        scope: "me items:read".parse().unwrap_or_default(),
        audience: vec!["orders".to_owned(), "https://tool.example/é?a=b,c".to_owned(), "{x}".to_owned()],
        label: "Firefox \"on\" Linux, 'é' \u{1f512} \\ {}%".to_owned(),
        network: "192.0.2.0/24".to_owned(),
        auth_time: start.at(0),
        last_used: start.at(0),
        expires_at: start.at(3000),
    };
    NewSession { session, digest: digest(0), ends_at: start.at(1000) }
}

/// Turns token `n` into `n + 1` at `now`; the session then ends 1,000 seconds later.
fn turn(id: SessionId, n: u64, grace: u64, now: UnixSeconds) -> Rotation {
    Rotation {
        id,
        presented: digest(n),
        successor: digest(n + 1),
        sealed: sealed(n + 1),
        grace: Duration::from_secs(grace),
        ends_at: now.saturating_add(Duration::from_secs(1000)),
        called_back_until: called_back(now).until,
        now,
    }
}

/// An hour.
fn called_back(now: UnixSeconds) -> CalledBack {
    CalledBack { until: now.saturating_add(Duration::from_secs(3600)), now }
}
