//! What a store of users promises.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{answered, conflicts, unique};
use crate::{
    ident::{LoginName, UserId},
    scope::{Scope, ScopeSet},
    store::{PasswordHash, UserRecord, UserStore},
};

fn name(text: &str) -> LoginName {
    LoginName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn id(text: &str) -> UserId {
    UserId::parse(text).unwrap_or_else(|| panic!("{text} is no user id"))
}

fn user(own: &str, login: &str) -> UserRecord {
    UserRecord {
        id: id(own),
        login: name(login),
        password: PasswordHash::from_phc(format!("$hash${own}")),
        scopes: "me items:read".parse().unwrap_or_default(),
        disabled: false,
    }
}

/// Panics unless `store` keeps the promises of [`UserStore`].
pub async fn users(store: Arc<dyn UserStore>) {
    let run = unique();
    let (alice, bob) = (user(&format!("{run}.1"), &format!("Älice \u{1f512}{run}")), user(&format!("{run}-2"), &run));
    assert!(answered(store.find_by_login(&alice.login).await).is_none(), "nobody is there yet");
    assert!(answered(store.find_by_id(&alice.id).await).is_none(), "nobody is there yet");
    answered(store.insert(alice.clone()).await);
    answered(store.insert(bob.clone()).await);
    is_found(&*store, &alice).await;
    is_found(&*store, &bob).await;

    let (other, third) = (format!("other-{run}"), format!("{run}.3"));
    conflicts(store.insert(user(alice.id.as_str(), &other)).await, "an id that is taken");
    conflicts(store.insert(user(&third, alice.login.as_str())).await, "a login name that is taken");
    assert!(answered(store.find_by_login(&name(&other)).await).is_none(), "nothing is kept of what was refused");
    assert!(answered(store.find_by_id(&id(&third)).await).is_none(), "nothing is kept of what was refused");
    is_found(&*store, &alice).await;

    let rehashed = UserRecord { password: PasswordHash::from_phc("new"), ..alice };
    assert!(answered(store.replace_hash(&rehashed.id, rehashed.password.clone()).await), "there is such a user");
    is_found(&*store, &rehashed).await;
    let disabled = UserRecord { disabled: true, ..bob.clone() };
    for user in [&disabled, &disabled, &bob] {
        assert!(answered(store.set_disabled(&user.id, user.disabled).await), "there is such a user");
        is_found(&*store, user).await;
    }
    let nobody = id(&third);
    assert!(!answered(store.replace_hash(&nobody, PasswordHash::from_phc("new")).await), "no such user");
    assert!(!answered(store.set_disabled(&nobody, true).await), "no such user");
    assert!(answered(store.find_by_id(&nobody).await).is_none(), "a change adds nobody");

    // More scopes than a client could send; and none.
    let scope = |n: u32| Scope::parse(&format!("scope-{n}")).ok();
    for (own, scopes) in [(format!("{run}.4"), (0..1000).filter_map(scope).collect()), (third, ScopeSet::default())] {
        let user = UserRecord { scopes, ..user(&own, &own) };
        answered(store.insert(user.clone()).await);
        is_found(&*store, &user).await;
    }
    a_hash_is_upgraded_once_and_over_no_other(Arc::clone(&store), &run).await;
    of_many_with_one_name_one_is_added(store, &run).await;
}

/// Of many upgrades from one hash, one is made; a password that was changed meanwhile stays.
async fn a_hash_is_upgraded_once_and_over_no_other(store: Arc<dyn UserStore>, run: &str) {
    let own = format!("{run}.upgrade");
    let (user, old) = (user(&own, &own), PasswordHash::from_phc(format!("$hash${own}")));
    answered(store.insert(user.clone()).await);
    let hash = |text: &str| PasswordHash::from_phc(text);
    assert!(!answered(store.swap_hash(&id("nobody"), &old, hash("new")).await), "no such user");
    assert!(!answered(store.swap_hash(&user.id, &hash("another"), hash("new")).await), "not what is there");
    is_found(&*store, &user).await;

    let mut calls = JoinSet::new();
    for n in 0..16 {
        let (store, id, old) = (Arc::clone(&store), user.id.clone(), old.clone());
        let to = PasswordHash::from_phc(format!("upgraded {n}"));
        calls.spawn(async move { answered(store.swap_hash(&id, &old, to.clone()).await).then_some(to) });
    }
    let won: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    let [winner] = won.as_slice() else { panic!("{} of many upgrades were made", won.len()) };
    is_found(&*store, &UserRecord { password: winner.clone(), ..user.clone() }).await;

    let changed = hash("changed");
    assert!(answered(store.replace_hash(&user.id, changed.clone()).await), "there is such a user");
    assert!(!answered(store.swap_hash(&user.id, winner, hash("too late")).await), "it was changed meanwhile");
    is_found(&*store, &UserRecord { password: changed, ..user }).await;
}

async fn is_found(store: &dyn UserStore, user: &UserRecord) {
    for found in [store.find_by_login(&user.login).await, store.find_by_id(&user.id).await] {
        let found = answered(found).unwrap_or_else(|| panic!("{:?} is not found", user.login));
        assert_eq!((&found.id, &found.login, found.disabled), (&user.id, &user.login, user.disabled));
        assert!(found.password == user.password, "the password's hash is another one");
        assert_eq!(found.scopes.to_string(), user.scopes.to_string(), "the order stays as well");
    }
}

/// Those with names of their own all are.
async fn of_many_with_one_name_one_is_added(store: Arc<dyn UserStore>, run: &str) {
    let mut calls = JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        let (own, racer) = (format!("own-{n}-{run}"), format!("race-{n}-{run}"));
        let (own, racer) = (user(&own, &own), user(&racer, &format!("race-{run}")));
        calls.spawn(async move {
            answered(store.insert(own).await);
            let won = store.insert(racer.clone()).await;
            if won.is_err() {
                conflicts(won, "a login name that somebody else was faster to take");
                return None;
            }
            Some(racer)
        });
    }
    let won: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    let [winner] = won.as_slice() else { panic!("{} of many with one name were added", won.len()) };
    is_found(&*store, winner).await;
}
