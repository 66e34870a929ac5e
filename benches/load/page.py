#!/usr/bin/env python3
"""Writes the tables of the guide's page from the raw data, between its markers: `python3 benches/load/page.py`.

Nobody copies a figure by hand. `--check` changes nothing, and fails if the page or a plot is not what the data say.
"""

import sys

from figures import GUIDE, Rates, lines, spread
from plot import draw_all
from scenarios import OBSERVED

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


def state(head):
    """Of the code, and how long it was looked at."""
    return f"{head['rounds']} rounds of {head['seconds']} seconds each, at commit `{head['machine']['commit']}`"


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
        f"and httptools {peer['httptools']}, `PyJWT` {peer['PyJWT']} with cryptography {peer['cryptography']}. "
        f"{state(rates.head)}, in turns. "
        f"Other programs and the machine's host took {share(foreign)} of the cores meanwhile. {client_limit(rates)} "
        f"The databases are on {told['disk']}, where a page is durable after {told['sync_us']:.0f} µs."
    )


def client_limit(rates):
    """Where a server is not busy all the time, the client was measured."""
    of_one_worker = [name for name in rates.rounds if name.endswith("/1") and "/token/" not in name]
    least = lambda of: share(min(rates.busy(name) for name in of_one_worker if of(name)))
    return (
        f"With one worker, the server's core was busy for {least(lambda name: '/cold/' not in name)} of the time or more where one token "
        f"or a thousand came. Where another came each time, `wrk` has to read it, and the bare route's core was busy for "
        f"{least(lambda name: '/bare/' in name and '/cold/' in name)}: what is protected looks a little better beside it than it is."
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
    head = ["one token, again and again", "bare route, requests/s", "protected", "of the bare route", "CPU µs, bare", "protected"]
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
            peer = get("fastapi", "/protected", algorithm)
            rows.append(
                [
                    algorithm,
                    label,
                    count(rates.of(bare)[0]),
                    count(rates.of(ours)[0]),
                    spread(rates.ratio(ours, bare), share),
                    micros(rates.cpu_added(ours, bare)),
                    spread(rates.ratio(ours, peer), times),
                ]
            )
    head = ["signed by", "tokens", "bare route, requests/s", "protected", "of the bare route", "CPU µs added"]
    return table([*head, "times FastAPI, one token"], rows)


def routes(rates):
    bare, peer, rows = get("load", "/bare"), get("fastapi", "/protected"), []
    for label, name in [
        ("a layer that does nothing: what axum takes for any", get("load", "/layered")),
        ("`/protected`, one scope, the caller not read", get("load", "/protected")),
        ("`/named`, the caller read by the handler", get("load", "/named")),
        (
            "`auth_server` `/admin/reports`: with revocations, the client's address, audit, metrics, and another accept loop",
            get("auth_server", "/admin/reports"),
        ),
        ("`auth_server` `/users/me`: the user looked up besides, as FastAPI does", get("auth_server", "/users/me")),
    ]:
        of_bare, of_peer = spread(rates.ratio(name, bare), share), spread(rates.ratio(name, peer), times)
        rows.append([label, count(rates.of(name)[0]), of_bare, micros(rates.cpu(name)), of_peer])
    return table(["route, EdDSA, one token", "requests/s", "of the bare route", "CPU µs", "times FastAPI"], rows)


def observed(rates):
    without, rows, rates = get("load", "/protected"), [], Rates("watched")
    for label in OBSERVED:
        name = f"{without}+{label}"
        ratio, added = spread(rates.ratio(name, without), share), micros(rates.cpu_added(name, without))
        rows.append([label, count(rates.of(name)[0]), ratio, added])
    base = f"{state(rates.head)}; the route without any of it answered {count(rates.of(without)[0])} requests a second.\n\n"
    return base + table(["`/protected`, EdDSA, with", "requests/s", "of without", "CPU µs added"], rows)


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


def verdict(found, aim, digits):
    """Of figures as they are printed; and whether some of the rounds say otherwise."""
    (middle, least, most), aim = (round(number, digits) for number in found), round(aim, digits)
    word = "met" if middle >= aim else f"missed by {aim - middle:.{digits}f}"
    return f"{word}, but not in every round" if least < aim <= most else word


def percent(found):
    return tuple(number * 100 for number in found)


def aims(rates):
    rows, raw, without = [], lines("soak"), get("load", "/protected")
    for algorithm in ALGORITHMS:
        found = percent(rates.ratio(get("load", "/protected", algorithm), get("load", "/bare", algorithm)))
        label = f"protected GET, {algorithm}, one token, of the bare route"
        rows.append([label, "90 %", f"{found[0]:.1f} %", verdict(found, 90, 1)])
    for algorithm in ALGORITHMS:
        found = rates.ratio(get("load", "/protected", algorithm), get("fastapi", "/protected", algorithm))
        label = f"protected GET, {algorithm}, one token, times FastAPI"
        rows.append([label, "40", f"{found[0]:.1f}", verdict(found, 40, 1)])
    watched, idle, *_, around, at_the_route = Rates("watched"), *(f"{without}+{label}" for label in OBSERVED)
    for label, on, off in [
        ("metrics and audit in one go with the route's own layer, of neither", at_the_route, without),
        ("metrics and audit around the router, of neither", around, without),
        ("the same, of a layer around the router that does nothing", around, idle),
    ]:
        found = percent(watched.ratio(on, off))
        rows.append([label, "95 %", f"{found[0]:.1f} %", verdict(found, 95, 1)])
    if raw:
        grown = raw[-1]["growth_percent"]
        word = "met" if grown < 2 else f"missed by {grown - 2:.2f}"
        rows.append(["soak: resident memory after the first minute", "below 2 % more", f"{grown:+.2f} %", word])
    return table(["aim", "wanted", "measured", ""], rows)


def soak(_):
    raw = lines("soak")
    if not raw:
        return "Not measured yet."
    told, samples = raw[-1], raw[1:-1]
    rows = []
    for at in (0, 60, told["seconds"] // 2 // 60 * 60, told["seconds"] - 60):
        found = [line for line in samples if at < line["second"] <= at + 60]
        middle = lambda pick: sorted(pick(line) for line in found)[len(found) // 2]
        usual = lambda kind: f"{middle(lambda line: line[kind]['p50']):.2f}"
        worst = lambda kind, part: f"{max(line[kind][part] for line in found):.1f}"
        row = [f"minute {at // 60 + 1}", f"{middle(lambda line: line['rss_kib']) / 1024:.1f}"]
        row += [middle(lambda line: line["threads"]), middle(lambda line: line["files"])]
        row += [usual("get"), worst("get", "p99"), usual("refresh"), worst("refresh", "p99"), worst("refresh", "max")]
        rows.append(row)
    answers, dropped = sum(told["answers"].values()), told["answers"].get("scan 0", 0)
    head = ["", "resident, MiB", "threads", "open files", "GET p50, ms", "worst p99", "refresh p50", "worst p99", "longest"]
    return (
        f"At commit `{raw[0]['machine']['commit']}`: {answers:,} requests in {told['seconds']} seconds, each answered as it should be; {dropped:,} of a scanner, which "
        "are cut off or no requests at all, by the end of the connection. From the end of the first minute to the "
        f"last, resident memory went {told['growth_percent']:+.2f} %. A p50 is the median of a minute's windows of five seconds, a p99 "
        "the worst of them.\n\n" + table(head, rows)
    )


PARTS = {part.__name__: part for part in (machine, aims, ratios, latencies, tokens, routes, observed, endpoints, workers, soak)}


def main():
    rates, page = Rates("rates"), GUIDE / "figures.md"
    for raw in (lines(name) for name in ("rates", "watched", "soak")):
        assert not raw or not raw[0]["machine"]["commit"].endswith("-dirty"), "of which code is known to nobody"
    for told in (raw[0]["machine"] for raw in [lines("soak"), lines("watched")] if raw):
        same = lambda one: {**one, "commit": "", "sync_us": 0}
        assert same(told) == same(rates.head["machine"]), "the soak ran on another machine"
    text = page.read_text()
    for name, part in PARTS.items():
        begin, end = f"<!-- load: {name} -->\n", "<!-- end -->"
        head, rest = text.split(begin)
        text = head + begin + "\n" + part(rates) + "\n\n" + end + rest.split(end, 1)[1]
    files = {page: text, **draw_all(rates)}
    if "--check" in sys.argv[1:]:
        stale = [str(path) for path, wanted in files.items() if not path.exists() or path.read_text() != wanted]
        raise SystemExit(f"not what the raw data say: {' '.join(stale)}" if stale else 0)
    for path, wanted in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted)


main()
