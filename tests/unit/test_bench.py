"""Every benchmark runs: tiny, one turn a side, no judgement on time."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[2] / "bench" / "run.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_every_pair_runs_and_tells_both_sides():
    done = bench("--nodes", "20", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    medians = json.loads(done.stdout)
    pairs = {side.partition(":")[0] for side in medians}
    assert {"fetch", "views", "tick-pod", "sequence", "start-version", "keep"} <= pairs
    assert len(medians) == 2 * len(pairs)
    assert all(seconds > 0 for seconds in medians.values())


def test_one_pair_by_the_beginning_of_its_name():
    done = bench("yam", "--nodes", "20", "--rounds", "1")
    assert "| `yaml` |" in done.stdout
    assert done.stdout.count("\n| `") == 1


def test_a_name_that_no_pair_has_is_a_fault():
    assert bench("nothing-like-this", "--nodes", "5", "--rounds", "1").returncode == 2
