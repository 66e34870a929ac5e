//! Tokens of identity providers, in the shapes that their docs show, signed for real: which pass, with what scopes, and why the
//! others do not.

mod given;

use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use jsonwebtoken as jwt;
use portcullis::{
    AuthorizationServer,
    clock::UnixSeconds,
    jwt::{Algorithm, KeySet, ScopeMap, SigningKey, Verifier, VerifyingKey},
    presets::{self, Provider},
    principal::Principal,
    rejection::Rejection,
};
use serde_json::{Value, json};

use crate::support::{get_with, now, serve};

const PRIVATE: &[u8] = include_bytes!("../keys/rsa.pem");
const PUBLIC: &[u8] = include_bytes!("../keys/rsa_pub.pem");

/// A token with this `typ` in its header, or none.
fn signed(typ: Option<&str>, claims: &Value) -> String {
    let mut header = jwt::Header::new(jwt::Algorithm::RS256);
    header.typ = typ.map(str::to_owned);
    jwt::encode(&header, claims, &jwt::EncodingKey::from_rsa_pem(PRIVATE).unwrap()).unwrap()
}

/// The scopes of a token that passes, or why it does not.
fn verdict(provider: &Provider, typ: Option<&str>, claims: &Value) -> Result<String, Rejection> {
    let key = VerifyingKey::from_pem(Algorithm::Rs256, PUBLIC).unwrap();
    let verifier = Verifier::new(provider.policy().clone(), KeySet::new([key]).unwrap());
    let caller = verifier.verify_at(signed(typ, claims).as_bytes(), UnixSeconds::new(now()))?.principal();
    assert_eq!(caller.subject(), claims["sub"]);
    Ok(caller.scopes().collect::<Vec<_>>().join(" "))
}

/// One change to a token that passes, and what comes of it.
type Row = (&'static str, Value, Result<&'static str, Rejection>);

/// The claims as they are must pass with `scopes`; with each change, what the row says. `null` takes a claim out.
fn table(provider: &Provider, typ: Option<&str>, claims: &Value, scopes: &str, rows: Vec<Row>) {
    let mut claims = claims.clone();
    claims["iat"] = now().into();
    claims["exp"] = (now() + 300).into();
    assert_eq!(verdict(provider, typ, &claims), Ok(scopes.to_owned()), "{claims}");
    for (name, value, expected) in rows {
        let mut changed = claims.clone();
        let members = changed.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name).unwrap();
        } else {
            members.insert(name.to_owned(), value);
        }
        assert_eq!(verdict(provider, typ, &changed), expected.map(str::to_owned), "{name}: {changed}");
    }
    // Bound to a key that nobody asks for here (RFC 8705, RFC 9449): void as a bearer token.
    for binding in [json!({ "jkt": "0ZcOCORZNYy" }), json!({ "x5t#S256": "bwcK0esc3AC" })] {
        let mut bound = claims.clone();
        bound["cnf"] = binding;
        assert_eq!(verdict(provider, typ, &bound), Err(Rejection::WrongType), "{bound}");
    }
    for other in ["logout+jwt", "dpop+jwt", "secevent+jwt"] {
        assert_eq!(verdict(provider, Some(other), &claims), Err(Rejection::WrongType), "{other}");
    }
    // The key decides, not what the token says of itself.
    let token = signed(typ, &claims);
    let stranger = SigningKey::generate(Algorithm::Rs256).unwrap().verifying_key();
    let verifier = Verifier::new(provider.policy().clone(), KeySet::new([stranger]).unwrap());
    let refused = verifier.verify_at(token.as_bytes(), UnixSeconds::new(now())).err();
    assert!(matches!(refused, Some(Rejection::BadSignature | Rejection::UnknownKey)), "{refused:?}");
}

/// An ID token, in its provider's shape.
fn refuses_id_token(provider: &Provider, claims: &Value, expected: Rejection) {
    let mut claims = claims.clone();
    claims["iat"] = now().into();
    claims["exp"] = (now() + 300).into();
    assert_eq!(verdict(provider, Some("JWT"), &claims), Err(expected), "{claims}");
    assert_eq!(verdict(provider, None, &claims), Err(expected), "{claims}");
}

#[test]
fn cognito() {
    use Rejection::{ClaimMalformed, ClaimMissing, WrongAudience, WrongIssuer, WrongType};
    let pool = presets::cognito("eu-central-1", "eu-central-1_Example1", "1example23456789").also_client("2other");
    let groups = ScopeMap::new().take("scope").map_roles("cognito:groups", [("admins", ["users:write", "me"])]);
    let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example1";
    // "Understanding the access token", Amazon Cognito Developer Guide.
    let access = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["admins", "testers"], "iss": issuer, "version": 2,
        "client_id": "1example23456789", "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "event_id": "e", "token_use": "access",
        "scope": "phone openid profile orders/read email", "auth_time": 1_676_312_777,
        "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "username": "my-test-user",
    });
    let scopes = "phone openid profile orders/read email";
    let plain = pool.clone().build().unwrap();
    let rows = vec![
        ("client_id", json!("2other"), Ok(scopes)),
        ("client_id", json!("3stranger"), Err(WrongAudience)),
        ("client_id", Value::Null, Err(WrongAudience)),
        ("iss", json!("https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example2"), Err(WrongIssuer)),
        ("iss", json!("https://cognito-idp.us-east-1.amazonaws.com/eu-central-1_Example1"), Err(WrongIssuer)),
        ("token_use", json!("id"), Err(WrongType)),
        ("token_use", json!(["access"]), Err(WrongType)),
        ("token_use", Value::Null, Err(WrongType)),
        // Resource binding: an audience that is there counts.
        ("aud", json!("https://other.example"), Err(WrongAudience)),
        ("aud", json!("https://api.example"), Err(WrongAudience)),
        ("aud", json!("2other"), Ok(scopes)),
        ("scope", Value::Null, Ok("")),
        ("scope", json!(["orders/read"]), Ok("orders/read")),
        ("scope", json!({ "orders": "read" }), Err(ClaimMalformed("scope"))),
        ("cognito:groups", json!(["orders/write"]), Ok(scopes)),
        ("sub", Value::Null, Err(ClaimMissing("sub"))),
    ];
    table(&plain, None, &access, scopes, rows);
    let bound = pool.clone().also_audience("https://api.example").build().unwrap();
    let mut of_api = access.clone();
    of_api["aud"] = "https://api.example".into();
    let rows = vec![
        ("aud", json!("https://other.example"), Err(WrongAudience)),
        ("aud", Value::Null, Ok(scopes)),
        ("client_id", json!("2other"), Ok(scopes)),
        // A stranger's client may ask for a token for this API, too.
        ("client_id", json!("3stranger"), Err(WrongAudience)),
        ("client_id", Value::Null, Err(WrongAudience)),
        // No API is a client.
        ("client_id", json!("https://api.example"), Err(WrongAudience)),
    ];
    table(&bound, None, &of_api, scopes, rows);
    let mapped = pool.replace_scopes(groups).build().unwrap();
    let rows = vec![
        ("cognito:groups", json!(["testers"]), Ok(scopes)),
        ("cognito:groups", json!({ "admins": true }), Err(ClaimMalformed("cognito:groups"))),
    ];
    table(&mapped, None, &access, "phone openid profile orders/read email users:write me", rows);
    // "Understanding the identity (ID) token".
    let id = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["admins"], "email_verified": true, "iss": issuer,
        "cognito:username": "my-test-user", "nonce": "abcdefg", "aud": "1example23456789", "event_id": "e", "token_use": "id",
        "auth_time": 1_676_312_777, "email": "my-test-user@example.com",
    });
    refuses_id_token(&plain, &id, WrongType);
    refuses_id_token(&mapped, &id, WrongType);
}

#[test]
fn auth0() {
    use Rejection::{WrongAudience, WrongIssuer, WrongType};
    let api = presets::auth0("my-domain.auth0.com", "https://example.com/health-api");
    let provider = api.clone().build().unwrap();
    // "Access Token Profiles", Auth0 Docs: the Auth0 profile.
    let access = json!({
        "iss": "https://my-domain.auth0.com/", "sub": "auth0|123456",
        "aud": ["https://example.com/health-api", "https://my-domain.auth0.com/userinfo"], "azp": "my_client_id",
        "scope": "openid profile read:patients read:admin", "permissions": ["read:patients"],
    });
    let scopes = "openid profile read:patients read:admin";
    let rows = || {
        vec![
            ("iss", json!("https://my-domain.auth0.com"), Err(WrongIssuer)),
            ("iss", json!("https://other.auth0.com/"), Err(WrongIssuer)),
            ("aud", json!("https://example.com/health-api"), Ok(scopes)),
            ("aud", json!("https://my-domain.auth0.com/userinfo"), Err(WrongAudience)),
            ("aud", json!(["https://example.com/other-api"]), Err(WrongAudience)),
            ("nonce", json!("n"), Err(WrongType)),
            ("at_hash", json!("h"), Err(WrongType)),
        ]
    };
    let mut profile = rows();
    profile.push(("azp", Value::Null, Err(WrongType)));
    table(&provider, Some("JWT"), &access, scopes, profile);
    // The RFC 9068 profile.
    let mut strict = access.clone();
    strict["client_id"] = strict.as_object_mut().unwrap().remove("azp").unwrap();
    strict["jti"] = "73WakrfVbNJBaAmhQtEeDv".into();
    let mut profile = rows();
    profile.push(("client_id", Value::Null, Err(WrongType)));
    table(&provider, Some("at+jwt"), &strict, scopes, profile);
    // Machine to machine, and what the user may rather than what the client has asked for.
    let machine = json!({
        "iss": "https://my-domain.auth0.com/", "sub": "my_client_id@clients", "aud": "https://example.com/health-api",
        "azp": "my_client_id", "gty": "client-credentials", "permissions": [],
    });
    table(&provider, Some("JWT"), &machine, "", vec![]);
    let permissions = api.permissions().build().unwrap();
    let rows = vec![
        ("permissions", json!([]), Ok("")),
        ("permissions", Value::Null, Ok("")),
        ("permissions", json!("read:patients read:admin"), Ok("read:patients read:admin")),
        ("permissions", json!([{ "name": "read:admin" }]), Err(Rejection::ClaimMalformed("permissions"))),
    ];
    table(&permissions, Some("JWT"), &access, "read:patients", rows);
    // "ID Token Structure".
    let id = json!({
        "given_name": "Jane", "nickname": "jane", "name": "Jane Doe", "iss": "https://my-domain.auth0.com/",
        "aud": "my_client_id", "sub": "auth0|123456", "sid": "s", "nonce": "n",
    });
    refuses_id_token(&provider, &id, WrongType);
    let mut bare = id.clone();
    bare.as_object_mut().unwrap().remove("nonce");
    refuses_id_token(&provider, &bare, WrongType);
    // Even if somebody has given the client's id for the API's.
    let mistaken = presets::auth0("my-domain.auth0.com", "my_client_id").build().unwrap();
    refuses_id_token(&mistaken, &id, WrongType);
    refuses_id_token(&mistaken, &bare, WrongType);
}

#[test]
fn clerk() {
    use Rejection::{ClaimMalformed, ClaimMissing, ClaimNotAllowed, WrongAudience, WrongIssuer, WrongType};
    let instance = presets::clerk("clerk.your-site.com", "https://example.com").also_origin("http://localhost:3000");
    let roles = ScopeMap::new().map_roles(["o", "rol"], [("admin", ["members:write"])]);
    let provider = instance.clone().replace_scopes(roles.clone()).build().unwrap();
    // "Session tokens", Clerk Docs, version 2.
    let session = json!({
        "azp": "https://example.com", "fva": [7, -1], "iss": "https://clerk.your-site.com", "jti": "1234567890", "nbf": 1_713_158_400,
        "sid": "sess_123", "sub": "user_123", "v": 2, "pla": "u:free,o:pro", "fea": "o:dashboard,o:impersonation", "sts": "active",
        "o": { "id": "org_123", "slg": "org-slug", "rol": "admin", "per": "read,manage", "fpm": "3,2" },
    });
    let rows = vec![
        ("azp", json!("http://localhost:3000"), Ok("members:write")),
        ("azp", json!("https://evil.example"), Err(WrongAudience)),
        ("azp", json!("https://example.com.evil.example"), Err(WrongAudience)),
        ("azp", json!("https://sub.example.com"), Err(WrongAudience)),
        ("azp", json!("https://example.com/"), Err(WrongAudience)),
        ("azp", json!(["https://example.com"]), Err(ClaimMalformed("azp"))),
        ("azp", Value::Null, Err(ClaimMissing("azp"))),
        ("iss", json!("https://clerk.other-site.com"), Err(WrongIssuer)),
        ("iss", json!("https://your-site.clerk.accounts.dev"), Err(WrongIssuer)),
        ("sts", json!("pending"), Err(ClaimNotAllowed)),
        ("sts", Value::Null, Ok("members:write")),
        ("sid", Value::Null, Err(WrongType)),
        ("aud", json!("https://api.example"), Err(WrongAudience)),
        ("aud", json!("https://example.com"), Err(WrongAudience)),
        ("o", json!({ "rol": "member" }), Ok("")),
        ("o", Value::Null, Ok("")),
    ];
    table(&provider, Some("JWT"), &session, "members:write", rows);
    let with_audience = instance.clone().replace_scopes(roles).also_audience("https://api.example");
    let with_audience = with_audience.build().unwrap();
    // A session token that has been customised.
    let mut customised = session.clone();
    customised["aud"] = "https://api.example".into();
    let rows = vec![
        ("aud", Value::Null, Ok("members:write")),
        ("aud", json!("https://others.example"), Err(WrongAudience)),
        // A page is no audience, nor an audience a page.
        ("aud", json!("https://example.com"), Err(WrongAudience)),
        ("azp", json!("https://api.example"), Err(WrongAudience)),
        ("azp", json!("https://evil.example"), Err(WrongAudience)),
        ("azp", Value::Null, Err(ClaimMissing("azp"))),
    ];
    table(&with_audience, Some("JWT"), &customised, "members:write", rows);
    // "JWT templates": with the claims that all of them have, and an `aud` of its own.
    let template = json!({
        "azp": "https://example.com", "iss": "https://clerk.your-site.com", "jti": "1234567890", "nbf": 1_713_158_400,
        "sub": "user_123", "aud": "https://api.example",
    });
    refuses_id_token(&with_audience, &template, WrongType);
    // Version 1, whose roles have a prefix.
    let roles = ScopeMap::new().map_roles("org_role", [("org:admin", ["members:write"])]).take("org_permissions");
    let older = instance.replace_scopes(roles).build().unwrap();
    let session = json!({
        "azp": "https://example.com", "iss": "https://clerk.your-site.com", "nbf": 1_713_158_400, "sid": "sess_123",
        "sub": "user_123", "org_id": "org_123", "org_role": "org:admin", "org_permissions": ["org:invoices:read"],
    });
    table(
        &older,
        Some("JWT"),
        &session,
        "members:write org:invoices:read",
        vec![("org_role", json!("admin"), Ok("org:invoices:read"))],
    );
    // Of an OAuth application, whose `aud` is its client.
    let id = json!({
        "iss": "https://clerk.your-site.com", "sub": "user_123", "aud": "client_123", "azp": "client_123", "nonce": "n",
        "email": "u@example.com",
    });
    refuses_id_token(&provider, &id, WrongType);
}

#[test]
fn keycloak() {
    use Rejection::{ClaimMalformed, ClaimMissing, WrongAudience, WrongIssuer, WrongType};
    let realm = presets::keycloak("https://id.acme.example/realms/acme", "orders");
    let provider = realm.clone().build().unwrap();
    let access = json!({
        "jti": "onrtac:1", "iss": "https://id.acme.example/realms/acme", "aud": ["orders", "account"], "sub": "f:1:alice",
        "typ": "Bearer", "azp": "shop", "sid": "s", "acr": "1", "allowed-origins": ["https://shop.example"],
        "realm_access": { "roles": ["default-roles-acme", "offline_access", "auditor"] },
        "resource_access": {
            "orders": { "roles": ["clerk"] },
            "account": { "roles": ["manage-account", "view-profile"] },
        },
        "scope": "openid profile email", "preferred_username": "alice",
    });
    let rows = vec![
        ("typ", json!("ID"), Err(WrongType)),
        ("typ", json!("Refresh"), Err(WrongType)),
        ("typ", json!("Offline"), Err(WrongType)),
        ("typ", json!("DPoP"), Err(WrongType)),
        ("typ", Value::Null, Err(WrongType)),
        ("aud", json!("account"), Err(WrongAudience)),
        ("aud", Value::Null, Err(ClaimMissing("aud"))),
        // Of a client without the scope `basic`.
        ("sub", Value::Null, Err(ClaimMissing("sub"))),
        ("azp", json!("orders"), Ok("openid profile email")),
        ("iss", json!("https://id.acme.example/realms/other"), Err(WrongIssuer)),
        ("iss", json!("https://id.acme.example/realms/acme/"), Err(WrongIssuer)),
        ("iss", json!("http://id.acme.example/realms/acme"), Err(WrongIssuer)),
    ];
    table(&provider, Some("JWT"), &access, "openid profile email", rows);
    table(&provider, Some("at+jwt"), &access, "openid profile email", vec![]);
    let roles = ScopeMap::new()
        .map_roles(["realm_access", "roles"], [("auditor", ["reports:read"])])
        .map_roles(["resource_access", "orders", "roles"], [("clerk", ["orders:write"])]);
    let mapped = realm.clone().replace_scopes(roles).build().unwrap();
    let rows = vec![
        ("realm_access", json!({ "roles": ["clerk", "Büro"] }), Ok("orders:write")),
        ("realm_access", json!(["auditor"]), Err(ClaimMalformed("realm_access"))),
        ("resource_access", json!({ "shop": { "roles": ["clerk"] } }), Ok("reports:read")),
    ];
    table(&mapped, Some("JWT"), &access, "reports:read orders:write", rows);
    // Whoever says so takes the roles of a client as they are.
    let taken = realm.replace_scopes(ScopeMap::new().take(["resource_access", "orders", "roles"])).build().unwrap();
    table(&taken, Some("JWT"), &access, "clerk", vec![]);
    // Of a client that is the API as well.
    let id = json!({
        "jti": "1", "iss": "https://id.acme.example/realms/acme", "aud": "orders", "sub": "f:1:alice", "typ": "ID",
        "azp": "orders", "sid": "s", "at_hash": "h", "acr": "1", "preferred_username": "alice",
    });
    refuses_id_token(&provider, &id, WrongType);
}

#[test]
fn entra() {
    use Rejection::{ClaimMissing, RequiredClaimMissing, WrongAudience, WrongIssuer, WrongType};
    let (tenant, own) = ("aaaabbbb-0000-cccc-1111-dddd2222eeee", "00001111-aaaa-2222-bbbb-3333cccc4444");
    let other = "11112222-bbbb-3333-cccc-4444dddd5555";
    let api = presets::entra(tenant, own);
    let provider = api.clone().build().unwrap();
    let issuer = format!("https://login.microsoftonline.com/{tenant}/v2.0");
    // "Access token claims reference", Microsoft identity platform.
    let access = json!({
        "aud": own, "iss": issuer, "nbf": 1_537_231_048, "aio": "o", "azp": other, "azpacr": "0", "name": "Abe Lincoln",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "preferred_username": "abeli@microsoft.com", "rh": "I",
        "scp": "access_as_user files.read", "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": tenant,
        "uti": "u", "ver": "2.0", "roles": ["Reports.Reader"],
    });
    let rows = vec![
        ("aud", json!(other), Err(WrongAudience)),
        ("aud", json!(format!("api://{own}")), Err(WrongAudience)),
        ("aud", Value::Null, Err(ClaimMissing("aud"))),
        ("iss", json!(format!("https://login.microsoftonline.com/{other}/v2.0")), Err(WrongIssuer)),
        ("iss", json!("https://login.microsoftonline.com/common/v2.0"), Err(WrongIssuer)),
        ("iss", json!(format!("https://sts.windows.net/{tenant}/")), Err(WrongIssuer)),
        ("ver", json!("1.0"), Err(WrongType)),
        ("ver", Value::Null, Err(WrongType)),
        ("azp", Value::Null, Err(WrongType)),
        ("azpacr", Value::Null, Err(WrongType)),
        ("nonce", json!("n"), Err(WrongType)),
        ("tid", Value::Null, Ok("access_as_user files.read")),
        ("scp", Value::Null, Ok("")),
        ("roles", Value::Null, Ok("access_as_user files.read")),
    ];
    table(&provider, Some("JWT"), &access, "access_as_user files.read", rows);
    // An application by itself: roles instead of scopes, or nothing at all, which anyone in the tenant can have.
    let roles = ScopeMap::new().take("scp").map_roles("roles", [("Reports.Reader", ["reports:read"])]);
    let mapped = api.replace_scopes(roles).build().unwrap();
    let mut application = access.clone();
    application.as_object_mut().unwrap().remove("scp");
    let rows = vec![("roles", json!(["Reports.Writer"]), Ok("")), ("roles", Value::Null, Err(RequiredClaimMissing))];
    table(&mapped, Some("JWT"), &application, "reports:read", rows);
    // "ID token claims reference", of an application that is the API as well: with roles, and without a nonce.
    let id = json!({
        "ver": "2.0", "iss": issuer, "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "aud": own, "name": "Abe Lincoln",
        "preferred_username": "abeli@microsoft.com", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "tid": tenant,
        "roles": ["Reports.Reader"], "nonce": "123523", "aio": "D",
    });
    refuses_id_token(&provider, &id, WrongType);
    let mut bare = id;
    bare.as_object_mut().unwrap().remove("nonce");
    refuses_id_token(&mapped, &bare, WrongType);
}

#[test]
fn google_id_tokens() {
    use Rejection::{ClaimNotAllowed, MalformedToken, RequiredClaimMissing, WrongAudience, WrongIssuer, WrongType};
    let (web, app) = ("1234987819200-web.apps.googleusercontent.com", "1234987819200-app.apps.googleusercontent.com");
    let any = presets::google_id_tokens(web);
    let provider = any.clone().also_client(app).hosted_domain("example.com").build().unwrap();
    // "OpenID Connect", Google Identity.
    let id = json!({
        "iss": "https://accounts.google.com", "azp": web, "aud": web, "sub": "10769150350006150715113082367",
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q", "hd": "example.com", "email": "jsmith@example.com", "email_verified": true,
        "nonce": "0394852-3190485-2490358", "scope": "admin", "roles": ["admin"],
    });
    let rows = vec![
        ("aud", json!(app), Ok("")),
        ("aud", json!("1234987819200-evil.apps.googleusercontent.com"), Err(WrongAudience)),
        ("azp", json!(app), Ok("")),
        ("azp", Value::Null, Ok("")),
        // A service account's, which may ask for any audience.
        ("azp", json!("113774264463038321964"), Err(WrongAudience)),
        ("iss", json!("accounts.google.com"), Err(WrongIssuer)),
        ("iss", json!("https://accounts.google.com.evil.example"), Err(WrongIssuer)),
        ("hd", json!("other.example"), Err(ClaimNotAllowed)),
        ("hd", Value::Null, Err(RequiredClaimMissing)),
        // A security event token, with all that an ID token has.
        (
            "events",
            json!({ "https://schemas.openid.net/secevent/risc/event-type/account-disabled": { "reason": "hijacking" } }),
            Err(WrongType),
        ),
    ];
    table(&provider, Some("JWT"), &id, "", rows);
    let either = any.clone().hosted_domain("example.com").hosted_domain("example.org").build().unwrap();
    let rows = vec![
        ("hd", json!("example.org"), Ok("")),
        ("hd", json!("other.example"), Err(ClaimNotAllowed)),
        ("hd", Value::Null, Err(RequiredClaimMissing)),
    ];
    table(&either, Some("JWT"), &id, "", rows);
    let of_anybody = vec![("hd", Value::Null, Ok("")), ("hd", json!("other.example"), Ok(""))];
    table(&any.build().unwrap(), Some("JWT"), &id, "", of_anybody);
    // An access token is no JWT.
    let key = VerifyingKey::from_pem(Algorithm::Rs256, PUBLIC).unwrap();
    let verifier = Verifier::new(provider.policy().clone(), KeySet::new([key]).unwrap());
    let refused = verifier.verify_at(b"ya29.a0AfH6SMBxyz", UnixSeconds::new(now())).err();
    assert_eq!(refused, Some(MalformedToken("not three segments")));
}

/// The whole way: keys from a realm on loopback, a resource server in one call, requests over a socket.
#[tokio::test]
async fn a_realm_over_the_network() {
    let key = SigningKey::from_pem(Algorithm::Rs256, PRIVATE).unwrap();
    let keys = AuthorizationServer::builder("https://unused.example", "x", key).build().unwrap().jwks_endpoint();
    let path = "/realms/acme/protocol/openid-connect/certs";
    let realm = serve(Router::new().route_service(path, keys)).await;
    let realm_url = format!("http://{}/realms/acme", realm.address);
    let roles = ScopeMap::new().map_roles(["realm_access", "roles"], [("auditor", ["reports:read"])]);
    let api = presets::keycloak(&realm_url, "orders").replace_scopes(roles).resource_server().unwrap();
    let reports = get(|caller: Principal| async move { caller.subject().to_owned() });
    let reports = Router::new().route("/reports", reports).layer(api.require(["reports:read"]).unwrap());
    let server = serve(reports.layer(api.authenticate())).await;
    let access = json!({
        "iss": realm_url, "aud": "orders", "sub": "alice", "typ": "Bearer", "azp": "shop", "iat": now(), "exp": now() + 300,
        "realm_access": { "roles": ["auditor"] },
    });
    let with = |name: &str, value: Value| {
        let mut changed = access.clone();
        changed[name] = value;
        changed
    };
    // No request waits for the first fetch; those before it has ended are told to come again.
    let first = signed(Some("JWT"), &access);
    let begin = Instant::now();
    while get_with(server.address, "/reports", &first).await.status == 503 {
        assert!(begin.elapsed() < Duration::from_secs(10), "keys never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (claims, status, body) in [
        (access.clone(), 200, Some("alice")),
        (with("realm_access", json!({ "roles": [] })), 403, None),
        (with("typ", json!("ID")), 401, None),
        (with("aud", json!("account")), 401, None),
        (with("realm_access", json!([])), 401, None),
    ] {
        let reply = get_with(server.address, "/reports", &signed(Some("JWT"), &claims)).await;
        assert_eq!(reply.status, status, "{claims} {reply:?}");
        assert!(body.is_none_or(|body| reply.text() == body), "{reply:?}");
    }
}
