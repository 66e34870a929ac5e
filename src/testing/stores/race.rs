//! Many present one refresh token at once.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Start, answered, called_back, digest, sealed, session, turn, unique};
use crate::{
    ident::SessionId,
    store::{Rotated, SessionStore},
};

/// Panics unless exactly one of `callers` that present one token at the same time turns it, in each of `rounds`.
///
/// Without a grace, and with one that has run out, another one ends the session and the others find it ended. Within the grace,
/// all others get the one successor. There is never a second branch.
pub async fn race(store: Arc<dyn SessionStore>, rounds: usize, callers: u64) {
    let subject = format!("race:{}", unique());
    let start = Start::now();
    for round in 0..rounds {
        let new = session(&subject, start);
        let id = new.session.id;
        answered(store.create(new).await);
        match round % 4 {
            0 | 2 => inside_the_grace(&store, id, start, callers).await,
            1 => without_grace(&store, id, start, callers).await,
            _ => after_the_grace(&store, id, start, callers).await,
        }
        answered(store.revoke(id, called_back(start.at(12))).await);
    }
}

async fn inside_the_grace(store: &Arc<dyn SessionStore>, id: SessionId, start: Start, callers: u64) {
    let outcomes = all_at_once(store, id, start, (10, 1), callers).await;
    let winner = winner(&outcomes);
    let again = outcomes.iter().filter(|(_, told)| *told == Rotated::Again(sealed(winner))).count();
    assert_eq!(again + 1, outcomes.len(), "within the grace, all others get the one successor: {outcomes:?}");
    is_alive(store, id, start, winner).await;
}

async fn without_grace(store: &Arc<dyn SessionStore>, id: SessionId, start: Start, callers: u64) {
    let outcomes = all_at_once(store, id, start, (0, 1), callers).await;
    let winner = winner(&outcomes);
    one_has_ended_it(&outcomes, 2);
    is_over(store, id, start, winner).await;
}

/// The token was turned before, so none of them turns it.
async fn after_the_grace(store: &Arc<dyn SessionStore>, id: SessionId, start: Start, callers: u64) {
    assert_eq!(answered(store.rotate(turn(id, 0, 10, start.at(1))).await), Rotated::Turned);
    let outcomes = all_at_once(store, id, start, (10, 11), callers).await;
    one_has_ended_it(&outcomes, 1);
    is_over(store, id, start, 1).await;
}

/// Presents token 0 in `callers` tasks at once, each with a successor of its own, whose number comes with what it was told.
async fn all_at_once(
    store: &Arc<dyn SessionStore>,
    id: SessionId,
    start: Start,
    (grace, seconds): (u64, u64),
    callers: u64,
) -> Vec<(u64, Rotated)> {
    let mut calls = JoinSet::new();
    for successor in (1000..).take(usize::try_from(callers).unwrap_or(usize::MAX)) {
        let (store, mut rotation) = (Arc::clone(store), turn(id, 0, grace, start.at(seconds)));
        (rotation.successor, rotation.sealed) = (digest(successor), sealed(successor));
        calls.spawn(async move { (successor, answered(store.rotate(rotation).await)) });
    }
    calls.join_all().await
}

/// The successor that was made the current token.
fn winner(outcomes: &[(u64, Rotated)]) -> u64 {
    let turned: Vec<u64> = outcomes.iter().filter(|(_, told)| *told == Rotated::Turned).map(|(at, _)| *at).collect();
    let [winner] = turned.as_slice() else { panic!("{} of many turned one token: {outcomes:?}", turned.len()) };
    *winner
}

/// One call found that the token was used before, and all but `decided` calls came too late even for that.
fn one_has_ended_it(outcomes: &[(u64, Rotated)], decided: usize) {
    let count = |told: &Rotated| outcomes.iter().filter(|(_, other)| other == told).count();
    let expected = outcomes.len().saturating_sub(decided);
    let found = (count(&Rotated::Reused), count(&Rotated::Unknown));
    assert_eq!(found, (1, expected), "one call ends the session, and later ones find none: {outcomes:?}");
}

async fn is_alive(store: &Arc<dyn SessionStore>, id: SessionId, start: Start, current: u64) {
    let found = answered(store.find(id, start.at(12)).await);
    assert!(found.is_some(), "the session lives on");
    let turned = answered(store.rotate(turn(id, current, 0, start.at(12))).await);
    assert_eq!(turned, Rotated::Turned, "its one branch lives on");
}

async fn is_over(store: &Arc<dyn SessionStore>, id: SessionId, start: Start, current: u64) {
    assert_eq!(answered(store.find(id, start.at(12)).await), None, "the session is over");
    let turned = answered(store.rotate(turn(id, current, 10, start.at(12))).await);
    assert_eq!(turned, Rotated::Unknown, "so is its last token");
}
