//! The walls of the house: decisions stay pure, layers do not know each other, drivers stay inside.

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Calls `each` with the path and text of every Rust file below `folder`.
pub fn walk(folder: &Path, each: &mut impl FnMut(&Path, String)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Every source file, with its path below `src` and its text up to its unit tests.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root().join("src"), &mut |path, text| {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        found.push((path.strip_prefix(root().join("src")).unwrap().display().to_string(), code));
    });
    assert!(found.len() > 30);
    found
}

/// Code without comments and docs.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn decisions_name_neither_tower_nor_tokio_and_read_no_clock() {
    const DECISIONS: &[&str] = &[
        "secret.rs",
        "caching.rs",
        "cookie.rs",
        "cors/config.rs",
        "cors/error.rs",
        "cors/names.rs",
        "cors/policy.rs",
        "fetch/mod.rs",
        "fetch/origin.rs",
        "ident.rs",
        "scope.rs",
        "principal.rs",
        "config.rs",
        "rejection/mod.rs",
        "rejection/answers/fastapi.rs",
        "jwt/token.rs",
        "jwt/json.rs",
        "jwt/algorithm.rs",
        "jwt/claims.rs",
        "jwt/policy.rs",
        "jwt/policy/builder.rs",
        "jwt/mark.rs",
        "jwt/payload.rs",
        "jwt/scope_map.rs",
        "jwt/key.rs",
        "jwt/keyset.rs",
        "jwt/cache/front.rs",
        "jwt/ring/snapshot.rs",
        "follow/flight.rs",
        "jwt/jwk.rs",
        "jwt/jwks.rs",
        "jwt/signer.rs",
        "bearer/credentials.rs",
        "browser/csrf/site.rs",
        "authz/scopes.rs",
        "authz/claim.rs",
        "authz/decision.rs",
        "authz/demand.rs",
        "authz/policy.rs",
        "authz/step_up.rs",
        "client_ip/mod.rs",
        "client_ip/scheme.rs",
        "transport/https.rs",
        "transport/hsts.rs",
        "transport/secure_headers.rs",
        "metrics/names.rs",
        "openapi/demands.rs",
        "openapi/operation.rs",
        "openapi/schemas.rs",
        "throttle/mod.rs",
        "throttle/quota.rs",
        "throttle/lockout.rs",
        "login/account.rs",
        "login/breaker.rs",
        "login/device.rs",
        "session/mod.rs",
        "session/rotation.rs",
        "session/digest.rs",
        "session/token.rs",
        "password/argon2id.rs",
        "password/common.rs",
        "password/context.rs",
        "password/pattern.rs",
        "password/policy.rs",
        "password/refusal.rs",
        "password/cost.rs",
        "password/legacy.rs",
        "password/pepper.rs",
        "password/stored.rs",
        "endpoint/error.rs",
        "endpoint/fastapi.rs",
        "endpoint/grant.rs",
        "endpoint/client_auth.rs",
        "endpoint/metadata.rs",
        "client.rs",
        "uri.rs",
        "jwt/ring/plan.rs",
        "jwt/ring/sealing.rs",
        "testing/flaw.rs",
        "testing/inventory/check.rs",
        "testing/inventory/document.rs",
        "testing/inventory/paths.rs",
        "testing/inventory/report.rs",
    ];
    let sources = sources();
    for decision in DECISIONS {
        let (_, text) =
            sources.iter().find(|(path, _)| path == decision).unwrap_or_else(|| panic!("{decision} is gone"));
        for foreign in ["tower", "tokio", "SystemTime", "SystemClock", "Instant", "async fn", ".now()"] {
            assert!(!code(text).contains(foreign), "{decision} names {foreign}");
        }
    }
}

#[test]
fn no_folder_imports_another_folders_layer() {
    for (path, text) in sources() {
        for line in code(&text).lines().filter(|line| line.contains("crate::")) {
            assert!(!line.contains("::layer"), "{path}: {line}");
        }
        if path.ends_with("/layer.rs") {
            for other in [
                "BearerExtract",
                "JwtVerify",
                "Authorize",
                "CurrentUser",
                "LoginRateLimit",
                "CookieExtract",
                "CorsStrict",
                "RequireHttps",
                "Hsts",
                "SecureHeaders",
            ] {
                let own = code(&text).contains(&format!("pub struct {other}Layer"));
                let used = code(&text).replace(&format!("\"{other}Layer\""), "").contains(other);
                assert!(own || !used, "{path} knows {other}");
            }
        }
    }
}

/// Floors from the ground up: a file uses those below its own, or its own folder.
#[test]
fn floors_use_only_what_is_below() {
    const FLOORS: &[&[&str]] = &[
        &["clock", "secret", "scope", "uri", "form", "cookie", "fetch", "caching", "sync"],
        &["random", "stripe"],
        &["ident", "metrics"],
        &["config"],
        &["client_ip", "throttle"],
        &["rejection", "audit"],
        &["principal", "gate", "session", "client"],
        &["store", "bearer", "cors"],
        &["transport", "authz"],
        &["follow", "health"],
        &["revocation"],
        &["jwt", "password"],
        &["browser", "login"],
        &["endpoint"],
        &["resource_server"],
        &["authorization_server", "presets"],
        &["axum"],
        &["guide", "lib", "openapi", "testing", "tonic"],
    ];
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    // Rooms with a door between them: what is told of a refusal, and the refusal; a configuration error's name for the
    // algorithm that a key does not fit, and for what is wrong with a CORS policy, without behaviour.
    const DOORS: &[(&str, &str)] =
        &[("rejection", "audit"), ("audit", "rejection"), ("config", "jwt"), ("config", "cors")];
    for (path, text) in sources() {
        let module = path.split(['/', '.']).next().unwrap();
        let own = floor(module).unwrap_or_else(|| panic!("{path} has no floor"));
        for used in used_modules(&code(&text)) {
            let below = floor(&used).unwrap_or_else(|| panic!("{path} uses {used}, which has no floor"));
            let door = used == module || DOORS.contains(&(module, used.as_str()));
            assert!(below < own || door, "{path} uses {used}, which is not further down");
        }
    }
}

/// Modules named after `crate::`, alone or in a braced list.
fn used_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (offset, character) in list.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && depth == 0 && c.is_alphabetic() => {
                        modules.push(name(&list[offset..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            modules.push(name(rest));
        }
    }
    modules
}

#[test]
fn driver_types_are_in_no_public_signature() {
    const DRIVERS: &[&str] = &[
        "argon2",
        "bcrypt",
        "scrypt",
        "password_hash",
        "phc",
        "rusqlite",
        "sqlx",
        "redis",
        "rustls",
        "aws_lc_rs",
        "hmac",
        "signature",
        "pem",
        "ipnet",
        "tonic",
    ];
    /// The one that users have already, with connections that they want to share.
    const PROMISED: &[&str] = &["pub async fn from_pool(pool: PgPool) -> Result<Self, StoreError>"];
    /// A file that is the door to one of them: its types are what it is for.
    const DOORS: &[(&str, &str)] = &[("tonic.rs", "tonic")];
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect()
    };
    for (path, text) in sources() {
        let code = code(&text);
        let drivers: Vec<_> = DRIVERS.iter().filter(|driver| !DOORS.contains(&(path.as_str(), driver))).collect();
        // The drivers' own names, and what is imported of them; a local type of that name would be on the safe side.
        let mut foreign: Vec<String> = drivers.iter().map(|driver| format!("{driver}::")).collect();
        for (at, _) in code.match_indices("use ") {
            let import = &code[at + 4..code[at..].find(';').map_or(code.len(), |end| at + end)];
            let import = import.trim_start_matches("::");
            if drivers.iter().any(|driver| import.starts_with(&format!("{driver}::"))) {
                foreign.extend(words(import).into_iter().filter(|word| word.starts_with(char::is_uppercase)));
            }
        }
        let names = |signature: &str| {
            let words = words(signature);
            foreign
                .iter()
                .find(|name| signature.contains(name.as_str()) && (name.ends_with(':') || words.contains(name)))
                .cloned()
        };
        for (at, _) in code.match_indices("pub ") {
            let end = code[at..].find(['{', ';']).map_or(code.len(), |length| at + length);
            let signature = &code[at..end];
            let is_promised = PROMISED.contains(&signature.trim_end());
            assert!(
                signature.starts_with("pub use") || is_promised || names(signature).is_none(),
                "{path}: {signature}"
            );
        }
        for line in code.lines().filter(|line| line.starts_with("impl") && line.contains(" for ")) {
            assert_eq!(names(line), None, "{path}: {line}");
        }
    }
}

/// Names of functions in the sources and tests.
fn functions() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["src", "tests/it"] {
        walk(&root().join(folder), &mut |_, text| {
            let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            found.extend(text.match_indices("fn ").map(|(at, _)| name(&text[at + 3..])));
        });
    }
    found
}

#[test]
fn the_guide_names_tests_that_exist_and_all_that_carry_a_number() {
    let functions = functions();
    let page = fs::read_to_string(root().join("src/guide/requirements.md")).unwrap();
    let threats = fs::read_to_string(root().join("src/guide/threats.md")).unwrap();
    let cells = |line: &str| line.split(" | ").map(|cell| cell.trim_matches([' ', '|']).to_owned()).collect::<Vec<_>>();
    let names = |cell: &str| cell.split(", ").map(|name| name.trim_matches('`').to_owned()).collect::<Vec<_>>();
    let mut proved = Vec::new();
    for line in page.lines().chain(threats.lines()).filter(|line| line.starts_with("| ")) {
        let cells = cells(line);
        let last = cells.last().unwrap();
        for name in names(last).iter().filter(|name| last.starts_with('`') && !name.contains('.')) {
            assert!(functions.contains(name), "the guide names `{name}`, which is nowhere");
            proved.extend(cells[0].parse::<u16>().map(|number| (number, name.clone())));
        }
    }
    assert!(proved.len() > 100);
    for function in &functions {
        for number in function.split("req_").skip(1) {
            let number = number.get(..3).and_then(|number| number.parse().ok()).unwrap();
            assert!(proved.contains(&(number, function.clone())), "line {number} does not name `{function}`");
        }
    }
}

/// A target that is a module's path changes when a file does, and programs filter by it.
#[test]
fn events_say_their_target_and_the_guide_names_it() {
    let guide = fs::read_to_string(root().join("src/guide/tracing.md")).unwrap();
    let (mut events, mut targets) = (0, 0);
    walk(&root().join("src"), &mut |path, text| {
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "event!("] {
            for (at, _) in code.match_indices(&format!("tracing::{level}")) {
                let said = code[at..].split('(').nth(1).unwrap().trim_start();
                assert!(said.starts_with("target: TARGET,"), "{}: {said:.40}", path.display());
                events += 1;
            }
        }
        for (at, start) in code.match_indices("const TARGET: &str = \"") {
            let target = code[at + start.len()..].split('"').next().unwrap();
            assert!(guide.contains(&format!("`{target}`")), "{}: {target}", path.display());
            targets += 1;
        }
    });
    assert!(events >= 9 && targets == 5, "{events} {targets}");
}

/// The manifest as it was written: cargo rewrites it for a package, and puts it there beside that.
fn manifest() -> String {
    let written = fs::read_to_string(root().join("Cargo.toml.orig"));
    written.or_else(|_| fs::read_to_string(root().join("Cargo.toml"))).unwrap()
}

/// Who links what tests need can let in anybody as anyone: it comes only to those who ask for it by name.
#[test]
fn nothing_turns_on_what_is_for_tests_and_all_of_it_is_behind_its_feature() {
    let manifest = manifest();
    let section = |name: &str| {
        let after = manifest.split(&format!("\n[{name}]\n")).nth(1).unwrap();
        after.split("\n[").next().unwrap().to_owned()
    };
    let features = section("features");
    let lines: Vec<&str> = features.lines().filter(|line| !line.starts_with('#') && line.contains('=')).collect();
    assert!(lines.len() > 8 && lines.contains(&"testing = []"), "{lines:?}");
    for line in lines.iter().filter(|line| !line.starts_with("testing ")) {
        assert!(!line.contains("testing"), "{line}");
    }
    assert!(!section("dependencies").contains("testing"));
    assert!(section("dev-dependencies").contains("features = [\"metrics\", \"openapi\", \"testing\", \"tonic\"]"));
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(library.contains("#[cfg(feature = \"testing\")]\npub mod testing;"));
    // What it needs of others, each behind the feature, too: nothing that lets a caller in.
    const BEHIND: &[(&str, usize)] = &[("jwt/mod.rs", 2), ("jwt/signer.rs", 1), ("jwt/source.rs", 7), ("lib.rs", 1)];
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.starts_with("testing/")) {
        let places = code(&text).matches("feature = \"testing\")]").count();
        let known = BEHIND.iter().find(|(known, _)| *known == path).map_or(0, |(_, places)| *places);
        assert_eq!(places, known, "{path}");
        assert!(!code(&text).contains("crate::testing"), "{path} uses what is for tests");
    }
}

/// Features, as the manifest has them: their names, and whether they are on by default.
fn features() -> Vec<(String, bool)> {
    let manifest = manifest();
    let section = manifest.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let mut lines = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let (name, default) = lines.next().unwrap();
    assert_eq!(name, "default");
    let mut features: Vec<_> =
        lines.map(|(name, _)| (name.to_owned(), default.contains(&format!("\"{name}\"")))).collect();
    features.sort();
    features
}

#[test]
fn every_feature_has_its_row_in_both_tables_and_a_target_says_all_that_it_needs() {
    let features = features();
    let on = features.iter().filter(|(_, on)| *on).count();
    assert!(features.len() > 10 && on > 4 && on < features.len(), "{features:?}");
    let rows = |file: &str, prefix: &str| -> Vec<String> {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let lines = text.lines().map(|line| line.strip_prefix(prefix).unwrap_or(line).trim().to_owned());
        let table = lines.skip_while(|line| line != "| feature | by default | adds |").skip(2);
        table.take_while(|line| line.starts_with("| `")).collect()
    };
    let (library, readme) = (rows("src/lib.rs", "//!"), rows("README.md", ""));
    assert_eq!(library, readme);
    let told: Vec<_> = readme
        .iter()
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert!(matches!(cells[..], [_, "yes" | "no", text] if text.len() > 20), "{row}");
            (cells[0].trim_matches(['|', ' ', '`']).to_owned(), cells[1] == "yes")
        })
        .collect();
    assert_eq!(told, features);

    // The crate's dependency on itself is not in a package: this target needs what it turns on, and CI, texts and the library
    // that tell what is left out without it say the same.
    let manifest = manifest();
    let own = manifest.split("\nportcullis = { path = \".\", features = [").nth(1).unwrap().split(']').next().unwrap();
    let own: Vec<&str> = own.split(", ").map(|name| name.trim_matches('"')).collect();
    let target = manifest.split("\n[[test]]\nname = \"it\"\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let command = format!("cargo test --features {}", own.join(","));
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let all: Vec<String> = own.iter().map(|name| format!("feature = \"{name}\"")).collect();
    assert!(own.len() > 2);
    for (name, on) in &features {
        assert_eq!(target.contains(&format!("\"{name}\"")), *on || own.contains(&name.as_str()), "{name}");
    }
    for text in [&manifest, &library, &fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap()] {
        assert!(text.contains(&command), "{command}");
    }
    assert_eq!(library.matches(&format!("all({})", all.join(", "))).count(), 2);
}
