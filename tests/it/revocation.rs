//! Calling tokens back: nothing passes afterwards, whatever happened before, and an outage looks like one.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis::{
    bearer::BearerExtractLayer,
    clock::{ManualClock, UnixSeconds},
    config::{ConfigError, ConfigErrors},
    ident::SessionId,
    jwt::{Algorithm, ClaimsPolicy, JwtVerifyLayer, Verifier},
    rejection::Rejection,
    revocation::RevocationList,
    store::{
        Cursor, MemoryStore, Revocation, RevocationStore, Revocations, Revoked, SqliteStore, StoreError, StoreFuture,
    },
};
use proptest::prelude::*;
use tower::{ServiceBuilder, ServiceExt as _};

use crate::{
    stores::Folder,
    support::{AUDIENCE, Authority, ISSUER, now},
};

/// So many seconds after the first test has asked, however long they take.
fn at(seconds: u64) -> UnixSeconds {
    static START: OnceLock<u64> = OnceLock::new();
    UnixSeconds::new(START.get_or_init(now) + seconds)
}

fn revocation(tokens: Revoked) -> Revocation {
    Revocation { tokens, until: at(4000) }
}

/// A store that counts how often it is read, and can be made to fail, or to hang.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    reads: AtomicU64,
    down: AtomicBool,
    hangs: AtomicBool,
}

impl Watched {
    fn through<'a, T: Send + 'a>(&'a self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let (down, hangs) = (self.down.load(Ordering::SeqCst), self.hangs.load(Ordering::SeqCst));
        Box::pin(async move {
            if hangs {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            if down { Err(StoreError::unavailable("pulled the plug")) } else { call.await }
        })
    }
}

impl RevocationStore for Watched {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        self.through(self.store.revoke_tokens(revocations, now))
    }
    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.through(self.store.revocations(cursor, now))
    }
}

fn verifier(authority: &Authority, list: &RevocationList) -> Verifier {
    authority.verifier().revocations(ISSUER, list.clone()).unwrap()
}

#[tokio::test]
async fn a_list_is_for_an_issuer_that_is_accepted() {
    let list = RevocationList::new(Arc::new(MemoryStore::new()));
    let refused = Authority::new(Algorithm::EdDsa).verifier().revocations("https://other.example", list.clone());
    assert_eq!(
        refused.unwrap_err(),
        ConfigErrors::from(ConfigError::IssuerUnknown("https://other.example".to_owned()))
    );
    for bad in [0, 1, 61] {
        assert!(list.clone().max_delay(Duration::from_secs(bad)).is_err(), "{bad}");
    }
    // Another issuer's token of the same id is another token.
    let (ours, theirs) = (Authority::new(Algorithm::EdDsa), Authority::new(Algorithm::EdDsa));
    let foreign = ClaimsPolicy::builder("https://partner.example", AUDIENCE).build().unwrap();
    let verifier = verifier(&ours, &list).trust(foreign, theirs.keys()).unwrap();
    list.revoke(vec![revocation(Revoked::Token("t-1".to_owned()))], at(0)).await.unwrap();
    let token = theirs.token_with(|claims| claims["iss"] = "https://partner.example".into());
    assert!(verifier.verify(token.as_bytes(), at(0)).await.is_ok());
    let own = verifier.verify(ours.token("").as_bytes(), at(0)).await;
    assert_eq!(own.unwrap_err(), Rejection::Revoked);
}

#[tokio::test]
async fn what_others_have_called_back_is_known_within_the_bound() {
    let (authority, store) = (Authority::new(Algorithm::EdDsa), Arc::new(Watched::default()));
    let (here, there) = (RevocationList::new(Arc::clone(&store) as _), RevocationList::new(Arc::clone(&store) as _));
    let verifier = verifier(&authority, &here);
    let token = authority.token("");
    let check = async |seconds| verifier.verify(token.as_bytes(), at(seconds)).await.map(drop);
    check(0).await.unwrap();
    there.revoke(vec![revocation(Revoked::Token("t-1".to_owned()))], at(0)).await.unwrap();
    for _ in 0..100 {
        check(0).await.unwrap();
    }
    assert_eq!(store.reads.load(Ordering::SeqCst), 1, "no more than once a second");
    // A second later it is read beside a request, which passes still; what follows does not.
    let _ = check(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(check(1).await.unwrap_err(), Rejection::Revoked);
    assert_eq!(store.reads.load(Ordering::SeqCst), 2);

    // An idle program waits for the store rather than to let pass what it cannot know.
    let late = authority.token_with(|claims| claims["jti"] = "t-2".into());
    verifier.verify(late.as_bytes(), at(1)).await.unwrap();
    there.revoke(vec![revocation(Revoked::Token("t-2".to_owned()))], at(2)).await.unwrap();
    assert_eq!(verifier.verify(late.as_bytes(), at(6)).await.unwrap_err(), Rejection::Revoked);
}

#[tokio::test]
async fn req_137_req_193_while_the_store_is_down_tokens_are_answered_503_and_never_401() {
    let (authority, store) = (Authority::new(Algorithm::EdDsa), Arc::new(Watched::default()));
    let list = RevocationList::new(Arc::clone(&store) as _);
    let strict = verifier(&authority, &list);
    let lenient = verifier(&authority, &list.clone().danger_accept_when_down());
    let token = authority.token("");
    let check = async |verifier: &Verifier, seconds| verifier.verify(token.as_bytes(), at(seconds)).await.map(drop);
    store.down.store(true, Ordering::SeqCst);
    assert_eq!(check(&strict, 0).await, Err(Rejection::RevocationsUnavailable), "nothing is known yet");
    assert_eq!(check(&lenient, 0).await, Err(Rejection::RevocationsUnavailable), "nor for those who accept");
    store.down.store(false, Ordering::SeqCst);
    check(&strict, 2).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    check(&strict, 4).await.unwrap();
    for seconds in [7, 8, 30] {
        assert_eq!(check(&strict, seconds).await, Err(Rejection::RevocationsUnavailable), "{seconds}");
        check(&lenient, seconds).await.unwrap();
    }
    assert_eq!(Rejection::RevocationsUnavailable.status(), 503);
    // One that hangs is given up before those who wait give up.
    store.down.store(false, Ordering::SeqCst);
    store.hangs.store(true, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    assert_eq!(check(&strict, 40).await, Err(Rejection::RevocationsUnavailable));
    assert!(begun.elapsed() < Duration::from_millis(1900), "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    assert_eq!(check(&strict, 41).await, Err(Rejection::RevocationsUnavailable));
    assert!(begun.elapsed() < Duration::from_millis(500), "nobody waits for what has just not answered");
    store.hangs.store(false, Ordering::SeqCst);
    check(&strict, 50).await.unwrap();
}

/// The layer, with the real clock's stand-in, and whether the handler ran.
#[tokio::test]
async fn the_layer_lets_nothing_pass_that_is_called_back() {
    let authority = Authority::new(Algorithm::EdDsa);
    let list = RevocationList::new(Arc::new(MemoryStore::new()));
    let clock = Arc::new(ManualClock::at(at(0)));
    let ran = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ran);
    let service = ServiceBuilder::new()
        .layer(BearerExtractLayer::required())
        .layer(JwtVerifyLayer::new(verifier(&authority, &list)).clock(Arc::clone(&clock) as _))
        .service_fn(move |_: http::Request<String>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        });
    let session = SessionId::random().unwrap();
    let token = authority.token_with(|claims| claims["sid"] = session.to_string().into());
    let call = async || {
        let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
        service.clone().oneshot(request.body(String::new()).unwrap()).await.unwrap().status().as_u16()
    };
    for _ in 0..3 {
        assert_eq!(call().await, 200);
    }
    list.revoke(vec![revocation(Revoked::Session(session))], at(0)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(call().await, 401);
    }
    assert_eq!(ran.load(Ordering::SeqCst), 3);
}

/// One token of the model: its names, and when it was issued.
#[derive(Clone, Debug)]
struct Token {
    id: u8,
    session: u8,
    subject: u8,
    issued: u64,
}

#[derive(Clone, Debug)]
enum Action {
    Use(u8),
    RevokeToken(u8),
    RevokeSession(u8),
    RevokeSubject(u8),
    /// The same from another machine.
    Elsewhere(u8),
    Wait(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..24_u8).prop_map(Action::Use),
        1 => (0..24_u8).prop_map(Action::RevokeToken),
        1 => (0..8_u8).prop_map(Action::RevokeSession),
        1 => (0..4_u8).prop_map(Action::RevokeSubject),
        1 => (0..24_u8).prop_map(Action::Elsewhere),
        2 => (0..4_u8).prop_map(Action::Wait),
    ]
}

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any interleaving of uses, revocations here and elsewhere, and time: what was called back here is refused from the moment
    /// at which that returned, what was called back elsewhere after five seconds, and nothing else ever is.
    #[test]
    fn whatever_happens_nothing_passes_after_it_was_called_back(actions in proptest::collection::vec(action(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let authority = Authority::new(Algorithm::Hs256);
            let store = Arc::new(MemoryStore::new());
            let (here, there) = (RevocationList::new(Arc::clone(&store) as _), RevocationList::new(store));
            // Small, so that tokens come and go between the memory and what is verified anew.
            let verifier = verifier(&authority, &here).cache(8, 64 * 1024).unwrap();
            let mut moment = 0;
            let tokens: Vec<Token> = (0..24_u8)
                .map(|n| Token { id: n, session: n % 8, subject: n % 4, issued: u64::from(n % 3) })
                .collect();
            let texts: Vec<String> = tokens
                .iter()
                .map(|token| {
                    authority.token_with(|claims| {
                        claims["jti"] = format!("t-{}", token.id).into();
                        claims["sid"] = session(token.session).to_string().into();
                        claims["sub"] = format!("user:{}", token.subject).into();
                        claims["iat"] = at(token.issued).get().into();
                        claims["exp"] = at(3600).get().into();
                    })
                })
                .collect();
            let (mut ids, mut sessions) = (HashSet::new(), HashSet::new());
            let mut subjects: HashMap<u8, u64> = HashMap::new();
            let mut elsewhere: HashMap<u8, u64> = HashMap::new();
            for action in actions {
                match action {
                    Action::Wait(seconds) => moment += u64::from(seconds),
                    Action::RevokeToken(n) => {
                        here.revoke(vec![revocation(Revoked::Token(format!("t-{n}")))], at(moment)).await.unwrap();
                        ids.insert(n);
                    }
                    Action::RevokeSession(n) => {
                        here.revoke(vec![revocation(Revoked::Session(session(n)))], at(moment)).await.unwrap();
                        sessions.insert(n);
                    }
                    Action::RevokeSubject(n) => {
                        let until = Revoked::Subject(format!("user:{n}"), at(moment));
                        here.revoke(vec![revocation(until)], at(moment)).await.unwrap();
                        subjects.insert(n, moment);
                    }
                    Action::Elsewhere(n) => {
                        there.revoke(vec![revocation(Revoked::Token(format!("t-{n}")))], at(moment)).await.unwrap();
                        elsewhere.entry(n).or_insert(moment);
                    }
                    Action::Use(n) => {
                        let token = &tokens[usize::from(n)];
                        let passes = verifier.verify(texts[usize::from(n)].as_bytes(), at(moment)).await.is_ok();
                        let here = ids.contains(&n)
                            || sessions.contains(&token.session)
                            || subjects.get(&token.subject).is_some_and(|until| token.issued <= *until);
                        let there = elsewhere.get(&n);
                        prop_assert!(!(passes && here), "{token:?} passes at {moment}");
                        prop_assert!(!(passes && there.is_some_and(|then| moment >= then + 5)), "{token:?} at {moment}");
                        prop_assert!(passes || here || there.is_some(), "{token:?} is refused at {moment}");
                    }
                }
            }
            Ok(())
        })?;
    }
}

/// The same with threads: they use the token all the time, and none sees it pass after the call has returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_thread_sees_a_token_pass_after_it_was_called_back() {
    let authority = Authority::new(Algorithm::Hs256);
    let list = RevocationList::new(Arc::new(MemoryStore::new()));
    let verifier = verifier(&authority, &list);
    for round in 0..200 {
        let token = Arc::new(authority.token_with(|claims| claims["jti"] = format!("r-{round}").into()));
        let returned = Arc::new(AtomicBool::new(false));
        let users: Vec<_> = (0..4)
            .map(|_| {
                let (verifier, token, returned) = (verifier.clone(), Arc::clone(&token), Arc::clone(&returned));
                tokio::spawn(async move {
                    let mut passed = 0_u32;
                    loop {
                        // Looked at before the check: what begins after the call has returned must fail.
                        let after = returned.load(Ordering::SeqCst);
                        match verifier.verify(token.as_bytes(), at(0)).await {
                            Ok(_) if after => return Err(passed),
                            Ok(_) => passed += 1,
                            Err(Rejection::Revoked) => return Ok(passed),
                            Err(other) => panic!("{other}"),
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        list.revoke(vec![revocation(Revoked::Token(format!("r-{round}")))], at(0)).await.unwrap();
        returned.store(true, Ordering::SeqCst);
        for user in users {
            user.await.unwrap().unwrap_or_else(|passed| panic!("round {round}: passed after {passed} good ones"));
        }
    }
}

/// A token that is revoked over and over takes the room of one.
#[tokio::test]
async fn to_revoke_again_takes_no_more_room() {
    let folder = Folder::new("again");
    let store = SqliteStore::open(folder.file("a.db")).unwrap();
    for seconds in 0..50 {
        let again = Revocation { tokens: Revoked::Token("t".to_owned()), until: at(1000 + seconds % 7) };
        store.revoke_tokens(vec![again.clone(), again], at(0)).await.unwrap();
    }
    for issued in [5, 9, 7] {
        let subject = Revoked::Subject("user:1".to_owned(), at(issued));
        store.revoke_tokens(vec![Revocation { tokens: subject, until: at(1000 + issued) }], at(0)).await.unwrap();
    }
    let all = store.revocations(Cursor::START, at(0)).await.unwrap().list;
    let subject = Revocation { tokens: Revoked::Subject("user:1".to_owned(), at(9)), until: at(1009) };
    assert_eq!(all.len(), 2);
    assert!(all.contains(&subject) && all.iter().any(|one| one.until == at(1006)), "{all:?}");
}
