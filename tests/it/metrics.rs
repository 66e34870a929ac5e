//! What is counted, under which names, and that it costs what the guide says.

use std::{convert::Infallible, fs, path::Path, sync::Arc};

use allocation_counter::measure;
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response};
use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use portcullis::{
    ResourceServer,
    audit::{AuditLayer, AuditTrail, Kind},
    authz::{Decision, Question, RequireScopesLayer, ServicePolicy},
    jwt::Algorithm,
    metrics::{self as names, ALL, Metric, MetricKind},
    testing::EventLog,
};
use tower::{Layer as _, Service, ServiceBuilder, service_fn};

use crate::{
    auth_server_watch as watch,
    programs::start,
    stores::Folder,
    support::{Authority, get, get_with, post, post_token},
};

/// A recorder of this thread's own.
fn recorder() -> (LocalRecorderGuard<'static>, PrometheusHandle) {
    let recorder: &'static PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    (metrics::set_default_local_recorder(recorder), recorder.handle())
}

/// The lines of figures that begin with this, with what follows.
fn lines(text: &str, start: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// One figure, a whole number; 0 if it is not there.
fn figure(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn scrape(handle: &PrometheusHandle) -> String {
    names::publish();
    handle.render()
}

async fn empty(_: Request<()>) -> Result<Response<()>, Infallible> {
    Ok(Response::new(()))
}

fn request(token: Option<&str>) -> Request<()> {
    // As servers have it: part of a buffer that is shared.
    let uri = bytes::Bytes::from("/items?of=mine".to_owned());
    let mut request = Request::get(http::Uri::from_maybe_shared(uri.clone()).unwrap()).body(()).unwrap();
    if let Some(token) = token {
        let field = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Bearer {token}"))).unwrap();
        request.headers_mut().insert("authorization", field);
    }
    request
}

#[test]
fn names_follow_the_rules_and_the_guide_has_all_of_them() {
    let guide = fs::read_to_string(format!("{}/src/guide/metrics.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for Metric { name, kind, labels, help, .. } in ALL {
        let rest = name.strip_prefix("portcullis_").unwrap();
        assert!(rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_seconds"), *kind == MetricKind::Histogram || name.ends_with("timestamp_seconds"));
        assert!(help.ends_with('.') && !help.is_empty(), "{name}");
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the guide"));
        let kind = format!("{kind:?}").to_lowercase();
        assert!(row.contains(&format!("| {kind}")), "{row}");
        for label in *labels {
            assert!(row.contains(&format!("`{label}`")), "{row}: {label}");
        }
    }
    let known = |name: &str| ALL.iter().any(|metric| metric.name == name);
    for (name, place) in used(&guide) {
        assert!(known(&name), "the guide has {name}, which nobody counts: {place}");
    }
}

/// Names of ours in a text, as they were registered, each with some of what is around it.
fn used(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("portcullis_") {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let name =
            ["_bucket", "_sum", "_count"].iter().fold(&*name, |name, end| name.strip_suffix(end).unwrap_or(name));
        found.push((name.to_owned(), text[at..].chars().take(80).collect()));
    }
    found
}

#[test]
fn alerts_are_of_metrics_and_kinds_that_there_are() {
    let text = fs::read_to_string(format!("{}/examples/auth_server/alerts.yml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let names = used(&text);
    assert!(names.len() >= 8, "{names:?}");
    for (name, place) in names {
        assert!(ALL.iter().any(|metric| metric.name == name), "{place}");
    }
    for kind in values(&text, "kind") {
        assert!(Kind::ALL.iter().any(|known| known.name() == kind), "{kind} is no kind of event");
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let path = format!("{}/examples/auth_server/grafana.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = std::collections::HashSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let (title, targets) = (panel["title"].as_str().unwrap(), panel["targets"].as_array().unwrap());
        assert!(!targets.is_empty() && !panel["description"].as_str().unwrap().is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let names = used(expression);
            assert!(!names.is_empty(), "{title}: {expression}");
            for (name, _) in names {
                let metric = ALL.iter().find(|metric| metric.name == name);
                let metric = metric.unwrap_or_else(|| panic!("{title}: {name} is not documented"));
                assert_eq!(
                    metric.kind == MetricKind::Histogram,
                    expression.contains("_bucket"),
                    "{title}: {expression}"
                );
                for label in labels(expression) {
                    let ours = metric.labels.contains(&&*label) || ["le", "instance", "job"].contains(&&*label);
                    assert!(ours, "{title}: {name} has no label {label}");
                }
                shown.insert(name);
            }
            for kind in values(expression, "kind") {
                assert!(Kind::ALL.iter().any(|known| known.name() == kind), "{title}: {kind} is no kind of event");
            }
        }
    }
    let missing: Vec<_> = ALL.iter().filter(|metric| !shown.contains(metric.name)).map(|metric| metric.name).collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
    assert_eq!(dashboard["__inputs"][0]["name"], "DS_PROMETHEUS");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
}

/// Labels that an expression selects or groups by.
fn labels(expression: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, _) in expression.match_indices("by (") {
        let list = expression[at + 4..].split(')').next().unwrap();
        found.extend(list.split(", ").map(str::to_owned));
    }
    for part in expression.split('{').skip(1) {
        let list = part.split('}').next().unwrap();
        found.extend(list.split(", ").filter_map(|pair| Some(pair.split_once(['=', '!'])?.0.to_owned())));
    }
    found
}

/// The values that it selects of a label.
fn values(expression: &str, label: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in [format!("{label}=\""), format!("{label}=~\"")] {
        for (at, _) in expression.match_indices(&start) {
            let list = expression[at + start.len()..].split('"').next().unwrap();
            // Patterns are lists, or begin alike.
            found.extend(list.split('|').filter(|value| !value.contains(".*")).map(str::to_owned));
        }
    }
    found
}

#[tokio::test]
async fn a_request_is_counted_once_however_many_gates_it_passes() {
    let (_guard, handle) = recorder();
    names::describe();
    let authority = Authority::new(Algorithm::EdDsa);
    let (good, poor) = (authority.token("items"), authority.token("me"));
    let api = authority.api();
    let trail = AuditTrail::builder().sink(EventLog::new()).admitted_one_in(1).start().unwrap();
    let gates = || {
        let stack = ServiceBuilder::new().layer(api.authenticate_optional()).layer(api.authenticate_optional());
        stack.layer(RequireScopesLayer::all_of(["items"]).unwrap()).service(service_fn(empty))
    };
    let (mut bare, mut audited) = (gates(), AuditLayer::new(trail).layer(gates()));
    for request_of in [Some(&good), Some(&poor), None] {
        bare.call(request(request_of.map(String::as_str))).await.unwrap();
        audited.call(request(request_of.map(String::as_str))).await.unwrap();
    }
    bare.call(request(Some("no.token.at-all"))).await.unwrap();
    let text = scrape(&handle);
    assert_eq!(figure(&text, "portcullis_requests_admitted_total{caller=\"known\"}"), 4, "{text}");
    assert_eq!(figure(&text, "portcullis_requests_admitted_total{caller=\"nobody\"}"), 2);
    let refused = lines(&text, "portcullis_events_total{kind=\"a");
    assert_eq!(refused, ["portcullis_events_total{kind=\"authorization_denied\",reason=\"insufficient_scope\"} 2"]);
    let event = |kind: &str, reason: &str| format!("portcullis_events_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
    assert_eq!(figure(&text, &event("credential_missing", "no_credential")), 2);
    assert_eq!(lines(&text, "portcullis_events_total{kind=\"credential_invalid\"").len(), 1);
    assert!(!text.contains("request_admitted"), "a sample is no count");
    // Two gates look each token up: new at the first, known from then on. What is no token is looked for in vain.
    assert_eq!(figure(&text, "portcullis_token_cache_lookups_total{result=\"miss\"}"), 3);
    assert_eq!(figure(&text, "portcullis_token_cache_lookups_total{result=\"hit\"}"), 6);
    assert_eq!(figure(&text, "portcullis_token_cache_entries"), 2);
    drop((bare, audited, api));
    assert_eq!(figure(&scrape(&handle), "portcullis_token_cache_entries"), 0, "gone with the server");
}

#[tokio::test]
async fn what_a_client_chooses_is_no_label() {
    let (_guard, handle) = recorder();
    let authority = Authority::new(Algorithm::EdDsa);
    let mut stack = ServiceBuilder::new().layer(authority.api().authenticate()).service(service_fn(empty));
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    let mut before = 0;
    for round in 0..3 {
        for n in 0..100 {
            let mark = format!("chosen-{round}-{n}");
            let strange = authority.token_with(|claims| claims["iss"] = format!("https://{mark}.example").into());
            let other = authority.token_with(|claims| claims["aud"] = mark.clone().into());
            for token in [strange, other, mark.clone(), format!("a.{mark}.c")] {
                let mut request = request(Some(&token));
                *request.uri_mut() = format!("/{mark}").parse().unwrap();
                request.headers_mut().insert("x-request-id", mark.parse().unwrap());
                stack.call(request).await.unwrap();
            }
        }
        let text = scrape(&handle);
        assert!(!text.contains("chosen"), "{text}");
        assert!(before == 0 || series(&text) == before, "{text}");
        before = series(&text);
    }
    assert!((3..20).contains(&before), "{before}");
}

/// Allocations of one call; making the request is not counted.
fn allocations<S>(service: &mut S, token: &str) -> u64
where
    S: Service<Request<()>, Error = Infallible>,
{
    let request = request(Some(token));
    measure(|| assert!(service.call(request).now_or_never().unwrap().is_ok())).count_total
}

/// The least of some: what happens once a second, or once, is not what each request costs.
fn least<S>(service: &mut S, token: &str) -> u64
where
    S: Service<Request<()>, Error = Infallible>,
{
    (0..10).map(|_| allocations(service, token)).min().unwrap()
}

#[tokio::test]
async fn counting_allocates_nothing_on_the_warm_path() {
    let authority = Authority::new(Algorithm::EdDsa);
    let (api, token): (ResourceServer, _) = (authority.api(), authority.token("items"));
    let trail = AuditTrail::builder().sink(EventLog::new()).admitted_one_in(0).start().unwrap();
    let stack = ServiceBuilder::new().layer(api.authenticate());
    let stack = stack.layer(RequireScopesLayer::all_of(["items"]).unwrap()).service(service_fn(empty));
    let mut bare = stack.clone();
    let mut audited = AuditLayer::new(trail).layer(stack);
    let without = (least(&mut bare, &token), least(&mut audited, &token));
    let (_guard, handle) = recorder();
    let with = (least(&mut bare, &token), least(&mut audited, &token));
    assert_eq!(with, without);
    // Of the request's extensions, as `costs` says.
    assert!(with.0 <= 3 && with.1 <= with.0, "{with:?}");
    names::publish();
    for _ in 0..1000 {
        allocations(&mut audited, &token);
    }
    let text = scrape(&handle);
    let counted = figure(&text, "portcullis_requests_admitted_total{caller=\"known\"}");
    assert!(counted >= 1000, "it was counting all the while: {counted}");
}

#[test]
fn what_threads_have_counted_is_there_when_it_is_asked_for_and_when_they_end() {
    // With the recorder of each thread, which is what a thread tells.
    let recorder: &'static PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let handle = recorder.handle();
    let authority = Arc::new(Authority::new(Algorithm::EdDsa));
    let api = authority.api();
    let (go, wait) = (Arc::new(std::sync::Barrier::new(5)), Arc::new(std::sync::Barrier::new(5)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (api, token) = (api.clone(), authority.token("items"));
            let (go, wait) = (Arc::clone(&go), Arc::clone(&wait));
            std::thread::spawn(move || {
                let _guard = metrics::set_default_local_recorder(recorder);
                let mut stack = ServiceBuilder::new().layer(api.authenticate()).service(service_fn(empty));
                let mut calls = |count| {
                    for _ in 0..count {
                        stack.call(request(Some(&token))).now_or_never().unwrap().unwrap();
                    }
                };
                calls(500);
                go.wait();
                // Nothing is told in the second in which it has been told already, but when it is asked for, or at the end.
                wait.wait();
                calls(7);
            })
        })
        .collect();
    go.wait();
    let known = "portcullis_requests_admitted_total{caller=\"known\"}";
    assert_eq!(figure(&scrape(&handle), known), 2000);
    wait.wait();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(figure(&handle.render(), known), 2028, "what they have counted since");
}

/// Each is a series of its own, whose first event would be no increase if it began with it.
#[test]
fn what_is_done_without_is_counted_from_zero_for_each_reason() {
    let (_guard, handle) = recorder();
    portcullis::metrics::describe();
    let text = handle.render();
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/kind.rs")).unwrap();
    let codes = source.split_once("impl Undone {").unwrap().1.split_once("\n}\n").unwrap().0;
    let reasons: Vec<&str> = codes.split('"').skip(1).step_by(2).filter(|text| *text != "password").collect();
    assert!(reasons.len() >= 6, "{reasons:?}");
    for reason in reasons {
        let line = format!("portcullis_events_total{{kind=\"degraded\",reason=\"{reason}\"}} 0");
        assert!(text.lines().any(|own| own == line), "{line}");
    }
}

#[tokio::test]
async fn audit_events_that_a_sink_missed_are_counted() {
    struct Stuck;
    impl portcullis::audit::AuditSink for Stuck {
        fn name(&self) -> &'static str {
            "stuck"
        }
        fn write<'a>(
            &'a self,
            _: &'a [Arc<portcullis::audit::Event>],
        ) -> futures::future::BoxFuture<'a, Result<(), portcullis::audit::SinkError>> {
            futures::future::pending().boxed()
        }
    }
    let (_guard, handle) = recorder();
    let trail = AuditTrail::builder().sink(Stuck).queue(10).start().unwrap();
    let dropped = "portcullis_audit_events_dropped_total{sink=\"stuck\"}";
    assert!(handle.render().contains(&format!("{dropped} 0")), "from the start, so that the first is an increase");
    let authority = Authority::new(Algorithm::EdDsa);
    let gate = ServiceBuilder::new().layer(AuditLayer::new(trail.clone())).layer(authority.api().authenticate());
    let mut stack = gate.service(service_fn(empty));
    for _ in 0..100 {
        stack.call(request(None)).now_or_never().unwrap().unwrap();
    }
    let lost: u64 = trail.dropped().map(|(_, lost)| lost).sum();
    // A quarter of the room is not for refusals.
    assert_eq!((lost, figure(&handle.render(), dropped)), (92, 92));
}

/// A store that is down fails a call, and a request is refused for that: one event, and one in the figures.
#[tokio::test]
async fn a_request_that_is_refused_for_what_failed_is_counted_once() {
    let (_guard, handle) = recorder();
    let trail = AuditTrail::builder().start().unwrap();
    let authority = Authority::new(Algorithm::EdDsa);
    let broken = ServicePolicy::new(service_fn(async |_: Question| Err::<Decision, _>("pulled the plug")));
    let gate = ServiceBuilder::new().layer(AuditLayer::new(trail)).layer(authority.api().protect(broken));
    let answer = gate.service(service_fn(empty)).call(request(Some(&authority.token("items")))).await.unwrap();
    assert_eq!(answer.status(), 503);
    let counted = lines(&scrape(&handle), "portcullis_events_total{kind=\"infrastructure_failed\"");
    assert_eq!(counted, ["portcullis_events_total{kind=\"infrastructure_failed\",reason=\"policy service\"} 1"]);
}

/// A life of the real program, as an operator sees it.
#[tokio::test]
async fn auth_server_shows_logins_refreshes_thefts_hashes_stores_and_keys() {
    const USERS: &str = r#"[{"username": "alice", "password": "a long enough one", "scopes": ["me"]}]"#;
    let folder = Folder::new("figures");
    let database = format!("sqlite:{}", folder.file("a.db").display());
    let secret = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
    let program = start("auth_server", &folder, &[("USERS", USERS), ("STORE", &database), ("KEY_SECRET", secret)]);
    let login = "grant_type=password&username=alice&password=a+long+enough+one";
    let first = post_token(program.address, login).await.json();
    assert_eq!(post_token(program.address, "grant_type=password&username=alice&password=wrong").await.status, 400);
    let access = first["access_token"].as_str().unwrap();
    for _ in 0..5 {
        assert_eq!(get_with(program.address, "/users/me", access).await.status, 200);
    }
    assert_eq!(get(program.address, "/users/me", &[]).await.status, 401);
    let form = format!("refresh_token={}", first["refresh_token"].as_str().unwrap());
    assert_eq!(post(program.address, "/token/refresh", &form).await.status, 200);
    assert_eq!(post(program.address, "/token/refresh", &form).await.status, 400, "a copy");
    assert_eq!(get(program.address, "/ready", &[]).await.status, 200);
    let text = get(program.address, "/metrics", &[]).await.text();
    for (name, expected) in [
        ("portcullis_events_total{kind=\"login_succeeded\"}", 1),
        ("portcullis_events_total{kind=\"session_refreshed\"}", 1),
        ("portcullis_events_total{kind=\"refresh_reused\"}", 1),
        ("portcullis_events_total{kind=\"credential_missing\",reason=\"no_credential\"}", 1),
        ("portcullis_requests_admitted_total{caller=\"known\"}", 5),
        ("portcullis_token_cache_lookups_total{result=\"hit\"}", 4),
        ("portcullis_token_cache_entries", 1),
        // One for the user who was added, two for those who tried.
        ("portcullis_password_hash_seconds_count", 3),
        ("portcullis_password_wait_seconds_count", 3),
        ("portcullis_password_waiting", 0),
        ("portcullis_password_shed_total", 0),
        ("portcullis_signing_seconds_count{algorithm=\"EdDSA\"}", 2),
        ("portcullis_store_seconds_count{store=\"sessions\",operation=\"create\"}", 1),
        // The second is the copy.
        ("portcullis_store_seconds_count{store=\"sessions\",operation=\"rotate\"}", 2),
        ("portcullis_ready{check=\"sessions\"}", 1),
        ("portcullis_outage{what=\"key store\",which=\"\"}", 0),
    ] {
        assert!(text.contains(&format!("{name} ")), "{name} is missing: {text}");
        assert_eq!(figure(&text, name), expected, "{name}: {text}");
    }
    let read = figure(&text, "portcullis_last_success_timestamp_seconds{what=\"key store\",which=\"\"}");
    assert!(read.abs_diff(crate::support::now()) < 60, "{read}");
    let undocumented: Vec<_> =
        used(&text).into_iter().filter(|(name, _)| !ALL.iter().any(|metric| metric.name == name)).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
    assert!(text.contains("# TYPE portcullis_store_seconds histogram"), "buckets, not quantiles");
    assert!(text.contains("# HELP portcullis_events_total "));
}

#[test]
fn every_histogram_has_buckets_in_auth_server() {
    let recorder = watch::recorder().unwrap();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        for metric in ALL.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
            metrics::histogram!(metric.name).record(0.001);
        }
    });
    let text = handle.render();
    for metric in ALL.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        assert!(text.contains(&format!("# TYPE {} histogram", metric.name)), "{text}");
    }
}
