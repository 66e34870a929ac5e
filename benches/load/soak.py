#!/usr/bin/env python3
"""Ten minutes of mixed traffic on `auth_server`, and what became of its memory: `python3 benches/load/soak.py`.

The server has one core and its sessions in SQLite on disk, the traffic (see traffic.py) the other. Every five seconds a line
of JSON goes to `data/soak.jsonl`: resident memory, threads, open files, CPU time, and the times of answers. Access tokens live a
minute, and the caches meet 12,000 tokens in turn, more than they hold, so that both have come to rest after the first one. What was
called back is remembered for hours, and grows with the sessions that end.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from statistics import median

from machine import WORK, describe, memory
from servers import PASSWORD, Bench, login_form
from traffic import Traffic

DATA = Path(__file__).resolve().parent / "data"
EVERY, TOKENS, USERS = 5, 12_000, [f"user{number}" for number in range(20)]


def percentiles(times):
    """Milliseconds."""
    times = sorted(times)
    at = lambda part: round(times[min(int(len(times) * part), len(times) - 1)] * 1000, 3)
    return {"count": len(times), "p50": at(0.5), "p99": at(0.99), "max": at(1)}


async def watch(server, traffic, started, lines):
    """A line every five seconds, until it is stopped."""
    due, spent = started, server.cpu()
    while True:
        due += EVERY
        await asyncio.sleep(max(due - time.monotonic(), 0))
        times, traffic.times = traffic.times, {}
        now = server.cpu()
        line = {"second": round(time.monotonic() - started), **memory(server.pid), "cpu": round(now - spent, 2)}
        spent = now
        line |= {kind: percentiles(found) for kind, found in sorted(times.items())}
        lines.append(line)
        get = line.get("get", {})
        print(
            f"{line['second']:4} s  {line['rss_kib']} KiB  {line['files']} files  get {get}  wrong {dict(traffic.wrong)}",
            flush=True,
        )


async def load(server, tokens, rate, seconds, lines):
    traffic = Traffic(int(server.url.rsplit(":", 1)[1]), tokens, login_form_of, rate, USERS)
    watcher = asyncio.create_task(watch(server, traffic, time.monotonic(), lines))
    await traffic.run(seconds)
    # So that the last line is there.
    await asyncio.sleep(EVERY / 2)
    if watcher.done():
        await watcher
    watcher.cancel()
    return traffic


def login_form_of(name, password=PASSWORD):
    return login_form(name, password, "me items")


def growth(lines):
    """From the end of the first minute to the last, in percent: three samples at either end."""
    around = [line["rss_kib"] for line in lines if 60 <= line["second"] <= 70]
    last = [line["rss_kib"] for line in lines[-3:]]
    return round((median(last) / median(around) - 1) * 100, 2) if around else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--with", dest="extra", default="", metavar="'NAME=VALUE …'", help="variables for the server")
    parser.add_argument("--out", type=Path, help="data/soak.jsonl if it lasts ten minutes, or else none")
    asked = parser.parse_args()
    out = asked.out or (DATA / "soak.jsonl" if asked.seconds >= 600 and not asked.extra else None)
    bench = Bench(["EdDSA"], peer=False)
    tokens = bench.mint("EdDSA", TOKENS).read_text().split()
    for old in WORK.glob("soak.db*"):
        old.unlink()
    users = [{"username": name, "password": PASSWORD, "scopes": ["me", "items"]} for name in USERS]
    extra = {"STORE": f"sqlite:{WORK / 'soak.db'}", "ACCESS_TTL": "60", "USERS": json.dumps(users)}
    extra |= dict(pair.split("=", 1) for pair in asked.extra.split())
    os.sched_setaffinity(0, {1})
    lines = []
    with bench.start("auth_server", "EdDSA", extra=extra) as server:
        traffic = asyncio.run(load(server, tokens, asked.rate, asked.seconds, lines))
        database = sum(path.stat().st_size for path in WORK.glob("soak.db*"))
    summary = {
        "growth_percent": growth(lines),
        "answers": dict(sorted(traffic.counts.items())),
        "wrong": dict(traffic.wrong),
    }
    summary |= {"database_kib": database // 1024, "seconds": asked.seconds, "rate": asked.rate}
    print(json.dumps(summary, indent=1))
    planned = sum(rate for _, _, rate in traffic.parts) * asked.seconds
    whole = len(lines) >= asked.seconds // EVERY and sum(traffic.counts.values()) > 0.99 * planned
    if traffic.wrong or not whole:
        raise SystemExit("answered otherwise than it should, or not all was sent: nothing is kept")
    if out:
        out.parent.mkdir(exist_ok=True)
        out.write_text("".join(json.dumps(line) + "\n" for line in [{"machine": describe()}, *lines, summary]))


main()
