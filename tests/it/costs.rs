//! What a request costs that no clock can measure well: allocations. Times and instructions are in `benches/`.

use std::convert::Infallible;

use allocation_counter::measure;
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response};
use portcullis::{authz::RequireScopesLayer, jwt::Algorithm};
use tower::{Service, ServiceBuilder, service_fn};

use crate::support::Authority;

/// Allocations of one request with this token; making the request is not counted.
fn allocations<S, B>(service: &mut S, token: &str) -> u64
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let field = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Bearer {token}"))).unwrap();
    let mut request = Request::new(());
    request.headers_mut().insert("authorization", field);
    measure(|| assert_eq!(service.call(request).now_or_never().unwrap().unwrap().status(), 200)).count_total
}

#[test]
fn a_request_through_the_full_stack_takes_few_allocations() {
    let empty = service_fn(|_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(()))));
    // Of the request's extensions, the map, its table, and a box for the caller. A token that has not been seen takes its
    // payload and its proof besides. The signature library allocates outside
    // of Rust's allocator, and is not counted.
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let authority = Authority::new(algorithm);
        let token = authority.token("me items");
        for (api, most) in [(authority.api().without_cache(), 5), (authority.api(), 3)] {
            let mut stack = ServiceBuilder::new()
                .layer(api.authenticate())
                .layer(RequireScopesLayer::all_of(["items"]).unwrap())
                .service(empty);
            // What happens once is in the first.
            allocations(&mut stack, &token);
            let added = allocations(&mut stack, &token);
            assert!(added <= most, "{algorithm}: {added} allocations, {most} allowed");
        }
        // One more where a new token is remembered, its text; further ones where the memory has to grow.
        let mut stack = ServiceBuilder::new().layer(authority.api().authenticate()).service(empty);
        let new = |n| allocations(&mut stack, &authority.token(&format!("scope-{n}")));
        let added = (0..50).map(new).min().unwrap();
        assert!(added <= 6, "{algorithm}: {added} allocations for a token that is remembered");
    }
}
