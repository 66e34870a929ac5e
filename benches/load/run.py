#!/usr/bin/env python3
"""Loads servers from outside and keeps what came of it: `python3 benches/load/run.py`.

Needs wrk and taskset (Debian: wrk, util-linux), openssl, and two cores: the server has one, wrk the other. With two workers
all share both. Every measurement has a server of its own, freshly started; scenarios take turns, in rounds, every other round
backwards, so that a noisy neighbour meets all alike. One line of JSON for each goes to `data/rates.jsonl`.

    run.py                                      all scenarios
    run.py --watched                            a warm route with metrics and audit, and without
    run.py --only load/ --rounds 3 --seconds 1  those whose names contain one of these, briefly; printed, and kept with --out
    run.py --with AUDIT=jsonl:/tmp/audit.jsonl  the warm routes of `auth_server` under these variables, beside each other; likewise

A measurement of which others took more than a twentieth of the machine is done again, twice at most.
"""

import argparse
import json
import os
import resource
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from machine import WORK, describe, machine_seconds, memory, pinned
from scenarios import ALL, COLD, ONE, THOUSAND, WARM, WATCHED
from servers import Bench, login_form

HERE = Path(__file__).resolve().parent
CONNECTIONS, LOGINS, CHAINS = 64, 8, 16
# As many rounds forwards as backwards.
ROUNDS, SECONDS = 6, 4
# More than are checked in a second, so that no token comes twice.
COLD_PER_SECOND = {"EdDSA": 60_000, "RS256": 70_000}


def prepare(server, scenario):
    """What has to be had from a server before it is loaded."""
    if scenario.kind == "refresh":
        return {"LOAD_CHAINS": ",".join(server.sign_in()["refresh_token"] for _ in range(CHAINS))}
    # Somebody whom it knows, for routes that look them up.
    return {"LOAD_TOKEN": server.sign_in()["access_token"]} if scenario.server == "auth_server" else {}


def wrk(server, scenario, seconds, tokens, prepared):
    """Loads a server for so long, and returns what wrk tells."""
    environment = {**os.environ, "LOAD_LUA": str(HERE / "lua"), "LOAD_FORM": urlencode(login_form()), **prepared}
    threads, connections, script, words, headers = 1, CONNECTIONS, "report.lua", [], []
    if scenario.kind == "login":
        script, connections = "login.lua", LOGINS
    elif scenario.kind == "refresh":
        script, threads, connections = "refresh.lua", CHAINS, CHAINS
    elif scenario.tokens == ONE:
        token = prepared.get("LOAD_TOKEN") or first_line(tokens)
        headers = ["-H", f"Authorization: Bearer {token}"]
    else:
        script = "tokens.lua"
        # Without a check there is no difference between a token that is new and one that is not, and more are asked for.
        often = "1000" if scenario.tokens == THOUSAND else "again" if scenario.path == "/bare" else "once"
        words = ["--", str(tokens), often]
    command = [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "20s",
        "-s",
        str(HERE / "lua" / script),
    ]
    command += [*headers, server.url + scenario.path, *words]
    ran = subprocess.run(
        pinned("" if scenario.workers > 1 else "1", command),
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode or not lines:
        raise RuntimeError(f"{scenario.name}: wrk: {ran.stdout[-500:]} {ran.stderr[-500:]}")
    told = json.loads(lines[-1])
    if told["refused"] or told["broken"]:
        raise RuntimeError(f"{scenario.name}: {told}")
    return told


def measure(bench, scenario, seconds, tokens):
    """One line of the raw data."""
    for again in range(3):
        line = measure_once(bench, scenario, seconds, tokens)
        if line["foreign_cpu"] + line["stolen"] <= 0.05 * line["seconds"] * os.cpu_count():
            break
    return {**line, "repeated": again}


def measure_once(bench, scenario, seconds, tokens):
    extra = dict(scenario.extra)
    if scenario.store == "sqlite":
        database = WORK / "refresh.db"
        for old in WORK.glob("refresh.db*"):
            old.unlink()
        extra["STORE"] = f"sqlite:{database}"
    cores = "0" if scenario.workers == 1 else "0,1"
    with bench.start(scenario.server, scenario.algorithm, scenario.workers, cores, extra) as server:
        # What is cold stays so: it is warmed up by the first token alone.
        wrk(
            server,
            replace(scenario, tokens=ONE) if scenario.tokens == COLD else scenario,
            1,
            tokens,
            prepare(server, scenario),
        )
        prepared = prepare(server, scenario)
        started, own, others, (busy, stolen) = time.time(), server.cpu(), children(), machine_seconds()
        told = wrk(server, scenario, seconds, tokens, prepared)
        own, others = server.cpu() - own, children() - others
        if not told["requests"]:
            raise RuntimeError(f"{scenario.name}: no answer in {seconds} s")
        now_busy, now_stolen = machine_seconds()
        busy, stolen = now_busy - busy, now_stolen - stolen
        rate = told["requests"] / told["seconds"]
        return {
            "scenario": scenario.name,
            "rate": round(rate, 1),
            **told,
            "at": round(started),
            "server_cpu": round(own, 2),
            "wrk_cpu": round(others, 2),
            "foreign_cpu": round(max(busy - own - others, 0), 2),
            "stolen": round(stolen, 2),
            "rss_kib": memory(server.pid)["rss_kib"],
        }


def first_line(path):
    with path.open() as lines:
        return lines.readline().strip()


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def variants(words):
    """What `--with` says: a label, and the variables."""
    for word in words:
        pairs = [pair.split("=", 1) for pair in word.split()]
        yield word, {name: value for name, value in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of scenarios")
    parser.add_argument("--watched", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each measurement; one more to warm up")
    parser.add_argument("--with", dest="variants", action="append", default=[], metavar="'NAME=VALUE …'")
    parser.add_argument("--out", type=Path, help="data/rates.jsonl or watched.jsonl at full length, or else none")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    asked = parser.parse_args()
    among = WARM if asked.variants else WATCHED if asked.watched else ALL
    chosen = [one for one in among if not asked.only or any(part in one.name for part in asked.only)]
    if asked.variants:
        told = [("nothing", {}), *variants(asked.variants)]
        chosen = [scenario.varied(label, extra) for scenario in chosen for label, extra in told]
    if asked.list:
        print("\n".join(scenario.name for scenario in chosen))
        return
    whole = {"rates": ALL, "watched": WATCHED} if asked.rounds >= ROUNDS and asked.seconds >= SECONDS else {}
    kept = (HERE / "data" / f"{name}.jsonl" for name, scenarios in whole.items() if chosen == scenarios)
    out = asked.out or next(kept, None)
    algorithms = sorted({scenario.algorithm for scenario in chosen})
    bench = Bench(algorithms, peer=any(scenario.server == "fastapi" for scenario in chosen))
    cold = {scenario.algorithm for scenario in chosen if scenario.tokens == COLD}
    counts = {name: COLD_PER_SECOND[name] * asked.seconds if name in cold else 1000 for name in algorithms}
    tokens = {name: bench.mint(name, count) for name, count in counts.items()}
    packages = (Path(__file__).parents[1] / "fastapi" / "requirements.txt").read_text().split()
    peer = {line.split("==")[0]: line.split("==")[1] for line in packages if "==" in line}
    head = {"machine": describe(), "fastapi": peer, "rounds": asked.rounds, "seconds": asked.seconds}
    # Beside the last whole run, which stays until this one is whole.
    part = out.with_suffix(".part") if out else Path(os.devnull)
    part.parent.mkdir(exist_ok=True)
    with part.open("w") as lines:
        lines.write(json.dumps(head) + "\n")
        take_turns(bench, chosen, tokens, asked, lines)
    if out:
        part.replace(out)


def take_turns(bench, chosen, tokens, asked, lines):
    for number in range(asked.rounds):
        for scenario in chosen if number % 2 == 0 else reversed(chosen):
            line = {"round": number, **measure(bench, scenario, asked.seconds, tokens[scenario.algorithm])}
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            each = line["server_cpu"] / line["requests"] * 1e6
            print(
                f"{number} {scenario.name:44} {line['rate']:10,.0f}/s  p50 {line['p50_us']:>7} p99 {line['p99_us']:>7} µs"
                f"  {each:8.2f} µs CPU  foreign {line['foreign_cpu']:.2f} stolen {line['stolen']:.2f}",
                flush=True,
            )


main()
