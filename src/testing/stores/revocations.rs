//! What a store of revocations promises.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Start, answered, session_id, unique};
use crate::{
    clock::UnixSeconds,
    store::{Cursor, Revocation, RevocationStore, Revoked},
};

/// Panics unless `store` keeps the promises of [`RevocationStore`].
pub async fn revocations(store: Arc<dyn RevocationStore>) {
    each_kind_is_kept_until_it_runs_out(&*store).await;
    nothing_is_lost_to_those_who_read_on(store).await;
}

async fn each_kind_is_kept_until_it_runs_out(store: &dyn RevocationStore) {
    let (run, start) = (unique(), Start::now());
    let until = |seconds| move |tokens| Revocation { tokens, until: start.at(seconds) };
    let all: Vec<Revocation> = [
        Revoked::Token(format!("token é \u{1f512} {run}")),
        Revoked::Session(session_id()),
        Revoked::Subject(format!("user:{run}"), start.at(5)),
        Revoked::Subject(format!("user:{run}-2"), start.at(6)),
        // Not to be mistaken for one of another kind with the same name.
        Revoked::Token(format!("user:{run}")),
    ]
    .map(until(20))
    .to_vec();
    let short = until(10)(Revoked::Token(format!("short-{run}")));
    let before = answered(store.revocations(Cursor::START, start.at(0)).await);
    assert!(!all.iter().any(|own| before.list.contains(own)), "nothing is called back yet");
    answered(store.revoke_tokens(Vec::new(), start.at(0)).await);
    answered(store.revoke_tokens([all.clone(), vec![short.clone()]].concat(), start.at(0)).await);
    for cursor in [Cursor::START, before.cursor] {
        let list = answered(store.revocations(cursor, start.at(9)).await).list;
        for own in all.iter().chain([&short]) {
            assert!(list.contains(own), "{own:?} is missing from {cursor:?} on");
        }
        let list = answered(store.revocations(cursor, start.at(10)).await).list;
        assert!(!list.contains(&short), "what has run out is not listed");
        assert!(all.iter().all(|own| list.contains(own)), "the rest is");
        assert!(!answered(store.revocations(cursor, start.at(20)).await).list.iter().any(|own| all.contains(own)));
    }
    // To note again is no error, and it stays noted, for as long as the longest says.
    let cursor = answered(store.revocations(before.cursor, start.at(0)).await).cursor;
    let longer: Vec<_> = all.iter().cloned().map(|own| Revocation { until: start.at(30), ..own }).collect();
    for again in [&all, &longer, &all] {
        answered(store.revoke_tokens(again.clone(), start.at(1)).await);
    }
    for cursor in [Cursor::START, cursor] {
        let list = answered(store.revocations(cursor, start.at(25)).await).list;
        assert!(longer.iter().all(|own| list.contains(own)), "noted again for longer, it stays for longer");
    }
    // Of a subject the latest moment counts, in whatever order they came.
    let name = format!("user:{run}-3");
    for issued in [5, 7, 6] {
        let tokens = Revoked::Subject(name.clone(), start.at(issued));
        answered(store.revoke_tokens(vec![Revocation { tokens, until: start.at(30) }], start.at(1)).await);
    }
    let list = answered(store.revocations(Cursor::START, start.at(1)).await).list;
    let latest = list.iter().filter_map(|own| match &own.tokens {
        Revoked::Subject(subject, issued) if *subject == name => Some(*issued),
        _ => None,
    });
    assert_eq!(latest.max(), Some(start.at(7)), "of a subject the latest moment counts");
    let cursor = answered(store.revocations(cursor, start.at(1)).await).cursor;
    let next = answered(store.revocations(cursor, start.at(1)).await);
    assert!(next.cursor.0 >= cursor.0, "a cursor does not go back by itself");
}

const WRITERS: usize = 16;
const EACH: usize = 24;

/// Some write, each looks whether its own is there from then on; others read on from cursor to cursor meanwhile.
async fn nothing_is_lost_to_those_who_read_on(store: Arc<dyn RevocationStore>) {
    let (run, now) = (unique(), Start::now().at(0));
    let start = answered(store.revocations(Cursor::START, now).await).cursor;
    let (writing, mut readers, mut writers) = (Arc::new(AtomicUsize::new(WRITERS)), JoinSet::new(), JoinSet::new());
    for _ in 0..2 {
        readers.spawn(read_on(Arc::clone(&store), start, now, Arc::clone(&writing)));
    }
    for writer in 0..WRITERS {
        let (store, run, writing) = (Arc::clone(&store), run.clone(), Arc::clone(&writing));
        writers.spawn(async move {
            write(&*store, &format!("{run}-{writer}"), start, now).await;
            writing.fetch_sub(1, Ordering::SeqCst);
        });
    }
    writers.join_all().await;
    for seen in readers.join_all().await {
        for writer in 0..WRITERS {
            let missing = (0..EACH).find(|n| !seen.contains(&Revoked::Token(format!("{run}-{writer}-{n}"))));
            assert_eq!(missing, None, "writer {writer}: lost to those who read on");
        }
    }
}

async fn write(store: &dyn RevocationStore, name: &str, mut cursor: Cursor, now: UnixSeconds) {
    for n in 0..EACH {
        let own = Revocation {
            tokens: Revoked::Token(format!("{name}-{n}")),
            until: now.saturating_add(Duration::from_secs(600)),
        };
        answered(store.revoke_tokens(vec![own.clone()], now).await);
        let new = answered(store.revocations(cursor, now).await);
        assert!(new.list.contains(&own), "it is in every list from then on");
        cursor = new.cursor;
    }
}

/// What is seen from one cursor to the next until all writers are done, and once more.
async fn read_on(
    store: Arc<dyn RevocationStore>,
    mut cursor: Cursor,
    now: UnixSeconds,
    writing: Arc<AtomicUsize>,
) -> HashSet<Revoked> {
    let mut seen = HashSet::new();
    loop {
        let last = writing.load(Ordering::SeqCst) == 0;
        let new = answered(store.revocations(cursor, now).await);
        cursor = new.cursor;
        seen.extend(new.list.into_iter().map(|revocation| revocation.tokens));
        if last {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}
