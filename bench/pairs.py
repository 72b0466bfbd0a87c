"""Two things side by side: measured in turn (A B A B), told as medians and their ratio.

What is measured is processor time, of this process and of those that it started: other work on the machine hardly counts.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

ROUNDS = 7
PAIR_LIMIT_S = 12.0  # no further round begins after this


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two; `before` runs untimed ahead of each round."""

    label: str
    run: Callable[[], object]
    before: Callable[[], object] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is compared; each side is told in its own words."""

    name: str
    a: Side
    b: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Medians in seconds of processor time."""

    pair: Pair
    a_s: float
    b_s: float
    rounds: int

    @property
    def ratio(self) -> float:
        """How many times as long A takes as B."""
        return self.a_s / max(self.b_s, 1e-6)


def measure(pair: Pair, rounds: int = ROUNDS) -> Result:
    """One untimed turn each, then turn about."""
    for side in (pair.a, pair.b):
        _timed(side)
    times = list(_turns(pair, rounds))
    return Result(
        pair=pair,
        a_s=statistics.median(a for a, _ in times),
        b_s=statistics.median(b for _, b in times),
        rounds=len(times),
    )


def _turns(pair: Pair, rounds: int) -> Iterator[tuple[float, float]]:
    started = time.perf_counter()
    for _ in range(rounds):
        yield _timed(pair.a), _timed(pair.b)
        if time.perf_counter() - started > PAIR_LIMIT_S:
            return


def _timed(side: Side) -> float:
    side.before()
    gc.collect()
    started = _processor_s()
    side.run()
    return _processor_s() - started


def _processor_s() -> float:
    spent = (getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)
