"""What is measured: who serves, which route, with which tokens, by how many threads."""

from dataclasses import dataclass, field, replace

from machine import WORK

ONE, THOUSAND, COLD = "one", "thousand", "cold"


@dataclass(frozen=True)
class Scenario:
    """One row of the figures. Its name is its place in the raw data."""

    server: str
    path: str
    algorithm: str = "EdDSA"
    tokens: str = ONE
    workers: int = 1
    kind: str = "get"
    store: str = "memory"
    # A label, and the variables that it stands for: those of `OBSERVED`, or of a `--with` on the command line.
    variant: str = ""
    extra: dict = field(default_factory=dict, compare=False)

    @property
    def name(self):
        tail = {"get": self.tokens, "login": "login", "refresh": f"refresh-{self.store}"}[self.kind]
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.server}{self.path}/{self.algorithm}/{tail}/{self.workers}{variant}"

    def varied(self, variant, extra):
        return replace(self, variant=variant, extra=extra)


def _gets():
    for algorithm in ("EdDSA", "RS256", "ES256", "HS256"):
        yield Scenario("load", "/bare", algorithm)
        yield Scenario("load", "/protected", algorithm)
        yield Scenario("fastapi", "/protected", algorithm)
    yield Scenario("fastapi", "/bare")
    yield Scenario("load", "/layered")
    yield Scenario("load", "/named")
    yield Scenario("auth_server", "/admin/reports")
    yield Scenario("auth_server", "/users/me")
    for tokens in (THOUSAND, COLD):
        for algorithm in ("EdDSA", "RS256"):
            yield Scenario("load", "/bare", algorithm, tokens)
            yield Scenario("load", "/protected", algorithm, tokens)


def _endpoints():
    yield Scenario("auth_server", "/token", kind="login")
    yield Scenario("fastapi", "/token", kind="login")
    yield Scenario("auth_server", "/token", kind="refresh")
    yield Scenario("auth_server", "/token", kind="refresh", store="sqlite")


def _two_workers():
    yield Scenario("load", "/bare", workers=2)
    yield Scenario("load", "/protected", workers=2)
    yield Scenario("load", "/bare", tokens=COLD, workers=2)
    yield Scenario("load", "/protected", tokens=COLD, workers=2)
    yield Scenario("fastapi", "/protected", workers=2)
    yield Scenario("auth_server", "/token", kind="login", workers=2)
    yield Scenario("fastapi", "/token", kind="login", workers=2)
    yield Scenario("auth_server", "/token", kind="refresh", workers=2)
    yield Scenario("auth_server", "/token", kind="refresh", store="sqlite", workers=2)


# What audit and metrics are to cost little of: a route that costs little itself. One admitted request in a thousand is told.
AUDIT = str(WORK / "audit.jsonl")
_PROTECTED = Scenario("load", "/protected")
OBSERVED = {
    "a layer around the router that does nothing": {"OUTER": "on"},
    "metrics": {"METRICS": "on"},
    "audit around the router": {"AUDIT_FILE": AUDIT},
    "metrics, and audit around the router": {"METRICS": "on", "AUDIT_FILE": AUDIT},
    "metrics, and audit in one go with the route's own layer": {
        "METRICS": "on",
        "AUDIT_FILE": AUDIT,
        "AT_THE_ROUTE": "on",
    },
}


ALL = [*_gets(), *_endpoints(), *_two_workers()]
WATCHED = [_PROTECTED, *(_PROTECTED.varied(label, extra) for label, extra in OBSERVED.items())]

# For what `--with` puts beside each other.
WARM = [Scenario("auth_server", "/admin/reports"), Scenario("auth_server", "/users/me")]
