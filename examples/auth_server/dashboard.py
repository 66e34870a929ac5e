#!/usr/bin/env python3
"""The dashboard of `auth_server`, made of the list below, and a picture of its data.

    python3 dashboard.py                          writes grafana.json beside this file, for Grafana's "Import dashboard"
    python3 dashboard.py check URL                asks the Prometheus at URL for every panel, and says how many series it has; fails if it refuses one
    python3 dashboard.py draw URL MINUTES FILE    draws what it answers for the last minutes, as SVG: no Grafana is involved

Needs Python alone. `cargo test --test it metrics::` fails if a panel uses a name that is not documented, or a documented name is on
no panel."""
import json
import math
import pathlib
import sys
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
WHERE = 'instance=~"$instance"'


def rate(name, by, select=""):
    return f'sum by ({by}) (rate({name}{{{WHERE}{select}}}[$__rate_interval]))'


def percentile(share, name, by="", select=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket{{{WHERE}{select}}}[$__rate_interval])))"


EVENTS, STORE = "portcullis_events_total", "portcullis_store_seconds"
HASH, WAIT, SIGN = "portcullis_password_hash_seconds", "portcullis_password_wait_seconds", "portcullis_signing_seconds"

# Rows of panels: title, kind, unit, what it tells, and expressions with what they are called.
ROWS = [
    ("Now", [
        ("Ready", "stat", "yesno", "Whether what the server needs answered when /ready was last asked.",
         [(f"min by (check) (portcullis_ready{{{WHERE}}})", "{{check}}")]),
        ("Outages", "stat", "short", "What does not answer now. 0 is well.",
         [(f"sum by (what, which) (portcullis_outage{{{WHERE}}})", "{{what}} {{which}}")]),
        ("Stolen refresh tokens", "stat", "short",
         "Tokens that came again after they were turned, in the last day: somebody has a copy, or without a grace a client lost an answer. The session was ended.",
         [(f'sum(increase({EVENTS}{{{WHERE}, kind="refresh_reused"}}[1d]))', "in a day")]),
        ("Lost audit events", "stat", "short", "Events that a sink did not get in the last day.",
         [(f"sum by (sink) (increase(portcullis_audit_events_dropped_total{{{WHERE}}}[1d]))", "{{sink}}")]),
    ]),
    ("Requests", [
        ("Admitted", "lines", "reqps", "Requests that a gate has let in: of known callers, and of nobody where that is allowed.",
         [(rate("portcullis_requests_admitted_total", "caller"), "{{caller}}")]),
        ("Refused, by kind", "lines", "reqps", "Missing, bad, denied, in the clear or of another site, malformed; and infrastructure_failed, which is answered 5xx.",
         [(rate(EVENTS, "kind", ', kind=~"credential_missing|credential_invalid|authorization_denied|request_unsafe|request_malformed|client_refused'
                '|infrastructure_failed|layers_misplaced"'), "{{kind}}")]),
        ("Refused, by reason", "lines", "reqps", "The ten most common reasons.",
         [(f'topk(10, {rate(EVENTS, "reason", ", kind=~" + chr(34) + "credential_invalid|authorization_denied|request_unsafe|infrastructure_failed" + chr(34))})',
           "{{reason}}")]),
        ("Known tokens", "lines", "percentunit", "Share of tokens that had been verified before; the others cost a signature.",
         [('sum(rate(portcullis_token_cache_lookups_total{' + WHERE + ', result="hit"}[$__rate_interval])) / '
           'sum(rate(portcullis_token_cache_lookups_total{' + WHERE + '}[$__rate_interval]))', "hits")]),
        ("Remembered tokens", "lines", "short", "Verified tokens that are kept.",
         [(f"sum(portcullis_token_cache_entries{{{WHERE}}})", "entries")]),
    ]),
    ("Logins and sessions", [
        ("Logins", "lines", "reqps", "By outcome: succeeded, failed, locked (account), limited (address), shed (overload).",
         [(rate(EVENTS, "kind", ', kind=~"login_.*"'), "{{kind}}")]),
        ("Why logins fail", "lines", "reqps", "Reasons of those that did not succeed.",
         [(rate(EVENTS, "reason", ', kind=~"login_failed|login_locked|login_limited|login_shed"'), "{{reason}}")]),
        ("Tokens and sessions", "lines", "reqps", "Refreshed, reused, issued to clients, called back, ended.",
         [(rate(EVENTS, "kind", ', kind=~"session_refreshed|refresh_refused|refresh_reused|token_issued|tokens_revoked|sessions_ended"'),
           "{{kind}}")]),
        ("Accounts", "lines", "reqps", "Registrations and changes of passwords.",
         [(rate(EVENTS, "kind", ', kind=~"user_registered|registration_refused|password_changed|password_change_refused|hash_upgraded"'),
           "{{kind}}")]),
    ]),
    ("Passwords", [
        ("Time to hash", "lines", "s", "On the thread that does it.",
         [(percentile(0.5, HASH), "median"), (percentile(0.99, HASH), "99 %")]),
        ("Wait for a thread", "lines", "s", "Of those whose turn has come.",
         [(percentile(0.5, WAIT), "median"), (percentile(0.99, WAIT), "99 %")]),
        ("Waiting", "lines", "short", "Passwords in the queue.", [(f"sum(portcullis_password_waiting{{{WHERE}}})", "waiting")]),
        ("Shed", "lines", "reqps", "Passwords that were not hashed, because too many were waiting: answered 503.",
         [(f"sum(rate(portcullis_password_shed_total{{{WHERE}}}[$__rate_interval]))", "shed")]),
    ]),
    ("Stores, keys and signatures", [
        ("Stores, 99 % of calls", "lines", "s", "Time until a store answers.",
         [(percentile(0.99, STORE, "store, operation"), "{{store}} {{operation}}")]),
        ("Stores, failures", "lines", "reqps", "Calls that failed, or were given up because they took too long.",
         [(rate("portcullis_store_failures_total", "store, operation, reason"), "{{store}} {{operation}} {{reason}}")]),
        ("Age of keys and revocations", "lines", "s", "Since they were last read well.",
         [(f"max by (what, which) (time() - portcullis_last_success_timestamp_seconds{{{WHERE}}})", "{{what}} {{which}}")]),
        ("Time to sign", "lines", "s", "An access token.",
         [(percentile(0.5, SIGN, "algorithm"), "median, {{algorithm}}"), (percentile(0.99, SIGN, "algorithm"), "99 %, {{algorithm}}")]),
    ]),
]


def panels():
    """Each panel with its place, as Grafana has them."""
    made, y = [], 0
    for title, row in ROWS:
        made.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        stats = row[0][1] == "stat"
        width, height, x = 24 // 4 if stats or len(row) == 4 else 8, 4 if stats else 8, 0
        for name, kind, unit, tells, queries in row:
            if x + width > 24:
                x, y = 0, y + height
            made.append(panel(name, kind, unit, tells, queries, {"x": x, "y": y, "w": width, "h": height}))
            x += width
        y += height
    for number, one in enumerate(made, 1):
        one["id"] = number
    return made


def panel(name, kind, unit, tells, queries, place):
    bad_above_zero = {"mode": "absolute", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 1}]}
    good_is_one = {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]}
    defaults = {"unit": "none" if unit == "yesno" else unit, "min": 0}
    if kind == "stat":
        defaults["thresholds"] = good_is_one if unit == "yesno" else bad_above_zero
        defaults["decimals"] = 0
        if unit == "yesno":
            defaults["mappings"] = [{"type": "value", "options": {"0": {"text": "no"}, "1": {"text": "yes"}}}]
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "value_and_name",
                   "colorMode": "background", "graphMode": "none", "orientation": "auto", "justifyMode": "auto"}
    else:
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                   "tooltip": {"mode": "multi", "sort": "desc"}}
    targets = [{"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend, "editorMode": "code",
                "range": kind != "stat", "instant": kind == "stat"} for at, (expression, legend) in enumerate(queries)]
    return {"type": "stat" if kind == "stat" else "timeseries", "title": name, "description": tells, "datasource": SOURCE,
            "gridPos": place, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "targets": targets}


def dashboard():
    instance = {"name": "instance", "label": "Instance", "type": "query", "datasource": SOURCE, "includeAll": True, "multi": True,
                "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2, "sort": 1, "hide": 0, "regex": "",
                "options": [], "definition": "label_values(portcullis_password_shed_total, instance)",
                "query": {"query": "label_values(portcullis_password_shed_total, instance)", "refId": "instances"}}
    return {
        "__inputs": [{"name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource",
                      "pluginId": "prometheus", "pluginName": "Prometheus"}],
        "__requires": [{"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.0.0"},
                       {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
                       {"type": "panel", "id": "timeseries", "name": "Time series", "version": ""},
                       {"type": "panel", "id": "stat", "name": "Stat", "version": ""}],
        "id": None, "uid": "portcullis", "title": "Logins, tokens and permissions", "tags": ["portcullis"], "schemaVersion": 38,
        "version": 1, "editable": True, "graphTooltip": 1, "refresh": "10s", "timezone": "", "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []}, "links": [], "templating": {"list": [instance]}, "panels": panels(),
    }


def ask(url, path, **query):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
        return json.load(answer)["data"]["result"]


def filled(expression, interval="30s"):
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", interval).replace("$instance", ".*")


def series(url, panel, minutes):
    """What a panel shows: pairs of a name and its points."""
    end = time.time()
    found = []
    for target in panel["targets"]:
        query = {"query": filled(target["expr"]), "start": end - 60 * minutes, "end": end, "step": max(minutes / 2, 1)}
        for one in ask(url, "query_range", **query):
            name = target["legendFormat"]
            for label, value in one["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            while "{{" in name:
                name = name[:name.index("{{")] + name[name.index("}}") + 2:]
            points = [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))]
            if points:
                found.append((name.strip(), points))
    return sorted(found, key=lambda one: -max(value for _, value in one[1]))


def check(url):
    for one in panels():
        for target in one.get("targets", []):
            answer = ask(url, "query", query=filled(target["expr"], "1m"))
            print(f'{len(answer):3} series  {one["title"]}: {target["expr"]}')


COLOURS = ["#3274d9", "#e0752d", "#299c46", "#c4162a", "#8f3bb8", "#b8860b", "#0a9396", "#d4508a", "#666666", "#7a5195"]


def human(value, unit):
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        for factor, name in [(1, "s"), (1e3, "ms"), (1e6, "µs")]:
            if value * factor >= 1 or name == "µs":
                return f"{value * factor:.3g} {name}" if value else "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" + ("/s" if unit == "reqps" and value else "")


def text(x, y, what, size=11, colour="#333", anchor="start", weight="normal"):
    what = str(what).replace("&", "&amp;").replace("<", "&lt;")
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{what}</text>')


def draw(url, minutes, file):
    cell, line, top = 50, 27, 44
    everything = panels()
    bottom = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in everything) * line + top + 8
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * cell} {bottom}" font-family="Helvetica, Arial, sans-serif">',
           f'<rect width="100%" height="100%" fill="#f4f5f8"/>',
           text(10, 28, f"Data of the dashboard's panels, drawn by dashboard.py from Prometheus: {minutes:g} minutes of load", 15, weight="bold")]
    for one in everything:
        place = one["gridPos"]
        x, y, w, h = place["x"] * cell, place["y"] * line + top, place["w"] * cell, place["h"] * line
        if one["type"] == "row":
            out.append(text(x + 10, y + 19, one["title"], 13, weight="bold"))
            continue
        unit = one["fieldConfig"]["defaults"]["unit"]
        out.append(f'<rect x="{x + 4}" y="{y + 3}" width="{w - 8}" height="{h - 6}" fill="#fff" stroke="#d8d9da"/>')
        out.append(text(x + 12, y + 20, one["title"], 12, weight="bold"))
        shown = series(url, one, minutes)
        if one["type"] == "stat":
            wanted = "mappings" in one["fieldConfig"]["defaults"]
            columns = 2 if len(shown) > 4 else 1
            for at, (name, points) in enumerate(shown[:8]):
                last = points[-1][1]
                well = (last >= 1) if wanted else (last < 0.5)
                answer = ("yes" if last >= 1 else "no") if wanted else f"{last:.0f}"
                row_x, row_y = x + 12 + at % columns * (w // 2), y + 38 + at // columns * 16
                out.append(text(row_x, row_y, f"{name[:30]}: {answer}", 11, "#1a7f37" if well else "#c4162a", weight="bold"))
            continue
        left, right, up, down = x + 62, x + w - 14, y + 32, y + h - 56
        most = max((value for _, points in shown for _, value in points), default=0) or 1
        end = time.time()
        for part in (0, 0.5, 1):
            at = down - part * (down - up)
            out.append(f'<line x1="{left}" y1="{at:.0f}" x2="{right}" y2="{at:.0f}" stroke="#e5e5e5"/>')
            out.append(text(left - 5, at + 4, human(most * part, unit), 10, "#777", "end"))
        for at, (name, points) in enumerate(shown[:10]):
            def place_of(point):
                return (f"{right - (end - point[0]) / (60 * minutes) * (right - left):.1f},"
                        f"{down - point[1] / most * (down - up):.1f}")
            colour = COLOURS[at % len(COLOURS)]
            out.append(f'<polyline points="{" ".join(map(place_of, points))}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        room, legend_x, legend_y = right, x + 12, down + 18
        for at, (name, _) in enumerate(shown[:10]):
            wide = 6 * len(name) + 20
            if legend_x + wide > room:
                legend_x, legend_y = x + 12, legend_y + 13
            if legend_y > y + h - 8:
                break
            out.append(f'<rect x="{legend_x}" y="{legend_y - 7}" width="8" height="3" fill="{COLOURS[at % len(COLOURS)]}"/>')
            out.append(text(legend_x + 12, legend_y - 2, name, 10, "#555"))
            legend_x += wide
        if not shown:
            out.append(text((left + right) / 2, (up + down) / 2, "nothing happened", 11, "#999", "middle"))
    pathlib.Path(file).write_text("\n".join(out + ["</svg>", ""]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            (HERE / "grafana.json").write_text(json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n")
        case ["check", url]:
            check(url)
        case ["draw", url, minutes, file]:
            draw(url, float(minutes), file)
        case _:
            sys.exit(__doc__)
