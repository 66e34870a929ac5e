//! In every order of steps: of those who ask for a user at once one reads, and who was changed is never again what they were.
//!
//! The futures that are shared are the `futures` crate's, whose own atomics are not looked into. A stand-in takes the place of
//! `quick_cache`.
//! Not here: readings that take long, and clocks that differ (tests with a store that waits).

use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
};

use super::*;
use crate::{
    ident::LoginName,
    principal::Identity,
    store::{PasswordHash, StoreFuture, UserRecord},
    sync::in_every_order,
};

struct Seven;

impl Identity for Seven {
    fn issuer(&self) -> &'static str {
        "i"
    }

    fn subject(&self) -> &'static str {
        "user:7"
    }

    fn client_id(&self) -> Option<&str> {
        None
    }

    fn scope(&self) -> &'static str {
        ""
    }

    fn session_id(&self) -> Option<&str> {
        None
    }

    fn token_id(&self) -> Option<&str> {
        None
    }

    fn auth_time(&self) -> Option<UnixSeconds> {
        None
    }
}

/// One user, who can be disabled.
#[derive(Default)]
struct Store {
    disabled: AtomicBool,
    going: AtomicUsize,
}

impl UserStore for Store {
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        let find = async move {
            assert_eq!(self.going.fetch_add(1, SeqCst), 0, "one at a time");
            let disabled = self.disabled.load(SeqCst);
            self.going.fetch_sub(1, SeqCst);
            Ok(Some(UserRecord {
                id: id.clone(),
                login: LoginName::parse("seven").unwrap(),
                password: PasswordHash::from_phc("$none".to_owned()),
                scopes: crate::scope::ScopeSet::default(),
                disabled,
            }))
        };
        find.boxed()
    }

    fn find_by_login<'a>(&'a self, _: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        unreachable!()
    }

    fn insert(&self, _: UserRecord) -> StoreFuture<'_, ()> {
        unreachable!()
    }

    fn replace_hash<'a>(&'a self, _: &'a UserId, _: PasswordHash) -> StoreFuture<'a, bool> {
        unreachable!()
    }

    fn swap_hash<'a>(&'a self, _: &'a UserId, _: &'a PasswordHash, _: PasswordHash) -> StoreFuture<'a, bool> {
        unreachable!()
    }

    fn set_disabled<'a>(&'a self, _: &'a UserId, _: bool) -> StoreFuture<'a, bool> {
        unreachable!()
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> UnixSeconds {
        UnixSeconds::new(100)
    }
}

/// As the layer asks: for what is kept, or else for what is read.
fn ask(users: &CurrentUsers) -> Result<(), Rejection> {
    let caller = Principal::new(Arc::new(Seven));
    let found = users.recall(&caller).unwrap_or_else(|| block_on(users.clone().read(caller)));
    found.map(drop)
}

fn in_every_order_of(proof: impl Fn(Arc<Store>, CurrentUsers) + Send + Sync + 'static) {
    // For the time within which a store must answer. Nothing here takes any.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    in_every_order(2, move || {
        let store = Arc::new(Store::default());
        let users = CurrentUsers::new(Arc::clone(&store) as _, "i").clock(Arc::new(Fixed));
        proof(store, users);
    });
}

#[test]
fn of_two_who_ask_at_once_one_reads() {
    in_every_order_of(|_, users| {
        let other = thread::spawn({
            let users = users.clone();
            move || ask(&users)
        });
        assert_eq!((ask(&users), other.join().unwrap()), (Ok(()), Ok(())));
    });
}

#[test]
fn who_was_forgotten_is_never_again_what_they_were() {
    for asked_before in [false, true] {
        in_every_order_of(move |store, users| {
            if asked_before {
                ask(&users).unwrap();
            }
            let other = thread::spawn({
                let (store, users) = (Arc::clone(&store), users.clone());
                move || {
                    store.disabled.store(true, SeqCst);
                    users.forget(&UserId::parse("7").unwrap());
                    assert_eq!(ask(&users), Err(Rejection::UserInactive), "the call has returned");
                }
            });
            let seen = ask(&users);
            assert!(seen.is_ok() || seen == Err(Rejection::UserInactive), "{seen:?}");
            other.join().unwrap();
            assert_eq!(ask(&users), Err(Rejection::UserInactive), "they were read meanwhile");
        });
    }
}

/// Whoever began a reading hangs up: those who have joined it are told all the same.
#[test]
fn nobody_waits_for_ever_for_one_who_has_gone() {
    in_every_order_of(|_, users| {
        let (id, caller) = (UserId::parse("7").unwrap(), Principal::new(Arc::new(Seven)));
        let first = users.join(&id, &caller);
        let other = thread::spawn({
            let users = users.clone();
            move || ask(&users)
        });
        drop(first);
        assert_eq!((ask(&users), other.join().unwrap()), (Ok(()), Ok(())));
        assert!(users.users.reading.lock().unwrap().is_empty(), "what has ended is taken out");
    });
}
