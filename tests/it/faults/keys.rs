//! The server where another issuer publishes its keys: gone, stuck, out of its mind, and back.

use std::{fs, net::SocketAddr, time::Duration};

use portcullis::jwt::{Algorithm, SigningKey};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::sleep};

use super::{Asks, Crowd, Phase, Program, SECOND, start};
use crate::support::{now, try_send};

const ISSUER: &str = "https://theirs.example";

/// Answers whoever asks with what is no key set.
async fn garbage(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"keys\": [{\"kty\": 7}]",
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}",
        "HTTP/1.1 500 Oh\r\n\r\n",
        "\0\0\0\0",
    ];
    for answer in answers.iter().cycle() {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// A token of theirs.
fn signed(key: &SigningKey) -> String {
    let claims = json!({ "iss": ISSUER, "aud": "theirs", "sub": "user:their-alice", "client_id": "app", "jti": "1",
        "iat": now(), "exp": now() + 600, "scope": "me items" });
    key.sign(&claims).unwrap()
}

async fn status(address: SocketAddr, token: &str) -> u16 {
    let token = format!("authorization: Bearer {token}");
    let reply = try_send(address, "GET /users/me", &[token.as_bytes()], b"", 10 * SECOND).await;
    reply.map_or(0, |reply| reply.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_137_a_key_server_that_is_gone_stuck_or_mad_changes_nothing() {
    let pem = |name: &str| fs::read_to_string(format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (first, second) = (pem("ed25519"), pem("p256"));
    let theirs = |algorithm: &str, key: &str| {
        let variables = [("ISSUER", ISSUER), ("AUDIENCE", "theirs"), ("ALGORITHM", algorithm), ("SIGNING_KEY", key)];
        Program::prepare(&format!("issuer-{algorithm}"), &variables)
    };
    let mut issuer = theirs("EdDSA", &first);
    issuer.begin();
    let keys = format!("http://{}/.well-known/jwks.json", issuer.address);
    let foreign =
        [("JWKS_URL", keys.as_str()), ("JWKS_ISSUER", ISSUER), ("JWKS_AUDIENCE", "theirs"), ("JWKS_COOLDOWN", "1")];
    let program = start("keys", &[&[("STORE", "sqlite:a.db")][..], &foreign].concat());
    let good = signed(&SigningKey::from_pem(Algorithm::EdDsa, first.as_bytes()).unwrap());
    let next = SigningKey::from_pem(Algorithm::Es256, second.as_bytes()).unwrap();
    let address = program.address;
    for _ in 0..100 {
        if status(address, &good).await == 200 {
            break;
        }
        sleep(SECOND / 20).await;
    }
    let crowd = Crowd::begin(address);
    let ledger = std::sync::Arc::clone(&crowd.client.ledger);
    let watch = tokio::spawn(async move {
        let made_up = signed(&SigningKey::generate(Algorithm::EdDsa).unwrap());
        loop {
            let (good, made_up) = futures::future::join(status(address, &good), status(address, &made_up)).await;
            if good != 200 {
                ledger.lost(format!("a token of the other issuer: {good}"));
            }
            if made_up < 400 {
                ledger.odd(format!("a made-up token: {made_up}"));
            }
            sleep(Duration::from_millis(50)).await;
            ledger.acknowledged();
        }
    });
    let fault = async {
        issuer.kill();
        sleep(2 * SECOND).await;
        tokio::task::block_in_place(|| issuer.begin());
        sleep(SECOND / 2).await;
        issuer.signal("STOP");
        sleep(2 * SECOND).await;
        issuer.signal("CONT");
        sleep(SECOND / 2).await;
        issuer.kill();
        let mad = tokio::spawn(garbage(issuer.address));
        sleep(2 * SECOND).await;
        mad.abort();
        let _ = mad.await;
        watch.abort();
        let _ = watch.await;
        // Back, with another key, so that the one before is good no longer.
        let address = issuer.address;
        issuer = theirs("ES256", &second);
        issuer.address = address;
        tokio::task::block_in_place(|| issuer.begin());
    };
    crowd.through(SECOND, fault, SECOND / 10).await;
    let fresh = signed(&next);
    let mut told = Vec::new();
    for _ in 0..100 {
        told.push(status(address, &fresh).await);
        if told.last() == Some(&200) {
            break;
        }
        sleep(SECOND / 10).await;
    }
    assert_eq!(told.last(), Some(&200), "the new key is found: {told:?}");
    let ledger = crowd.settle().await;
    let test = "req_137_a_key_server_that_is_gone_stuck_or_mad_changes_nothing";
    ledger.told("the key server of another issuer is killed, stops, answers nonsense; back with another key", test);
    let all = [Asks::Token, Asks::User, Asks::Refresh, Asks::SignIn, Asks::SignOut, Asks::Register, Asks::Password];
    assert_eq!(ledger.count(Phase::During, &all, 503) + ledger.count(Phase::During, &all, 0), 0, "own users go on");
}
