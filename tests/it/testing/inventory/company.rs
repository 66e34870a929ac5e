//! A program of 221 routes: none is without authorization, and if one were, that would be found.

use axum::{Router, routing::MethodFilter};
use portcullis::{
    ResourceServer,
    testing::{
        TestAuthority,
        inventory::{Finding, Inventory, Verdict, inventory},
    },
};
use utoipa::openapi::{
    OpenApi, Paths,
    path::{HttpMethod, OperationBuilder},
    security::SecurityRequirement,
};

use super::nothing;

const MODULES: [&str; 13] = [
    "orders", "items", "people", "teams", "invoices", "payments", "reports", "files", "search", "stock", "offers",
    "claims", "audits",
];

/// A route of the program.
#[derive(Clone)]
struct Endpoint {
    method: (MethodFilter, HttpMethod, &'static str),
    module: &'static str,
    path: String,
    /// What the layers along its nesting demand.
    scopes: Vec<String>,
}

impl Endpoint {
    fn name(&self) -> String {
        format!("{} /{}{}", self.method.2, self.module, self.path)
    }
}

/// 13 modules with 17 routes each.
fn endpoints() -> Vec<Endpoint> {
    let get = || (MethodFilter::GET, HttpMethod::Get, "GET");
    let post = || (MethodFilter::POST, HttpMethod::Post, "POST");
    let put = || (MethodFilter::PUT, HttpMethod::Put, "PUT");
    let delete = || (MethodFilter::DELETE, HttpMethod::Delete, "DELETE");
    let mut all = Vec::new();
    for module in MODULES {
        let mut add = |method, path: &str, right: &str| {
            let scopes = vec![module.to_owned(), format!("{module}:{right}")];
            all.push(Endpoint { method, module, path: path.to_owned(), scopes });
        };
        add(get(), "", "read");
        add(post(), "", "write");
        for part in ["/{id}", "/{id}/notes", "/{id}/notes/{note}", "/{id}/history"] {
            add(get(), part, "read");
            add(put(), part, "write");
            add(delete(), part, "delete");
        }
        add(get(), "/export", "export");
        add(post(), "/import", "write");
        add(get(), "/settings", "admin");
    }
    all
}

/// How an endpoint is built, where that is not as it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mistake {
    /// No layer at all.
    Forgotten,
    /// Signed in is enough.
    NoScope,
    /// Another scope than the document says.
    OtherScope,
}

/// The program; `wrong` says which endpoints are built otherwise.
fn program(api: &ResourceServer, wrong: impl Fn(usize) -> Option<Mistake>) -> Router {
    let all: Vec<(usize, Endpoint)> = endpoints().into_iter().enumerate().collect();
    let mut program = Router::new();
    let mut forgotten = Router::new();
    for module in MODULES {
        let mut router = Router::new();
        for (number, endpoint) in all.iter().filter(|(_, endpoint)| endpoint.module == module) {
            let own = endpoint.scopes[1].as_str();
            let methods = axum::routing::on(endpoint.method.0, nothing);
            let path = if endpoint.path.is_empty() { "/" } else { &endpoint.path };
            match wrong(*number) {
                None => router = router.route(path, methods.layer(api.require([own]).unwrap())),
                Some(Mistake::NoScope) => router = router.route(path, methods),
                Some(Mistake::OtherScope) => {
                    router = router.route(path, methods.layer(api.require([format!("{module}:other")]).unwrap()));
                }
                Some(Mistake::Forgotten) => {
                    forgotten = forgotten.route(&format!("/{module}{}", endpoint.path), methods);
                }
            }
        }
        program = program.nest(&format!("/{module}"), router.route_layer(api.require([module]).unwrap()));
    }
    program.route_layer(api.authenticate()).merge(forgotten)
}

fn document() -> OpenApi {
    let mut paths = Paths::new();
    for Endpoint { method, module, path, scopes } in endpoints() {
        let operation = OperationBuilder::new().security(SecurityRequirement::new("login", scopes)).build();
        paths.add_path_operation(format!("/{module}{path}"), vec![method.1], operation);
    }
    OpenApi::new(utoipa::openapi::Info::new("company", "1"), paths)
}

struct Company {
    authority: TestAuthority,
    api: ResourceServer,
    document: OpenApi,
    names: Vec<String>,
}

impl Company {
    fn new() -> Self {
        let authority = TestAuthority::new();
        let (api, names) = (authority.api(), endpoints().iter().map(Endpoint::name).collect());
        Self { authority, api, document: document(), names }
    }

    async fn look(&self, router: Router) -> Inventory {
        inventory(router, &self.document).authority(&self.authority).run().await
    }

    async fn mistaken(&self, wrong: impl Fn(usize) -> Option<Mistake>) -> Inventory {
        self.look(program(&self.api, wrong)).await
    }

    fn number(&self, name: &str) -> usize {
        self.names.iter().position(|other| other == name).unwrap()
    }
}

/// Names of the operations with gaps, each once.
fn named(inventory: &Inventory) -> Vec<String> {
    let gap = |row: &&portcullis::testing::inventory::Row| row.verdict == Verdict::Gap;
    inventory.rows().iter().filter(gap).map(|row| format!("{} {}", row.method, row.path)).collect()
}

#[tokio::test]
async fn two_hundred_and_twenty_one_routes_and_none_without_authorization() {
    let company = Company::new();
    let inventory = company.mistaken(|_| None).await;
    inventory.assert_complete();
    // A dozen for each: without a token, forged, without each scope, with all; of `HEAD` the same, and other methods.
    assert!((221 * 6..221 * 20).contains(&inventory.requests()), "{}", inventory.requests());
    assert_eq!(inventory.rows().len(), 221);
    assert!(inventory.rows().iter().all(|row| row.verdict == Verdict::Closed));
    let table = inventory.to_string();
    assert_eq!(table.lines().count(), 222);
    assert!(table.lines().any(|line| {
        line.split_whitespace().eq(["GET", "/orders/{id}/notes/{note}", "orders", "orders:read", "closed"])
    }));
}

#[tokio::test]
async fn one_mistake_among_221_routes_is_found_and_named_and_mended() {
    let company = Company::new();
    let name = "PUT /payments/{id}/notes";
    let place = company.number(name);
    for (mistake, finding) in [
        (Mistake::Forgotten, "is closed in the document, and passes without a token: 200 OK"),
        (Mistake::NoScope, "passes without the scope `payments:write`: 200 OK"),
        (
            Mistake::OtherScope,
            "is refused with exactly the scopes `payments payments:write`: 403 Forbidden: scope missing",
        ),
    ] {
        let inventory = company.mistaken(|number| (number == place).then_some(mistake)).await;
        let gaps: Vec<String> = inventory.gaps().iter().map(ToString::to_string).collect();
        assert_eq!(gaps, [format!("{name}: {finding}")]);
    }
    let unknown = program(&company.api, |_| None).route("/payments/{id}/debug", axum::routing::get(nothing));
    let unknown = company.look(unknown).await;
    assert_eq!(unknown.gaps().len(), 1, "{unknown}");
    assert_eq!(unknown.gaps()[0].path, "/payments/{id}/debug");
    assert_eq!(unknown.gaps()[0].finding, Finding::Undocumented { open: true });
    company.mistaken(|_| None).await.assert_complete();
}

/// Each of the routes is built wrongly once, together with one of each other module: 17 programs, which have 13 mistakes each.
async fn each_is_found_and_no_other(mistake: Mistake) {
    let company = Company::new();
    let mut found = 0;
    for place in 0..17 {
        let inventory = company.mistaken(|number| (number % 17 == place).then_some(mistake)).await;
        let mut expected: Vec<String> = company.names.iter().skip(place).step_by(17).cloned().collect();
        let mut named = named(&inventory);
        named.sort();
        expected.sort();
        assert_eq!(named, expected);
        assert_eq!(inventory.gaps().len(), 13, "{inventory}");
        found += named.len();
    }
    assert_eq!(found, 221);
}

#[tokio::test]
async fn whichever_of_221_routes_is_forgotten_it_is_found_and_no_other() {
    each_is_found_and_no_other(Mistake::Forgotten).await;
}

#[tokio::test]
async fn whichever_of_221_routes_demands_no_scope_it_is_found_and_no_other() {
    each_is_found_and_no_other(Mistake::NoScope).await;
}

#[tokio::test]
async fn whichever_of_221_routes_demands_another_scope_it_is_found_and_no_other() {
    each_is_found_and_no_other(Mistake::OtherScope).await;
}
