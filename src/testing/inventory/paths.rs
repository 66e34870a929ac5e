//! Which paths a router has, as far as it tells: axum has no list of them, but prints them. Pure.

/// Paths that a router prints.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Paths {
    /// Of its routes.
    pub(super) routes: Vec<String>,
    /// Prefixes below which a fallback of the program's own answers where there is no route: empty for all paths.
    pub(super) fallbacks: Vec<String>,
}

/// What axum calls the tail of a service that is nested as a whole.
const NEST_TAIL: &str = "{*__private__axum_nest_tail_param}";
/// What axum calls the tail of a fallback.
const FALLBACK_TAIL: &str = "/{*__private__axum_fallback}";
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
    let is_default = match (rest.contains("default_fallback: true"), rest.contains("default_fallback: false")) {
        (true, false) => true,
        (false, true) => false,
        _ => return Err("it does not print whether its fallback is the default"),
    };
    let prefixes = fallbacks.iter().filter_map(|path| path.strip_suffix(FALLBACK_TAIL));
    // That of axum is on the list, too, where there is no other. What is nested is there only if it is not axum's.
    let mut fallbacks: Vec<String> =
        prefixes.filter(|prefix| !(is_default && prefix.is_empty())).map(str::to_owned).collect();
    fallbacks.sort();
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

/// Whether the document knows this route. That it has paths below a tail says nothing of the others there: it must have the tail
/// itself, as `{*rest}`, or as a parameter at the end, since OpenAPI has no sign for a tail (and a router has not both at a place).
pub(super) fn is_known(route: &str, documented: &[&str]) -> bool {
    let route = shape(route);
    let as_parameter = route.strip_suffix("{*}").map(|prefix| format!("{prefix}{{}}"));
    documented.iter().map(|path| shape(path)).any(|path| path == route || Some(path) == as_parameter)
}

/// Whether `route` is the one of `routes` that a path of a document stands for.
pub(super) fn stands_for(documented: &str, route: &str, routes: &[String]) -> bool {
    let of_document = shape(documented);
    let is_there = routes.iter().any(|route| shape(route) == of_document);
    if is_there { shape(route) == of_document } else { is_of(documented, route) }
}

/// Whether the path of a document is one that this route of a router answers.
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
        assert_eq!((routes.len(), none.len(), fallbacks), (1, 0, vec![String::new(), "/api".to_owned()]));
        let nested = Router::new().nest("/a/{id}", Router::new().route("/x", get(nothing)).fallback(nothing));
        assert_eq!(sorted(&Router::new().merge(nested)).1, ["/a/{id}"]);
        let service = tower::service_fn(async |_: http::Request<axum::body::Body>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::empty()))
        });
        assert_eq!(sorted(&Router::new().fallback_service(service)).1, [""]);
        assert_eq!(sorted(&Router::new().merge(Router::new().fallback(nothing))).1, [""]);
        assert_eq!(sorted(&Router::new().fallback(nothing).reset_fallback()).1, [""; 0]);
        let unfit = Router::new().nest("/b", Router::new().route("/x", get(nothing)));
        assert_eq!(sorted(&unfit).1, [""; 0], "axum's own");
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
            ("default_fallback: true", "default_fallback: Yes"),
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
        let routes = ["/a/{*rest}", "/a/b", "/b/{id}", "/c"].map(str::to_owned);
        for (documented, route, known) in [
            ("/a/{*any}", "/a/{*rest}", true),
            ("/a/{any}", "/a/{*rest}", true),
            ("/a/b", "/a/{*rest}", false),
            ("/a/{x}/b", "/a/{*rest}", false),
            ("/a", "/a/{*rest}", false),
            ("/b/{any}", "/b/{id}", true),
            ("/c", "/c", true),
            ("/d", "/c", false),
        ] {
            assert_eq!(is_known(route, &[documented]), known, "{documented} {route}");
        }
        for (documented, route, same) in [
            ("/b/{any}", "/b/{id}", true),
            ("/a/x", "/a/{*rest}", true),
            ("/a/b", "/a/{*rest}", false),
            ("/a/{any}", "/a/{*rest}", true),
            ("/a/{any}", "/a/b", false),
            ("/c", "/b/{id}", false),
        ] {
            assert_eq!(stands_for(documented, route, &routes), same, "{documented} {route}");
        }
    }
}
