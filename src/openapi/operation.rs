//! Demands, written into an operation: who may call it, and how others are refused. Pure.

use std::collections::{BTreeSet, btree_map::Entry};

use serde::{Deserialize, Serialize};
use utoipa::openapi::{
    ArrayBuilder, Content, Header, HeaderBuilder, ObjectBuilder, OneOfBuilder, PathItem, Ref, RefOr, Response,
    ResponseBuilder, Schema, SecurityRequirement, Type, path::Operation,
};

use super::demands::{Cause, Demand, Demands};
use crate::rejection::AnswerStyle;

/// Name of the schema of refusals. Nobody else's type is called so.
pub(super) const PROBLEM: &str = "portcullis.Problem";
const PROBLEM_JSON: &str = "application/problem+json";
/// Name of the schema of refusals as FastAPI writes them.
pub(super) const DETAIL: &str = "portcullis.Detail";
const JSON: &str = "application/json";
const CHALLENGE: &str = "WWW-Authenticate";

/// Problem details (RFC 9457), with the error of the challenge where there is one.
pub(super) fn problem() -> RefOr<Schema> {
    let text = |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let object = ObjectBuilder::new()
        .description(Some("A refusal (RFC 9457)."))
        .property("type", text("`about:blank`, or the address of a kind of problem."))
        .property("title", text("What the status is called."))
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("detail", text("What the challenge says, in words."))
        .property("error", text("The error of the challenge (RFC 6750 §3.1)."))
        .property("violated-policies", ArrayBuilder::new().items(text("The limit that is used up.")));
    RefOr::T(object.required("type").required("title").required("status").into())
}

/// A refusal as FastAPI writes it.
pub(super) fn detail() -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some("What is wrong, in words."));
    let object = ObjectBuilder::new().description(Some("A refusal, as FastAPI writes it."));
    RefOr::T(object.property("detail", text).required("detail").into())
}

/// The operations of a path, whatever their methods.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, query, additional_operations, .. } = item;
    let known = [get, put, post, delete, options, head, patch, trace, query];
    known.into_iter().flatten().chain(additional_operations.values_mut())
}

/// Where an operation keeps what was declared of it, until its document is finished.
const MEMORY: &str = "x-portcullis";

/// Begins the names of schemas that stand for operations, by their marks. They are in the document until it is finished.
pub(super) const MARK: &str = "portcullis.declared.";

/// What was declared of an operation so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Memory {
    causes: BTreeSet<Cause>,
    /// Whether the answers are those of a FastAPI service: a layer within learns it from the one that reads tokens.
    fastapi: bool,
    /// By which it is found again.
    mark: Option<u64>,
}

impl Memory {
    fn of(operation: &Operation) -> Self {
        let kept = operation.extensions.as_ref().and_then(|extensions| extensions.get(MEMORY));
        kept.and_then(|kept| serde_json::from_value(kept.clone()).ok()).unwrap_or_default()
    }

    fn keep(&self, operation: &mut Operation) {
        let value = serde_json::to_value(self).unwrap_or_default();
        operation.extensions.get_or_insert_default().insert(MEMORY.to_owned(), value);
    }

    /// Statuses of the refusals, each with its answer.
    fn refusals(&self) -> impl Iterator<Item = (&'static str, Response)> {
        let statuses: BTreeSet<_> = self.causes.iter().map(|cause| status(*cause, self.fastapi)).collect();
        statuses.into_iter().map(|status| (status, refusal(status, self.fastapi)))
    }
}

const fn status(cause: Cause, fastapi: bool) -> &'static str {
    match cause {
        Cause::Scope if !fastapi => "403",
        Cause::User if fastapi => "400",
        Cause::Token | Cause::Scope | Cause::User => "401",
        Cause::Policy | Cause::Site => "403",
        Cause::Store => "503",
    }
}

/// Gives the operation a mark, if it has none.
pub(super) fn mark(operation: &mut Operation, new: impl FnOnce() -> u64) -> Option<u64> {
    let mut memory = Memory::of(operation);
    if memory.mark.is_some() {
        return None;
    }
    memory.mark = Some(new());
    memory.keep(operation);
    memory.mark
}

/// Takes out what was kept, and returns the mark.
pub(super) fn finish(operation: &mut Operation) -> Option<u64> {
    let memory = Memory::of(operation);
    if let Some(extensions) = &mut operation.extensions {
        extensions.remove(MEMORY);
        if extensions.is_empty() {
            operation.extensions = None;
        }
    }
    memory.mark
}

/// Writes what a layer around the operation demands; `all` is what its document says of all operations that say nothing.
pub(super) fn declare(operation: &mut Operation, all: Option<&[SecurityRequirement]>, demands: &Demands) {
    operation.security = Some(demands.around(operation.security.as_deref(), all));
    let before = Memory::of(operation);
    let mut after = before.clone();
    for demand in &demands.0 {
        after.causes.extend(demand.causes());
        after.fastapi |= matches!(demand, Demand::Credential { style: AnswerStyle::FastApi, .. });
    }
    let responses = &mut operation.responses.responses;
    // What was written here, and nobody has changed, is written anew: in another style it may be another status.
    for (status, written) in before.refusals() {
        if responses.get(status).is_some_and(|said| is_same(said, &written)) {
            responses.remove(status);
        }
    }
    if after.fastapi {
        restyle(operation);
    }
    for (status, written) in after.refusals() {
        match operation.responses.responses.entry(status.to_owned()) {
            Entry::Vacant(vacant) => drop(vacant.insert(RefOr::T(written))),
            Entry::Occupied(mut said) => {
                if let RefOr::T(said) = said.get_mut() {
                    complete(said, status, after.fastapi);
                }
            }
        }
    }
    after.keep(operation);
}

/// Whether both are written the same way: a document that was read from JSON differs in more than that.
fn is_same(one: &impl Serialize, other: &impl Serialize) -> bool {
    serde_json::to_value(one).is_ok_and(|one| serde_json::to_value(other).is_ok_and(|other| one == other))
}

/// Makes refusals those of a FastAPI service: where there are problem details, its own form stands.
pub(super) fn restyle(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        // What an endpoint did not find is no refusal, and told in one form whatever the style.
        let RefOr::T(response) = response else { continue };
        if status == "404" {
            continue;
        }
        let problem = Content::new(Some(Ref::from_schema_name(PROBLEM)));
        if response.content.get(PROBLEM_JSON).is_none_or(|content| !is_same(content, &problem)) {
            continue;
        }
        response.content.shift_remove(PROBLEM_JSON);
        let detail = || Ref::from_schema_name(DETAIL);
        let schema = match response.content.shift_remove(JSON) {
            Some(RefOr::T(Content { schema: Some(own), .. })) => RefOr::T(either(own, detail())),
            _ => RefOr::Ref(detail()),
        };
        response.content.insert(JSON.to_owned(), RefOr::T(Content::new(Some(schema))));
        // Only 401 comes with a challenge.
        if status == "403" && response.headers.get(CHALLENGE).is_some_and(|said| is_same(said, &challenge())) {
            response.headers.remove(CHALLENGE);
        }
    }
}

/// One of two forms under one type.
pub(super) fn either(one: impl Into<RefOr<Schema>>, other: impl Into<RefOr<Schema>>) -> Schema {
    Schema::OneOf(OneOfBuilder::new().item(one).item(other).build())
}

/// A refusal with this status.
pub(super) fn refusal(status: &str, fastapi: bool) -> Response {
    let description = match status {
        "400" => "The user is disabled, or gone.",
        "401" if fastapi => "No valid token came with the request, or it lacks a scope.",
        "401" => "No valid token came with the request.",
        "403" if fastapi => "The caller may not do this.",
        "403" => "The caller may not do this, or the token lacks a scope.",
        "429" => "Too many attempts: try again after `Retry-After` seconds.",
        _ => "What is needed to decide does not answer: try again after `Retry-After` seconds.",
    };
    let mut response = ResponseBuilder::new().description(description).build();
    complete(&mut response, status, fastapi);
    response
}

/// Adds what the answer has, where the document does not say anything of it.
fn complete(response: &mut Response, status: &str, fastapi: bool) {
    let field = match status {
        "400" => None,
        "403" if fastapi => None,
        "401" | "403" => Some((CHALLENGE, challenge())),
        _ => Some(("Retry-After", retry_after())),
    };
    if let Some((name, header)) = field
        && !response.headers.keys().any(|own| own.eq_ignore_ascii_case(name))
    {
        response.headers.insert(name.to_owned(), RefOr::T(header));
    }
    if response.content.is_empty() {
        let (content_type, schema) = if fastapi { (JSON, DETAIL) } else { (PROBLEM_JSON, PROBLEM) };
        let content = Content::new(Some(Ref::from_schema_name(schema)));
        response.content.insert(content_type.to_owned(), RefOr::T(content));
    }
}

fn challenge() -> Header {
    header(
        Type::String,
        "`Bearer`, with the realm, and what is wrong with the token or which scopes are needed (RFC 6750 §3).",
    )
}

pub(super) fn retry_after() -> Header {
    header(Type::Integer, "Seconds to wait (RFC 9110 §10.2.3).")
}

pub(super) fn header(kind: Type, description: &str) -> Header {
    let schema: Schema = ObjectBuilder::new().schema_type(kind).into();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::openapi::COOKIE;

    const POLICY: &[Cause] = &[Cause::Token, Cause::Scope, Cause::Policy, Cause::User, Cause::Store];

    fn operation(json: Value) -> Operation {
        serde_json::from_value(json).unwrap()
    }

    fn declared(json: Value, demands: &Demands) -> Value {
        let mut operation = operation(json);
        declare(&mut operation, None, demands);
        serde_json::to_value(operation).unwrap()
    }

    #[test]
    fn refusals_are_written_down() {
        let statuses = |demands: &Demands| {
            let said = declared(json!({ "responses": { "200": { "description": "ok" } } }), demands);
            said["responses"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
        };
        let (fastapi, scopes) = (AnswerStyle::FastApi, || Demands::one_of([["a"]]).unwrap());
        for (demands, expected) in [
            (scopes(), "200 401 403"),
            (scopes().inside(Demands::bearer()), "200 401 403 503"),
            (scopes().inside(Demands::bearer().answer_style(fastapi)), "200 401 503"),
            (Demands::caller().inside(Demands::bearer()).answer_style(fastapi), "200 401 403 503"),
            (Demands::refusing(Vec::new(), POLICY), "200 401 403 503"),
            (
                Demands::refusing(Vec::new(), POLICY).inside(Demands::bearer().answer_style(fastapi)),
                "200 400 401 403 503",
            ),
            (Demands::nothing(), "200"),
            (Demands::bearer(), "200 401 503"),
            (Demands::caller(), "200 401 403"),
            (Demands::credential(&[COOKIE], false), "200 401 403 503"),
            (Demands::credential(&[COOKIE, "bearer"], true), "200 401 403 503"),
            (Demands::caller().inside(Demands::bearer()), "200 401 403 503"),
        ] {
            assert_eq!(statuses(&demands), expected, "{demands:?}");
        }
    }

    #[test]
    fn answers_have_their_fields_and_problem_details() {
        let said = declared(json!({ "responses": {} }), &Demands::caller().inside(Demands::bearer()));
        for (status, field) in [("401", "WWW-Authenticate"), ("403", "WWW-Authenticate"), ("503", "Retry-After")] {
            let answer = &said["responses"][status];
            assert!(answer["headers"][field]["schema"].is_object(), "{answer}");
            let schema = &answer["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/portcullis.Problem");
        }
    }

    #[test]
    fn layers_within_answer_in_the_style_of_the_one_that_reads_tokens() {
        let own = json!({ "responses": { "403": { "description": "short" } } });
        let layers = [Demands::one_of([["a"]]).unwrap(), Demands::bearer().answer_style(AnswerStyle::FastApi)];
        let each = layers.iter().fold(own, declared);
        let [scopes, bearer] = layers;
        let nothing = json!({ "responses": {} });
        let at_once = declared(nothing.clone(), &scopes.clone().inside(bearer.clone()));
        assert_eq!(declared(declared(nothing, &scopes), &bearer), at_once, "one after the other, or at once");
        for (status, field) in [("401", Some("WWW-Authenticate")), ("403", None), ("503", Some("Retry-After"))] {
            let answer = &each["responses"][status];
            let fields: Vec<_> = answer["headers"].as_object().into_iter().flat_map(|own| own.keys()).collect();
            assert!(fields == field.iter().collect::<Vec<_>>(), "{answer}");
            let schema =
                json!({ "application/json": { "schema": { "$ref": "#/components/schemas/portcullis.Detail" } } });
            assert_eq!(answer["content"], schema);
        }
        assert_eq!(each["responses"]["403"]["description"], "short", "nobody else's words are changed");
    }

    #[test]
    fn what_is_kept_is_taken_out() {
        let own = json!({ "responses": {} });
        let mut operation = operation(own.clone());
        assert_eq!([mark(&mut operation, || 7), mark(&mut operation, || 8)], [Some(7), None]);
        declare(&mut operation, None, &Demands::nothing());
        assert_eq!([finish(&mut operation), finish(&mut operation)], [Some(7), None]);
        operation.security = None;
        assert_eq!(serde_json::to_value(operation).unwrap(), own);
    }

    #[test]
    fn what_an_operation_said_stays() {
        let own = json!({
            "operationId": "orders",
            "tags": ["shop"],
            "deprecated": true,
            "security": [{ "key": [] }],
            "x-own": 7,
            "responses": {
                "200": { "description": "ok" },
                "401": { "description": "their words", "headers": { "www-authenticate": { "schema": { "type": "string" } } },
                         "content": { "text/plain": { "schema": { "type": "string" } } } },
                "403": { "description": "short" },
                "503": { "$ref": "#/components/responses/Down" },
            },
        });
        let mut said = declared(own.clone(), &Demands::caller().inside(Demands::bearer()));
        let again = declared(said.clone(), &Demands::caller().inside(Demands::bearer()));
        assert_eq!(again, said, "twice is once");
        for kept in ["401", "503"] {
            assert_eq!(said["responses"][kept], own["responses"][kept]);
        }
        let completed = said["responses"]["403"].take();
        assert_eq!(completed["description"], "short");
        assert!(completed["content"]["application/problem+json"].is_object());
        assert_eq!(said["security"], json!([{ "bearer": [], "key": [] }]));
        for name in ["operationId", "tags", "deprecated", "x-own"] {
            assert_eq!(said[name], own[name], "{name}");
        }
    }

    #[test]
    fn every_method_of_a_path_is_seen() {
        let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];
        let mut item = json!({ "additionalOperations": { "COPY": { "responses": {} } } });
        for method in methods {
            item[method] = json!({ "responses": {} });
        }
        let mut item: PathItem = serde_json::from_value(item).unwrap();
        operations(&mut item).for_each(|operation| declare(operation, None, &Demands::bearer()));
        let item = serde_json::to_value(item).unwrap();
        let told = item.to_string().matches(r#""security":[{"bearer":[]}]"#).count();
        assert_eq!(told, methods.len() + 1, "{item}");
    }
}
