//! Which client is asking, and does it prove it (RFC 6749 §2.3)?

use std::collections::HashMap;

use base64_simd::STANDARD;
use http::{HeaderMap, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::error::EndpointError;
use crate::{
    audit,
    client::Client,
    form::{self, Form},
};

/// The clients of a server.
#[derive(Debug)]
pub(crate) struct Clients {
    registered: HashMap<String, Client>,
    /// The server's own client, for whoever names none.
    own: Option<Client>,
}

/// What a request says of its client.
struct Claimed {
    id: Zeroizing<String>,
    secret: Option<Zeroizing<String>>,
}

impl Clients {
    pub(crate) fn new(registered: Vec<Client>, own: Option<Client>) -> Self {
        let by_id = |client: Client| (client.id().to_owned(), client);
        Self { registered: registered.into_iter().map(by_id).collect(), own }
    }

    /// The client with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Client> {
        self.registered.get(id).or_else(|| self.own.as_ref().filter(|own| own.id() == id))
    }

    /// How clients authenticate, as metadata names it.
    pub(crate) fn methods(&self) -> Vec<&'static str> {
        let mut methods = Vec::new();
        if self.registered.values().any(Client::is_confidential) {
            methods.extend(["client_secret_basic", "client_secret_post"]);
        }
        if self.own.is_some() || self.registered.values().any(|client| !client.is_confidential()) {
            methods.push("none");
        }
        methods
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.registered.values().chain(&self.own)
    }

    /// The client that a request comes from.
    pub(super) fn authenticate(&self, headers: &HeaderMap, form: &Form) -> Result<&Client, EndpointError> {
        if headers.contains_key(AUTHORIZATION) && form.get("client_secret").is_some() {
            return Err(EndpointError::InvalidRequest("the client authenticates in more than one way"));
        }
        // With no client but its own, a server looks at no credentials: they open nothing.
        if let (Some(own), true) = (&self.own, self.registered.is_empty()) {
            return Ok(own);
        }
        let Some(claimed) = claimed(headers, form)? else {
            return self.own.as_ref().ok_or_else(|| refused(None, "names no client"));
        };
        let Some(client) = self.find(&claimed.id) else { return Err(refused(None, "unknown client")) };
        match (client.is_confidential(), &claimed.secret) {
            (false, None) => Ok(client),
            (true, Some(secret)) if client.has_secret(secret) => Ok(client),
            (true, Some(_)) => Err(refused(Some(client), "wrong secret")),
            (true, None) => Err(refused(Some(client), "no secret")),
            (false, Some(_)) => Err(refused(Some(client), "secret of a public client")),
        }
    }
}

fn refused(client: Option<&Client>, reason: &'static str) -> EndpointError {
    audit::client_refused(client.map(Client::id), reason);
    EndpointError::InvalidClient
}

/// What a request claims, in the header or in the form; `None` if it names no client.
fn claimed(headers: &HeaderMap, form: &Form) -> Result<Option<Claimed>, EndpointError> {
    let in_form = form.get("client_id");
    if let Some((id, secret)) = basic(headers)? {
        if in_form.is_some_and(|named| named != id.as_str()) {
            return Err(EndpointError::InvalidRequest("the request names two clients"));
        }
        let secret = Some(secret).filter(|secret| !secret.is_empty());
        return Ok(Some(Claimed { id, secret }));
    }
    let secret = form.get("client_secret").map(|secret| Zeroizing::new(secret.to_owned()));
    match (in_form, secret) {
        (Some(id), secret) => Ok(Some(Claimed { id: Zeroizing::new(id.to_owned()), secret })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refused(None, "secret of no client")),
    }
}

type IdAndSecret = (Zeroizing<String>, Zeroizing<String>);

/// Credentials of the scheme `Basic` (RFC 7617), whose parts are encoded as in a form before that (RFC 6749 §2.3.1). `None` if
/// there are none, or if both parts are empty, as some clients send them that have none.
fn basic(headers: &HeaderMap) -> Result<Option<IdAndSecret>, EndpointError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(field), None) => field.as_bytes(),
        (Some(_), Some(_)) => {
            return Err(EndpointError::InvalidRequest("the client authenticates in more than one way"));
        }
    };
    let malformed = || refused(None, "malformed credentials");
    let (scheme, rest) = field.split_at_checked(b"basic ".len()).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Err(refused(None, "credentials of another scheme"));
    }
    let decoded = Zeroizing::new(STANDARD.decode_to_vec(rest.trim_ascii()).map_err(|_| malformed())?);
    let colon = decoded.iter().position(|&byte| byte == b':').ok_or_else(malformed)?;
    let (id, secret) = (decoded.get(..colon).unwrap_or_default(), decoded.get(colon + 1..).unwrap_or_default());
    let part = |bytes| form::decode(bytes).map_err(|_| malformed());
    let (id, secret) = (part(id)?, part(secret)?);
    Ok(Some((id, secret)).filter(|(id, secret)| !(id.is_empty() && secret.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|field| (AUTHORIZATION, field.parse().unwrap())).collect()
    }

    #[test]
    fn req_035_credentials_in_the_header() {
        let encode = |text: &str| format!("Basic {}", STANDARD.encode_to_string(text));
        let some = |id: &str, secret: &str| Ok(Some((id.to_owned(), secret.to_owned())));
        let (bad, none) = (Err(EndpointError::InvalidClient), Ok(None));
        for (field, expected) in [
            (encode("app:s3cret"), some("app", "s3cret")),
            (encode("app:a:b"), some("app", "a:b")),
            (encode("https%3A%2F%2Fapp.example:p%2B%25+q"), some("https://app.example", "p+% q")),
            (encode("app:"), some("app", "")),
            (encode(":"), none.clone()),
            (encode("app"), bad.clone()),
            (encode("app:%ff"), bad.clone()),
            (format!("bASIC  {}", STANDARD.encode_to_string("app:x")), some("app", "x")),
            ("Basic !!!".to_owned(), bad.clone()),
            ("Basic".to_owned(), bad.clone()),
            ("Bearer abc.def.ghi".to_owned(), bad.clone()),
        ] {
            let found = basic(&headers(&[&field]));
            let found = found.map(|found| found.map(|(id, secret)| (id.to_string(), secret.to_string())));
            assert_eq!(found, expected, "{field}");
        }
        assert_eq!(basic(&headers(&[])), Ok(None));
        let twice = basic(&headers(&[&encode("a:b"), &encode("a:b")]));
        assert!(matches!(twice, Err(EndpointError::InvalidRequest(_))));
    }
}
