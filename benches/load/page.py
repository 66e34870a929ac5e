#!/usr/bin/env python3
"""Writes the tables of the guide's page from the raw data, between its markers: `python3 benches/load/page.py`.

Nobody copies a figure by hand. `--check` changes nothing, and fails if the page is not what the data say.
"""

import sys

from figures import GUIDE, Rates, lines, spread
from plot import draw_all

ALGORITHMS = ("EdDSA", "RS256", "ES256", "HS256")
NAMES = {"one": "one, again and again", "thousand": "1,000 in turn", "cold": "another each time"}
count = lambda number: f"{number:,.0f}"
share = lambda number: f"{number * 100:.1f} %"
times = lambda number: f"{number:.1f}" if number < 10 else f"{number:.0f}"
micros = lambda number: f"{number:.2f}"


def table(head, rows):
    line = lambda cells: "|" + "".join(f" {cell} |" if cell != "" else " |" for cell in cells)
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def get(server, path, algorithm="EdDSA", tokens="one", workers=1):
    return f"{server}{path}/{algorithm}/{tokens}/{workers}"


def machine(rates):
    told, peer = rates.head["machine"], rates.head["fastapi"]
    every = [line for found in rates.rounds.values() for line in found]
    # Of the cores' time in those windows, which last as long as `wrk` says.
    foreign = (
        sum(line["foreign_cpu"] + line["stolen"] for line in every)
        / sum(line["seconds"] for line in every)
        / told["cores"]
    )
    return (
        f"{told['cores']} cores of an {told['cpu']} (family {told['family_model']}), Linux {told['kernel'].split('-')[0]}, "
        f"{' '.join(told['rustc'].split()[:2])}, wrk {told['wrk'].split()[1].split('/')[-1]}; Python {told['python']}, FastAPI {peer['fastapi']}, uvicorn {peer['uvicorn']} with uvloop {peer['uvloop']} "
        f"and httptools {peer['httptools']}, PyJWT {peer['PyJWT']} with cryptography {peer['cryptography']}. "
        f"{rates.head['rounds']} rounds of {rates.head['seconds']} seconds each, in turns. "
        f"Other programs and the machine's host took {share(foreign)} of the cores meanwhile."
    )


def ratios(rates):
    rows = []
    for algorithm in ALGORITHMS:
        bare, ours, peer = (
            get(*of, algorithm) for of in (("load", "/bare"), ("load", "/protected"), ("fastapi", "/protected"))
        )
        rows.append(
            [
                algorithm,
                count(rates.of(bare)[0]),
                count(rates.of(ours)[0]),
                spread(rates.ratio(ours, bare), share),
                micros(rates.cpu(bare)),
                micros(rates.cpu(ours)),
                count(rates.of(peer)[0]),
                spread(rates.ratio(ours, peer), times),
            ]
        )
    head = ["token", "bare route, requests/s", "protected", "of the bare route", "CPU µs, bare", "protected"]
    return table([*head, "FastAPI, requests/s", "times FastAPI"], rows)


def latencies(rates):
    at = lambda name, field: f"{rates.of(name, lambda line: line[field])[0] / 1000:.2f}"
    rows = []
    for label, name in [
        ("bare axum route", get("load", "/bare")),
        ("protected, EdDSA", get("load", "/protected")),
        ("FastAPI without security", get("fastapi", "/bare")),
        ("FastAPI, EdDSA", get("fastapi", "/protected")),
    ]:
        resident = rates.of(name, lambda line: line["rss_kib"])[0] / 1024
        rows.append([label, count(rates.of(name)[0]), at(name, "p50_us"), at(name, "p99_us"), f"{resident:.0f}"])
    return table(["64 connections", "requests/s", "p50, ms", "p99, ms", "resident, MiB"], rows)


def tokens(rates):
    rows = []
    for algorithm in ("EdDSA", "RS256"):
        for kind, label in NAMES.items():
            bare, ours = get("load", "/bare", algorithm, kind), get("load", "/protected", algorithm, kind)
            added = rates.cpu(ours) - rates.cpu(bare)
            rows.append(
                [
                    algorithm,
                    label,
                    count(rates.of(bare)[0]),
                    count(rates.of(ours)[0]),
                    spread(rates.ratio(ours, bare), share),
                    micros(added),
                ]
            )
    return table(
        ["signed by", "tokens", "bare route, requests/s", "protected", "of the bare route", "CPU µs added"], rows
    )


def routes(rates):
    bare, rows = get("load", "/bare"), []
    for label, name in [
        ("a layer that does nothing: what axum takes for any", get("load", "/layered")),
        ("`/protected`, one scope, the caller not read", get("load", "/protected")),
        ("`/named`, the caller read by the handler", get("load", "/named")),
        (
            "`auth_server` `/admin/reports`: revocations looked at, client's address, JSON",
            get("auth_server", "/admin/reports"),
        ),
        ("`auth_server` `/users/me`: the user looked up", get("auth_server", "/users/me")),
    ]:
        rows.append([label, count(rates.of(name)[0]), spread(rates.ratio(name, bare), share), micros(rates.cpu(name))])
    return table(["route, EdDSA, one token", "requests/s", "of the bare route", "CPU µs"], rows)


def endpoints(rates):
    rows = []
    kinds = {
        "login": "login",
        "refresh, sessions in memory": "refresh-memory",
        "refresh, SQLite, durable": "refresh-sqlite",
    }
    for label, kind in kinds.items():
        for workers in (1, 2):
            ours, peer = f"auth_server/token/EdDSA/{kind}/{workers}", f"fastapi/token/EdDSA/{kind}/{workers}"
            at = lambda name, field: f"{rates.of(name, lambda line: line[field])[0] / 1000:.1f}"
            other = ["has none", ""]
            if peer in rates:
                other = [count(rates.of(peer)[0]), spread(rates.ratio(ours, peer), lambda number: f"{number:.2f}")]
            rows.append([label, workers, count(rates.of(ours)[0]), at(ours, "p50_us"), at(ours, "p99_us"), *other])
    return table(["`POST /token`", "workers", "a second", "p50, ms", "p99, ms", "FastAPI", "times FastAPI"], rows)


def workers(rates):
    rows = []
    for label, kind in [("one token", "one"), ("another token each time", "cold")]:
        for path in ("/bare", "/protected"):
            name, alone = (get("load", path, tokens=kind, workers=number) for number in (2, 1))
            of_bare = rates.ratio(name, get("load", "/bare", tokens=kind, workers=2))
            of_bare = "" if path == "/bare" else spread(of_bare, share)
            rows.append(
                [
                    f"`{path}`, {label}",
                    count(rates.of(name)[0]),
                    of_bare,
                    micros(rates.cpu(alone)),
                    micros(rates.cpu(name)),
                ]
            )
    peer = get("fastapi", "/protected", workers=2)
    rows.append(
        [
            "FastAPI, two processes",
            count(rates.of(peer)[0]),
            "",
            micros(rates.cpu(get("fastapi", "/protected"))),
            micros(rates.cpu(peer)),
        ]
    )
    return table(["two workers, EdDSA", "requests/s", "of the bare route", "CPU µs with one worker", "with two"], rows)


def aims(rates):
    rows, soak = [], lines("soak")
    verdict = lambda found, aim, form: "met" if found >= aim else f"missed by {form(aim - found)}"
    for algorithm in ALGORITHMS:
        found = rates.ratio(get("load", "/protected", algorithm), get("load", "/bare", algorithm))[0]
        rows.append(
            [
                f"protected GET, {algorithm}, of the bare route",
                "90 %",
                share(found),
                verdict(found, 0.9, lambda by: f"{by * 100:.1f} points"),
            ]
        )
    for algorithm in ALGORITHMS:
        found = rates.ratio(get("load", "/protected", algorithm), get("fastapi", "/protected", algorithm))[0]
        rows.append([f"protected GET, {algorithm}, times FastAPI", "40", times(found), verdict(found, 40, times)])
    variants = Rates("variants")
    for name in variants.rounds:
        scenario, _, variant = name.partition("+")
        if variant != "nothing":
            found = variants.ratio(name, f"{scenario}+nothing")[0]
            rows.append(
                [
                    f"`{scenario.split('/EdDSA')[0]}` with `{variant}`, of without",
                    "95 %",
                    share(found),
                    verdict(found, 0.95, lambda by: f"{by * 100:.1f} points"),
                ]
            )
    if soak:
        grown = soak[-1]["growth_percent"]
        rows.append(
            [
                "soak: resident memory after the first minute",
                "below 2 % more",
                f"{grown:+.2f} %",
                "met" if grown < 2 else f"missed by {grown - 2:.2f} points",
            ]
        )
    return table(["aim", "wanted", "measured", ""], rows)


def soak(_):
    raw = lines("soak")
    if not raw:
        return "Not measured yet."
    told, samples = raw[-1], raw[1:-1]
    minute = lambda at: [line for line in samples if at < line["second"] <= at + 60]
    rows = []
    for at in (0, 60, told["seconds"] // 2 // 60 * 60, told["seconds"] - 60):
        found = minute(at)
        middle = lambda pick: sorted(pick(line) for line in found)[len(found) // 2]
        time = lambda kind, part: f"{middle(lambda line: line.get(kind, {}).get(part, 0)):.2f}"
        rows.append(
            [
                f"minute {at // 60 + 1}",
                f"{middle(lambda line: line['rss_kib']) / 1024:.1f}",
                middle(lambda line: line["threads"]),
                middle(lambda line: line["files"]),
                time("get", "p50"),
                time("get", "p99"),
                time("refresh", "p50"),
                time("refresh", "p99"),
                time("login", "p50"),
            ]
        )
    answers = sum(told["answers"].values())
    head = ["", "resident, MiB", "threads", "open files", "GET p50, ms", "p99", "refresh p50", "p99", "login p50"]
    return (
        f"{answers:,} requests in {told['seconds']} seconds, {sum(told['wrong'].values())} of them answered otherwise than they should. "
        f"From the end of the first minute to the last, resident memory went {told['growth_percent']:+.2f} %.\n\n"
        + table(head, rows)
    )


PARTS = {part.__name__: part for part in (machine, aims, ratios, latencies, tokens, routes, endpoints, workers, soak)}


def main():
    rates, page = Rates("rates"), GUIDE / "figures.md"
    text = before = page.read_text()
    for name, part in PARTS.items():
        begin, end = f"<!-- load: {name} -->\n", "<!-- end -->"
        head, rest = text.split(begin)
        text = head + begin + "\n" + part(rates) + "\n\n" + end + rest.split(end, 1)[1]
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if text == before else "figures.md is not what the raw data say")
    page.write_text(text)
    draw_all(rates)


main()
