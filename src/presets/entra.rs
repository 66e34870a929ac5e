//! Microsoft Entra ID.

use super::{Given, OF_ID_TOKENS, ProviderBuilder};
use crate::{
    config::ConfigErrors,
    jwt::{ClaimsPolicy, Mark, ScopeMap},
    rejection::Rejection,
};

/// Microsoft Entra ID, of [`entra()`].
#[derive(Clone, Copy, Debug)]
pub enum Entra {}

/// Access tokens, version 2.0, of a Microsoft Entra ID tenant. `tenant` is the tenant's id, and `client_id` the API's
/// application id: both are GUIDs.
///
/// | | | source |
/// |---|---|---|
/// | issuer | `https://login.microsoftonline.com/{tenant}/v2.0` | *Access token claims reference*, Microsoft identity platform |
/// | keys | `https://login.microsoftonline.com/{tenant}/discovery/v2.0/keys` | *Access tokens in the Microsoft identity platform* |
/// | audience | `aud` is the API's application id, in version 2.0 always | *Access token claims reference* |
/// | type | `ver` is `2.0`, `azp` and `azpacr` are there, `nonce` and `at_hash` are not. ID tokens lack the former, and often have the latter | the same; *ID token claims reference* |
/// | grants something | `scp` or `roles` is there: any application of the tenant gets a token without either | the same; *Verify scopes and app roles* |
/// | scopes | `scp`, names between spaces; `roles`, an array, by [`ScopeMap`] | the same |
///
/// `common`, `organizations` and `consumers` are no tenant: tokens that are asked for there come from the tenant of whoever
/// signs in, so there is no one issuer, and to take any would let in the users of every organisation there is.
///
/// For the public cloud and workforce tenants alone. Sovereign clouds (US Government, China), Microsoft Entra External ID and Azure
/// AD B2C have other issuers and addresses: write a [`ClaimsPolicy`] for those. Guests of the tenant are let in as its members are.
///
/// Which version a token has is up to the API: `requestedAccessTokenVersion` of its registration must be `2`. Tokens of version
/// 1.0 have the issuer `https://sts.windows.net/{tenant}/`, an audience that may be `api://…`, and `appid` and `appidacr` instead
/// of `azp` and `azpacr`; they are refused.
///
/// ```
/// use portcullis::presets;
///
/// let tenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
/// let api = presets::entra(tenant, "00001111-aaaa-2222-bbbb-3333cccc4444").build()?;
/// assert_eq!(api.policy().issuer(), format!("https://login.microsoftonline.com/{tenant}/v2.0"));
/// assert!(presets::entra("common", "00001111-aaaa-2222-bbbb-3333cccc4444").build().is_err());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn entra(tenant: &str, client_id: &str) -> ProviderBuilder<Entra> {
    let mut errors = ConfigErrors::default();
    // As tokens spell them.
    let (own_tenant, own_client) = (tenant.to_ascii_lowercase(), client_id.to_ascii_lowercase());
    let given = |setting, text| Given { provider: "Entra ID", setting, text };
    let several = matches!(&*own_tenant, "common" | "organizations" | "consumers");
    let reason = if several { "stands for many tenants, and has no one issuer" } else { "is no GUID" };
    given("tenant", tenant).check(&mut errors, is_guid(&own_tenant), reason);
    given("client id", client_id).check(&mut errors, is_guid(&own_client), "is no GUID");
    let host = format!("https://login.microsoftonline.com/{own_tenant}");
    let policy = ClaimsPolicy::builder(format!("{host}/v2.0"), own_client)
        .typed_by_claim("ver", ["2.0"])
        .marked(OF_ID_TOKENS)
        .marked(Mark::OneOf(&["azp"], Rejection::WrongType))
        .marked(Mark::OneOf(&["azpacr"], Rejection::WrongType))
        .marked(Mark::OneOf(&["scp", "roles"], Rejection::RequiredClaimMissing));
    ProviderBuilder::new(policy, ScopeMap::new().take("scp"), format!("{host}/discovery/v2.0/keys"), errors)
}

/// 8-4-4-4-12 hexadecimal digits, in lower case.
fn is_guid(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(digits)
}
