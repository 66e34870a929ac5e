//! In every order of steps: a token does not pass once its key is gone or it was called back, whoever verified it meanwhile,
//! and wherever a copy of it is kept.
//!
//! This is the whole verifier, with its cache, its keys and the list of revocations. A stand-in takes the place of
//! `quick_cache`: a lock around a map. All threads share one front, as more threads than cores do. Not here: keys and
//! revocations that arrive from a store, which come in through the same two calls.

use loom::thread;

use super::*;
use crate::{
    jwt::{Algorithm, KeyRing, KeySet, SigningKey},
    store::{MemoryStore, Revocation, Revoked},
    sync::in_every_order,
};

const NOW: UnixSeconds = UnixSeconds::new(100);

struct Server {
    verifier: Verifier,
    ring: KeyRing,
    list: RevocationList,
    key: SigningKey,
    token: Vec<u8>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::hmac(Algorithm::Hs256, &std::array::from_fn::<u8, 64, _>(|at| number ^ u8::try_from(at).unwrap()))
        .unwrap()
}

fn token(key: &SigningKey, id: &str) -> Vec<u8> {
    let claims = serde_json::json!({
        "iss": "i", "aud": "a", "sub": "s", "client_id": "c", "jti": id, "iat": 1, "exp": 600,
    });
    key.sign(&claims).unwrap().into_bytes()
}

fn set(key: &SigningKey) -> KeySet {
    KeySet::new([key.verifying_key()]).unwrap()
}

impl Server {
    /// With a token that was verified so often: not at all, once, or until the thread has a copy of its own.
    fn after(verified: usize) -> Arc<Self> {
        let ring = KeyRing::given(key(2), []).unwrap();
        let key = key(1);
        ring.put(set(&key));
        let list = RevocationList::new(Arc::new(MemoryStore::new()));
        list.has_read_as_of(NOW);
        let policy = ClaimsPolicy::builder("i", "a").build().unwrap();
        let verifier = Verifier::new(policy, ring.clone()).revocations("i", list.clone()).unwrap();
        let server = Self { verifier, ring, list, token: token(&key, "j"), key };
        for _ in 0..verified {
            server.passes().unwrap();
        }
        Arc::new(server)
    }

    fn passes(&self) -> Result<(), Rejection> {
        self.verifier.verify_at(&self.token, NOW).map(drop)
    }
}

/// How often to verify a token first: not at all, once, and more often than it takes for a copy in front.
const VERIFIED: [usize; 3] = [0, 1, 10];

/// While `end` ends a token and looks at it, so does somebody else; then nobody lets it pass.
fn ends(interruptions: usize, end: fn(&Server), refused: fn(Rejection) -> bool) {
    for verified in VERIFIED {
        in_every_order(interruptions, move || {
            let server = Server::after(verified);
            let other = thread::spawn({
                let server = Arc::clone(&server);
                move || {
                    end(&server);
                    assert!(server.passes().is_err_and(refused), "the call has returned");
                }
            });
            // Before or after.
            let seen = server.passes();
            assert!(seen.is_ok() || seen.is_err_and(refused), "{seen:?}");
            assert!(seen.is_ok() || server.passes().is_err(), "what was refused comes back");
            other.join().unwrap();
            assert!(server.passes().is_err_and(refused), "it was verified meanwhile");
        });
    }
}

#[test]
fn no_token_passes_once_its_key_is_gone() {
    let gone = |why| matches!(why, Rejection::BadSignature | Rejection::UnknownKey);
    ends(3, |server| server.ring.put(set(&key(2))), gone);
    // By way of a set in which it still is: one more, to be between the two both when it is looked at and when that is noted.
    let twice = |server: &Server| {
        server.ring.put(set(&server.key));
        server.ring.put(set(&key(2)));
    };
    ends(4, twice, gone);
}

#[test]
fn no_token_passes_once_it_was_called_back() {
    let end = |server: &Server| {
        let revocation = Revocation { tokens: Revoked::Token("j".to_owned()), until: UnixSeconds::new(600) };
        server.list.learn(vec![revocation], NOW).unwrap();
    };
    ends(3, end, |why| why == Rejection::Revoked);
}

/// Two lists are learnt at once, one of which has the token: whoever saw the other version looks again.
#[test]
fn what_is_called_back_beside_others_is_not_passed_over() {
    in_every_order(2, || {
        let server = Server::after(1);
        let learn = |id: &'static str| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let revocation = Revocation { tokens: Revoked::Token(id.to_owned()), until: UnixSeconds::new(600) };
                server.list.learn(vec![revocation], NOW).unwrap();
            })
        };
        let (own, others) = (learn("j"), learn("k"));
        let _ = server.passes();
        own.join().unwrap();
        assert_eq!(server.passes(), Err(Rejection::Revoked));
        others.join().unwrap();
        assert_eq!(server.passes(), Err(Rejection::Revoked));
    });
}

#[test]
fn the_tokens_of_a_new_key_pass_from_when_it_is_there() {
    in_every_order(3, || {
        let server = Server::after(1);
        let new = token(&key(2), "new");
        let writer = thread::spawn({
            let (server, new) = (Arc::clone(&server), new.clone());
            move || {
                server.ring.put(set(&key(2)));
                server.verifier.verify_at(&new, NOW).expect("its key is there");
            }
        });
        if server.verifier.verify_at(&new, NOW).is_ok() {
            assert!(server.passes().is_err(), "whoever has seen the new set does not use the old one");
        }
        writer.join().unwrap();
        server.verifier.verify_at(&new, NOW).expect("its key is there");
    });
}
