//! Demands, written into an operation: who may call it, and how others are refused. Pure.

use utoipa::openapi::{
    ArrayBuilder, Content, Header, HeaderBuilder, ObjectBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder,
    Schema, SecurityRequirement, Type, path::Operation,
};

use super::demands::{COOKIE, Demand, Demands};

/// Name of the schema of refusals. Nobody else's type is called so.
pub(super) const PROBLEM: &str = "portcullis.Problem";
const PROBLEM_JSON: &str = "application/problem+json";

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

/// The operations of a path, whatever their methods.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, query, additional_operations, .. } = item;
    let known = [get, put, post, delete, options, head, patch, trace, query];
    known.into_iter().flatten().chain(additional_operations.values_mut())
}

/// Writes what a layer around the operation demands; `all` is what its document says of all operations that say nothing.
pub(super) fn declare(operation: &mut Operation, all: Option<&[SecurityRequirement]>, demands: &Demands) {
    operation.security = Some(demands.around(operation.security.as_deref(), all));
    for status in demands.0.iter().flat_map(refusals) {
        let said = operation.responses.responses.entry((*status).to_owned());
        match said.or_insert_with(|| RefOr::T(refusal(status))) {
            RefOr::T(said) => complete(said, status),
            RefOr::Ref(_) => {}
        }
    }
}

/// Statuses of the refusals.
fn refusals(demand: &Demand) -> &'static [&'static str] {
    match demand {
        Demand::Scopes(_) => &["401", "403"],
        // The guard of cookies refuses what another site may have caused.
        Demand::Credential { schemes, .. } if schemes.contains(&COOKIE) => &["401", "403", "503"],
        Demand::Credential { .. } => &["401", "503"],
    }
}

/// A refusal with this status.
pub(super) fn refusal(status: &str) -> Response {
    let description = match status {
        "401" => "No valid token came with the request.",
        "403" => "The caller may not do this, or the token lacks a scope.",
        "429" => "Too many attempts: try again after `Retry-After` seconds.",
        _ => "What is needed to decide does not answer: try again after `Retry-After` seconds.",
    };
    let mut response = ResponseBuilder::new().description(description).build();
    complete(&mut response, status);
    response
}

/// Adds what the answer has, where the document does not say anything of it.
fn complete(response: &mut Response, status: &str) {
    let (name, header) = match status {
        "401" | "403" => ("WWW-Authenticate", challenge()),
        _ => ("Retry-After", retry_after()),
    };
    if !response.headers.keys().any(|own| own.eq_ignore_ascii_case(name)) {
        response.headers.insert(name.to_owned(), RefOr::T(header));
    }
    if response.content.is_empty() {
        let schema = Ref::from_schema_name(PROBLEM);
        response.content.insert(PROBLEM_JSON.to_owned(), RefOr::T(Content::new(Some(schema))));
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
        for (demands, expected) in [
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
