"""Search: every reachable state of a configuration, breadth first, and from each one a way to release.

Liveness asks from every state found: can one operator, without any further strike of the adversary, bring it to a state
without records and without cordons of ours? It follows one fair schedule (allowing one more take-over and pod start).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.actions import Step as Row
from reconciler.core.world import CordonOwner
from reconciler.simulation.minds import Write
from reconciler.simulation.model import Setup, State, Violation
from reconciler.simulation.numbered import NOTHING
from reconciler.simulation.removed import ALL, Guards
from reconciler.simulation.space import FIRST_NODE, LEFT, OPS, WIRE, Space

FAIR_STEPS = 400  # more than any fair way to release needs
REPORT_EVERY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found. `violation` is empty when every property holds; `trace` is the shortest way to it."""

    states: int
    calls: int  # of the product's operate
    depth: int
    complete: bool
    violation: str = ""
    trace: tuple[str, ...] = ()


def explore(
    setup: Setup,
    guards: Guards = ALL,
    *,
    breaks: str = "",
    liveness: bool = True,
    limit: int = 10_000_000,
    report: Callable[[int, int], None] | None = None,
) -> Found:
    """Visit every state; stop at the first violation of safety or liveness.

    Args:
        setup: what there is and how often the adversary may strike.
        guards: all of them, or all but one.
        breaks: look for this property only and go on after any other violation.
        liveness: ask for a way to release, too.
        limit: states after which the search gives up (`complete` is then False).
        report: called with (states, depth) now and then.
    """
    space = Space(setup, guards)
    start = space.start()
    seen = {start}
    good: set[State] = set()
    frontier = deque([(start, 0)])
    depth, due = 0, REPORT_EVERY
    while frontier:
        state, depth = frontier.popleft()
        try:
            if liveness:
                _release(space, state, good)
            for _, after in space.successors(state):
                if after not in seen:
                    seen.add(after)
                    frontier.append((after, depth + 1))
        except Violation as violation:
            if not str(violation).startswith(breaks):
                continue
            return Found(
                states=len(seen),
                calls=space.mind.calls,
                depth=depth,
                complete=False,
                violation=str(violation),
                trace=_trace(setup, guards, state, violation, liveness=liveness),
            )
        if report and len(seen) >= due:
            report(len(seen), depth)
            due += REPORT_EVERY
        if len(seen) > limit:
            return Found(states=len(seen), calls=space.mind.calls, depth=depth, complete=False)
    return Found(states=len(seen), calls=space.mind.calls, depth=depth, complete=True)


def _release(space: Space, state: State, good: set[State]) -> None:
    """Follow the fair schedule to a released state, or to one that is known to lead there."""
    way: dict[State, None] = {}
    at = state
    while at not in good and not _released(space, at):
        if at in way or len(way) > FAIR_STEPS:
            raise Violation("liveness: no way to release")
        way[at] = None
        at = _fair(space, at)
    good.update(way)
    good.add(at)


def _released(space: Space, state: State) -> bool:
    nodes = (space.nodes.values[i] for i in state[FIRST_NODE::3])
    return state[WIRE] == NOTHING and all(
        node.record is None and node.cordon is not CordonOwner.OURS for node in nodes
    )


def _fair(space: Space, s: State) -> State:
    """One step in which everybody does their duty, the machines before the operator; raises if there is none."""
    if s[WIRE] != NOTHING:
        return (*s[:WIRE], NOTHING, *s[WIRE + 1 :])
    for n in range(space.setup.nodes):
        at = FIRST_NODE + 3 * n
        for step in space.steps(s[at], s[at + 1], s[at + 2]):
            if not step.limit:
                return space.moved(s, n, step, s[LEFT])
    for index in (1, 0):
        for wanting in (True, False):
            after = _duty(space, s, index, acting=wanting)
            if after is not None and after != s:
                return after
    raise Violation("liveness: nobody has anything to do and a record stays")


def _duty(space: Space, s: State, index: int, *, acting: bool) -> State | None:
    """What an operator does next; it starts nothing new."""
    op = term, todo, view = space.ops.values[s[OPS + index]]
    if todo and acting:
        (deed, valid), rest = todo[0], todo[1:]
        return space.act(s, index, (term, rest, view), deed, valid)
    if todo or acting:
        return None
    if view and view != s[FIRST_NODE::3]:
        return space.with_op(s, index, (term, todo, s[FIRST_NODE::3]))
    for choice in reversed(space.decisions(s, op)):
        kept = tuple((deed, valid) for deed, valid in choice if not _starts(space, deed))
        if kept:
            return space.with_op(s, index, (term, kept, view))
    return None


def _starts(space: Space, deed: int) -> bool:
    does = space.deeds.values[deed].does
    return isinstance(does, Write) and does.step is Row.RESERVE


def _trace(
    setup: Setup, guards: Guards, end: State, violation: Violation, *, liveness: bool
) -> tuple[str, ...]:
    """The same search again, this time with the way back."""
    space = Space(setup, guards)
    start = space.start()
    came: dict[State, tuple[State, tuple[object, ...]] | None] = {start: None}
    frontier = deque([start])
    good: set[State] = set()
    while frontier:
        state = frontier.popleft()
        if state == end:
            break
        try:
            if liveness:
                _release(space, state, good)  # numbers values in the same order as the search did
            for label, after in space.successors(state):
                if after not in came:
                    came[after] = (state, label)
                    frontier.append(after)
        except Violation:
            continue  # another property than the one that was looked for
    labels: list[str] = [str(violation)]
    step = came[end]
    while step is not None:
        labels.append(_words(space, step[1]))
        step = came[step[0]]
    return tuple(reversed(labels))


def _words(space: Space, label: tuple[object, ...]) -> str:
    """One step of a trace, for people."""
    match label:
        case ("decides", int(), int(), tuple(todo)):
            return "an operator decides: " + ", ".join(_deed(space, deed, valid) for deed, valid in todo)
        case (str(verb), int(), int(deed), bool(valid)):
            return f"it {verb}: {_deed(space, deed, valid)}"
        case (str(verb), int(), int(deed)):
            return f"it {verb}: {_deed(space, deed, valid=True)}"
        case (str(verb), int(place)):
            return f"node {place}: {verb}" if verb != "crash" else "an operator crashes"
    return " ".join(str(part) for part in label)


def _deed(space: Space, deed: int, valid: bool) -> str:
    what = space.deeds.values[deed]
    if isinstance(what.does, Write):
        name = f"{what.does.step} node {what.node}"
    else:
        name = (
            what.does
            if isinstance(what.does, str)
            else f"create worker {what.does.attempt} of node {what.node}"
        )
    return name if valid else f"{name} (stale)"
