//! Published attacks on JWT libraries, and bytes of every kind, against the whole stack.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use portcullis::{
    bearer::BearerExtractLayer,
    clock::UnixSeconds,
    jwt::{Algorithm, ClaimsPolicy, JwtVerifyLayer, KeySet, Verifier, VerifyingKey},
    rejection::Rejection,
};
use proptest::prelude::*;
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{AUDIENCE, Authority, ISSUER, now};

const RSA: &[u8] = include_bytes!("../keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../keys/rsa_pub.pem");
const P256: &[u8] = include_bytes!("../keys/p256.pem");
const P256_PUBLIC: &[u8] = include_bytes!("../keys/p256_pub.pem");
/// FIPS 186-4 §D.1.2.3.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

fn claims() -> String {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user:7", "client_id": "c", "jti": "j", "iat": now(), "exp": now() + 60,
    })
    .to_string()
}

fn verifier(key: VerifyingKey) -> Verifier {
    Verifier::new(ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap(), KeySet::new([key]).unwrap())
}

fn verdict(key: VerifyingKey, token: &str) -> Result<(), Rejection> {
    verifier(key).verify_at(token.as_bytes(), UnixSeconds::new(now())).map(drop)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this very header and payload, rightly signed with HS256.
fn hs256(header: &str, payload: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", encode(tag))
}

fn hs256_key() -> VerifyingKey {
    VerifyingKey::hmac(Algorithm::Hs256, SECRET).unwrap()
}

fn der(pem: &[u8]) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}

const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;

#[test]
fn the_helper_makes_good_tokens() {
    assert_eq!(verdict(hs256_key(), &hs256(HEADER, claims().as_bytes())), Ok(()));
}

#[test]
fn req_060_none_in_every_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", "", "null", "HS256\\u0000", "none ", "HS257", "RS256", "ES256"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#);
        let signed = format!("{}.{}", encode(&header), encode(claims()));
        for token in [format!("{signed}."), format!("{signed}.AA"), hs256(&header, claims().as_bytes()), signed.clone()]
        {
            assert!(verdict(hs256_key(), &token).is_err(), "{alg:?}");
        }
    }
}

#[test]
fn req_058_a_public_key_is_no_hmac_secret() {
    // CVE-2015-9235 and its many returns: the public key, in any form an attacker may have it, used as HMAC key.
    let public = VerifyingKey::from_pem(Algorithm::Rs256, RSA_PUBLIC).unwrap();
    let spki = der(RSA_PUBLIC);
    let trimmed = RSA_PUBLIC.trim_ascii_end();
    for secret in [RSA_PUBLIC, trimmed, &spki] {
        let signed = format!("{}.{}", encode(HEADER), encode(claims()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = format!("{signed}.{}", encode(tag));
        assert_eq!(verdict(public.clone(), &token), Err(Rejection::UnknownKey));
    }
}

#[test]
fn req_069_keys_inside_the_token_are_never_used() {
    // The attacker's own key pair, and its public half as a server would publish it.
    let der = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let x = encode(pair.public_key().as_ref());
    let jwk = format!(r#""jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
    let authority = Authority::new(Algorithm::EdDsa);
    for extra in [
        jwk.as_str(),
        "\"jku\":\"https://evil.example/jwks\"",
        "\"x5u\":\"https://evil.example/x\"",
        "\"x5c\":[\"AA\"]",
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt",{extra}}}"#);
        let signed = format!("{}.{}", encode(&header), encode(claims()));
        let token = format!("{signed}.{}", encode(pair.sign(signed.as_bytes())));
        assert_eq!(verdict(authority.0.verifying_key(), &token), Err(Rejection::BadSignature), "{extra}");
        // The control: with that key configured, the same token is good.
        let own = VerifyingKey::from_jwk(Algorithm::EdDsa, &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#));
        assert_eq!(verdict(own.unwrap(), &token), Ok(()), "{extra}");
        // Beside a good signature they are ignored.
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt",{extra}}}"#);
        assert_eq!(verdict(hs256_key(), &hs256(&header, claims().as_bytes())), Ok(()), "{extra}");
    }
}

#[test]
fn req_069_key_ids_are_compared_and_nothing_else() {
    let key = hs256_key().with_kid("k1");
    for kid in
        ["../../../../dev/null", "' OR 1=1 --", "k1\\u0000", "K1", "k1 ", "", "*", "k1/../k1", "${jndi:ldap://x}"]
    {
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
        let token = hs256(&header, claims().as_bytes());
        assert_eq!(verdict(key.clone(), &token), Err(Rejection::UnknownKey), "{kid}");
    }
    let escaped = hs256(r#"{"alg":"HS256","typ":"at+jwt","kid":"\u006b1"}"#, claims().as_bytes());
    assert_eq!(verdict(key, &escaped), Ok(()), "an escape is another spelling of the same");
}

#[test]
fn req_072_req_073_req_078_signed_but_not_strict() {
    let good = claims();
    let rest = good.strip_prefix('{').unwrap();
    let payloads = [
        format!("{{\"sub\":\"user:1\",{rest}"),
        format!("{{\"\\u0073ub\":\"user:1\",{rest}"),
        format!("{{\"x\":{{\"a\":1,\"a\":2}},{rest}"),
        format!("{{\"x\":{}1{},{rest}", "[".repeat(16), "]".repeat(16)),
        format!("{good} x"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        format!("[{good}]"),
        good.replace("\"exp\"", "\"Exp\""),
        good.replace("\"sub\":\"user:7\"", "\"sub\":{\"toString\":1}"),
        good.replace("\"sub\":\"user:7\"", "\"sub\":[\"user:7\"]"),
        "null".to_owned(),
        "\"\"".to_owned(),
    ];
    for payload in payloads {
        assert!(verdict(hs256_key(), &hs256(HEADER, payload.as_bytes())).is_err(), "{payload}");
    }
    let latin1 = good.replace("user:7", "user:\u{1}").replace('\u{1}', "\\u0001").into_bytes();
    assert_eq!(verdict(hs256_key(), &hs256(HEADER, &latin1)), Ok(()));
    let invalid: Vec<u8> = good.bytes().map(|byte| if byte == b'7' { 0xe9 } else { byte }).collect();
    assert!(verdict(hs256_key(), &hs256(HEADER, &invalid)).is_err(), "req 65");
    for header in [
        r#"{"alg":"HS256","typ":"at+jwt","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","typ":"at+jwt","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","typ":"at+jwt","zip":"DEF"}"#,
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        r#"{"alg":"HS256","typ":"dpop+jwt"}"#,
        r#"{"alg":"HS256"}"#,
        r#"["HS256"]"#,
    ] {
        assert!(verdict(hs256_key(), &hs256(header, good.as_bytes())).is_err(), "{header}");
    }
}

#[test]
fn req_062_req_080_other_serialisations() {
    let good = hs256(HEADER, claims().as_bytes());
    let parts: Vec<&str> = good.split('.').collect();
    let flattened =
        json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2], "header": { "alg": "none" } });
    for token in [
        format!("{good}.AA.AA"),
        format!("{good}.AA"),
        flattened.to_string(),
        format!(" {good}"),
        format!("{good}\n"),
        good.replace('.', ". "),
        format!("{}={}", &good[..10], &good[10..]),
        good.replace('.', "%2e"),
    ] {
        assert!(verdict(hs256_key(), &token).is_err(), "{token}");
    }
}

#[test]
fn req_082_ecdsa_signatures_of_other_forms() {
    let key = VerifyingKey::from_pem(Algorithm::Es256, P256_PUBLIC).unwrap();
    let signed = format!("{}.{}", encode(r#"{"alg":"ES256","typ":"at+jwt"}"#), encode(claims()));
    let random = SystemRandom::new();
    let sign = |algorithm| {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der(P256)).unwrap();
        pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec()
    };
    let fixed = sign(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    assert_eq!(verdict(key.clone(), &format!("{signed}.{}", encode(&fixed))), Ok(()));
    let order = P256_ORDER;
    let (r, s) = fixed.split_at(32);
    for bad in [
        sign(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        vec![0; 64],
        [r, &[0; 32]].concat(),
        [&[0; 32], s].concat(),
        [order, order].concat(),
        [r, &order].concat(),
        [&[0], &fixed[..]].concat(),
        fixed[..63].to_vec(),
        [&[0], r, &[0], s].concat(),
        vec![0xff; 64],
        vec![0; 1024],
        vec![0; 5000],
    ] {
        let token = format!("{signed}.{}", encode(&bad));
        assert_eq!(verdict(key.clone(), &token), Err(Rejection::BadSignature), "{} bytes", bad.len());
    }
}

#[test]
fn req_084_pss_salt_is_as_long_as_the_hash() {
    let key = VerifyingKey::from_pem(Algorithm::Ps256, RSA_PUBLIC).unwrap();
    let signed = format!("{}.{}", encode(r#"{"alg":"PS256","typ":"at+jwt"}"#), encode(claims()));
    let pair = RsaKeyPair::from_pkcs8(&der(RSA)).unwrap();
    let mut signature = vec![0; pair.public_key().modulus_len()];
    let mut verdict_with = |encoding: &'static dyn signature::RsaEncoding| {
        pair.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        verdict(key.clone(), &format!("{signed}.{}", encode(&signature)))
    };
    static LONGEST: std::sync::LazyLock<signature::RsaSignatureEncoding> =
        std::sync::LazyLock::new(|| signature::RSA_PSS_SHA256.with_pss_salt_length(signature::RsaPssSaltLength::Max));
    static NONE: std::sync::LazyLock<signature::RsaSignatureEncoding> = std::sync::LazyLock::new(|| {
        signature::RSA_PSS_SHA256.with_pss_salt_length(signature::RsaPssSaltLength::Custom(0))
    });
    assert_eq!(verdict_with(&signature::RSA_PSS_SHA256), Ok(()));
    for other in [&*LONGEST as &dyn signature::RsaEncoding, &*NONE, &signature::RSA_PKCS1_SHA256] {
        assert_eq!(verdict_with(other), Err(Rejection::BadSignature));
    }
}

#[test]
fn oversized_tokens_are_refused_by_their_length_alone() {
    let long = "a".repeat(9000);
    assert_eq!(verdict(hs256_key(), &long), Err(Rejection::TokenTooLong { bytes: 9000, most: 8192 }));
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).max_token(64 * 1024).build().unwrap();
    let wide = Verifier::new(policy, KeySet::new([hs256_key()]).unwrap());
    // Four thousand members in the header.
    let members = (0..4000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    let token = hs256(&format!(r#"{{"alg":"HS256","typ":"at+jwt",{members}}}"#), claims().as_bytes());
    assert!(token.len() < 64 * 1024 && wide.verify_at(token.as_bytes(), UnixSeconds::new(now())).is_ok());
}

#[test]
fn what_resembles_a_token_that_was_just_verified_is_refused() {
    let verifier = verifier(hs256_key());
    let good = hs256(HEADER, claims().as_bytes());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let other_claims = claims().replace("user:7", "user:1");
    let none = encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let check = |token: &str| verifier.verify_at(token.as_bytes(), UnixSeconds::new(now())).map(drop);
    for round in 0..3 {
        // More often each time, until this thread has a copy of its own.
        for _ in 0..=round * 20 {
            assert_eq!(check(&good), Ok(()));
        }
        assert_eq!(check(&format!("{header}.{payload}.{}", encode([7; 32]))), Err(Rejection::BadSignature));
        assert_eq!(check(&format!("{header}.{}.{signature}", encode(&other_claims))), Err(Rejection::BadSignature));
        assert_eq!(check(&format!("{none}.{payload}.{signature}")), Err(Rejection::UnknownKey));
        assert!(check(&format!("{none}.{payload}.")).is_err());
        assert!(check(&format!("{header}.{payload}")).is_err());
        assert!(check(&good[..good.len() - 1]).is_err());
    }
}

#[test]
fn a_token_that_was_verified_is_looked_at_again() {
    let verifier = verifier(hs256_key());
    let with = |exp: u64, nbf: u64| {
        let claims = claims().replace("\"exp\"", "\"x\"");
        format!("{{\"exp\":{exp},\"nbf\":{nbf},{}", claims.strip_prefix('{').unwrap())
    };
    let token = hs256(HEADER, with(now() + 60, now() - 60).as_bytes());
    let at = |seconds| verifier.verify_at(token.as_bytes(), UnixSeconds::new(seconds)).map(drop);
    for hits in [1, 20] {
        for _ in 0..hits {
            assert_eq!(at(now()), Ok(()));
        }
        assert_eq!(at(now() + 89), Ok(()), "with leeway");
        assert!(matches!(at(now() + 90), Err(Rejection::Expired { .. })));
        assert!(matches!(at(now() - 91), Err(Rejection::NotYetValid { .. })), "the clock was set back");
        assert_eq!(at(now()), Ok(()));
    }
}

/// ECDSA signatures have two valid forms, s and n - s. The other one is another text, and so another entry.
#[test]
fn the_other_form_of_an_ecdsa_signature_is_the_same_token() {
    let authority = Authority::new(Algorithm::Es256);
    let verifier = authority.verifier();
    let token = authority.token("me");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (order, s) in P256_ORDER.iter().zip(&mut signature[32..]).rev() {
        let difference = i16::from(*order) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let other = format!("{signed}.{}", encode(&signature));
    assert_ne!(other, token);
    let subject = |token: &str| {
        let proof = verifier.verify_at(token.as_bytes(), UnixSeconds::new(now()))?;
        Ok::<_, Rejection>(proof.principal().token_id().unwrap().to_owned())
    };
    // What revokes the one by its id revokes the other.
    assert_eq!((subject(&token), subject(&other)), (Ok("t-1".to_owned()), Ok("t-1".to_owned())));
}

type Answer = (u16, String, Vec<u8>);

/// Status, challenge and body of a request with this `Authorization` field: the two layers', and theirs in one step.
fn answer(field: &[u8], query: &str, optional: bool, authority: &Authority) -> Option<Answer> {
    let field = HeaderValue::from_bytes(field).ok()?;
    let inner =
        || service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(String::new())) });
    let extract = if optional { BearerExtractLayer::optional() } else { BearerExtractLayer::required() };
    let two = extract.layer(JwtVerifyLayer::new(authority.verifier()).layer(inner()));
    let api = authority.api();
    let one = if optional { api.authenticate_optional() } else { api.authenticate() }.layer(inner());
    let request =
        || Request::builder().uri(format!("/{query}")).header("authorization", field.clone()).body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (two, one) = (two.oneshot(request()).await.unwrap(), one.oneshot(request()).await.unwrap());
        let (two, one) = (parts(two).await, parts(one).await);
        assert_eq!(two, one, "{field:?} {query}");
        Some(one)
    })
}

async fn parts<B: http_body::Body>(response: Response<B>) -> Answer
where
    B::Error: std::fmt::Debug,
{
    let challenge = response.headers().get("www-authenticate").map(|field| field.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, challenge.unwrap_or_default(), response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[test]
fn one_step_answers_what_the_two_layers_answer() {
    let authority = Authority::new(Algorithm::Hs256);
    let good = authority.token("me");
    for field in [
        format!("Bearer {good}"),
        format!("bearer   {good}"),
        format!("Bearer {good}="),
        format!("Bearer {good} "),
        format!("Bearer {good},x"),
        format!("Bearer {}", &good[1..]),
        format!("Bearer {}", "a".repeat(9000)),
        format!("Bearer {}", "é".repeat(9000)),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer a.b.c".to_owned(),
        "Bearer a b".to_owned(),
        "Bearer \"\"".to_owned(),
        "Basic YTpi".to_owned(),
        ",Bearer a".to_owned(),
        String::new(),
    ] {
        for query in ["", "?access_token=x", "?x=1"] {
            for optional in [false, true] {
                let answered = answer(field.as_bytes(), query, optional, &authority);
                let passes = field.ends_with(&good) && query != "?access_token=x" || optional && field == "Basic YTpi";
                assert_eq!(answered.map(|(status, ..)| status == 200), Some(passes), "{field} {query} {optional}");
            }
        }
    }
}

fn is_refused(field: &[u8], authority: &Authority) {
    let Some((status, challenge, body)) = answer(field, "", false, authority) else { return };
    assert!(matches!(status, 400 | 401), "{status} for {field:?}");
    assert!(challenge.starts_with("Bearer realm=\"api\""), "{challenge}");
    let body = String::from_utf8(body).unwrap();
    let bodies = ["\"status\":401}", "\"error\":\"invalid_token\"}", "\"error\":\"invalid_request\"}"];
    assert!(bodies.iter().any(|end| body.ends_with(end)) && body.len() < 200, "{body}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn req_093_any_bytes_as_authorization(field in prop::collection::vec(any::<u8>(), 0..300)) {
        is_refused(&field, &Authority::new(Algorithm::Hs256));
    }

    #[test]
    fn req_093_any_text_as_token(token in "[ -~]{0,200}") {
        is_refused(format!("Bearer {token}").as_bytes(), &Authority::new(Algorithm::Hs256));
    }

    #[test]
    fn req_093_any_json_as_header_and_payload(header in json_value(), payload in json_value()) {
        // No panic; and no value that is no object of claims is a good token.
        prop_assert!(verdict(hs256_key(), &hs256(HEADER, payload.to_string().as_bytes())).is_err());
        prop_assert!(verdict(hs256_key(), &hs256(&header.to_string(), claims().as_bytes())).is_err());
        // The same among good members.
        let among = |good: &str, name: &str, value: &serde_json::Value| format!("{},\"{name}\":{value}}}", &good[..good.len() - 1]);
        prop_assert_eq!(verdict(hs256_key(), &hs256(HEADER, among(&claims(), "x", &payload).as_bytes())), Ok(()));
        prop_assert_eq!(verdict(hs256_key(), &hs256(&among(HEADER, "jku", &header), claims().as_bytes())), Ok(()));
        prop_assert!(verdict(hs256_key(), &hs256(&among(HEADER, "crit", &header), claims().as_bytes())).is_err());
    }

    #[test]
    fn req_076_any_value_as_any_claim(
        name in prop::sample::select(vec!["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "auth_time", "sid"]),
        value in r#"(-?[0-9]{1,25}(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?)|1[789][0-9]{8}(\.[0-9]{1,3})?|"[ -!#-\[\]-~]{0,20}"|null|true|\[\]|\{\}"#,
    ) {
        let mut good: serde_json::Value = serde_json::from_str(&claims()).unwrap();
        good.as_object_mut().unwrap().remove(name);
        let text = good.to_string();
        let payload = format!("{{\"{name}\":{value},{}", text.strip_prefix('{').unwrap());
        let verdict = verdict(hs256_key(), &hs256(HEADER, payload.as_bytes()));
        prop_assert_eq!(verdict.is_ok(), is_fine(name, &value), "{}: {:?}", payload, verdict);
    }
}

/// JSON of every kind, a few levels deep.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A second opinion, by way of `serde_json`: may a claim of this name, spelt like this, stand in a good token?
fn is_fine(name: &str, value: &str) -> bool {
    let Ok(parsed) = serde_json::from_str::<serde_json::Value>(value) else { return false };
    let text = parsed.as_str();
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
    let seconds =
        parsed.as_f64().filter(|seconds| (0.0..=9_007_199_254_740_992.0).contains(seconds)).map(|s| s - now() as f64);
    match name {
        "iss" => text == Some(ISSUER),
        "aud" => text == Some(AUDIENCE),
        "sub" | "jti" => text.is_some_and(|text| !text.is_empty()),
        "sid" => text.is_some(),
        "scope" => text.is_some_and(|text| text.parse::<portcullis::scope::ScopeSet>().is_ok()),
        "exp" => seconds.is_some_and(|ahead| ahead.floor() > -30.0),
        "nbf" => seconds.is_some_and(|ahead| ahead.ceil() <= 30.0),
        "iat" => seconds.is_some_and(|ahead| ahead.floor() <= 30.0),
        _ => seconds.is_some(),
    }
}
