//! What a store of sessions promises.

use std::{collections::HashSet, sync::Arc};

use tokio::task::JoinSet;

use super::{Start, answered, called_back, conflicts, digest, model, sealed, session, session_id, turn, unique};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    scope::ScopeSet,
    session::{SessionRecord, Standing},
    store::{Cursor, MOST_LISTED, NewSession, Revoked, Rotated, SessionStore},
};

/// Panics unless `store` keeps the promises of [`SessionStore`] to one caller at a time; [`race`](super::race) looks at many.
pub async fn sessions(store: Arc<dyn SessionStore>) {
    let (store, start) = (&store, Start::now());
    records_are_kept_as_they_are(&**store, start).await;
    sessions_end_when_they_say(&**store, start).await;
    tokens_are_turned(&**store, start).await;
    no_grace_is_none_for_a_clock_that_is_behind(&**store, start).await;
    sessions_are_listed_and_ended(&**store, start).await;
    long_lists_are_cut(store, start).await;
    for _ in 0..8 {
        model::agrees(&**store, start).await;
    }
}

async fn records_are_kept_as_they_are(store: &dyn SessionStore, start: Start) {
    let plain = session(&format!("user:{}", unique()), start);
    let records = [
        plain.session.clone(),
        SessionRecord { id: session_id(), label: "é\u{1f512}".repeat(100), ..plain.session.clone() },
        SessionRecord {
            id: session_id(),
            client_id: "https://app.example/é".to_owned(),
            scope: ScopeSet::default(),
            audience: vec!["one".to_owned()],
            label: String::new(),
            network: String::new(),
            ..plain.session.clone()
        },
        SessionRecord {
            id: session_id(),
            label: "\t\"'; DROP TABLE sessions --\r\n%_*?[]{}".to_owned(),
            network: "2001:db8:1::/48".to_owned(),
            auth_time: start.at(1),
            last_used: start.at(2),
            expires_at: start.at(2900),
            ..plain.session.clone()
        },
    ];
    for record in records {
        let new = NewSession { session: record.clone(), ..plain.clone() };
        assert_eq!(answered(store.find(record.id, start.at(2)).await), None, "it is not there yet");
        assert_eq!(answered(store.look(record.id, digest(0), start.at(2)).await), None, "it is not there yet");
        answered(store.create(new.clone()).await);
        assert_eq!(answered(store.find(record.id, start.at(2)).await).as_ref(), Some(&record));
        let looked = answered(store.look(record.id, digest(0), start.at(2)).await);
        assert_eq!(looked, Some((record.clone(), Standing::Current)));
        let listed = answered(store.sessions(&record.subject, start.at(2)).await);
        assert!(listed.contains(&record), "what is listed is the same");
        let other = session("user:other", start).session;
        let taken = NewSession { session: SessionRecord { id: record.id, ..other }, digest: digest(1), ..new };
        conflicts(store.create(taken).await, "an id that is taken");
        let looked = answered(store.look(record.id, digest(0), start.at(2)).await);
        assert_eq!(looked, Some((record, Standing::Current)), "what was refused leaves no trace");
    }
}

async fn sessions_end_when_they_say(store: &dyn SessionStore, start: Start) {
    let new = session(&format!("user:{}", unique()), start);
    let (id, record) = (new.session.id, new.session.clone());
    answered(store.create(new).await);
    assert_eq!(answered(store.find(id, start.at(999)).await), Some(record.clone()));
    assert_eq!(answered(store.rotate(turn(id, 0, 10, start.at(999))).await), Rotated::Turned, "used in time");
    let used = SessionRecord { last_used: start.at(999), ..record };
    assert_eq!(answered(store.find(id, start.at(1998)).await), Some(used.clone()), "longer, for having been used");
    assert_eq!(answered(store.sessions(&used.subject, start.at(1998)).await), std::slice::from_ref(&used));
    // Ended as of a later moment, it is still there as of an earlier one: only `now` decides.
    assert_eq!(answered(store.find(id, start.at(1999)).await), None);
    assert_eq!(answered(store.look(id, digest(1), start.at(1999)).await), None);
    assert!(answered(store.sessions(&used.subject, start.at(1999)).await).is_empty());
    for token in [0, 1, 9] {
        let told = answered(store.rotate(turn(id, token, 10, start.at(1999))).await);
        assert_eq!(told, Rotated::Unknown, "token {token}: nothing brings it back");
    }
    assert_eq!(answered(store.rotate(turn(id, 1, 10, start.at(1998))).await), Rotated::Turned, "nor was it harmed");
}

async fn tokens_are_turned(store: &dyn SessionStore, start: Start) {
    let new = session(&format!("user:{}", unique()), start);
    let id = new.session.id;
    let at = |seconds| start.at(seconds);
    assert_eq!(answered(store.rotate(turn(id, 0, 0, at(0))).await), Rotated::Unknown, "no such session");
    answered(store.create(new.clone()).await);
    assert_eq!(answered(store.rotate(turn(id, 0, 10, at(500))).await), Rotated::Turned);
    assert_eq!(answered(store.rotate(turn(id, 0, 10, at(509))).await), Rotated::Again(sealed(1)), "within the grace");
    let record = SessionRecord { last_used: at(500), ..new.session };
    assert_eq!(answered(store.find(id, at(509)).await), Some(record), "which is no use of the session");
    for (token, standing) in [(0, Standing::Spent), (1, Standing::Current), (99, Standing::Foreign)] {
        let looked = answered(store.look(id, digest(token), at(509)).await);
        assert_eq!(looked.map(|(_, standing)| standing), Some(standing), "token {token}");
    }
    assert_eq!(answered(store.rotate(turn(id, 99, 10, at(509))).await), Rotated::Unknown, "a guess ends nothing");
    for n in 1..20 {
        assert_eq!(answered(store.rotate(turn(id, n, 10, at(510))).await), Rotated::Turned, "{n}");
    }
    for n in 0..20 {
        let looked = answered(store.look(id, digest(n), at(511)).await);
        assert_eq!(looked.map(|(_, standing)| standing), Some(Standing::Spent), "to look at token {n} ends nothing");
    }
    // However old: it was a token of this session, and somebody has kept it.
    assert_eq!(answered(store.rotate(turn(id, 3, 10, at(511))).await), Rotated::Reused);
    assert_eq!(answered(store.find(id, at(511)).await), None, "the session is over");
    assert_eq!(answered(store.look(id, digest(20), at(511)).await), None, "the session is over");
    for n in [3, 19, 20] {
        assert_eq!(answered(store.rotate(turn(id, n, 10, at(511))).await), Rotated::Unknown, "the session is over");
    }
    let noted = is_called_back(store, id, at(511)).await;
    assert!(noted, "whoever ends a session calls its tokens back in the same step");
    assert!(!answered(store.revoke(id, called_back(at(511))).await), "there is none to end");
}

/// Machines' clocks differ, and a second may strike between two calls: whoever is behind gets no grace where there is none.
async fn no_grace_is_none_for_a_clock_that_is_behind(store: &dyn SessionStore, start: Start) {
    let new = session(&format!("user:{}", unique()), start);
    let id = new.session.id;
    answered(store.create(new).await);
    assert_eq!(answered(store.rotate(turn(id, 0, 0, start.at(5))).await), Rotated::Turned);
    assert_eq!(answered(store.rotate(turn(id, 0, 0, start.at(4))).await), Rotated::Reused, "without a grace");
    assert_eq!(answered(store.rotate(turn(id, 1, 0, start.at(5))).await), Rotated::Unknown, "the session is over");
}

async fn sessions_are_listed_and_ended(store: &dyn SessionStore, start: Start) {
    let run = unique();
    let (subject, other) = (format!("user:é \u{1f512}{run}"), format!("user:{run}%"));
    assert!(answered(store.sessions(&subject, start.at(0)).await).is_empty());
    assert!(answered(store.revoke_all(&subject, None, called_back(start.at(5))).await).is_empty());
    let all = [session(&subject, start), session(&subject, start), session(&subject, start), session(&other, start)];
    for (n, new) in (0..).zip(&all) {
        answered(store.create(new.clone()).await);
        assert_eq!(answered(store.rotate(turn(new.session.id, 0, 0, start.at(n))).await), Rotated::Turned);
    }
    let [one, two, three, four] = all.map(|new| new.session.id);
    assert_eq!(listed(store, &subject, start).await, [three, two, one], "last used first");
    assert_eq!(answered(store.rotate(turn(one, 1, 0, start.at(5))).await), Rotated::Turned);
    assert_eq!(listed(store, &subject, start).await, [one, three, two], "last used first");
    assert!(answered(store.revoke(two, called_back(start.at(5))).await), "there was one to end");
    assert!(!answered(store.revoke(two, called_back(start.at(5))).await), "there is none any more");
    assert!(is_called_back(store, two, start.at(5)).await, "its tokens are called back");
    assert!(!is_called_back(store, one, start.at(5)).await, "no others are");
    assert_eq!(answered(store.rotate(turn(two, 1, 0, start.at(5))).await), Rotated::Unknown, "signed out");
    assert_eq!(answered(store.find(two, start.at(5)).await), None, "signed out");
    assert_eq!(
        answered(store.revoke_all(&subject, Some(one), called_back(start.at(5))).await),
        [three],
        "all but this one"
    );
    assert_eq!(answered(store.rotate(turn(three, 1, 0, start.at(5))).await), Rotated::Unknown, "signed out");
    assert_eq!(listed(store, &subject, start).await, [one]);
    assert!(is_called_back(store, three, start.at(5)).await, "and so are its tokens");
    assert!(!is_called_back(store, one, start.at(5)).await, "but not this one's");
    let never = session_id();
    assert!(!answered(store.revoke(never, called_back(start.at(5))).await), "there is none");
    assert!(is_called_back(store, never, start.at(5)).await, "it is noted all the same");
    assert!(answered(store.revoke_all(&subject, Some(one), called_back(start.at(5))).await).is_empty());
    assert_eq!(
        answered(store.revoke_all(&subject, Some(four), called_back(start.at(5))).await),
        [one],
        "somebody else's is no exception"
    );
    assert!(listed(store, &subject, start).await.is_empty());
    assert_eq!(listed(store, &other, start).await, [four], "nor does it end");
    // Who was signed out may sign in again, under the same id even.
    let again = session(&subject, start);
    let again = NewSession { session: SessionRecord { id: one, ..again.session }, ..again };
    answered(store.create(again).await);
    let looked = answered(store.look(one, digest(1), start.at(5)).await);
    assert_eq!(looked.map(|(_, standing)| standing), Some(Standing::Foreign), "its tokens went with it");
    assert_eq!(answered(store.revoke_all(&subject, None, called_back(start.at(5))).await), [one]);
}

async fn listed(store: &dyn SessionStore, subject: &str, start: Start) -> Vec<SessionId> {
    answered(store.sessions(subject, start.at(5)).await).into_iter().map(|session| session.id).collect()
}

/// Adds more than a list may have, fifty at a time.
async fn long_lists_are_cut(store: &Arc<dyn SessionStore>, start: Start) {
    let subject = format!("user:{}", unique());
    let used = (0..).take(MOST_LISTED + 10);
    let new = used.map(|n| {
        let new = session(&subject, start);
        NewSession { session: SessionRecord { last_used: start.at(n % 900), ..new.session }, ..new }
    });
    let new: Vec<_> = new.collect();
    for group in new.chunks(50) {
        let mut calls = JoinSet::new();
        for new in group.iter().cloned() {
            let store = Arc::clone(store);
            calls.spawn(async move { answered(store.create(new).await) });
        }
        calls.join_all().await;
    }
    let listed = answered(store.sessions(&subject, start.at(950)).await);
    assert_eq!(listed.len(), MOST_LISTED, "no more than that");
    assert!(listed.is_sorted_by_key(|session| std::cmp::Reverse(session.last_used)), "last used first");
    let cut = listed.last().map(|session| session.last_used);
    let listed: HashSet<_> = listed.iter().map(|session| session.id).collect();
    for NewSession { session, .. } in new.iter().filter(|new| !listed.contains(&new.session.id)) {
        assert!(Some(session.last_used) <= cut, "those last used are not cut off");
    }
    let ended: HashSet<_> =
        answered(store.revoke_all(&subject, None, called_back(start.at(5))).await).into_iter().collect();
    assert_eq!(ended, new.iter().map(|new| new.session.id).collect(), "all are ended, listed or not");
}

/// Whether the store has noted that the tokens of a session are called back, for the hour that was asked for.
async fn is_called_back(store: &dyn SessionStore, id: SessionId, now: UnixSeconds) -> bool {
    let list = answered(store.revocations(Cursor::START, now).await).list;
    let mut own = list.iter().filter(|revocation| revocation.tokens == Revoked::Session(id));
    own.any(|revocation| revocation.until >= called_back(now).until)
}
