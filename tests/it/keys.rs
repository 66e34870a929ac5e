//! Keys from every kind of document, and tokens that other libraries made or read.

use jsonwebtoken as jwt;
use portcullis::{
    config::ConfigError,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey, Verifier, VerifyingKey},
    rejection::Rejection,
};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Authority, ISSUER, now};

macro_rules! key {
    ($name:literal) => {
        include_bytes!(concat!("../keys/", $name, ".pem"))
    };
}

const ALL: [Algorithm; 13] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
    Algorithm::Ed25519,
];
/// As FastAPI's tutorial has it: 32 bytes in hexadecimal.
const SECRET: &[u8] = b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7";
/// Long enough for every HMAC.
const LONG_SECRET: &[u8] = b"_09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7";

fn signing(algorithm: Algorithm) -> SigningKey {
    match algorithm.name().get(..2) {
        Some("HS") => SigningKey::hmac(algorithm, LONG_SECRET),
        Some("RS" | "PS") => SigningKey::from_pem(algorithm, key!("rsa")),
        Some("Ed") => SigningKey::from_pem(algorithm, key!("ed25519")),
        _ if algorithm == Algorithm::Es384 => SigningKey::from_pem(algorithm, key!("p384")),
        _ => SigningKey::from_pem(algorithm, key!("p256")),
    }
    .unwrap()
}

fn verifying(algorithm: Algorithm) -> VerifyingKey {
    match algorithm.name().get(..2) {
        Some("HS") => VerifyingKey::hmac(algorithm, LONG_SECRET),
        Some("RS" | "PS") => VerifyingKey::from_pem(algorithm, key!("rsa_pub")),
        Some("Ed") => VerifyingKey::from_pem(algorithm, key!("ed25519_pub")),
        _ if algorithm == Algorithm::Es384 => VerifyingKey::from_pem(algorithm, key!("p384_pub")),
        _ => VerifyingKey::from_pem(algorithm, key!("p256_pub")),
    }
    .unwrap()
}

fn verifier(key: VerifyingKey) -> Verifier {
    Verifier::new(ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap(), KeySet::new([key]).unwrap())
}

fn verdict(verifier: &Verifier, token: &str) -> Result<(), Rejection> {
    verifier.verify_at(token.as_bytes(), portcullis::clock::UnixSeconds::new(now())).map(drop)
}

#[test]
fn req_058_req_059_req_083_req_085_every_algorithm_verifies_its_own_and_no_other() {
    for algorithm in ALL {
        let token = Authority(signing(algorithm)).token("me");
        for other in ALL {
            let name = |algorithm: Algorithm| algorithm.name().replace("Ed25519", "EdDSA");
            let fits = name(algorithm) == name(other);
            let verdict = verdict(&verifier(verifying(other)), &token);
            let expected = if fits { Ok(()) } else { Err(Rejection::UnknownKey) };
            assert_eq!(verdict, expected, "{algorithm} token, {other} key");
        }
    }
}

fn peer_algorithm(algorithm: Algorithm) -> Option<jwt::Algorithm> {
    algorithm.name().parse().ok()
}

#[test]
fn tokens_of_jsonwebtoken_verify_and_ours_verify_there() {
    for algorithm in ALL {
        let Some(peer) = peer_algorithm(algorithm) else { continue };
        let (encode, decode) = match algorithm.name().get(..2) {
            Some("HS") => (jwt::EncodingKey::from_secret(LONG_SECRET), jwt::DecodingKey::from_secret(LONG_SECRET)),
            Some("RS" | "PS") => (
                jwt::EncodingKey::from_rsa_pem(key!("rsa")).unwrap(),
                jwt::DecodingKey::from_rsa_pem(key!("rsa_pub")).unwrap(),
            ),
            Some("Ed") => (
                jwt::EncodingKey::from_ed_pem(key!("ed25519")).unwrap(),
                jwt::DecodingKey::from_ed_pem(key!("ed25519_pub")).unwrap(),
            ),
            _ if algorithm == Algorithm::Es384 => (
                jwt::EncodingKey::from_ec_pem(key!("p384")).unwrap(),
                jwt::DecodingKey::from_ec_pem(key!("p384_pub")).unwrap(),
            ),
            _ => (
                jwt::EncodingKey::from_ec_pem(key!("p256")).unwrap(),
                jwt::DecodingKey::from_ec_pem(key!("p256_pub")).unwrap(),
            ),
        };
        let mut header = jwt::Header::new(peer);
        header.typ = Some("at+jwt".to_owned());
        let claims = json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": "user:7", "client_id": "c", "jti": "j", "iat": now(), "exp": now() + 60,
        });
        let theirs = jwt::encode(&header, &claims, &encode).unwrap();
        assert_eq!(verdict(&verifier(verifying(algorithm)), &theirs), Ok(()), "{algorithm}");

        let ours = Authority(signing(algorithm)).token("me");
        let mut validation = jwt::Validation::new(peer);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let read = jwt::decode::<Value>(&ours, &decode, &validation).unwrap();
        assert_eq!(
            (&read.claims["sub"], read.header.typ.as_deref()),
            (&json!("user:7"), Some("at+jwt")),
            "{algorithm}"
        );
    }
}

#[test]
fn documents_of_every_kind_load() {
    let token = |key: SigningKey| Authority(key).token("");
    let rsa = token(SigningKey::from_pem(Algorithm::Rs256, key!("rsa_pkcs1")).unwrap());
    for pem in [&key!("rsa_pub")[..], key!("rsa_pub_pkcs1")] {
        let key = VerifyingKey::from_pem(Algorithm::Rs256, pem).unwrap();
        assert_eq!(verdict(&verifier(key), &rsa), Ok(()));
    }
    // `openssl ecparam -genkey` puts a block of parameters in front.
    let ec = token(SigningKey::from_pem(Algorithm::Es256, key!("p256_sec1")).unwrap());
    assert_eq!(verdict(&verifier(verifying(Algorithm::Es256)), &ec), Ok(()));
}

#[test]
fn req_081_req_083_keys_that_do_not_fit_are_config_errors() {
    use Algorithm::{Ed25519, EdDsa, Es256, Es384, Hs256, Ps512, Rs256};
    let mismatch = ConfigError::KeyMismatch;
    let weak = |bits| ConfigError::WeakKey { algorithm: Rs256, bits, least: 2048 };
    let rows: &[(Algorithm, &[u8], ConfigError)] = &[
        (Rs256, key!("rsa_1024_pub"), weak(1024)),
        (Rs256, key!("rsa_2047_pub"), weak(2047)),
        (Es256, key!("p384_pub"), mismatch(Es256)),
        (Es384, key!("p256_pub"), mismatch(Es384)),
        (EdDsa, key!("p256_pub"), mismatch(EdDsa)),
        (Ed25519, key!("rsa_pub"), mismatch(Ed25519)),
        (Rs256, key!("p256_pub"), mismatch(Rs256)),
        (Es256, key!("rsa_pub"), mismatch(Es256)),
        (Hs256, key!("rsa_pub"), mismatch(Hs256)),
        (Rs256, b"", ConfigError::Key("not exactly one PEM block")),
        (Rs256, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", mismatch(Rs256)),
        (Rs256, key!("rsa"), ConfigError::Key("PEM block is neither `PUBLIC KEY` nor `RSA PUBLIC KEY`")),
    ];
    for (algorithm, pem, expected) in rows {
        assert_eq!(VerifyingKey::from_pem(*algorithm, pem).unwrap_err(), *expected, "{algorithm}");
    }
    let rows: &[(Algorithm, &[u8], ConfigError)] = &[
        (Rs256, key!("rsa_1024"), ConfigError::Key("RSA modulus under 2,048 bits")),
        (Es256, key!("p384"), mismatch(Es256)),
        (Es256, key!("k256"), mismatch(Es256)),
        (EdDsa, key!("p256"), mismatch(EdDsa)),
        (Rs256, key!("ed25519"), mismatch(Rs256)),
        (Ps512, key!("p256"), mismatch(Ps512)),
        (Hs256, key!("rsa"), mismatch(Hs256)),
        (Es256, key!("encrypted"), ConfigError::Key("private key is encrypted")),
        (Es256, key!("p256_pub"), ConfigError::Key("not exactly one private key in PEM")),
        (Es256, b"", ConfigError::Key("not exactly one private key in PEM")),
    ];
    for (algorithm, pem, expected) in rows {
        assert_eq!(SigningKey::from_pem(*algorithm, pem).unwrap_err(), *expected, "{algorithm}");
    }
}

#[test]
fn req_063_hmac_keys_must_be_long_and_random() {
    use Algorithm::{Hs256, Hs384, Hs512};
    let bytes: Vec<u8> = (0..=255).collect();
    let weak = |algorithm, bits, least| Err(ConfigError::WeakKey { algorithm, bits, least });
    for (algorithm, secret, expected) in [
        (Hs256, &bytes[..32], Ok(())),
        (Hs256, &bytes[..31], weak(Hs256, 248, 256)),
        (Hs384, &bytes[..48], Ok(())),
        (Hs384, &bytes[..47], weak(Hs384, 376, 384)),
        (Hs512, &bytes[..64], Ok(())),
        (Hs512, &bytes[..63], weak(Hs512, 504, 512)),
        (Hs256, b"", weak(Hs256, 0, 256)),
        (Hs256, b"secret", weak(Hs256, 48, 256)),
        (Hs256, SECRET, Ok(())),
        (Hs512, SECRET, weak(Hs512, 256, 512)),
        (Hs512, LONG_SECRET, Ok(())),
        // 16 bytes in hexadecimal are 32 characters, with or without the end of a line.
        (Hs256, &SECRET[..32], weak(Hs256, 128, 256)),
        (Hs256, b"09d25e094faa6ca2556c818166b7a956\n", weak(Hs256, 128, 256)),
        (Hs256, &[b'x'; 64], Err(ConfigError::GuessableKey)),
        (Hs256, b"changemechangemechangemechangeme", Err(ConfigError::GuessableKey)),
        (Algorithm::Rs256, &bytes, Err(ConfigError::KeyMismatch(Algorithm::Rs256))),
    ] {
        assert_eq!(VerifyingKey::hmac(algorithm, secret).map(drop), expected, "{algorithm}, {} bytes", secret.len());
        assert_eq!(SigningKey::hmac(algorithm, secret).map(drop), expected);
    }
    // CVE-2015-9235 by configuration: whoever has the public key could sign.
    let der = |pem: &[u8]| pem::parse(pem).unwrap().into_contents();
    let documents: [&[u8]; 6] = [
        key!("rsa_pub"),
        key!("p256_pub"),
        key!("rsa"),
        &der(key!("rsa_pub")),
        &der(key!("p384_pub")),
        &der(key!("rsa_pub_pkcs1")),
    ];
    for document in documents {
        assert!(matches!(VerifyingKey::hmac(Hs256, document), Err(ConfigError::Key(_))), "{} bytes", document.len());
    }
}

#[test]
fn req_088_jwks_speak_for_themselves() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let okp = |more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#);
    for (json, good) in [
        (okp(""), true),
        (okp(r#","alg":"EdDSA","use":"sig","kid":"k""#), true),
        (okp(r#","alg":"Ed25519","key_ops":["verify"]"#), true),
        (okp(r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A""#), true),
        (okp(r#","use":"enc""#), false),
        (okp(r#","key_ops":["sign"]"#), false),
        (okp(r#","alg":"ES256""#), false),
        (okp(r#","kid":1"#), false),
        (okp(r#","kty":"OKP""#), false),
        (r#"{"kty":"OKP","crv":"Ed448","x":"AA"}"#.to_owned(), false),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.to_owned(), false),
        (r#"{"kty":"OKP","crv":"Ed25519"}"#.to_owned(), false),
        (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}="}}"#), false),
        (format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#), false),
        (r#"{"kty":"oct","k":"AAAA"}"#.to_owned(), false),
        ("[]".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(VerifyingKey::from_jwk(Algorithm::EdDsa, &json).is_ok(), good, "{json}");
    }
    assert!(VerifyingKey::from_jwk(Algorithm::Es256, &okp("")).is_err());
}

/// Each valid token, with each of its characters replaced by each of some others, is refused.
#[test]
fn req_092_any_changed_character_is_refused() {
    for algorithm in ALL {
        let token = Authority(signing(algorithm)).token("me");
        let verifier = verifier(verifying(algorithm));
        assert_eq!(verdict(&verifier, &token), Ok(()));
        let mut changed = token.clone().into_bytes();
        for at in 0..changed.len() {
            let original = changed[at];
            // The neighbours in the alphabet differ in the lowest bits, which a lax decoder drops.
            for other in [original ^ 1, original ^ 2, original ^ 0x20, b'A', b'_', b'=', b'.', b'\n', 0xff] {
                if other == original {
                    continue;
                }
                changed[at] = other;
                let verdict = verifier.verify_at(&changed, portcullis::clock::UnixSeconds::new(now()));
                assert!(verdict.is_err(), "{algorithm}: byte {at} from {original} to {other}");
            }
            changed[at] = original;
        }
        for longer in [format!("{token}A"), format!("A{token}"), format!("{token}."), format!("{token} ")] {
            assert!(verdict(&verifier, &longer).is_err());
        }
    }
}
