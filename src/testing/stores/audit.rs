//! What a store of events promises.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use tokio::task::JoinSet;

use super::{answered, unique};
use crate::{
    audit::{EventRecord, Kind},
    store::{AuditStore, EventQuery},
};

/// Panics unless `store` keeps the promises of [`AuditStore`]. Adds 11,000 events, of the last minute and of 1970.
pub async fn audit(store: Arc<dyn AuditStore>) {
    each_field_comes_back(&*store).await;
    each_is_there_once(&*store).await;
    pages_are_whole_and_in_order(&*store).await;
    what_is_old_is_cleared_away(&*store).await;
    many_are_kept_of_several_who_write(store).await;
}

/// The `n`th event of a run, `n` milliseconds after it began.
fn event(run: &str, n: u64, kind: Kind) -> EventRecord {
    let event = EventRecord::new(format!("{run}{n:016x}"), start() + Duration::from_millis(n), kind.name());
    EventRecord { subject: Some(format!("user:{run}")), ..event }
}

/// A minute before the first call, in whole seconds.
fn start() -> SystemTime {
    static START: OnceLock<u64> = OnceLock::new();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(*START.get_or_init(|| now.saturating_sub(60)))
}

fn of(run: &str) -> EventQuery {
    EventQuery::new().subject(format!("user:{run}")).most(1000)
}

async fn add(store: &dyn AuditStore, events: &[EventRecord]) {
    answered(store.add_events(events.to_vec(), None).await);
}

async fn listed(store: &dyn AuditStore, query: EventQuery) -> Vec<EventRecord> {
    answered(store.events(query).await)
}

async fn each_field_comes_back(store: &dyn AuditStore) {
    let run = unique();
    let odd = [
        "",
        " ",
        "'; DROP TABLE audit; --",
        "\"quoted\\\" {1,2} $1 ?1 %s NULL",
        "a\nb\r\tc",
        "e\u{301} \u{202e}\u{200b}\u{fffd}\u{feff}",
        "\u{1f512}\u{10ffff}",
    ];
    let mut events = Vec::new();
    for (n, text) in (0..).zip(odd.into_iter().map(str::to_owned).chain(["x".repeat(260), "é".repeat(130)])) {
        let text = Some(text);
        events.push(EventRecord {
            reason: text.clone(),
            detail: text.clone(),
            status: Some(if n % 2 == 0 { 100 } else { u16::MAX }),
            issuer: text.clone(),
            client_id: text.clone(),
            session: text.clone(),
            token_id: text.clone(),
            scope: text.clone(),
            what: text.clone(),
            which: text.clone(),
            count: Some(if n % 2 == 0 { 0 } else { i64::MAX as u64 }),
            request_id: text.clone(),
            method: text.clone(),
            path: text,
            client_ip: ["192.0.2.1", "2001:db8::1"].get(usize::from(n % 2 == 0)).and_then(|text| text.parse().ok()),
            kind: if n == 0 { "a_kind_to_come".to_owned() } else { Kind::LoginFailed.name().to_owned() },
            ..event(&run, n, Kind::LoginFailed)
        });
    }
    events.push(event(&run, 99, Kind::LoginFailed));
    add(store, &events).await;
    events.reverse();
    assert_eq!(listed(store, of(&run)).await, events, "each field comes back as it was");
    // An odd name of a subject finds that one alone.
    let subject = format!("%' OR true --\u{1f512} {run}");
    let own = EventRecord { subject: Some(subject.clone()), ..event(&run, 100, Kind::LoginFailed) };
    add(store, std::slice::from_ref(&own)).await;
    assert_eq!(listed(store, EventQuery::new().subject(subject)).await, [own]);
    assert_eq!(listed(store, of(&run)).await, events);
}

async fn each_is_there_once(store: &dyn AuditStore) {
    let run = unique();
    let [first, second, third] = [1, 2, 3].map(|n| event(&run, n, Kind::LoginFailed));
    add(store, &[]).await;
    add(store, &[first.clone(), second.clone(), first.clone()]).await;
    let other = EventRecord { reason: Some("another".to_owned()), ..second.clone() };
    add(store, &[other, third.clone(), second.clone()]).await;
    add(store, std::slice::from_ref(&third)).await;
    assert_eq!(listed(store, of(&run)).await, [third, second, first], "once, as it was at first");
}

async fn pages_are_whole_and_in_order(store: &dyn AuditStore) {
    let (run, kinds) = (unique(), [Kind::LoginFailed, Kind::LoginSucceeded, Kind::RefreshReused]);
    // Four in each millisecond, written in another order than that in which they happened.
    let at = |n: u64| EventRecord { time: start() + Duration::from_millis(n / 4), ..event(&run, n, Kind::LoginFailed) };
    let numbered = (0..60).zip(kinds.iter().cycle());
    let mut events: Vec<_> = numbered.map(|(n, kind)| EventRecord { kind: kind.name().to_owned(), ..at(n) }).collect();
    let (late, early) = events.split_at(30);
    add(store, early).await;
    add(store, late).await;
    events.reverse();
    for most in [1, 7, 59, 60, 61] {
        let (mut seen, mut query) = (Vec::new(), of(&run).most(most));
        loop {
            let page = listed(store, query.clone()).await;
            assert!(page.len() <= most, "no page is longer than was asked for");
            let Some(last) = page.last() else { break };
            query = query.after(last.id.as_str());
            seen.extend(page);
        }
        assert_eq!(seen, events, "page by page, {most} in each");
    }
    let with = |kinds: &[Kind]| {
        let named = |event: &&EventRecord| kinds.iter().any(|kind| kind.name() == event.kind);
        events.iter().filter(named).cloned().collect::<Vec<_>>()
    };
    for kinds in [&kinds[..1], &kinds[1..], &[Kind::LoginShed]] {
        let own = of(&run).kinds(kinds.iter().copied());
        assert_eq!(listed(store, own.clone()).await, with(kinds), "of {kinds:?}");
        let since = start() + Duration::from_millis(8);
        let expected: Vec<_> = with(kinds).into_iter().filter(|event| event.time >= since).collect();
        assert_eq!(listed(store, own.since(since)).await, expected, "of {kinds:?}, not before a moment");
    }
    // Without a subject others' events may be among them.
    for query in [EventQuery::new(), EventQuery::new().kinds(kinds), EventQuery::new().kinds([kinds[0]])] {
        let query = query.since(start() - Duration::from_secs(3600)).most(1000);
        let found = listed(store, query.clone()).await;
        let sorted = found.windows(2).all(|two| match two {
            [one, other] => (one.time, &one.id) > (other.time, &other.id),
            _ => true,
        });
        assert!(sorted && found.len() <= 1000, "the last first");
        assert!(
            query.kinds.is_empty()
                || found.iter().all(|event| query.kinds.iter().any(|kind| kind.name() == event.kind))
        );
        if let [first, .., last] = &found[..] {
            let rest = listed(store, query.clone().after(first.id.as_str())).await;
            assert!(rest.iter().take(found.len() - 1).eq(found.iter().skip(1)), "from the second on");
            assert!(listed(store, query.after(last.id.as_str())).await.iter().all(|event| !found.contains(event)));
        }
    }
    assert_eq!(listed(store, of(&run).after("no such id")).await, [], "nothing is further back than what is gone");
}

async fn what_is_old_is_cleared_away(store: &dyn AuditStore) {
    let (old, run) = (unique(), unique());
    // Older than whatever else is there, so that it is these that go.
    let long_ago = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n);
    let events: Vec<_> =
        (0..10).map(|n| EventRecord { time: long_ago(n), ..event(&old, n, Kind::LoginFailed) }).collect();
    add(store, &events).await;
    let forget = Some(long_ago(8));
    for n in 0..8 {
        answered(store.add_events(vec![event(&run, n, Kind::LoginFailed)], forget).await);
    }
    let left: Vec<_> = events.iter().skip(8).rev().cloned().collect();
    assert_eq!(listed(store, of(&old)).await, left, "the old are gone, and none of the others");
    assert_eq!(listed(store, of(&run)).await.len(), 8, "nor of those that were added meanwhile");
    for n in 8..10 {
        answered(store.add_events(vec![event(&run, n, Kind::LoginFailed)], Some(long_ago(20))).await);
    }
    assert_eq!(listed(store, of(&old)).await, []);
}

const WRITERS: u64 = 4;
const BATCHES: u64 = 10;
const BATCH: u64 = 250;

/// Two of them write the same, as one whose first try was given up does.
async fn many_are_kept_of_several_who_write(store: Arc<dyn AuditStore>) {
    let run = unique();
    let mut writers = JoinSet::new();
    for writer in (0..WRITERS).chain([0]) {
        let (store, run) = (Arc::clone(&store), run.clone());
        writers.spawn(async move {
            for batch in 0..BATCHES {
                let first = (writer * BATCHES + batch) * BATCH;
                let events: Vec<_> = (first..first + BATCH).map(|n| event(&run, n, Kind::LoginFailed)).collect();
                add(&*store, &events).await;
            }
        });
    }
    writers.join_all().await;
    let (mut seen, mut query) = (0, of(&run));
    loop {
        let page = listed(&*store, query.clone()).await;
        let Some(last) = page.last() else { break };
        query = query.after(last.id.as_str());
        for event in page {
            seen += 1;
            assert_eq!(event.id, format!("{run}{:016x}", WRITERS * BATCHES * BATCH - seen), "each once, in order");
        }
    }
    assert_eq!(seen, WRITERS * BATCHES * BATCH);
}
