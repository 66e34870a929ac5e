//! Google.

use super::{Given, ProviderBuilder, is_host, is_made_of};
use crate::{
    config::ConfigErrors,
    jwt::{ClaimsPolicy, Mark, ScopeMap},
};

/// Google, of [`google_id_tokens()`].
#[derive(Clone, Copy, Debug)]
pub enum GoogleIdTokens {}

/// **ID tokens** of Google, for one of one's own clients: Google's access tokens are no JWTs, and for Google's services alone.
///
/// An ID token says who signed in, once. Take it at one route, where it is changed for a session of your own, and not at an
/// API: it is good for an hour, cannot be called back, and grants nothing. `sub` is the user; an address of `email` changes hands.
///
/// | | | source |
/// |---|---|---|
/// | issuer | `https://accounts.google.com` | *Verify the Google ID token on your server side*, Google Identity |
/// | keys | `https://www.googleapis.com/oauth2/v3/certs` | *OpenID Connect*, and its metadata |
/// | audience | `aud` is the client's id; so is `azp`, where it is there | the first; OpenID Connect Core §3.1.3.7 |
/// | type | `events` is not there: the security event tokens of Cross-Account Protection have it, and are signed with the same keys for the same audience | *OpenID Connect*; *Protect user accounts with Cross-Account Protection* |
/// | scopes | none | |
///
/// A service account of any Google Cloud project can have a token made for any `aud`, which says that account's number in
/// `azp`: that is why it is looked at. An app whose own client asks for tokens for the server's is named with
/// [`also_client`](ProviderBuilder::also_client).
///
/// Google may also write the issuer as `accounts.google.com`, without the scheme; tokens of today have it, and those without are
/// refused. Whether the token is the answer to a request of one's own, only its `nonce` says: compare
/// [`claim("nonce")`](crate::principal::Principal::claim) where the flow has one.
///
/// ```
/// use portcullis::presets;
///
/// let google = presets::google_id_tokens("1234567890-abc123.apps.googleusercontent.com").hosted_domain("acme.example").build()?;
/// assert_eq!(google.policy().issuer(), "https://accounts.google.com");
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub fn google_id_tokens(client_id: &str) -> ProviderBuilder<GoogleIdTokens> {
    let mut errors = ConfigErrors::default();
    check_client(client_id, &mut errors);
    let policy = ClaimsPolicy::builder("https://accounts.google.com", client_id)
        .with_party_of_ours()
        .marked(Mark::NoneOf(&["events"]));
    let keys = "https://www.googleapis.com/oauth2/v3/certs".to_owned();
    ProviderBuilder::new(policy, ScopeMap::new(), keys, errors)
}

impl ProviderBuilder<GoogleIdTokens> {
    /// Accepts ID tokens for another client as well, such as that of one's app.
    pub fn also_client(mut self, client_id: &str) -> Self {
        check_client(client_id, &mut self.errors);
        self.change(|policy| policy.also_audience(client_id))
    }

    /// Lets in users of this Google Workspace or Cloud organisation alone: `hd` must be its domain. A token of anybody else is
    /// refused: 401 without `hd`, 403 with another. The domain of an `email` says nothing about that. Called again, it lets in
    /// those of the other domain as well.
    pub fn hosted_domain(mut self, domain: &str) -> Self {
        let given = Given { provider: "Google", setting: "hosted domain", text: domain };
        given.check(&mut self.errors, is_host(domain), "is no domain such as example.com, in lower case");
        self.domains.push(domain.to_owned());
        self
    }
}

fn check_client(client_id: &str, errors: &mut ConfigErrors) {
    let name = client_id.strip_suffix(".apps.googleusercontent.com").unwrap_or_default();
    let good = is_made_of(name, 1..=128, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let given = Given { provider: "Google", setting: "client id", text: client_id };
    given.check(errors, good, "is no client's id, which ends with .apps.googleusercontent.com");
}
