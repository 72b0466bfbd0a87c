"""Side-by-side benchmarks: `make bench`, or `make bench BENCH="tick fetch"` for those whose names begin so.

Every pair is measured in one run, turn about, so that its ratio holds on any machine; seconds do not.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator

from pairs import ROUNDS, Pair, Result, Side, measure

MODULES = ("reading", "viewing", "ticking", "rolling", "starting", "keeping")
NODES = 1000


def main() -> None:
    """Measure what was asked for; a line as soon as it is known, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="pairs whose names begin with one of these; default: all")
    parser.add_argument("--nodes", type=int, default=NODES, help="size of the fleet (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="turns of each side (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="medians in seconds as one JSON object")
    asked = parser.parse_args()
    results = []
    for pair in _chosen(tuple(asked.names), asked.nodes):
        results.append(measure(pair, asked.rounds))
        print(f"{pair.name}: {results[-1].ratio:.1f}", file=sys.stderr, flush=True)
    if not results:
        parser.error(f"no pair begins with {' or '.join(asked.names)}")
    print(json.dumps(dict(_sides(results))) if asked.json else "\n".join(_table(results)))


def _chosen(names: tuple[str, ...], nodes: int) -> Iterator[Pair]:
    for module in MODULES:
        for pair in importlib.import_module(module).pairs(nodes):
            if not names or pair.name.startswith(names):
                yield pair


def _sides(results: list[Result]) -> Iterator[tuple[str, float]]:
    for result in results:
        for side, s in _both(result):
            yield f"{result.pair.name}: {side.label}", s


def _table(results: list[Result]) -> Iterator[str]:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    yield f"processor time, medians of up to {max(result.rounds for result in results)} turns each; {machine}"
    yield "| pair | A | ms | B | ms | A / B |"
    yield "|---|---|--:|---|--:|--:|"
    for result in results:
        a, b = (f"{side.label} | {s * 1000:.2f}" for side, s in _both(result))
        yield f"| `{result.pair.name}` | {a} | {b} | **{result.ratio:.1f}** |"


def _both(result: Result) -> tuple[tuple[Side, float], tuple[Side, float]]:
    return (result.pair.a, result.a_s), (result.pair.b, result.b_s)


if __name__ == "__main__":
    main()
