"""The raw data, as the figures that the page and the plots have of it."""

import json
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
GUIDE = HERE.parents[1] / "src" / "guide"


def lines(name):
    """A file of raw data; empty if there is none."""
    path = DATA / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Rates:
    """Medians over the rounds, and ratios of what ran in the same round."""

    def __init__(self, name):
        raw = lines(name)
        self.head = raw[0] if raw else {}
        self.rounds = {}
        for line in raw[1:]:
            self.rounds.setdefault(line["scenario"], []).append(line)
        for found in self.rounds.values():
            found.sort(key=lambda line: line["round"])

    def __contains__(self, scenario):
        return scenario in self.rounds

    def of(self, scenario, value=lambda line: line["rate"]):
        """Median, least and most."""
        found = [value(line) for line in self.rounds[scenario]]
        return median(found), min(found), max(found)

    def ratio(self, above, below, value=lambda line: line["rate"]):
        """Median, least and most of the ratios within each round."""
        pairs = zip(self.rounds[above], self.rounds[below], strict=True)
        found = [value(one) / value(other) for one, other in pairs]
        return median(found), min(found), max(found)

    def cpu(self, scenario):
        """Microseconds of the server's CPU time for each request."""
        return self.of(scenario, each_cpu)[0]

    def cpu_added(self, above, below):
        """Median of the differences within each round."""
        pairs = zip(self.rounds[above], self.rounds[below], strict=True)
        return median(each_cpu(one) - each_cpu(other) for one, other in pairs)

    def busy(self, scenario):
        """How much of one core the server had. Where it is not all of it, the client was the limit."""
        return self.of(scenario, lambda line: line["server_cpu"] / line["seconds"])[0]


def each_cpu(line):
    return line["server_cpu"] / line["requests"] * 1e6


def spread(found, form):
    """A median with what it came out of."""
    middle, least, most = found
    return f"{form(middle)} ({form(least)} to {form(most)})"
