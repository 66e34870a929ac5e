//! What an OpenAPI document says of its operations. Pure.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// An operation of the document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// As the document writes it.
    pub(super) path: String,
    pub(super) security: Security,
    /// Of the body that it takes.
    pub(super) content_type: Option<String>,
    /// Values of its parameters, as far as the document has examples.
    pub(super) values: BTreeMap<String, String>,
}

/// Who may call it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Security {
    /// Anybody.
    Open,
    /// Who has one of these.
    Closed(Vec<Alternative>),
    /// It cannot be read.
    Unreadable,
}

/// All that is needed for one way in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Alternative {
    pub(super) scopes: BTreeSet<String>,
    /// Schemes of it that are no bearer tokens.
    pub(super) others: Vec<String>,
}

/// What a document says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Document {
    /// In the order of their paths.
    pub(super) operations: Vec<Operation>,
    /// Members of paths that are not known here, and so not looked at: path and name.
    pub(super) unread: Vec<(String, String)>,
}

/// A parameter that nobody has said anything of.
pub(super) const ANY: &str = "1";
/// A tail of which nothing was said: longer than what other routes may be at the same place.
const ANY_TAIL: [&str; 4] = ["no", "such", "tail", "1"];

/// What a tail may be made of besides.
const TAIL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');

/// Puts values in place of the parameters of `path`, percent-encoded; something made up where there is none.
pub(super) fn fill<'v>(path: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut target = String::new();
    let mut rest = path;
    while let Some((before, parameter)) = rest.split_once('{') {
        let (name, after) = parameter.split_once('}').unwrap_or((parameter, ""));
        target.push_str(before);
        match name.strip_prefix('*') {
            Some(name) => {
                let made_up = ANY_TAIL.join("/");
                target.extend(utf8_percent_encode(value(name).unwrap_or(&made_up), TAIL));
            }
            None => target.extend(utf8_percent_encode(value(name).unwrap_or(ANY), NON_ALPHANUMERIC)),
        }
        rest = after;
    }
    target + rest
}

/// The methods that a document can have.
pub(super) const METHODS: [(&str, Method); 8] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
    ("trace", Method::TRACE),
];

/// What a path has besides (OpenAPI 3.1 §4.8.9). `$ref` is not among it: what it stands for is not looked up.
const NO_METHODS: [&str; 4] = ["summary", "description", "servers", "parameters"];

fn is_read(member: &str) -> bool {
    member.starts_with("x-") || NO_METHODS.contains(&member) || METHODS.iter().any(|(name, _)| *name == member)
}

/// Reads all operations of `document`.
pub(super) fn read(document: &Value) -> Document {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let (mut operations, mut unread) = (Vec::new(), Vec::new());
    for (path, item) in paths {
        // Of 3.2, or later: `query`, `additionalOperations`.
        let members = item.as_object().into_iter().flat_map(|members| members.keys()).filter(|name| !is_read(name));
        unread.extend(members.map(|name| (path.clone(), name.clone())));
        for (name, method) in METHODS {
            let Some(operation) = item.get(name) else { continue };
            operations.push(Operation {
                method,
                path: path.clone(),
                // OpenAPI 3.1 §4.8.10: what the operation says replaces what the document says.
                security: security(document, operation.get("security").or_else(|| document.get("security"))),
                content_type: content_type(document, operation),
                values: [item, operation].into_iter().flat_map(|holder| values(document, holder)).collect(),
            });
        }
    }
    Document { operations, unread }
}

fn security(document: &Value, requirements: Option<&Value>) -> Security {
    let Some(requirements) = requirements else { return Security::Open };
    let Some(list) = requirements.as_array() else { return Security::Unreadable };
    let mut alternatives = Vec::new();
    for requirement in list {
        let Some(schemes) = requirement.as_object() else { return Security::Unreadable };
        if schemes.is_empty() {
            return Security::Open;
        }
        let mut alternative = Alternative::default();
        for (scheme, scopes) in schemes {
            let scopes: Option<Vec<&str>> = scopes.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
            let Some(scopes) = scopes else { return Security::Unreadable };
            if takes_tokens(document, scheme) {
                alternative.scopes.extend(scopes.into_iter().map(str::to_owned));
            } else {
                alternative.others.push(scheme.clone());
            }
        }
        alternatives.push(alternative);
    }
    // An empty list takes back what the document says for all.
    if alternatives.is_empty() { Security::Open } else { Security::Closed(alternatives) }
}

/// Whether this scheme is one of bearer tokens: also where the document does not say what it is.
fn takes_tokens(document: &Value, scheme: &str) -> bool {
    let schemes = document.get("components").and_then(|components| components.get("securitySchemes"));
    let Some(scheme) = schemes.and_then(|schemes| schemes.get(scheme)) else { return true };
    let is = |name: &str, value: &str| {
        scheme.get(name).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    is("type", "oauth2") || is("type", "openIdConnect") || (is("type", "http") && is("scheme", "bearer"))
}

fn content_type(document: &Value, operation: &Value) -> Option<String> {
    let body = resolved(document, operation.get("requestBody")?);
    body.get("content")?.as_object()?.keys().next().cloned()
}

/// Values of the parameters in the path, for those that have an example or a type.
fn values<'d>(document: &'d Value, holder: &'d Value) -> impl Iterator<Item = (String, String)> + 'd {
    let parameters = holder.get("parameters").and_then(Value::as_array).into_iter().flatten();
    parameters.filter_map(|parameter| {
        let parameter = resolved(document, parameter);
        let in_path = parameter.get("in").and_then(Value::as_str) == Some("path");
        let name = parameter.get("name").and_then(Value::as_str).filter(|_| in_path)?;
        Some((name.to_owned(), value(document, parameter)?))
    })
}

fn value(document: &Value, parameter: &Value) -> Option<String> {
    let schema = parameter.get("schema").map(|schema| resolved(document, schema));
    let of_schema = |name: &str| schema.and_then(|schema| schema.get(name));
    let first = |list: Option<&'_ Value>| list.and_then(|list| list.get(0)).cloned();
    let example = parameter.get("example").or_else(|| of_schema("example")).cloned();
    let example = example.or_else(|| first(of_schema("examples"))).or_else(|| of_schema("default").cloned());
    let example = example.or_else(|| first(of_schema("enum")));
    if let Some(example) = example {
        return Some(example.as_str().map_or_else(|| example.to_string(), str::to_owned));
    }
    let text = |name: &str| of_schema(name).and_then(Value::as_str);
    let by_form = match (text("type")?, text("format")) {
        ("boolean", _) => "true",
        (_, Some("uuid")) => "00000000-0000-4000-8000-000000000000",
        (_, Some("date")) => "2000-01-01",
        (_, Some("date-time")) => "2000-01-01T00:00:00Z",
        _ => return None,
    };
    Some(by_form.to_owned())
}

/// What a `$ref` of the document stands for, one step far; anything else is itself.
fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let pointer = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(alternatives: &[&[&str]]) -> Security {
        let scopes = |scopes: &&[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let alternative = |list: &&[&str]| Alternative { scopes: scopes(list), others: Vec::new() };
        Security::Closed(alternatives.iter().map(alternative).collect())
    }

    #[test]
    fn security_in_every_form() {
        for (own, of_all, expected) in [
            (json!([{ "login": ["a", "b"] }]), None, closed(&[&["a", "b"]])),
            (json!([{ "login": ["a"] }, { "login": ["b"] }]), None, closed(&[&["a"], &["b"]])),
            (json!([{ "login": [] }]), None, closed(&[&[]])),
            (json!([{ "login": ["a"], "bearer": ["b"] }]), None, closed(&[&["a", "b"]])),
            (json!([{}]), None, Security::Open),
            (json!([]), None, Security::Open),
            (json!([{ "login": ["a"] }, {}]), None, Security::Open),
            (json!([]), Some(json!([{ "login": ["a"] }])), Security::Open),
            (Value::Null, Some(json!([{ "login": ["a"] }])), closed(&[&["a"]])),
            (json!([{ "login": ["b"] }]), Some(json!([{ "login": ["a"] }])), closed(&[&["b"]])),
            (Value::Null, None, Security::Open),
            (json!({}), None, Security::Unreadable),
            (json!([["login"]]), None, Security::Unreadable),
            (json!([{ "login": "a" }]), None, Security::Unreadable),
            (json!([{ "login": [1] }]), None, Security::Unreadable),
        ] {
            let operation = if own.is_null() { json!({}) } else { json!({ "security": own }) };
            let mut document = json!({ "paths": { "/": { "get": operation } } });
            if let Some(of_all) = of_all {
                document["security"] = of_all;
            }
            assert_eq!(read(&document).operations[0].security, expected, "{document}");
        }
    }

    #[test]
    fn schemes_that_are_no_bearer_tokens_are_told_apart() {
        for (scheme, tokens) in [
            (json!({ "type": "oauth2", "flows": {} }), true),
            (json!({ "type": "openIdConnect" }), true),
            (json!({ "type": "http", "scheme": "Bearer" }), true),
            (json!({ "type": "http", "scheme": "basic" }), false),
            (json!({ "type": "apiKey", "in": "cookie" }), false),
            (json!({ "type": "mutualTLS" }), false),
            (json!({}), false),
        ] {
            let schemes = json!({ "s": scheme });
            let operation = json!({ "security": [{ "s": ["a"] }] });
            let document =
                json!({ "components": { "securitySchemes": schemes }, "paths": { "/": { "get": operation } } });
            let Security::Closed(alternatives) = &read(&document).operations[0].security else { panic!("{document}") };
            assert_eq!(alternatives[0].others.is_empty(), tokens, "{document}");
            assert_eq!(alternatives[0].scopes.is_empty(), !tokens, "{document}");
        }
    }

    #[test]
    fn parameters_get_values() {
        let schema = |schema: Value| json!({ "name": "x", "in": "path", "schema": schema });
        for (parameter, expected) in [
            (json!({ "name": "x", "in": "path", "example": "a b/c" }), "/a%20b%2Fc"),
            (json!({ "name": "x", "in": "path", "example": 7 }), "/7"),
            (json!({ "name": "x", "in": "query", "example": 7 }), "/1"),
            (schema(json!({ "type": "string", "example": "e" })), "/e"),
            (schema(json!({ "type": "string", "examples": ["f"] })), "/f"),
            (schema(json!({ "type": "string", "enum": ["north", "south"] })), "/north"),
            (schema(json!({ "type": "string", "default": "d" })), "/d"),
            (schema(json!({ "type": "integer" })), "/1"),
            (schema(json!({ "type": "boolean" })), "/true"),
            (schema(json!({ "type": "string", "format": "uuid" })), "/00000000%2D0000%2D4000%2D8000%2D000000000000"),
            (schema(json!({ "$ref": "#/components/schemas/Id" })), "/42"),
        ] {
            let document = json!({
                "paths": { "/{x}": { "parameters": [parameter], "get": {} } },
                "components": { "schemas": { "Id": { "type": "integer", "example": 42 } } },
            });
            let operation = &read(&document).operations[0];
            let target = fill(&operation.path, |name| operation.values.get(name).map(String::as_str));
            assert_eq!(target, expected, "{parameter}");
        }
        assert_eq!(fill("/a/{x}/{", |_| None), "/a/1/1");
        assert_eq!(fill("/a/{*rest}", |_| None), "/a/no/such/tail/1");
        assert_eq!(fill("/a/{*rest}", |_| Some("b/c d")), "/a/b/c%20d");
    }

    #[test]
    fn members_of_a_path_that_are_not_known_are_told() {
        let item = json!({
            "get": {}, "query": {}, "additionalOperations": { "PURGE": {} }, "$ref": "#/x", "x-own": 1,
            "summary": "s", "description": "d", "parameters": [], "servers": [],
        });
        let Document { operations, unread } = read(&json!({ "paths": { "/a": item, "/b": {} } }));
        assert_eq!(operations.len(), 1);
        let told: BTreeSet<String> = unread.into_iter().map(|(path, name)| format!("{path} {name}")).collect();
        let expected = ["/a $ref", "/a additionalOperations", "/a query"].map(str::to_owned);
        assert_eq!(told, BTreeSet::from(expected));
    }

    #[test]
    fn bodies_have_their_content_type() {
        let body = json!({ "content": { "application/x-www-form-urlencoded": {} } });
        let document = json!({ "paths": { "/": { "post": { "requestBody": body }, "get": {} } } });
        let operations = read(&document).operations;
        assert_eq!(operations[0].content_type, None);
        assert_eq!(operations[1].content_type.as_deref(), Some("application/x-www-form-urlencoded"));
    }
}
