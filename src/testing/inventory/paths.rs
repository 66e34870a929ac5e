//! Which paths a router has, as far as it tells: axum has no list of them, but prints them. Pure.

/// Paths that a router prints.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Paths {
    /// Of its routes.
    pub(super) routes: Vec<String>,
    /// Of what answers where there is no route.
    pub(super) fallbacks: Vec<String>,
}

/// What axum calls the tail of a service that is nested as a whole.
const NEST_TAIL: &str = "{*__private__axum_nest_tail_param}";
/// What a user reads of it.
const TAIL: &str = "{*rest}";

/// Reads what `Debug` of axum 0.8's `Router` prints. Whatever looks otherwise is an error: a list that may be short is worse than
/// none.
pub(super) fn read(debug: &str) -> Result<Paths, &'static str> {
    let rest = debug.strip_prefix("Router { path_router: PathRouter { routes: {").ok_or("it prints something else")?;
    let (routes, rest) = section(rest)?;
    let rest = rest.split_once("fallback_router: PathRouter { routes: {").ok_or("it prints no fallbacks")?.1;
    let (fallbacks, rest) = section(rest)?;
    if rest.contains(PATHS) {
        return Err("it prints more lists than two");
    }
    let mut routes = whole_services(routes);
    // They are printed in any order.
    routes.sort();
    Ok(Paths { routes, fallbacks })
}

const PATHS: &str = "node: Node { paths: {";

/// The paths of one list, and what comes behind it. Each route must have one.
fn section(text: &str) -> Result<(Vec<String>, &str), &'static str> {
    let (routes, text) = text.split_once(PATHS).ok_or("it prints no paths")?;
    let (paths, rest) = list(text)?;
    // Nothing that a program chose is printed among the routes, so the name stands for nothing else.
    if routes.matches("RouteId(").count() != paths.len() {
        return Err("it prints more routes than paths");
    }
    Ok((paths, rest))
}

/// Entries `RouteId(1): "/path"` up to the closing brace.
fn list(mut text: &str) -> Result<(Vec<String>, &str), &'static str> {
    const FORM: &str = "a path is not where it should be";
    let mut paths = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((paths, rest));
        }
        text = text.strip_prefix("RouteId(").ok_or(FORM)?;
        let (number, rest) = text.split_once("): \"").ok_or(FORM)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FORM);
        }
        let (path, rest) = quoted(rest)?;
        paths.push(path);
        text = rest.strip_prefix(", ").unwrap_or(rest);
    }
}

/// A string as `Debug` prints it, behind its opening quote.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut path = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((path, text.get(at + 1..).unwrap_or_default())),
            '\\' => match characters.next() {
                Some((_, same @ ('"' | '\\' | '\''))) => path.push(same),
                _ => return Err("a path has characters that are printed in another way"),
            },
            other => path.push(other),
        }
    }
    Err("a path does not end")
}

/// A service that is nested as a whole has three paths, of which the one with the tail stands for all.
fn whole_services(routes: Vec<String>) -> Vec<String> {
    let prefixes: Vec<String> =
        routes.iter().filter_map(|path| path.strip_suffix(NEST_TAIL)).map(str::to_owned).collect();
    let of_service = |path: &String| {
        let is_prefix = |prefix: &String| path == prefix || prefix.strip_suffix('/') == Some(path.as_str());
        prefixes.iter().any(is_prefix)
    };
    routes.into_iter().filter(|path| !of_service(path)).map(|path| path.replace(NEST_TAIL, TAIL)).collect()
}

/// A path without the names of its parameters: `/a/{id}` and `/a/{name}` are the same.
pub(super) fn shape(path: &str) -> String {
    let mut shape = String::new();
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        shape.push_str(before);
        // Doubled, a brace is itself.
        let itself = ["{{", "}}"].into_iter().find_map(|double| Some((double, brace.strip_prefix(double)?)));
        rest = match (itself, brace.find('}')) {
            (Some((double, after)), _) => {
                shape.push_str(double);
                after
            }
            (None, Some(end)) if brace.starts_with('{') => {
                shape.push_str(if brace.starts_with("{*") { "{*}" } else { "{}" });
                brace.get(end + 1..).unwrap_or_default()
            }
            (None, _) => {
                shape.push_str(brace);
                ""
            }
        };
    }
    shape + rest
}

/// Whether the path of a document is one that this route of a router answers. A document has no sign for a tail.
pub(super) fn is_of(documented: &str, route: &str) -> bool {
    let (documented, route) = (shape(documented), shape(route));
    documented == route
        || route.strip_suffix("{*}").is_some_and(|prefix| {
            documented.strip_prefix(prefix).is_some_and(|tail| !tail.is_empty())
                || documented == prefix
                || prefix.strip_suffix('/') == Some(documented.as_str())
        })
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;

    async fn nothing() {}

    fn sorted(router: &Router) -> (Vec<String>, Vec<String>) {
        let Paths { routes, mut fallbacks } = read(&format!("{router:?}")).unwrap();
        fallbacks.sort();
        (routes, fallbacks)
    }

    #[test]
    fn every_path_of_a_router_is_read() {
        let inner = Router::new().route("/", get(nothing)).route("/{id}", get(nothing).post(nothing));
        let odd = Router::new().route("/a\"b\\c'é", get(nothing)).route("/node: Node { paths: {}", get(nothing));
        let service = tower::service_fn(async |_: http::Request<axum::body::Body>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::empty()))
        });
        let app = Router::new()
            .route("/", get(nothing))
            .route("/files/{*path}", get(nothing))
            .nest(
                "/items",
                inner.layer(axum::middleware::from_fn(async |request, next: axum::middleware::Next| {
                    next.run(request).await
                })),
            )
            .merge(odd)
            .nest_service("/whole", service)
            .route_service("/one", service);
        let (routes, _) = sorted(&app);
        let expected = [
            "/",
            "/a\"b\\c'é",
            "/files/{*path}",
            "/items",
            "/items/{id}",
            "/node: Node { paths: {}",
            "/one",
            "/whole/{*rest}",
        ];
        assert_eq!(routes, expected);
        assert_eq!(sorted(&Router::new()).0, [""; 0]);
        let stated: Router<u8> = Router::new().route("/s", get(nothing));
        assert_eq!(sorted(&stated.with_state(1)).0, ["/s"]);
    }

    #[test]
    fn fallbacks_are_read() {
        let (_, none) = sorted(&Router::new());
        let app =
            Router::new().nest("/api", Router::new().route("/x", get(nothing)).fallback(nothing)).fallback(nothing);
        let (routes, fallbacks) = sorted(&app);
        assert_eq!((routes.len(), none), (1, ["/", "/{*__private__axum_fallback}"].map(str::to_owned).to_vec()));
        assert!(fallbacks.iter().any(|path| path.starts_with("/api/{*")), "{fallbacks:?}");
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let good = format!("{:?}", Router::<()>::new().route("/a", get(nothing)).route("/b", get(nothing)));
        assert!(read(&good).is_ok());
        for (from, to) in [
            ("Router {", "Routes {"),
            ("PathRouter {", "Paths {"),
            ("RouteId(", "Id("),
            ("\"/a\"", "'/a'"),
            ("\"/a\"", "\"/a"),
            ("\"/a\"", "\"/\\u{7f}\""),
            ("\"/a\"", "\"/a\", RouteId(9): \"/c\""),
            ("node: Node", "tree: Node"),
            ("fallback_router", "fallbacks"),
        ] {
            let changed = good.replace(from, to);
            assert_ne!(changed, good, "{from}");
            assert!(read(&changed).is_err(), "{changed}");
        }
        for text in ["", "Router", "Router { path_router: PathRouter { routes: {"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_count() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/{id}", "/a/{}"),
            ("/a/{id}/b/{name}.json", "/a/{}/b/{}.json"),
            ("/a/{*rest}", "/a/{*}"),
            ("/a/{{id}}", "/a/{{id}}"),
            ("/a/{id", "/a/{id"),
            ("/a}", "/a}"),
            ("é/{ü}", "é/{}"),
        ] {
            assert_eq!(shape(path), expected, "{path}");
        }
        for (documented, route, same) in [
            ("/a/{x}", "/a/{y}", true),
            ("/a/{x}", "/a/{*y}", true),
            ("/a/b/c", "/a/{*y}", true),
            ("/a", "/a/{*y}", true),
            ("/ab", "/a/{*y}", false),
            ("/a/{x}", "/a/x", false),
            ("/a/x", "/a/{x}", false),
        ] {
            assert_eq!(is_of(documented, route), same, "{documented} {route}");
        }
    }
}
