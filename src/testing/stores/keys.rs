//! What a store of signing keys promises.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Start, answered, conflicts, unique};
use crate::store::{KeyRecord, KeyStore, SealedKey};

fn key(kid: &str, predecessor: &str) -> KeyRecord {
    let start = Start::now();
    KeyRecord {
        kid: kid.to_owned(),
        algorithm: "EdDSA".to_owned(),
        sealed: SealedKey::from_bytes((0..=255).cycle().take(3000).collect()),
        predecessor: predecessor.to_owned(),
        published_at: start.at(1),
        active_at: start.at(2),
    }
}

/// Panics unless `store` keeps the promises of [`KeyStore`]. Takes away again what it adds.
pub async fn keys(store: Arc<dyn KeyStore>) {
    let run = unique();
    let [root, first, second, third] = ["root", "first", "second", "third"].map(|name| format!("{name}-{run}"));
    let one = key(&first, &root);
    assert!(!has(&*store, &one).await, "it is not there yet");
    answered(store.add_key(one.clone()).await);
    assert!(has(&*store, &one).await, "what was added is listed, unchanged");
    conflicts(store.add_key(key(&first, &third)).await, "an id that is taken");
    conflicts(store.add_key(key(&second, &root)).await, "a predecessor that has a successor");
    conflicts(store.add_key(one.clone()).await, "the same again");
    assert_eq!(own(&*store, &run).await.as_slice(), std::slice::from_ref(&one), "nothing is kept of what was refused");
    answered(store.add_key(key(&second, &first)).await);

    let mut calls = JoinSet::new();
    for n in 0..64 {
        let (store, key) = (Arc::clone(&store), key(&format!("race-{n}-{run}"), &second));
        calls.spawn(async move {
            let added = store.add_key(key.clone()).await;
            if added.is_err() {
                conflicts(added, "somebody else was faster");
                return None;
            }
            Some(key)
        });
    }
    let won: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    let [winner] = won.as_slice() else { panic!("{} keys follow the same one", won.len()) };
    assert!(has(&*store, winner).await);
    assert_eq!(own(&*store, &run).await.len(), 3, "and the others are nowhere");

    assert!(answered(store.remove_key(&first).await), "there was one with this id");
    assert!(!answered(store.remove_key(&first).await), "now there is none");
    assert!(!has(&*store, &one).await);
    answered(store.add_key(one).await);
    for key in own(&*store, &run).await {
        assert!(answered(store.remove_key(&key.kid).await), "there was one with this id");
    }
    assert!(own(&*store, &run).await.is_empty(), "all are removed");
}

async fn has(store: &dyn KeyStore, key: &KeyRecord) -> bool {
    answered(store.keys().await).contains(key)
}

/// The keys of this run.
async fn own(store: &dyn KeyStore, run: &str) -> Vec<KeyRecord> {
    let mut keys = answered(store.keys().await);
    keys.retain(|key| key.kid.ends_with(run));
    keys
}
