//! What is done when nobody waits for it any more, be it the client or the server, is told all the same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use portcullis::{
    audit::{Event, Kind},
    clock::UnixSeconds,
    password::PasswordHasher,
    revocation::RevocationList,
    store::{Cursor, MemoryStore, RevocationStore as _},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use super::{ALICE, FORM, GRACE, NEW, Told, World, bearer, field, limits, world};
use crate::{
    hygiene::run::encoded,
    login::{PASSWORD, claims, hasher},
    sessions::{Flaky, Mood},
    support::{Reply, now},
};

const SIGNED_IN: [Told<'static>; 1] = [(Kind::LoginSucceeded, None, ALICE)];
const REFRESHED: [Told<'static>; 1] = [(Kind::SessionRefreshed, None, ALICE)];

fn refresh_of(reply: &Reply) -> String {
    format!("refresh_token={}", field(reply, "refresh_token"))
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a request, and hangs up on it.
async fn hang_up(address: SocketAddr, head: &str, body: &str, after: Duration) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}\r\nhost: a\r\n{FORM}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(after).await;
}

impl World {
    /// The event of this kind that is told of a request to this path, with the status of its answer, if it has got one.
    async fn told(&self, kind: Kind, path: &str, status: Option<u16>) -> Arc<Event> {
        let mut found = None;
        until(&format!("{kind} of {path}"), async || {
            let events = self.log.events(&self.trail).await;
            let is_own = |event: &&Arc<Event>| {
                let is_of = |path: &str| event.request.as_ref().is_some_and(|request| *request.path == *path);
                (event.kind, event.status) == (kind, status) && is_of(path)
            };
            found = events.iter().rfind(is_own).cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

#[tokio::test]
async fn req_191_what_was_decided_is_told_even_if_the_client_goes_away() {
    let hasher = PasswordHasher::builder().concurrency(1).wait(Duration::from_secs(30)).build().unwrap();
    let world = world(hasher.clone(), limits(), |builder| builder).await;
    let own = bearer(&field(&world.login("alice", PASSWORD, "", 200, &SIGNED_IN).await, "access_token"));
    let body = encoded(&[("current_password", "wrong"), ("new_password", NEW)]);
    let busy: Vec<_> = (0..4).map(|_| hasher.hash("x".into())).collect();
    let head = format!("POST /password HTTP/1.1\r\n{own}");
    tokio::join!(hang_up(world.server.address, &head, &body, Duration::from_millis(5)), join_all(busy));
    let told = world.told(Kind::PasswordChangeRefused, "/password", None).await;
    assert_eq!((told.reason, told.who.subject.as_deref()), (Some("wrong password"), ALICE));
}

/// Where what is called back is kept by another store than the sessions, a hang-up between both would leave the thief's tokens good,
/// and so would an outage of that other store: the session is gone, and nobody can bring the theft about once more.
#[tokio::test]
async fn req_191_a_theft_is_seen_to_the_end_even_if_the_thief_hangs_up_or_the_list_is_down() {
    for is_down in [false, true] {
        let memory = Arc::new(MemoryStore::new());
        let elsewhere = Flaky::new(&memory);
        let list = RevocationList::new(Arc::clone(&elsewhere) as _);
        let world = world(hasher(), limits(), |builder| builder.revocations(list)).await;
        let first = world.login("alice", PASSWORD, "", 200, &SIGNED_IN).await;
        let spent = refresh_of(&first);
        let second = world.tells("POST /token/refresh", &[], &spent, 200, &REFRESHED).await;
        let own = bearer(&field(&second, "access_token"));
        world.tells("GET /items", &[&own], "", 200, &[]).await;
        world.clock.advance(GRACE * 2);
        if is_down {
            elsewhere.set(Mood::Down);
            world.ask("POST /token/refresh", &[], &spent).await;
            elsewhere.set(Mood::Well);
        } else {
            // It ends the session, and takes two seconds to say so.
            world.sessions.set(Mood::SlowToTell);
            let head = "POST /token/refresh HTTP/1.1";
            hang_up(world.server.address, head, &spent, Duration::from_millis(500)).await;
        }
        until("what the other machines read has it", async || {
            let told = memory.revocations(Cursor::START, UnixSeconds::new(now())).await.unwrap();
            !told.list.is_empty()
        })
        .await;
        let (reply, _) = world.ask("GET /items", &[&own], "").await;
        assert_eq!(reply.status, 401, "{reply:?}");
        let theft = world.told(Kind::RefreshReused, "/token/refresh", is_down.then_some(400)).await;
        assert_eq!(theft.who.subject.as_deref(), ALICE);
        let all = world.log.events(&world.trail).await;
        let amiss = all.iter().find(|event| matches!(event.kind, Kind::Degraded | Kind::InfrastructureFailed));
        assert!(amiss.is_none(), "{amiss:?}");
    }
}

#[tokio::test]
async fn req_191_a_token_that_is_given_back_is_told_of_even_if_the_client_hangs_up() {
    let memory = Arc::new(MemoryStore::new());
    let elsewhere = Flaky::new(&memory);
    let list = RevocationList::new(Arc::clone(&elsewhere) as _);
    let world = world(hasher(), limits(), |builder| builder.revocations(list)).await;
    let body = format!("grant_type=client_credentials&client_id=one&client_secret={}", world.secret);
    let (reply, _) = world.ask("POST /token", &[], &body).await;
    let token = field(&reply, "access_token");
    elsewhere.set(Mood::Late);
    let body = format!("token={token}&client_id=one&client_secret={}", world.secret);
    hang_up(world.server.address, "POST /revoke HTTP/1.1", &body, Duration::from_millis(100)).await;
    world.told(Kind::TokensRevoked, "/revoke", None).await;
    let (reply, _) = world.ask("GET /me", &[&bearer(&token)], "").await;
    assert_eq!(reply.status, 401, "known here at once");
}

/// A store that did not answer in time may have done what it was asked for. Whoever asks again is told something else then: that
/// their password is another one, their name is taken, their session is not there.
#[tokio::test]
async fn req_191_what_a_store_has_done_without_an_answer_is_told_all_the_same() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let alice = world.login("alice", PASSWORD, "", 200, &SIGNED_IN).await;
    let bob = Some("user:id-bob");
    let by_bob = [(Kind::LoginSucceeded, None, bob)];
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(world.login("bob", PASSWORD, "", 200, &by_bob).await);
    }
    let spent = refresh_of(&sessions[2]);
    world.tells("POST /token/refresh", &[], &spent, 200, &[(Kind::SessionRefreshed, None, bob)]).await;
    world.clock.advance(GRACE * 2);
    let sid = |n: usize| claims(&sessions[n]).1["sid"].as_str().unwrap().to_owned();
    let own = bearer(&field(&sessions[0], "access_token"));

    world.sessions.set(Mood::Mute);
    world.users.set_mute(true);
    let item = format!("/sessions/{}", sid(1));
    let registration = encoded(&[("username", "carol"), ("password", NEW)]);
    let change = encoded(&[("current_password", PASSWORD), ("new_password", NEW)]);
    for (line, headers, body) in [
        (format!("DELETE {item}"), vec![own.as_str()], String::new()),
        ("POST /token/refresh".to_owned(), vec![], spent),
        ("POST /token/refresh".to_owned(), vec![], refresh_of(&sessions[3])),
        ("POST /register".to_owned(), vec![], registration),
        ("POST /password".to_owned(), vec![&bearer(&field(&alice, "access_token"))], change),
    ] {
        let (reply, events) = world.ask(&line, &headers, &body).await;
        assert_eq!(reply.status, 503, "{line}: {reply:?}");
        let told: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(told, [Kind::InfrastructureFailed], "{line}");
    }
    world.sessions.set(Mood::Well);
    world.users.set_mute(false);

    for (kind, path, subject, session) in [
        (Kind::SessionsEnded, item.as_str(), bob, Some(sid(1))),
        (Kind::RefreshReused, "/token/refresh", bob, Some(sid(2))),
        (Kind::SessionRefreshed, "/token/refresh", bob, Some(sid(3))),
        (Kind::PasswordChanged, "/password", ALICE, None),
        (Kind::SessionsEnded, "/password", ALICE, None),
    ] {
        // What its client was told.
        let told = world.told(kind, path, Some(503)).await;
        assert_eq!((told.who.subject.as_deref(), told.who.session.as_deref()), (subject, session.as_deref()), "{kind}");
    }
    assert!(world.told(Kind::UserRegistered, "/register", Some(503)).await.who.subject.is_some());
    let events = world.log.events(&world.trail).await;
    let told: Vec<_> = events.iter().filter(|event| event.kind == Kind::PasswordChanged).collect();
    assert_eq!((told.len(), told[0].reason), (1, Some("user")));
}

/// Where the store had done nothing, and the client asks again before anybody else does.
#[tokio::test]
async fn req_191_what_was_done_at_the_second_try_is_told_once() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(world.login("alice", PASSWORD, "", 200, &SIGNED_IN).await);
    }
    let spent = refresh_of(&sessions[2]);
    world.tells("POST /token/refresh", &[], &spent, 200, &REFRESHED).await;
    world.clock.advance(GRACE * 2);
    let ending = format!("DELETE /sessions/{}", claims(&sessions[0]).1["sid"].as_str().unwrap());
    let own = bearer(&field(&sessions[0], "access_token"));
    let requests = [
        (ending.as_str(), vec![own.as_str()], String::new(), 204, Kind::SessionsEnded),
        ("POST /token/refresh", vec![], refresh_of(&sessions[1]), 200, Kind::SessionRefreshed),
        ("POST /token/refresh", vec![], spent, 400, Kind::RefreshReused),
    ];
    for mood in [Mood::Stuck, Mood::Well] {
        world.sessions.set(mood);
        for (line, headers, body, status, kind) in &requests {
            let (reply, events) = world.ask(line, headers, body).await;
            let told: Vec<_> = events.iter().map(|event| event.kind).collect();
            let (status, kind) = if mood == Mood::Well { (*status, *kind) } else { (503, Kind::InfrastructureFailed) };
            assert_eq!((reply.status, told), (status, vec![kind]), "{mood:?} {line}: {reply:?}");
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.tells_no_more().await;
}

/// A session that its owner ended meanwhile was not ended by the thief, of whom it is not known what became.
#[tokio::test]
async fn req_191_whoever_signs_out_everywhere_meanwhile_is_taken_for_no_thief() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let first = world.login("alice", PASSWORD, "", 200, &SIGNED_IN).await;
    let spent = refresh_of(&first);
    let second = world.tells("POST /token/refresh", &[], &spent, 200, &REFRESHED).await;
    world.clock.advance(GRACE * 2);
    world.sessions.set(Mood::Stuck);
    let down = [(Kind::InfrastructureFailed, Some("session store"), None)];
    world.tells("POST /token/refresh", &[], &spent, 503, &down).await;
    world.sessions.set(Mood::Well);
    let own = bearer(&field(&second, "access_token"));
    world
        .tells("DELETE /sessions", &[&own], "", 204, &[(Kind::SessionsEnded, Some("signed out everywhere"), ALICE)])
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.tells_no_more().await;
}
