//! The document of a server's own endpoints, made of the list that routes to them. Pure.

use axum::Router;
use utoipa::openapi::{
    Components, Content, HttpMethod, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response,
    ResponseBuilder, SecurityRequirement, Type,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use super::{
    demands::{BEARER, COOKIE, Demands},
    operation::{self, PROBLEM, header, refusal, retry_after},
    schemas::{self, ACCEPTED, ERROR, INTROSPECTION, Member, REFUSAL, SESSIONS, TOKEN, USER},
};
use crate::{
    authorization_server::{AuthorizationServer, Facts, Mounted},
    axum::mount,
    browser::REFRESH_COOKIE,
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
        mounts.iter().for_each(|(path, endpoint)| document.add(path, endpoint));
        let document = document.finish();
        let router = mounts.into_iter().fold(Router::new(), |router, (path, endpoint)| mount(router, &path, endpoint));
        let mut routes = OpenApiRouter::from(router);
        *routes.get_openapi_mut() = document;
        routes
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
        for (method, operation) in describe(facts, endpoint) {
            // One after the other: an item keeps what it has.
            self.openapi.paths.add_path_operation(path, vec![method], operation);
        }
    }

    /// The document, with the schemas and the schemes that it names.
    fn finish(mut self) -> OpenApi {
        let text = serde_json::to_string(&self.openapi.paths).unwrap_or_default();
        let names = [PROBLEM, ERROR, TOKEN, INTROSPECTION, REFUSAL, SESSIONS, USER, ACCEPTED];
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
    refusal("429")
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
    let mut body = form(&[grant], &members);
    name_grants(&mut body, &facts.grants);
    let refused = "The form is malformed, or what it shows opens nothing.";
    let answers = [("200", answer("Tokens.", JSON, TOKEN)), ("400", error(refused)), ("503", unavailable())];
    let operation = operation("Get a token", answers).operation_id(Some("token")).request_body(Some(body));
    let operation = if facts.limited { operation.response("429", limited()) } else { operation };
    facts.for_clients(operation).build()
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
    facts.for_clients(operation).build()
}

fn document(summary: &str, content_type: &str) -> Operation {
    let schema: utoipa::openapi::Schema = ObjectBuilder::new().schema_type(Type::Object).into();
    let found = ResponseBuilder::new().description("The document.").content(content_type, Content::new(Some(schema)));
    let answers = [("200", found.build()), ("304", plain("It has not changed.")), ("503", unavailable())];
    operation(summary, answers).build()
}

#[cfg(feature = "password")]
mod account {
    use super::*;

    /// Behind the layers that read who is calling.
    fn for_callers(facts: &Facts, operation: OperationBuilder) -> Operation {
        let mut operation = operation.build();
        let schemes: &[&str] = if facts.access_cookie { &[COOKIE, BEARER] } else { &[BEARER] };
        let demands = Demands::caller().inside(Demands::credential(schemes, false));
        operation::declare(&mut operation, None, &demands);
        operation
    }

    fn over() -> Response {
        plain("Neither the refresh token nor any access token of it opens anything any more.")
    }

    fn parameter(name: &str, place: ParameterIn, required: Required, about: &str) -> ParameterBuilder {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        parameter.description(Some(about)).schema(Some(schema))
    }

    pub(super) fn sessions(facts: &Facts) -> Vec<(HttpMethod, Operation)> {
        let list = [("200", answer("Those of the caller, the last used first.", JSON, SESSIONS))];
        let list = operation("List one's sessions", list).operation_id(Some("sessions"));
        let end = [("204", over()), ("400", error("The query is another one.")), ("404", missing())];
        let except = parameter("except", ParameterIn::Query, Required::False, "`current`: all but this one.");
        let end = operation("End all of one's sessions", end).operation_id(Some("end_sessions")).parameter(except);
        vec![(HttpMethod::Get, for_callers(facts, list)), (HttpMethod::Delete, for_callers(facts, end))]
    }

    fn missing() -> Response {
        answer("The caller has no such session.", "application/problem+json", PROBLEM)
    }

    pub(super) fn end_session(facts: &Facts) -> Operation {
        let id = parameter("id", ParameterIn::Path, Required::True, "Its name in the list.");
        let end = operation("End one of one's sessions", [("204", over()), ("404", missing())]);
        for_callers(facts, end.operation_id(Some("end_session")).parameter(id))
    }

    pub(super) fn log_out(facts: &Facts) -> Operation {
        for_callers(facts, operation("End this session", [("204", over())]).operation_id(Some("log_out")))
    }

    fn choosing(refused: &str) -> Response {
        answer(refused, JSON, REFUSAL)
    }

    pub(super) fn password(facts: &Facts) -> Operation {
        let members = [text("current_password", "The current one."), text("new_password", "The new one.")];
        let changed = plain("Changed. All other sessions are over.");
        let refused = choosing("The new password cannot be, with every reason; or the current one is wrong.");
        let change = operation("Choose another password", [("204", changed), ("400", refused), ("503", unavailable())]);
        let change = if facts.limited { change.response("429", limited()) } else { change };
        for_callers(facts, change.operation_id(Some("password")).request_body(Some(form(&members, &[]))))
    }

    pub(super) fn register(facts: &Facts) -> Operation {
        let refused = choosing("The name or the password cannot be, with every reason.");
        let register = operation("Become a user", [("400", refused), ("503", unavailable())]);
        let register = if facts.hides_names {
            register.response("202", answer("Registered, or the name was taken.", JSON, ACCEPTED))
        } else {
            let registered = register.response("201", answer("Registered.", JSON, USER));
            registered.response("409", choosing("The name is taken."))
        };
        let register = if facts.limited { register.response("429", limited()) } else { register };
        let body = form(&[USERNAME, PASSWORD], &[]);
        register.operation_id(Some("register")).request_body(Some(body)).build()
    }

    fn forged() -> Response {
        ResponseBuilder::new()
            .description("Another site may have caused the request.")
            .content("application/problem+json", Content::new(Some(Ref::from_schema_name(PROBLEM))))
            .build()
    }

    /// Whose security is the cookie that the browser sends, if there is one.
    fn with_cookie(operation: OperationBuilder, optional: bool) -> OperationBuilder {
        let none = optional.then(SecurityRequirement::default);
        operation.securities(Some(none.into_iter().chain([SecurityRequirement::new(REFRESH, [""; 0])])))
    }

    pub(super) fn page_session(facts: &Facts) -> Vec<(HttpMethod, Operation)> {
        let begun = answer("Signed in: the refresh token is in a cookie.", JSON, TOKEN);
        let refused = error("The form is malformed, or what it shows opens nothing.");
        let begin = [("200", begun), ("400", refused), ("403", forged()), ("503", unavailable())];
        let body = form(&[USERNAME, PASSWORD], &[SCOPE, RESOURCE, DEVICE_NAME, CLIENT_ID]);
        let begin = operation("Sign a page in", begin).operation_id(Some("page_sign_in")).request_body(Some(body));
        let begin = if facts.limited { begin.response("429", limited()) } else { begin };
        let refused = error("The request has an `Authorization` field, or a cookie twice.");
        let end = [("204", over()), ("400", refused), ("403", forged()), ("503", unavailable())];
        let end = with_cookie(operation("Sign a page out", end).operation_id(Some("page_sign_out")), true);
        vec![(HttpMethod::Post, begin.build()), (HttpMethod::Delete, end.build())]
    }

    pub(super) fn page_refresh() -> Operation {
        let refused = error("The session is over, and its cookies are cleared; or the form is malformed.");
        let goes_on = answer("The session goes on.", JSON, TOKEN);
        let answers = [("200", goes_on), ("400", refused), ("403", forged()), ("503", unavailable())];
        let body = form(&[], &[SCOPE, RESOURCE, CLIENT_ID]);
        let refresh = operation("Keep a page signed in", answers).operation_id(Some("page_refresh"));
        with_cookie(refresh.request_body(Some(body)), false).build()
    }
}
