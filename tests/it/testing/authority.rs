//! Tokens right and wrong, keys that change and go away.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{Router, routing::get as read};
use portcullis::{
    ResourceServer,
    clock::{Clock, SystemClock, UnixSeconds},
    jwt::{Algorithm, RemoteJwks},
    rejection::Rejection,
    revocation::RevocationList,
    store::{MemoryStore, Revocation, Revoked},
    testing::{Flaw, ManualClock, TestAuthority, TestPrincipal},
};

use crate::support::{get, get_with, serve};

#[test]
fn each_flaw_meets_its_rejection_with_every_kind_of_key() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Es384, Algorithm::Rs256, Algorithm::Ps512] {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_800_000_000)));
        let authority = TestAuthority::new().algorithm(algorithm).clock(clock.clone());
        let verifier = authority.verifier();
        let verify = |token: &str| verifier.verify_at(token.as_bytes(), clock.now());
        assert_eq!(verify(&authority.token("me items")).unwrap().subject(), "user:7");
        for rotated in [false, true] {
            if rotated {
                authority.rotate();
            }
            for flaw in Flaw::ALL {
                let flawed = authority.flawed(*flaw);
                let refused = verify(&flawed.token).unwrap_err();
                assert_eq!(refused, flawed.rejection, "{algorithm:?}, {flaw:?}: {}", flawed.token);
                assert_eq!(flawed.flaw, *flaw);
            }
        }
    }
}

#[test]
fn flaws_are_all_there_and_each_is_another_one() {
    assert_eq!(Flaw::ALL.iter().collect::<HashSet<_>>().len(), Flaw::ALL.len());
    // The last one in the source: who adds one behind it must add it to the list, too.
    assert_eq!(Flaw::ALL.len(), Flaw::MalformedScope as usize + 1);
    let authority = TestAuthority::new();
    let tokens: HashSet<_> = Flaw::ALL.iter().map(|flaw| authority.flawed(*flaw).token).collect();
    assert_eq!(tokens.len(), Flaw::ALL.len());
}

#[test]
fn a_flawed_token_does_not_mind_when_it_was_checked_but_why() {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(10_000)));
    let authority = TestAuthority::new().clock(clock.clone());
    let expired = authority.flawed(Flaw::Expired);
    let Rejection::Expired { exp, now } = expired.rejection else { panic!("{expired:?}") };
    assert_eq!((exp.get(), now.get()), (6_400, 10_000));
    assert!(expired.meets(Rejection::Expired { exp, now: UnixSeconds::new(10_007) }));
    assert!(!expired.meets(Rejection::Expired { exp: now, now }));
    assert!(!expired.meets(Rejection::BadSignature));
    assert!(!authority.flawed(Flaw::NoSubject).meets(Rejection::ClaimMissing("jti")));
}

#[tokio::test]
async fn flaws_over_a_socket_are_refused_with_the_status_of_their_rejection() {
    let authority = TestAuthority::new();
    let app = Router::new().route("/me", read(|| async { "me" })).layer(authority.api().authenticate());
    let app = serve(app).await;
    assert_eq!(get_with(app.address, "/me", &authority.token("")).await.status, 200);
    let mut replies = Vec::new();
    for flaw in Flaw::ALL {
        let flawed = authority.flawed(*flaw);
        let reply = get_with(app.address, "/me", &flawed.token).await;
        assert_eq!(reply.status, flawed.rejection.status().as_u16(), "{flaw:?}");
        replies.push(reply.without_date());
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "no answer tells which check failed");
}

#[test]
#[should_panic(expected = "a shared secret cannot be published")]
fn an_authority_has_no_shared_secret() {
    let _ = TestAuthority::new().algorithm(Algorithm::Hs256);
}

#[test]
fn keys_rotate_with_the_old_one_kept_or_dropped() {
    let authority = TestAuthority::with_name("https://issuer.example", "orders");
    let (verifier, now) = (authority.verifier(), SystemClock.now());
    let verify = |token: &str| verifier.verify_at(token.as_bytes(), now).map(drop);
    let old = authority.token("me");
    authority.rotate();
    let new = authority.token("me");
    assert_eq!((verify(&old), verify(&new)), (Ok(()), Ok(())));
    assert_eq!(authority.key_document().unwrap()["keys"].as_array().unwrap().len(), 2);
    authority.withdraw_old_keys();
    // Remembered as it is, the old one is refused.
    assert_eq!((verify(&old), verify(&new)), (Err(Rejection::UnknownKey), Ok(())));
    assert_eq!(authority.key_document().unwrap()["keys"].as_array().unwrap().len(), 1);
    authority.withdraw_old_keys();
    assert_eq!(verify(&new), Ok(()), "the one in use is not an old one");
}

#[tokio::test]
async fn an_outage_is_503_and_ends() {
    let authority = TestAuthority::new();
    let app = Router::new().route("/me", read(|| async { "me" })).layer(authority.api().authenticate());
    let app = serve(app).await;
    let token = authority.token("me");
    let status = async || get_with(app.address, "/me", &token).await.status;
    assert_eq!(status().await, 200);
    authority.begin_outage();
    assert_eq!(status().await, 503);
    assert_eq!(authority.key_document(), None);
    assert_eq!(get(app.address, "/me", &[]).await.status, 401, "no credential is no credential");
    authority.end_outage();
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn keys_are_published_in_process_and_on_loopback() {
    let authority = TestAuthority::new();
    let server = authority.serve_keys().unwrap();
    let second = Duration::from_secs(1);
    for builder in [authority.remote(), RemoteJwks::builder(server.address())] {
        let keys = builder.cooldown(second).start().unwrap();
        keys.ready().await;
        let api = ResourceServer::new(authority.policy(), keys.clone());
        let app = serve(Router::new().route("/me", read(|| async { "me" })).layer(api.authenticate())).await;
        assert_eq!(get_with(app.address, "/me", &authority.token("me")).await.status, 200);
        tokio::time::sleep(second).await;
        // The first token of the new key makes the keys be fetched.
        authority.rotate();
        assert_eq!(get_with(app.address, "/me", &authority.token("me")).await.status, 200);
        assert_eq!(keys.status().fetches, 2);
        keys.stop();
    }
    assert_eq!(server.requests(), 2);
    authority.begin_outage();
    let keys = RemoteJwks::builder(server.address()).start().unwrap();
    let failing = async || {
        while !keys.status().failing {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), failing()).await.expect("an outage");
    assert!(!keys.status().ready && server.requests() > 2);
}

#[tokio::test]
async fn a_key_server_ends_when_dropped_and_outlives_clients_that_say_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let server = TestAuthority::new().serve_keys().unwrap();
    let address: std::net::SocketAddr = server.address()[7..].strip_suffix("/keys").unwrap().parse().unwrap();
    drop(tokio::net::TcpStream::connect(address).await.unwrap());
    let mut flood = tokio::net::TcpStream::connect(address).await.unwrap();
    let _ = flood.write_all(&vec![b'x'; 64 * 1024]).await;
    // One who says something all the time, but never all of it, keeps the others waiting for no longer than one who says nothing.
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    let slow = tokio::spawn(async move {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let reply = tokio::time::timeout(Duration::from_secs(8), get(address, "/keys", &[])).await.expect("an answer");
    slow.abort();
    assert_eq!((reply.status, reply.json()["keys"].as_array().unwrap().len()), (200, 1));
    drop(server);
    let end = async || {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), end()).await.expect("the end");
}

#[tokio::test]
async fn a_token_is_made_for_whom_it_is_said_to_be_and_can_be_called_back() {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_800_000_000)));
    let authority = TestAuthority::new().clock(clock.clone());
    let store = Arc::new(MemoryStore::new());
    let list = RevocationList::new(store);
    let verifier = authority.verifier().revocations(authority.issuer(), list.clone()).unwrap();
    let anna =
        TestPrincipal::user("user:1").scopes("a b").client_id("app").session("s-1").lifetime(Duration::from_secs(60));
    let anna = anna.claim("jti", "t-1").claim("tenant", "acme").auth_time(UnixSeconds::new(1_799_999_000));
    let token = authority.token_for(&anna);
    let verify = async || verifier.verify(token.as_bytes(), clock.now()).await;
    let caller = verify().await.unwrap().principal();
    assert_eq!((caller.issuer(), caller.subject(), caller.client_id()), ("https://id.example", "user:1", Some("app")));
    assert_eq!((caller.session_id(), caller.token_id()), (Some("s-1"), Some("t-1")));
    assert_eq!(caller.auth_time(), Some(UnixSeconds::new(1_799_999_000)));
    assert_eq!((caller.claim("tenant"), caller.scopes().count()), (Some("acme".into()), 2));
    let until = clock.now().saturating_add(Duration::from_secs(600));
    list.revoke(vec![Revocation { tokens: Revoked::Token("t-1".to_owned()), until }], clock.now()).await.unwrap();
    assert_eq!(verify().await.unwrap_err(), Rejection::Revoked);
    clock.advance(Duration::from_secs(90));
    assert!(matches!(verify().await.unwrap_err(), Rejection::Expired { .. }));
    clock.go_back(Duration::from_secs(1));
    assert_eq!(verify().await.unwrap_err(), Rejection::Revoked);
}
