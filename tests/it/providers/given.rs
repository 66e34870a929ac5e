//! What presets are given, and the addresses that they make of it.

use std::time::Duration;

use portcullis::{
    config::{ConfigError, ConfigErrors},
    jwt::ScopeMap,
    presets,
};

/// The settings that are wrong, by name.
fn setting(errors: &ConfigErrors) -> Vec<&'static str> {
    let name = |error: &ConfigError| match error {
        ConfigError::Provider { setting, .. } => *setting,
        other => panic!("{other}"),
    };
    errors.iter().map(name).collect()
}

/// What is no such thing is a mistake of the configuration, by name, and changes no address.
#[test]
fn what_presets_are_given_is_checked() {
    let cognito = |region: &str, pool: &str, client: &str| presets::cognito(region, pool, client).build();
    for (region, pool, client, wrong) in [
        ("eu-central-1", "eu-central-1_Ab", "c1", &[][..]),
        ("us-gov-west-1", "us-gov-west-1_Ab", "c1", &[]),
        ("cn-north-1", "cn-north-1_Ab", "c1", &["region"]),
        ("cn-northwest-1", "cn-northwest-1_Ab", "c1", &["region"]),
        ("eu-central-1", "eu-west-1_Ab", "c1", &["pool id"]),
        ("eu-central-1", "eu-central-1_", "c1", &["pool id"]),
        ("eu-central-1", "eu-central-1_a/../x", "c1", &["pool id"]),
        ("eu-central-1", "eu-central-1_Ab", "c/1", &["client id"]),
        ("eu-central-1", "eu-central-1_Ab", "c 1", &["client id"]),
        ("", "_Ab", "c1", &["region"]),
        ("evil.example/", "evil.example/_Ab", "c1", &["region"]),
        ("evil.example#-1", "x", "c1", &["region", "pool id"]),
        ("eu-central", "eu-central_Ab", "c1", &["region"]),
        ("EU-central-1", "EU-central-1_Ab", "c1", &["region"]),
    ] {
        assert_eq!(
            cognito(region, pool, client).map_or_else(|errors| setting(&errors), |_| vec![]),
            wrong,
            "{region} {pool} {client}"
        );
    }
    for (domain, audience, wrong) in [
        ("acme.auth0.com", "https://api.example", &[][..]),
        ("acme.auth0.com", "orders", &[]),
        ("acme.auth0.com", "https://acme.auth0.com/userinfo", &["audience"]),
        ("https://acme.auth0.com/", "orders", &["domain"]),
        ("acme.auth0.com/x", "orders", &["domain"]),
        ("acme.auth0.com@evil.example", "orders", &["domain"]),
        ("127.0.0.1", "orders", &["domain"]),
    ] {
        let built = presets::auth0(domain, audience).build();
        assert_eq!(built.map_or_else(|errors| setting(&errors), |_| vec![]), wrong, "{domain} {audience}");
    }
    for (domain, origin, wrong) in [
        ("clerk.acme.example", "https://app.example", &[][..]),
        ("clerk.acme.example", "http://localhost:3000", &[]),
        ("clerk.acme.example", "http://app.example", &["origin"]),
        ("clerk.acme.example", "https://app.example/", &["origin"]),
        ("clerk.acme.example", "https://*.acme.example", &["origin"]),
        ("clerk.acme.example", "null", &["origin"]),
        ("clerk.acme.example/x?", "app.example", &["domain", "origin"]),
    ] {
        assert_eq!(
            presets::clerk(domain, origin).build().map_or_else(|errors| setting(&errors), |_| vec![]),
            wrong,
            "{domain} {origin}"
        );
    }
    let clerk = presets::clerk("clerk.acme.example", "https://app.example").also_audience("a\nb").build().unwrap_err();
    assert_eq!(clerk.iter().collect::<Vec<_>>(), [&ConfigError::Audience("a\nb".to_owned())]);
    let pool = presets::cognito("eu-central-1", "eu-central-1_Ab", "c1").also_audience("").build().unwrap_err();
    assert_eq!(pool.iter().collect::<Vec<_>>(), [&ConfigError::Audience(String::new())]);
    let guid = "00001111-aaaa-2222-bbbb-3333cccc4444";
    for (tenant, client, wrong) in [
        (guid, guid, &[][..]),
        (&*guid.to_uppercase(), guid, &[]),
        ("common", guid, &["tenant"]),
        ("Organizations", guid, &["tenant"]),
        ("consumers", guid, &["tenant"]),
        ("contoso.onmicrosoft.com", guid, &["tenant"]),
        ("00001111-aaaa-2222-bbbb-3333cccc444/", guid, &["tenant"]),
        (guid, "api://orders", &["client id"]),
    ] {
        assert_eq!(
            presets::entra(tenant, client).build().map_or_else(|errors| setting(&errors), |_| vec![]),
            wrong,
            "{tenant} {client}"
        );
    }
    let common = presets::entra("common", guid).build().unwrap_err().to_string();
    assert!(common.contains("many tenants"), "{common}");
    for (client, domain, wrong) in [
        ("1-a.apps.googleusercontent.com", "acme.example", &[][..]),
        ("1-a", "acme.example", &["client id"]),
        (".apps.googleusercontent.com", "acme.example", &["client id"]),
        ("x@evil.apps.googleusercontent.com", "acme.example", &["client id"]),
        ("1-a.apps.googleusercontent.com", "@acme.example", &["hosted domain"]),
    ] {
        let built = presets::google_id_tokens(client).hosted_domain(domain).build();
        assert_eq!(built.map_or_else(|errors| setting(&errors), |_| vec![]), wrong, "{client} {domain}");
    }
    let every = presets::cognito("", "", "").replace_scopes(ScopeMap::new().take("")).leeway(Duration::from_secs(301));
    assert_eq!(every.build().unwrap_err().iter().count(), 6, "three of the preset, audience, leeway, map");
}

/// Whatever may be taken for another path is no realm's address, and what is Keycloak's own is no API.
#[test]
fn what_keycloak_is_given_is_checked() {
    for (realm, audience, wrong) in [
        ("https://id.example/realms/acme", "orders", &[][..]),
        ("https://id.example/auth/realms/acme", "orders", &[]),
        ("http://127.0.0.1:8080/realms/acme", "orders", &[]),
        ("http://id.example/realms/acme", "orders", &["realm address"]),
        ("https://id.example/realms/acme/", "orders", &["realm address"]),
        ("https://id.example/realms/", "orders", &["realm address"]),
        ("https://id.example/realms/a/b", "orders", &["realm address"]),
        ("https://id.example/realms/..", "orders", &["realm address"]),
        ("https://id.example/realms/%2e%2e", "orders", &["realm address"]),
        ("https://id.example/realms/.%2E", "orders", &["realm address"]),
        ("https://id.example/a/%2E%2e/realms/acme", "orders", &["realm address"]),
        ("https://id.example//realms/acme", "orders", &["realm address"]),
        ("https://id.example/auth//realms/acme", "orders", &["realm address"]),
        ("https://id.example/realms//acme", "orders", &["realm address"]),
        ("https://id.example/realms/acme%20inc", "orders", &[]),
        ("https://id.example/realms/acme", "account", &["audience"]),
        ("https://id.example/realms/acme", "broker", &["audience"]),
        ("https://id.example/realms/acme", "realm-management", &["audience"]),
        ("https://id.example/realms/acme?x=", "orders", &["realm address"]),
        ("https://id.example/realms/acme#", "orders", &["realm address"]),
        ("https://a@id.example/realms/acme", "orders", &["realm address"]),
        ("https://id.example", "account", &["realm address", "audience"]),
    ] {
        assert_eq!(
            presets::keycloak(realm, audience).build().map_or_else(|errors| setting(&errors), |_| vec![]),
            wrong,
            "{realm} {audience}"
        );
    }
}

#[test]
fn where_keys_are() {
    let guid = "00001111-aaaa-2222-bbbb-3333cccc4444";
    for (provider, url) in [
        (
            presets::cognito("us-east-1", "us-east-1_Ab", "c").build(),
            "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab/.well-known/jwks.json",
        ),
        (presets::auth0("a.auth0.com", "x").build(), "https://a.auth0.com/.well-known/jwks.json"),
        (presets::clerk("c.example.com", "https://a.example").build(), "https://c.example.com/.well-known/jwks.json"),
        (
            presets::keycloak("https://k.example/realms/r", "x").build(),
            "https://k.example/realms/r/protocol/openid-connect/certs",
        ),
        (
            presets::entra(guid, guid).build(),
            "https://login.microsoftonline.com/00001111-aaaa-2222-bbbb-3333cccc4444/discovery/v2.0/keys",
        ),
        (
            presets::google_id_tokens("1-a.apps.googleusercontent.com").build(),
            "https://www.googleapis.com/oauth2/v3/certs",
        ),
    ] {
        assert_eq!(provider.unwrap().jwks_url(), url);
    }
}
