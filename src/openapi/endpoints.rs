//! The document of a server's own endpoints, made of the list that routes to them. Pure.

#[cfg(feature = "password")]
mod account;

use axum::Router;
use utoipa::openapi::{
    Components, Content, HttpMethod, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response,
    ResponseBuilder, SecurityRequirement, Type,
    path::{Operation, OperationBuilder},
    request_body::{RequestBody, RequestBodyBuilder},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use super::{
    operation::{DETAIL, PROBLEM, either, header, refusal, restyle, retry_after},
    schemas::{self, ACCEPTED, ERROR, INTROSPECTION, MISSING, Member, REFUSAL, SESSIONS, TOKEN, USER},
};
use crate::{
    authorization_server::{AuthorizationServer, Facts, Mounted},
    axum::mount,
    browser::REFRESH_COOKIE,
    rejection::AnswerStyle,
};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Name of the scheme for a client's own id and secret.
const CLIENT: &str = "client";
/// Name of the scheme for the refresh token of a page.
const REFRESH: &str = "refresh_cookie";

impl AuthorizationServer {
    /// The server's own endpoints, as [`routes`](Self::routes) has them, with their document: of those that this server has, where it
    /// has them. To merge into one's own; what is around it is written down by
    /// [`OpenApiRouterExt`](super::OpenApiRouterExt) as for other routes, but these bring along what they need.
    pub fn documented_routes<S: Clone + Send + Sync + 'static>(&self) -> OpenApiRouter<S> {
        let (facts, mounts) = (self.facts(), self.mounts());
        let mut document = Document::new(&facts);
        for (path, endpoint) in &mounts {
            document.add(path, endpoint);
        }
        let document = document.finish();
        let router = mounts.into_iter().fold(Router::new(), |router, (path, endpoint)| mount(router, &path, endpoint));
        let mut all = OpenApiRouter::from(router);
        *all.get_openapi_mut() = document;
        all
    }
}

/// A document that grows.
struct Document<'a> {
    facts: &'a Facts,
    openapi: OpenApi,
}

impl<'a> Document<'a> {
    fn new(facts: &'a Facts) -> Self {
        Self { facts, openapi: OpenApiBuilder::new().build() }
    }

    fn add(&mut self, path: &str, endpoint: &Mounted) {
        let facts = self.facts;
        for (method, mut operation) in describe(facts, endpoint) {
            if facts.style == AnswerStyle::FastApi {
                restyle(&mut operation);
            }
            // One after the other: an item keeps what it has.
            self.openapi.paths.add_path_operation(path, vec![method], operation);
        }
    }

    /// The document, with the schemas and the schemes that it names.
    fn finish(mut self) -> OpenApi {
        let text = serde_json::to_string(&self.openapi.paths).unwrap_or_default();
        let names = [PROBLEM, DETAIL, MISSING, ERROR, TOKEN, INTROSPECTION, REFUSAL, SESSIONS, USER, ACCEPTED];
        let mut components = Components::new();
        for name in names.into_iter().filter(|name| text.contains(&format!("/{name}\""))) {
            components.schemas.insert(name.to_owned(), schemas::named(name));
        }
        let client = Http::new(HttpAuthScheme::Basic);
        let cookie =
            ApiKeyValue::with_description(REFRESH_COOKIE, "The refresh token of a page, which its browser keeps.");
        for (name, scheme) in
            [(CLIENT, SecurityScheme::Http(client)), (REFRESH, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))]
        {
            if text.contains(&format!("{{\"{name}\":[]}}")) {
                components.security_schemes.insert(name.to_owned(), RefOr::T(scheme));
            }
        }
        self.openapi.components = Some(components);
        self.openapi
    }
}

/// The operations of an endpoint.
fn describe(facts: &Facts, endpoint: &Mounted) -> Vec<(HttpMethod, Operation)> {
    use HttpMethod::{Get, Post};

    match endpoint {
        Mounted::Token(_) => vec![(Post, token(facts))],
        Mounted::Refresh(_) => vec![(Post, refresh(facts))],
        Mounted::Revoke(_) => vec![(Post, revoke(facts))],
        Mounted::Introspect(_) => vec![(Post, introspect(facts))],
        Mounted::Keys(_) => vec![(Get, document("Keys that verify the tokens (RFC 7517)", "application/jwk-set+json"))],
        Mounted::ServerMetadata(_) => vec![(Get, document("What this server can do (RFC 8414)", JSON))],
        Mounted::ResourceMetadata(_) => {
            vec![(Get, document("What this API is, and who issues its tokens (RFC 9728)", JSON))]
        }
        #[cfg(feature = "password")]
        Mounted::Sessions(_) => account::sessions(facts),
        #[cfg(feature = "password")]
        Mounted::Session(_) => vec![(HttpMethod::Delete, account::end_session(facts))],
        #[cfg(feature = "password")]
        Mounted::LogOut(_) => vec![(Post, account::log_out(facts))],
        #[cfg(feature = "password")]
        Mounted::Password(_) => vec![(Post, account::password(facts))],
        #[cfg(feature = "password")]
        Mounted::Register(_) => vec![(Post, account::register(facts))],
        #[cfg(feature = "password")]
        Mounted::PageSession(_) => account::page_session(facts),
        #[cfg(feature = "password")]
        Mounted::PageRefresh(_) => vec![(Post, account::page_refresh())],
    }
}

/// An operation that is open, until something else is said of it.
fn operation(summary: &str, answers: impl IntoIterator<Item = (&'static str, Response)>) -> OperationBuilder {
    let empty = OperationBuilder::new().tag("sign-in").summary(Some(summary)).securities(Some(Vec::new()));
    answers.into_iter().fold(empty, |operation, (status, answer)| operation.response(status, answer))
}

fn plain(description: &str) -> Response {
    ResponseBuilder::new().description(description).build()
}

fn answer(description: &str, content_type: &str, schema: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content(content_type, content).build()
}

fn error(description: &str) -> Response {
    answer(description, JSON, ERROR)
}

fn unavailable() -> Response {
    let mut response = error("Too many passwords in the queue, or a store does not answer: try again later.");
    // The layers around an endpoint say it in their own way.
    let problem = Content::new(Some(Ref::from_schema_name(PROBLEM)));
    response.content.insert("application/problem+json".to_owned(), RefOr::T(problem));
    response.headers.insert("Retry-After".to_owned(), RefOr::T(retry_after()));
    response
}

/// What a client without a good secret is answered.
fn no_client() -> Response {
    let mut response = error("The client is unknown, or has not proved who it is.");
    let challenge = header(Type::String, "`Basic` (RFC 7617).");
    response.headers.insert("WWW-Authenticate".to_owned(), RefOr::T(challenge));
    response
}

fn limited() -> Response {
    refusal("429", false)
}

fn form(required: &[Member], optional: &[Member]) -> RequestBody {
    let mut object = schemas::object("", required, optional);
    object.description = None;
    for secret in ["password", "client_secret", "current_password", "new_password"] {
        if let Some(RefOr::T(utoipa::openapi::Schema::Object(member))) = object.properties.get_mut(secret) {
            member.format = Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Password));
        }
    }
    let is_needed = if required.is_empty() { Required::False } else { Required::True };
    let content = Content::new(Some(utoipa::openapi::Schema::from(object)));
    RequestBodyBuilder::new().content(FORM, content).required(Some(is_needed)).build()
}

const fn text(name: &'static str, about: &'static str) -> Member {
    (name, Type::String, about)
}

const SCOPE: Member =
    text("scope", "Scopes that are asked for, with spaces between: all that may be had, unless given.");
const RESOURCE: Member = text("resource", "What the token is for (RFC 8707).");
const REFRESH_TOKEN: Member = text("refresh_token", "The current refresh token.");
const CLIENT_ID: Member = text("client_id", "The client that asks.");
const CLIENT_SECRET: Member = text("client_secret", "Its secret, unless that is in the `Authorization` field.");
const USERNAME: Member = text("username", "Name of the user.");
const PASSWORD: Member = text("password", "Their password.");
const DEVICE_NAME: Member = text("device_name", "What the device is called in the list of sessions.");

impl Facts {
    fn has_secrets(&self) -> bool {
        self.methods.iter().any(|method| *method != "none")
    }

    /// What a form may say of the client.
    fn client(&self) -> &'static [Member] {
        if self.has_secrets() { &[CLIENT_ID, CLIENT_SECRET] } else { &[CLIENT_ID] }
    }

    /// Adds how the client proves who it is: in the header, or, which a document cannot say, in the form.
    fn for_clients(&self, operation: OperationBuilder) -> OperationBuilder {
        if !self.has_secrets() {
            return operation;
        }
        let requirements = [SecurityRequirement::default(), SecurityRequirement::new(CLIENT, [""; 0])];
        operation.securities(Some(requirements)).response("401", no_client())
    }
}

fn token(facts: &Facts) -> Operation {
    let grant = text("grant_type", "What is shown for the token.");
    let mut members = vec![SCOPE, RESOURCE];
    if facts.grants.contains(&"password") {
        members.extend([
            USERNAME,
            PASSWORD,
            DEVICE_NAME,
            text("device_token", "What the last sign-in on the device gave."),
        ]);
    }
    if facts.grants.contains(&"refresh_token") {
        members.push(REFRESH_TOKEN);
    }
    members.extend_from_slice(facts.client());
    // In the style of FastAPI a form that names no grant is a login.
    let login = facts.style == AnswerStyle::FastApi && facts.grants.contains(&"password");
    let mut body = if login {
        members.insert(0, grant);
        RequestBodyBuilder::from(form(&[], &members)).required(Some(Required::True)).build()
    } else {
        form(&[grant], &members)
    };
    name_grants(&mut body, &facts.grants);
    let refused = "The form is malformed, or what it shows opens nothing.";
    let answers = [("200", answer("Tokens.", JSON, TOKEN)), ("400", error(refused)), ("503", unavailable())];
    let operation = operation("Get a token", answers).operation_id(Some("token")).request_body(Some(body));
    let operation = if facts.limited { operation.response("429", limited()) } else { operation };
    let mut operation = facts.for_clients(operation).build();
    if facts.style == AnswerStyle::FastApi {
        let responses = &mut operation.responses.responses;
        responses.insert("503".to_owned(), RefOr::T(refusal("503", true)));
        if login {
            responses.insert("401".to_owned(), RefOr::T(no_login(facts.has_secrets())));
            let missing = answer("The form has no user name, or no password.", JSON, MISSING);
            responses.insert("422".to_owned(), RefOr::T(missing));
        }
    }
    operation
}

/// What a login that fails is answered in the style of FastAPI, where what is wrong with a client is told as ever.
fn no_login(clients: bool) -> Response {
    let mut response = answer("The name or the password is wrong.", JSON, DETAIL);
    if clients {
        response = error("The name or the password is wrong, or the client has not proved who it is.");
        let schema = either(Ref::from_schema_name(ERROR), Ref::from_schema_name(DETAIL));
        response.content.insert(JSON.to_owned(), RefOr::T(Content::new(Some(schema))));
    }
    let challenge = header(Type::String, "`Bearer` of a login, `Basic` of a client (RFC 7617).");
    response.headers.insert("WWW-Authenticate".to_owned(), RefOr::T(challenge));
    response
}

/// Says which grants there are.
fn name_grants(body: &mut RequestBody, grants: &[&'static str]) {
    let grants = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(grants.iter().copied()));
    if let Some(RefOr::T(content)) = body.content.get_mut(FORM)
        && let Some(RefOr::T(utoipa::openapi::Schema::Object(object))) = &mut content.schema
    {
        object.properties.insert("grant_type".to_owned(), grants.into());
    }
}

fn refresh(facts: &Facts) -> Operation {
    let body = form(&[REFRESH_TOKEN], &[&[SCOPE, RESOURCE][..], facts.client()].concat());
    let refused = "The form is malformed, or the token is not the current one of a session.";
    let answers = [("200", answer("The next pair.", JSON, TOKEN)), ("400", error(refused)), ("503", unavailable())];
    let operation = operation("Turn a refresh token", answers).operation_id(Some("refresh")).request_body(Some(body));
    facts.for_clients(operation).build()
}

fn revoke(facts: &Facts) -> Operation {
    let hint = text("token_type_hint", "Not needed: a token shows what it is.");
    let body = form(&[text("token", "A refresh token or an access token.")], &[&[hint][..], facts.client()].concat());
    let refused = "The form is malformed, or the token is another client's.";
    let answers = [("200", plain("It opens nothing any more.")), ("400", error(refused)), ("503", unavailable())];
    let operation = operation("Give a token back", answers).operation_id(Some("revoke")).request_body(Some(body));
    facts.for_clients(operation).build()
}

fn introspect(facts: &Facts) -> Operation {
    let hint = text("token_type_hint", "Not needed: a token shows what it is.");
    let body = form(&[text("token", "A refresh token or an access token.")], &[&[hint][..], facts.client()].concat());
    let told = answer("What it says, or that it is not good.", JSON, INTROSPECTION);
    let answers =
        [("200", told), ("400", error("The form is malformed.")), ("401", no_client()), ("503", unavailable())];
    let summary = "Ask about a token, as a client with a secret";
    let operation = operation(summary, answers).operation_id(Some("introspect")).request_body(Some(body));
    // Nobody else may ask.
    operation.securities(Some([SecurityRequirement::new(CLIENT, [""; 0])])).build()
}

fn document(summary: &str, content_type: &str) -> Operation {
    let schema: utoipa::openapi::Schema = ObjectBuilder::new().schema_type(Type::Object).into();
    let found = ResponseBuilder::new().description("The document.").content(content_type, Content::new(Some(schema)));
    let answers = [("200", found.build()), ("304", plain("It has not changed.")), ("503", unavailable())];
    operation(summary, answers).build()
}
