//! The operations of those who have an account, or come to have one. Pure.

use utoipa::openapi::{
    Content, HttpMethod, ObjectBuilder, Ref, Required, Response, ResponseBuilder, SecurityRequirement, Type,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
};

use super::{
    CLIENT_ID, DEVICE_NAME, JSON, PASSWORD, REFRESH, RESOURCE, SCOPE, USERNAME, answer, error, form, limited,
    operation, plain, text, unavailable,
};
use crate::{
    authorization_server::Facts,
    openapi::{
        demands::{BEARER, COOKIE, Demands},
        operation::{self, PROBLEM},
        schemas::{ACCEPTED, REFUSAL, SESSIONS, TOKEN, USER},
    },
};

/// Behind the layers that read who is calling.
fn for_callers(facts: &Facts, operation: OperationBuilder) -> Operation {
    let mut operation = operation.build();
    let schemes: &[&str] = if facts.access_cookie { &[COOKIE, BEARER] } else { &[BEARER] };
    let demands = Demands::caller().inside(Demands::credential(schemes, false).answer_style(facts.style));
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
    let list = [("200", answer("Those of the caller, the last used first.", JSON, SESSIONS)), ("503", unavailable())];
    let list = operation("List one's sessions", list).operation_id(Some("sessions"));
    let end =
        [("204", over()), ("400", error("The query is another one.")), ("404", missing()), ("503", unavailable())];
    let except = parameter("except", ParameterIn::Query, Required::False, "`current`: all but this one.");
    let end = operation("End all of one's sessions", end).operation_id(Some("end_sessions")).parameter(except);
    vec![(HttpMethod::Get, for_callers(facts, list)), (HttpMethod::Delete, for_callers(facts, end))]
}

fn missing() -> Response {
    answer("The caller has no such session.", "application/problem+json", PROBLEM)
}

pub(super) fn end_session(facts: &Facts) -> Operation {
    let id = parameter("id", ParameterIn::Path, Required::True, "Its name in the list.");
    let end = operation("End one of one's sessions", [("204", over()), ("404", missing()), ("503", unavailable())]);
    for_callers(facts, end.operation_id(Some("end_session")).parameter(id))
}

pub(super) fn log_out(facts: &Facts) -> Operation {
    for_callers(
        facts,
        operation("End this session", [("204", over()), ("503", unavailable())]).operation_id(Some("log_out")),
    )
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
    let signed_in = answer("Signed in: the refresh token is in a cookie.", JSON, TOKEN);
    let refused = error("The form is malformed, or what it shows opens nothing.");
    let begin = [("200", signed_in), ("400", refused), ("403", forged()), ("503", unavailable())];
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
