//! From what a program says to a policy that cannot be a dangerous one.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use http::{
    HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_MAX_AGE,
    },
};

use super::{
    error::{CorsError, HeaderFault, MethodFault},
    names,
    policy::{CorsPolicy, List, Origins, Rules, by_length},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    fetch::WebOrigin,
};

/// Longest that a browser remembers a permission (Fetch has no bound; Firefox has this one, Chromium two hours).
const MOST_MAX_AGE: u64 = 86_400;

/// Which origins a [`CorsPolicyBuilder`] is for: those that are named.
#[derive(Clone, Copy, Debug)]
pub enum Listed {}

/// Which origins a [`CorsPolicyBuilder`] is for: every one there is. It has no `credentials`.
#[derive(Clone, Copy, Debug)]
pub enum AnyOrigin {}

/// Builder of a [`CorsPolicy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CorsPolicyBuilder<O = Listed> {
    origins: Vec<String>,
    credentials: bool,
    /// `None` for those that need no permission.
    methods: Option<Vec<String>>,
    request_headers: Vec<String>,
    exposed_headers: Vec<String>,
    max_age: Option<Duration>,
    private_network: bool,
    whom: PhantomData<O>,
}

impl CorsPolicy {
    /// Begins a policy for origins that are [named](CorsPolicyBuilder::origins).
    pub fn builder() -> CorsPolicyBuilder {
        CorsPolicyBuilder::new(Vec::new())
    }

    /// Begins a policy that lets the pages of every origin read answers, without credentials: for what is public.
    ///
    /// ```
    /// use portcullis::cors::CorsPolicy;
    ///
    /// let public = CorsPolicy::any_origin().methods(["GET"]).build()?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    ///
    /// With credentials any page could act as whoever looks at it. So this does not compile:
    ///
    /// ```compile_fail,E0599
    /// use portcullis::cors::CorsPolicy;
    ///
    /// let public = CorsPolicy::any_origin().methods(["GET"]).credentials().build()?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn any_origin() -> CorsPolicyBuilder<AnyOrigin> {
        CorsPolicyBuilder::new(vec!["*".to_owned()])
    }
}

impl CorsPolicyBuilder<Listed> {
    /// Whose pages may read answers: origins as browsers send them (`https://app.example`, without a slash at the end), or every
    /// name below a domain, of any depth (`https://*.app.example`). `*` alone is every origin, as in
    /// [`CorsPolicy::any_origin`], for configurations that come as text.
    pub fn origins<S: AsRef<str>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.origins.extend(texts(origins));
        self
    }

    /// Lets those pages send credentials that the browser holds, which are cookies. A bearer token that a page sends by itself is
    /// none of those.
    pub fn credentials(self) -> Self {
        Self { credentials: true, ..self }
    }

    /// Lets those pages reach this server where they come from a public network and it is in a private one. Each must be
    /// named, and `https`.
    pub fn private_network_access(self) -> Self {
        Self { private_network: true, ..self }
    }
}

impl<O> CorsPolicyBuilder<O> {
    fn new(origins: Vec<String>) -> Self {
        Self {
            origins,
            credentials: false,
            methods: None,
            request_headers: Vec::new(),
            exposed_headers: Vec::new(),
            max_age: None,
            private_network: false,
            whom: PhantomData,
        }
    }

    /// The methods that a preflight request may ask for: `GET`, `HEAD` and `POST` unless set. They differ by case. `*` is every
    /// method.
    ///
    /// Without a preflight request a page can send those three anyway (Fetch, "CORS-safelisted method").
    pub fn methods<S: AsRef<str>>(mut self, methods: impl IntoIterator<Item = S>) -> Self {
        self.methods.get_or_insert_default().extend(texts(methods));
        self
    }

    /// The headers that pages may set beyond those that they may set anyway: none unless set. For bearer tokens that is
    /// `authorization`, for JSON `content-type`. `*` is every one but `authorization`, which must be named beside it.
    pub fn request_headers<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.request_headers.extend(texts(names));
        self
    }

    /// The headers of answers that pages may read beyond those that they may read anyway: none unless set; such as
    /// `www-authenticate` and `retry-after`. `*` is every one.
    pub fn expose_headers<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.exposed_headers.extend(texts(names));
        self
    }

    /// For how long browsers may remember what a preflight request was answered: 5 seconds unless set, which is what they do
    /// by themselves; whole seconds, a day at the most, 0 for not at all.
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one [`CorsError`] for each mistake.
    pub fn build(self) -> Result<CorsPolicy, ConfigErrors> {
        let mut errors = Errors(ConfigErrors::default());
        let origins = self.check_origins(&mut errors);
        let (methods, methods_field) = self.check_methods(&mut errors);
        let (request_headers, headers_field) = self.check_request_headers(&mut errors);
        let exposed = self.check_exposed(&mut errors);
        let max_age = self.max_age.map(|given| {
            if given.subsec_nanos() > 0 || given.as_secs() > MOST_MAX_AGE {
                errors.push(CorsError::MaxAge(given));
            }
            HeaderValue::from(given.as_secs())
        });
        let fields = [
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, self.credentials.then(|| HeaderValue::from_static("true"))),
            (ACCESS_CONTROL_ALLOW_METHODS, methods_field),
            (ACCESS_CONTROL_ALLOW_HEADERS, headers_field),
            (ACCESS_CONTROL_MAX_AGE, max_age),
        ];
        let granted = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let rules = Rules {
            origins,
            credentials: self.credentials,
            methods,
            request_headers,
            exposed,
            private_network: self.private_network,
            granted,
            preflight_vary: HeaderValue::from_static(self.preflight_varies_on()),
        };
        errors.0.finish(Some(CorsPolicy(Arc::new(rules))))
    }

    const fn preflight_varies_on(&self) -> &'static str {
        if self.private_network {
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
        } else {
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        }
    }

    fn check_origins(&self, errors: &mut Errors) -> Origins {
        let mut named: Vec<WebOrigin> = Vec::new();
        for text in self.origins.iter().filter(|text| *text != "*") {
            match WebOrigin::parse(text) {
                Ok(origin) if named.contains(&origin) => errors.push(CorsError::OriginTwice(text.clone())),
                Ok(origin) => {
                    let plaintext = !origin.secure && !origin.is_loopback();
                    if plaintext && self.credentials {
                        errors.push(CorsError::CredentialsWithPlaintext(text.clone()));
                    }
                    if !origin.secure && self.private_network {
                        errors.push(CorsError::PrivateNetworkWithPlaintext(text.clone()));
                    }
                    if origin.wildcard && self.private_network {
                        errors.push(CorsError::PrivateNetworkWithWildcard(text.clone()));
                    }
                    named.push(origin);
                }
                Err(fault) => errors.push(CorsError::Origin { origin: text.clone(), fault }),
            }
        }
        let any = self.origins.iter().any(|text| text == "*");
        if any {
            if self.origins.len() > 1 {
                errors.push(CorsError::AnyOriginBesideOthers);
            }
            if self.credentials {
                errors.push(CorsError::CredentialsWithAnyOrigin);
            }
            if self.private_network {
                errors.push(CorsError::PrivateNetworkWithWildcard("*".to_owned()));
            }
            return Origins::Any;
        }
        if self.origins.is_empty() {
            errors.push(CorsError::NoOrigin);
        }
        let (patterns, exact): (Vec<_>, Vec<_>) = named.into_iter().partition(|origin| origin.wildcard);
        let sorted = |mut texts: Vec<Box<str>>| {
            texts.sort_unstable_by(|one, other| by_length(one.as_bytes(), other.as_bytes()));
            texts
        };
        let exact = sorted(exact.iter().map(|origin| origin.as_str().into()).collect());
        // What follows the name that stands for the asterisk, from its dot on.
        let below = |origin: &WebOrigin| origin.as_str().strip_prefix(SECURE).map(Into::into);
        let below = sorted(patterns.iter().filter_map(below).collect());
        Origins::Listed { exact, below }
    }

    fn check_methods(&self, errors: &mut Errors) -> (List, Option<HeaderValue>) {
        let Some(methods) = &self.methods else { return named(["GET", "HEAD", "POST"].map(Into::into).to_vec()) };
        if methods.is_empty() {
            errors.push(CorsError::NoMethod);
        }
        let any = methods.iter().any(|method| method == "*");
        if any {
            if methods.len() > 1 {
                errors.push(CorsError::AnyMethodBesideOthers);
            }
            if self.credentials {
                errors.push(CorsError::CredentialsWithAnyMethod);
            }
        }
        let mut list: Vec<Box<str>> = Vec::new();
        for method in methods.iter().filter(|method| *method != "*") {
            let fault = match names::check_method(method) {
                Ok(()) if list.iter().any(|other| **other == **method) => MethodFault::Twice,
                Ok(()) => {
                    list.push(method.as_str().into());
                    continue;
                }
                Err(fault) => fault,
            };
            errors.push(CorsError::Method { method: method.clone(), fault });
        }
        if any { (List::Any, Some(HeaderValue::from_static("*"))) } else { named(list) }
    }

    fn check_request_headers(&self, errors: &mut Errors) -> (List, Option<HeaderValue>) {
        let any = self.request_headers.iter().any(|name| name == "*");
        let push = |errors: &mut Errors, name, fault| errors.push(CorsError::RequestHeader { name, fault });
        let list = check_names(&self.request_headers, names::check_request_header, errors, push);
        if !any {
            return named(list);
        }
        if self.credentials {
            errors.push(CorsError::CredentialsWithAnyHeader);
        }
        let covered = self.request_headers.iter().filter(|name| !name.eq_ignore_ascii_case(AUTHORIZATION));
        if covered.count() > 1 {
            errors.push(CorsError::AnyHeaderBesideOthers);
        }
        if !list.iter().any(|name| **name == *AUTHORIZATION) {
            errors.push(CorsError::AuthorizationBehindWildcard);
        }
        (List::Any, Some(HeaderValue::from_static("*, authorization")))
    }

    fn check_exposed(&self, errors: &mut Errors) -> Option<HeaderValue> {
        let any = self.exposed_headers.iter().any(|name| name == "*");
        let push = |errors: &mut Errors, name, fault| errors.push(CorsError::ExposedHeader { name, fault });
        let list = check_names(&self.exposed_headers, names::check_exposed_header, errors, push);
        if any {
            if self.credentials {
                errors.push(CorsError::CredentialsWithAnyExposed);
            }
            if self.exposed_headers.len() > 1 {
                errors.push(CorsError::AnyExposedBesideOthers);
            }
            return Some(HeaderValue::from_static("*"));
        }
        field(&list)
    }
}

const SECURE: &str = "https://";
const AUTHORIZATION: &str = "authorization";

fn texts<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> impl Iterator<Item = String> {
    texts.into_iter().map(|text| text.as_ref().to_owned())
}

/// A list of names, and the field that says it.
fn named(names: Vec<Box<str>>) -> (List, Option<HeaderValue>) {
    let field = field(&names);
    (List::of(names), field)
}

/// Names are tokens, so this keeps every one.
fn field(names: &[Box<str>]) -> Option<HeaderValue> {
    Some(names.join(", ")).filter(|text| !text.is_empty())?.parse().ok()
}

struct Errors(ConfigErrors);

impl Errors {
    fn push(&mut self, error: CorsError) {
        self.0.push(ConfigError::Cors(error));
    }
}

/// The names of a list in lower case, but for the wildcard and for those that cannot be.
fn check_names(
    given: &[String],
    check: fn(&str) -> Result<(), HeaderFault>,
    errors: &mut Errors,
    push: impl Fn(&mut Errors, String, HeaderFault),
) -> Vec<Box<str>> {
    let mut list: Vec<Box<str>> = Vec::new();
    for name in given.iter().filter(|name| *name != "*") {
        let lower = name.to_ascii_lowercase();
        match check(&lower) {
            Ok(()) if list.iter().any(|other| **other == *lower) => push(errors, name.clone(), HeaderFault::Twice),
            Ok(()) => list.push(lower.into()),
            Err(fault) => push(errors, name.clone(), fault),
        }
    }
    list
}
