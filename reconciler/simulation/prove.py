"""Prove: exhaustive search over the operator's own decisions, and over what breaks when a guard is removed.

`python -m reconciler.simulation.prove [--quick]` prints one table for docs/node-transaction.md; exit 1 on any finding.
"""

import sys
import time
from dataclasses import dataclass

from reconciler.simulation.model import Limits, Setup
from reconciler.simulation.removed import REMOVED, Guards
from reconciler.simulation.search import Found, explore

PER_REMOVAL = 2_000_000  # states after which a removed guard counts as not caught


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A configuration with its name in the table."""

    name: str
    setup: Setup
    quick: bool = False


CASES = (
    Case(
        name="1 node: a crash, a human cordons and uncordons",
        setup=Setup(nodes=1, serials=1, limits=Limits(crashes=1, cordons=1, uncordons=1)),
        quick=True,
    ),
    Case(
        name="1 node: two reboots, two ghost pods",
        setup=Setup(nodes=1, serials=1, limits=Limits(takes=1, reboots=2, ghosts=2)),
        quick=True,
    ),
    Case(
        name="1 node, 2 transactions: the target changes twice, a load fails",
        setup=Setup(nodes=1, serials=2, limits=Limits(edits=2, bad_loads=1)),
        quick=True,
    ),
    Case(
        name="2 nodes: a crash, also with a write on the wire",
        setup=Setup(nodes=2, serials=1, limits=Limits(crashes=1)),
        quick=True,
    ),
    Case(
        name="1 node: a killed builder, a reboot, a module that does not load or serve",
        setup=Setup(nodes=1, serials=1, limits=Limits(takes=1, reboots=1, kills=1, bad_loads=1)),
        quick=True,
    ),
    Case(
        name="1 node: people, a reboot, a killed builder, a ghost pod",
        setup=Setup(
            nodes=1, serials=1, limits=Limits(takes=1, cordons=1, uncordons=1, reboots=1, kills=1, ghosts=1)
        ),
    ),
    Case(
        name="1 node: a reboot, a killed builder, a ghost pod",
        setup=Setup(nodes=1, serials=1, limits=Limits(reboots=1, kills=1, ghosts=1)),
    ),
    Case(
        name="1 node: a lost answer, a reboot, a killed builder",
        setup=Setup(nodes=1, serials=1, limits=Limits(losses=1, reboots=1, kills=1)),
    ),
    Case(
        name="1 node, 2 transactions: people and a reboot",
        setup=Setup(nodes=1, serials=2, limits=Limits(cordons=1, uncordons=1, reboots=1)),
    ),
    Case(
        name="2 nodes: a human cordons and uncordons",
        setup=Setup(nodes=2, serials=1, limits=Limits(cordons=1, uncordons=1)),
    ),
    Case(name="2 nodes: a lost answer", setup=Setup(nodes=2, serials=1, limits=Limits(losses=1))),
    Case(
        name="2 nodes: a reboot, a ghost pod",
        setup=Setup(nodes=2, serials=1, limits=Limits(takes=1, reboots=1, ghosts=1)),
    ),
    Case(name="2 nodes: a reboot", setup=Setup(nodes=2, serials=1, limits=Limits(reboots=1))),
    Case(name="2 nodes: the target changes", setup=Setup(nodes=2, serials=1, limits=Limits(edits=1))),
    Case(
        name="2 nodes: three take-overs, a crash",
        setup=Setup(nodes=2, serials=1, limits=Limits(takes=3, crashes=1)),
    ),
    Case(
        name="3 nodes, budget 2, a batch of 2",
        setup=Setup(nodes=3, serials=1, budget=2, limits=Limits(takes=1)),
    ),
    Case(name="1 node: knowledge of nodes lags", setup=Setup(nodes=1, serials=1, lag=True), quick=True),
    Case(
        name="2 nodes, 2 transactions each: knowledge lags, rows 1-5 and 9",
        setup=Setup(nodes=2, serials=2, workers=0, lag=True),
    ),
    Case(
        name="3 nodes, budget 2, two leaders: knowledge lags, rows 1-5 and 9",
        setup=Setup(nodes=3, serials=1, budget=2, workers=0, lag=True),
    ),
    Case(name="2 nodes, 2 transactions each", setup=Setup(nodes=2, serials=2, limits=Limits())),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A guard to be removed, and the smallest configuration that needs it."""

    guard: str
    breaks: str
    setup: Setup

    @property
    def guards(self) -> Guards:
        return REMOVED[self.guard]


REMOVALS = (
    Removal(guard="Lease fence (row 3)", breaks="S1", setup=Setup(nodes=2, serials=1)),
    Removal(guard="compare-and-swap on writes", breaks="S1", setup=Setup(nodes=2, serials=1)),
    Removal(
        guard="compare-and-swap on writes",
        breaks="S2",
        setup=Setup(nodes=1, serials=1, limits=Limits(cordons=1)),
    ),
    Removal(
        guard="who owns the cordon (managedFields)",
        breaks="S2",
        setup=Setup(nodes=1, serials=1, limits=Limits(cordons=1, uncordons=1)),
    ),
    Removal(guard="claim by the builder (row 7)", breaks="S4", setup=Setup(nodes=1, serials=1)),
    Removal(guard="check of the claim at release (row 9)", breaks="S4", setup=Setup(nodes=1, serials=1)),
    Removal(
        guard="reached only where active.json vouches (row 9)",
        breaks="Done",
        setup=Setup(nodes=1, serials=1, limits=Limits(takes=1, reboots=1, bad_loads=1)),
    ),
    Removal(
        guard="bootID in the permit",
        breaks="S4",
        setup=Setup(nodes=1, serials=1, limits=Limits(reboots=1, ghosts=1)),
    ),
    Removal(guard="host flock", breaks="S4", setup=Setup(nodes=1, serials=1, limits=Limits(ghosts=1))),
    Removal(
        guard="cancel of foreign reservations (row 1)",
        breaks="liveness",
        setup=Setup(nodes=1, serials=1, limits=Limits(crashes=1)),
    ),
)


def prove(case: Case) -> Found:
    """Every state of a configuration, with progress on stderr."""
    began = time.monotonic()

    def progress(states: int, depth: int) -> None:
        print(
            f"\r  {case.name}: {states:,} states, depth {depth}, {time.monotonic() - began:.0f} s ",
            end="",
            file=sys.stderr,
        )

    found = explore(case.setup, report=progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        print("\r" + " " * 100, end="\r", file=sys.stderr)
    return found


def caught(removal: Removal) -> Found:
    """What the search finds without a guard; the property that must break, and no other answer, counts."""
    return explore(
        removal.setup,
        removal.guards,
        breaks=removal.breaks,
        liveness=removal.breaks == "liveness",
        limit=PER_REMOVAL,
    )


def main(arguments: list[str]) -> int:
    """Print the tables; 0 only if everything holds and every removal is caught."""
    quick = "--quick" in arguments
    good, total = True, 0
    print(
        "| configuration | states | operate calls | longest shortest way | holds | seconds |\n|---|--:|--:|--:|---|--:|"
    )
    for case in CASES:
        if quick and not case.quick:
            continue
        began = time.monotonic()
        found = prove(case)
        holds = found.complete and not found.violation
        good = good and holds
        total += found.states
        verdict = "S1–S4, Done, release" if holds else found.violation or "too many states"
        took = time.monotonic() - began
        print(
            f"| {case.name} | {found.states:,} | {found.calls:,} | {found.depth} | {verdict} | {took:.0f} |",
            flush=True,
        )
        for line in found.trace:
            print(f"    {line}")
    print(f"| **{total:,} states** | | | | | |")
    print("\n| guard removed | must break | found | in steps | states |\n|---|---|---|--:|--:|")
    for removal in REMOVALS:
        found = caught(removal)
        good = good and found.violation.startswith(removal.breaks)
        print(
            f"| {removal.guard} | {removal.breaks} | {found.violation or 'NOT CAUGHT'} | {len(found.trace) - 1} | {found.states:,} |"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
