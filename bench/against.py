"""Before and after: `python bench/against.py DIR [NAME...]` runs the same pairs on this tree and on the one in DIR.

DIR is any other checkout (`git worktree add DIR REVISION`). The two take turns in one run; what is told is how many
times as long each side took there as here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent
TURNS = 3


def main() -> None:
    """Print one line for each side of each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--nodes", default="1000")
    asked = parser.parse_args()
    arguments = ["--json", "--nodes", asked.nodes, "--rounds", "5", *asked.names]
    turns = [(_run(asked.directory, arguments), _run(HERE, arguments)) for _ in range(TURNS)]
    print("| side | there, ms | here, ms | there / here |\n|---|--:|--:|--:|")
    for side in turns[0][1]:
        there, here = (statistics.median(turn[which][side] for turn in turns) for which in (0, 1))
        print(f"| {side} | {there * 1000:.2f} | {here * 1000:.2f} | {there / here:.1f} |")


def _run(tree: Path, arguments: list[str]) -> dict[str, float]:
    """The benchmarks of this tree over the product of another."""
    done = subprocess.run(
        [sys.executable, str(HERE / "bench/run.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(tree.resolve())},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    medians: dict[str, float] = json.loads(done.stdout)
    return medians


if __name__ == "__main__":
    main()
