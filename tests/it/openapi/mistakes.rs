//! What documents cannot be right about, and how that is told or fails.

use axum::Router;
use portcullis::{openapi::OpenApiRouterExt as _, rejection::AnswerStyle};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::*;

/// A document's own list of paths, and what `utoipa` then drops.
#[derive(utoipa::OpenApi)]
#[openapi(paths(alone, all_of))]
struct Listed;

#[tokio::test]
async fn operations_that_another_one_displaces_are_told() {
    let (server, _) = whole(&hasher(), AnswerStyle::Standard).await;
    let api = server.resource_server();
    let listed = || OpenApiRouter::<()>::with_openapi(Listed::openapi());
    let lost = |router: OpenApiRouter| {
        let scopes = serde_json::to_string(&router.get_openapi().paths).unwrap().contains(r#"["a","b"]"#);
        let scopes = if scopes { vec![("a", "A"), ("b", "B")] } else { vec![] };
        server.document(router.into_openapi(), scopes).err().map(|errors| errors.to_string())
    };
    // A route's own scopes would be missing.
    let told = lost(listed().routes(routes!(all_of).require_scopes(["a", "b"]).unwrap()).authenticate(&api)).unwrap();
    assert!(told.contains("/all_of was declared"), "{told}");
    // Marked as open, and listed as closed.
    let told = lost(listed().authenticate(&api).routes(routes!(alone).public())).unwrap();
    assert!(told.contains("/alone was declared"), "{told}");
    // One at the same place below.
    let one = || OpenApiRouter::new().routes(routes!(nested).require_scopes(["a", "b"]).unwrap());
    let other = OpenApiRouter::new().routes(routes!(post_nested)).authenticate(&api);
    let told = lost(OpenApiRouter::new().nest("/in", one()).nest("/in", other)).unwrap();
    assert!(told.contains("/nested was declared"), "{told}");
    // Listed, and declared with its router: both are one.
    let whole = listed().routes(routes!(all_of)).routes(routes!(alone)).require_scopes(["a", "b"]).unwrap();
    assert_eq!(lost(whole.authenticate(&api)), None);
    // Twice at different places, by way of a clone.
    assert_eq!(lost(OpenApiRouter::new().nest("/a", one()).nest("/b", one())), None);
    let twice = one();
    assert_eq!(lost(OpenApiRouter::new().nest("/a", twice.clone()).nest("/b", twice)), None);
    // This one cannot be seen: what is listed and not yet routed is declared as what is.
    let blind = listed().authenticate(&api).routes(routes!(alone));
    let (app, document) = blind.split_for_parts();
    let document = json_of(&server.document(document, [("", ""); 0]).unwrap());
    assert!(document["paths"]["/alone"]["get"]["security"].to_string().contains("bearer"), "{document}");
    assert_eq!(ask(&app, "get", "/alone", &[]).await.status(), 200);
}

/// Layers in the wrong order let nobody in, whatever the document says.
#[tokio::test]
async fn scopes_outside_of_who_reads_tokens_let_nobody_in() {
    let (server, subject) = whole(&hasher(), AnswerStyle::Standard).await;
    let api = server.resource_server();
    let bearer = credential("authorization", &token(&subject, "a"));
    let cookie = credential("cookie", &token(&subject, "a"));
    let scopes = OpenApiRouter::new().routes(routes!(alone)).authenticate(&api).require_scopes(["a"]).unwrap();
    let cookies = OpenApiRouter::new().routes(routes!(alone)).authenticate(&api);
    let cookies = cookies.declare(api.authenticate_cookie(guard()));
    for (router, fields, expected) in [(scopes, vec![bearer], 500), (cookies, vec![cookie], 401)] {
        let app: Router = router.into();
        let fields = [fields, vec![("sec-fetch-site", "same-origin".to_owned())]].concat();
        assert_eq!(ask(&app, "get", "/alone", &fields).await.status(), expected);
    }
}
