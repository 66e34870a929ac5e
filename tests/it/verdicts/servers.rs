//! The same stacks of layers on axum, tonic, warp and plain hyper over sockets, and around a mock.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Extension, Router, body::Body, routing::any};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use jsonwebtoken as jwt;
use portcullis::{
    ResourceServer,
    authz::{
        Access, AuthorizeLayer, Claim, CurrentUsers, Decision, DenyUndecidedLayer, Public, Scopes, ServicePolicy,
        SignedIn, StepUp, policy_fn,
    },
    clock::UnixSeconds,
    ident::{LoginName, UserId},
    jwt::{Algorithm, ClaimsPolicy, RemoteJwks, SigningKey},
    principal::Principal,
    revocation::RevocationList,
    store::{MemoryStore, PasswordHash, Revocation, Revoked, UserRecord, UserStore},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::server::NamedService;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_test::mock;
use warp::Filter as _;

use crate::support::{AUDIENCE, Authority, ISSUER, now};

const ED25519: &[u8] = include_bytes!("../../keys/ed25519.pem");

/// Keys, users, and what was called back.
pub struct World {
    authority: Authority,
    /// Signs in nobody's name.
    pub stranger: Authority,
    api: ResourceServer,
    keyless: ResourceServer,
    users: CurrentUsers,
}

impl World {
    pub async fn new() -> Self {
        let authority = Authority(SigningKey::from_pem(Algorithm::EdDsa, ED25519).unwrap());
        let store = Arc::new(MemoryStore::new());
        for (id, disabled) in [("7", false), ("8", true)] {
            let (login, password) = (LoginName::parse(&format!("user{id}")).unwrap(), PasswordHash::from_phc(""));
            let (id, scopes) = (UserId::parse(id).unwrap(), "a b".parse().unwrap());
            store.insert(UserRecord { id, login, password, scopes, disabled }).await.unwrap();
        }
        let list = RevocationList::new(Arc::clone(&store) as _);
        let until = UnixSeconds::new(now() + 3600);
        let revoked = Revocation { tokens: Revoked::Token("t-revoked".to_owned()), until };
        list.revoke(vec![revoked], UnixSeconds::new(now())).await.unwrap();
        let policy = || ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
        let down = service_fn(|_| async { Err::<Response<Full<Bytes>>, _>("pulled the plug") });
        let keys = RemoteJwks::builder("https://id.example/keys").http_service(down).start().unwrap();
        Self {
            api: authority.api().realm("test").unwrap().revocations(ISSUER, list).unwrap(),
            keyless: ResourceServer::new(policy(), keys).realm("test").unwrap(),
            users: CurrentUsers::new(store, ISSUER),
            stranger: Authority::new(Algorithm::EdDsa),
            authority,
        }
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "user:7", "client_id": "app", "jti": "t-1", "scope": "a b", "tier": "gold",
            "auth_time": now() - 10, "acr": "phr", "iat": now(), "exp": now() + 600,
        })
    }

    /// A token that is good everywhere, changed.
    pub fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = Self::claims();
        change(&mut claims);
        self.authority.0.sign(&claims).unwrap()
    }

    /// A good token but for its type.
    pub fn typed(typ: &str) -> String {
        let mut header = jwt::Header::new(jwt::Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        jwt::encode(&header, &Self::claims(), &jwt::EncodingKey::from_ed_pem(ED25519).unwrap()).unwrap()
    }
}

type Boxed<B, E> = BoxCloneSyncService<Request<B>, Response<Body>, E>;

/// The layers of a place around `inner`.
fn stack<S, B, R>(world: &World, place: &str, inner: S) -> Boxed<B, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn boxed<S, B, R>(service: S) -> Boxed<B, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        BoxCloneSyncService::new(service.map_response(|response: Response<R>| response.map(Body::new)))
    }

    let World { api, keyless, users, .. } = world;
    let inner = DenyUndecidedLayer.layer(inner);
    let scope = |scope| api.require([scope]).unwrap();
    match place {
        "Closed" => boxed(api.authenticate().layer(scope("a").layer(scope("b").layer(inner)))),
        "Both" => boxed(api.protect(Scopes::all_of(["a", "b"]).unwrap()).layer(inner)),
        "Optional" => boxed(api.authenticate_optional().layer(scope("a").layer(inner))),
        "Claim" => boxed(api.protect(Claim::one_of("tier", ["gold"]).unwrap()).layer(inner)),
        "Fresh" => {
            let step_up = StepUp::within(Duration::from_secs(300)).acr(["phr"]).unwrap();
            boxed(api.protect(step_up).layer(inner))
        }
        "User" => boxed(api.authenticate().layer(users.layer().layer(api.authorize(SignedIn).layer(inner)))),
        "Undecided" => {
            let policy = policy_fn(|_: &Access<'_>| Decision::Undecided("directory"));
            boxed(api.protect(policy).layer(inner))
        }
        "Unanswered" => {
            let silence = service_fn(|_| std::future::pending::<Result<Decision, Infallible>>());
            let policy = api.authorize(ServicePolicy::new(silence)).patience(Duration::from_millis(20));
            boxed(api.authenticate().layer(policy.layer(inner)))
        }
        "Keyless" => boxed(keyless.protect(SignedIn).layer(inner)),
        "Unverified" => boxed(AuthorizeLayer::new(SignedIn).layer(inner)),
        "Forgotten" => boxed(api.authenticate().layer(inner)),
        "Open" => boxed(Public.layer(inner)),
        _ => panic!("no place is called {place}"),
    }
}

/// How often a handler ran.
type Calls = Arc<AtomicUsize>;

/// What every handler answers. Whom it was called by is told in a header.
fn answer(calls: &Calls, headers: &HeaderMap, caller: Option<&Principal>) -> Response<Full<Bytes>> {
    calls.fetch_add(1, SeqCst);
    let response = Response::builder().header("x-caller", caller.map_or("nobody", Principal::subject));
    let grpc = headers.get("content-type").is_some_and(|field| field.as_bytes().starts_with(b"application/grpc"));
    let response = if grpc { response.header("grpc-status", "0") } else { response };
    response.body(Full::from("ok")).unwrap()
}

/// A handler for servers that take any service.
#[derive(Clone)]
struct Handler(Calls);

impl<B> Service<Request<B>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = answer(&self.0, request.headers(), request.extensions().get());
        // Over HTTP/2, hyper leaves it to those who answer.
        let body = if request.method() == "HEAD" { Full::default() } else { answer.body().clone() };
        std::future::ready(Ok(answer.map(|_| body)))
    }
}

/// A server, or a mock in its place.
pub struct Host {
    pub name: &'static str,
    pub at: At,
    calls: Calls,
    tasks: Vec<JoinHandle<()>>,
}

pub enum At {
    Socket(SocketAddr),
    /// A service for each place.
    Process(HashMap<&'static str, Boxed<(), BoxError>>),
}

impl Host {
    /// The versions of HTTP that it speaks; a mock speaks none, and is asked once.
    pub fn versions(&self) -> &'static [Version] {
        match self.at {
            At::Socket(_) => &[Version::HTTP_11, Version::HTTP_2],
            At::Process(_) => &[Version::HTTP_11],
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub fn path(place: &str) -> String {
    format!("/verdicts.{place}/Ask")
}

/// A service under its name on a tonic server.
#[derive(Clone)]
struct Named<N>(Boxed<tonic::body::Body, Infallible>, PhantomData<N>);

impl<N> Service<Request<tonic::body::Body>> for Named<N> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        self.0.call(request)
    }
}

macro_rules! places {
    ($($name:ident)+) => {
        const PLACES: &[&str] = &[$(stringify!($name)),+];

        fn tonic_routes(world: &World, handler: &Handler) -> tonic::service::Routes {
            let mut routes = tonic::service::Routes::builder();
            $({
                #[derive(Clone)]
                struct $name;
                impl NamedService for Named<$name> {
                    const NAME: &'static str = concat!("verdicts.", stringify!($name));
                }
                let service = stack(world, stringify!($name), handler.clone());
                routes.add_service(Named(service, PhantomData::<$name>));
            })+
            routes.routes()
        }
    };
}
places!(Closed Both Optional Claim Fresh User Undecided Unanswered Keyless Unverified Forgotten Open);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn on_axum(world: &World) -> Host {
    let calls = Calls::default();
    let counted = Arc::clone(&calls);
    let handler = any(async move |caller: Option<Extension<Principal>>, headers: HeaderMap| {
        answer(&counted, &headers, caller.as_deref()).map(Body::new)
    });
    let app = PLACES.iter().fold(Router::new(), |app, place| {
        app.route_service(&path(place), stack::<_, Body, _>(world, place, handler.clone()))
    });
    let (listener, address) = listen().await;
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Host { name: "axum", at: At::Socket(address), calls, tasks: vec![task] }
}

async fn on_tonic(world: &World) -> Host {
    let calls = Calls::default();
    let routes = tonic_routes(world, &Handler(Arc::clone(&calls)));
    let (listener, address) = listen().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().accept_http1(true).add_routes(routes);
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Host { name: "tonic", at: At::Socket(address), calls, tasks: vec![task] }
}

/// Serves a service for each place, by hyper alone.
async fn on_hyper(name: &'static str, calls: Calls, places: HashMap<String, Boxed<Incoming, Infallible>>) -> Host {
    let (listener, address) = listen().await;
    let places = Arc::new(places);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let places = Arc::clone(&places);
            let service = service_fn(move |request: Request<Incoming>| {
                let place = places.get(request.uri().path()).cloned();
                async move {
                    match place {
                        Some(place) => place.oneshot(request).await,
                        None => Ok(Response::builder().status(404).body(Body::empty()).unwrap()),
                    }
                }
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                // A client that hangs up is no failure.
                let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            });
        }
    });
    Host { name, at: At::Socket(address), calls, tasks: vec![task] }
}

async fn on_plain_hyper(world: &World) -> Host {
    let calls = Calls::default();
    let handler = Handler(Arc::clone(&calls));
    let places = PLACES.iter().map(|place| (path(place), stack(world, place, handler.clone()))).collect();
    on_hyper("hyper", calls, places).await
}

async fn on_warp(world: &World) -> Host {
    let calls = Calls::default();
    let counted = Arc::clone(&calls);
    let asked = warp::any().and(warp::ext::optional()).and(warp::header::headers_cloned()).and(warp::method());
    let filter = asked.map(move |caller: Option<Principal>, headers: HeaderMap, method: Method| {
        let (parts, _) = answer(&counted, &headers, caller.as_ref()).into_parts();
        Response::from_parts(parts, if method == Method::HEAD { "" } else { "ok" })
    });
    let places = PLACES.iter().map(|place| {
        let service = stack::<_, Incoming, _>(world, place, warp::service(filter.clone()));
        (path(place), service)
    });
    on_hyper("warp", calls, places.collect()).await
}

fn in_process(world: &World) -> Host {
    let calls = Calls::default();
    let mut tasks = Vec::new();
    let places = PLACES.iter().map(|place| {
        let (service, mut handle) = mock::pair::<Request<()>, Response<Full<Bytes>>>();
        let counted = Arc::clone(&calls);
        tasks.push(tokio::spawn(async move {
            while let Some((request, respond)) = handle.next_request().await {
                respond.send_response(answer(&counted, request.headers(), request.extensions().get()));
            }
        }));
        (*place, stack(world, place, service))
    });
    let places = places.collect();
    Host { name: "mock", at: At::Process(places), calls, tasks }
}

/// All of them.
pub async fn hosts(world: &World) -> [Host; 5] {
    [on_axum(world).await, on_tonic(world).await, on_warp(world).await, on_plain_hyper(world).await, in_process(world)]
}
