"""Draws the raw data as SVG, for the repository's view of the guide and for rustdoc's; `page.py` writes it.

A relative image is found in the repository, but rustdoc does not copy it. So the page names its images by reference: its last
lines say where they are in the repository, and `images.md`, which rustdoc reads before the page, says so first, with the
picture itself. The first of two definitions counts. Each has its own ground, so that it can be read in light and dark.
"""

import base64
from html import escape

from figures import GUIDE, lines

WIDTH, PAD = 760, 18
STYLE = """
.ground { fill: #fbfbfa; stroke: #d9d9d4; } text { fill: #23252b; font: 13px system-ui, sans-serif; }
.title { font-weight: 600; font-size: 15px; } .small { fill: #60636b; font-size: 12px; } .grid { stroke: #e2e2dd; } .mark { stroke: #23252b; }
.bare { fill: #a9adb5; } .ours { fill: #2a6fb0; } .cold { fill: #7fb2de; } .peer { fill: #cf7b35; }
.one { stroke: #2a6fb0; fill: none; stroke-width: 2; } .two { stroke: #cf7b35; fill: none; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #1e2126; stroke: #3a3e46; } text { fill: #e4e6ea; } .small { fill: #a0a5ae; } .grid { stroke: #343840; } .mark { stroke: #fafafa; }
  .bare { fill: #6b7079; } .ours { fill: #5fa4e3; } .cold { fill: #37618a; } .peer { fill: #e2975a; }
  .one { stroke: #5fa4e3; } .two { stroke: #e2975a; }
}
"""


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def picture(title, height, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    ground = f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>'
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            ground,
            text(PAD, 28, title, "title"),
            *parts,
            "</svg>\n",
        ]
    )


def bars(title, rows, note):
    """Rows of a label, a number with its least and most, a kind."""
    left, right, step = 282, 90, 24
    most = max(found[2] for _, found, _ in rows)
    scale = (WIDTH - left - right - PAD) / most
    parts, y = [], 46
    for label, (middle, least, top), kind in rows:
        parts.append(text(left - 8, y + 13, label, "", "end"))
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{y}" width="{max(middle * scale, 1):.1f}" height="17" rx="2"/>'
        )
        # What the rounds were between.
        parts.append(f'<path class="mark" d="M{left + least * scale:.1f} {y + 8.5}H{left + top * scale:.1f}"/>')
        parts.append(text(left + top * scale + 8, y + 13, f"{middle:,.0f}"))
        y += step
    parts.append(text(PAD, y + 14, note, "small"))
    return picture(title, y + 28, parts)


def nice(most):
    """A round number above."""
    size = 10 ** (len(str(int(max(most, 1)))) - 1)
    return next(step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= most)


def curves(title, panels, seconds):
    """One panel above the other: a label, the unit, and lines of a label, a kind and points."""
    left, tall, parts, y = 64, 120, [], 58
    across = (WIDTH - left - 2 * PAD) / seconds
    for label, unit, found in panels:
        top = nice(max(value for _, _, points in found for _, value in points))
        parts.append(text(left, y - 8, label, "small"))
        for part in range(5):
            at = y + tall - tall * part / 4
            parts += [
                f'<path class="grid" d="M{left} {at}H{WIDTH - 2 * PAD}"/>',
                text(left - 6, at + 4, f"{top * part / 4:g}{unit if part == 4 else ''}", "small", "end"),
            ]
        x = WIDTH - 2 * PAD
        for name, kind, points in reversed(found):
            path = " ".join(f"{left + at * across:.1f},{y + tall - value / top * tall:.1f}" for at, value in points)
            parts += [
                f'<polyline class="{kind}" points="{path}"/>',
                text(x, y - 8, name, "small", "end"),
                f'<path class="{kind}" d="M{x - 8 * len(name) - 22} {y - 12}h14"/>',
            ]
            x -= 8 * len(name) + 40
        y += tall + 44
    for at in range(0, seconds + 1, max(seconds // 10, 1)):
        parts.append(text(left + at * across, y - 26, f"{at / 60:g}", "small", "middle"))
    parts.append(text(WIDTH - 2 * PAD, y - 8, "minutes", "small", "end"))
    return picture(title, y + 6, parts)


def throughput(rates):
    rows = [("axum, bare route", rates.of("load/bare/EdDSA/one/1"), "bare")]
    rows += [
        (f"protected, {name}, seen before", rates.of(f"load/protected/{name}/one/1"), "ours")
        for name in ("EdDSA", "RS256", "ES256", "HS256")
    ]
    rows += [
        (f"protected, {name}, 1,000 in turn", rates.of(f"load/protected/{name}/thousand/1"), "ours")
        for name in ("EdDSA", "RS256")
    ]
    rows += [
        (f"protected, {name}, another each time", rates.of(f"load/protected/{name}/cold/1"), "cold")
        for name in ("EdDSA", "RS256")
    ]
    rows += [("FastAPI, without security", rates.of("fastapi/bare/EdDSA/one/1"), "peer")]
    rows += [
        (f"FastAPI, {name}", rates.of(f"fastapi/protected/{name}/one/1"), "peer")
        for name in ("EdDSA", "RS256", "ES256", "HS256")
    ]
    note = f"Medians of {rates.head['rounds']} rounds in turns, one core for the server, one for wrk; the stroke in a bar is what the rounds were between."
    return bars("GET requests a second", rows, note)


def soak(raw):
    samples, seconds = raw[1:-1], raw[-1]["seconds"]
    of = lambda pick: [(line["second"], pick(line)) for line in samples]
    return curves(
        f"{raw[-1]['rate']:,} requests a second of mixed traffic",
        [
            (
                "resident memory",
                " MiB",
                [
                    ("all", "one", of(lambda line: line["rss_kib"] / 1024)),
                    ("heap", "two", of(lambda line: line["anon_kib"] / 1024)),
                ],
            ),
            (
                "GET with a token",
                " ms",
                [
                    ("p50", "one", of(lambda line: line["get"]["p50"])),
                    ("p99", "two", of(lambda line: line["get"]["p99"])),
                ],
            ),
            (
                "refresh, durable in SQLite",
                " ms",
                [
                    ("p50", "one", of(lambda line: line["refresh"]["p50"])),
                    ("p99", "two", of(lambda line: line["refresh"]["p99"])),
                ],
            ),
        ],
        seconds,
    )


def draw_all(rates):
    """What the files are to hold, by path."""
    folder = GUIDE / "figures"
    drawn = {"load": throughput(rates)}
    if raw := lines("soak"):
        drawn["soak"] = soak(raw)
    inline = lambda svg: base64.b64encode(svg.encode()).decode()
    definitions = [f"[plot-{name}]: data:image/svg+xml;base64,{inline(svg)}\n" for name, svg in drawn.items()]
    return {folder / "images.md": "".join(definitions), **{folder / f"{name}.svg": svg for name, svg in drawn.items()}}
