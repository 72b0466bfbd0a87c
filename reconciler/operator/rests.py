"""What was refused is not asked again at once: a rest for that one action, so that nothing else waits for it (S9)."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from reconciler.core.actions import (
    Action,
    EvictPod,
    Outcome,
    RenewLease,
    ScanNodes,
    TakeLease,
    Verb,
    WriteNode,
)

FIRST_S = 0.5
LIMITS_S = {Verb.REFUSED: 10.0, Verb.UNKNOWN: 5.0}  # a server that did not answer may be back any moment
FORGET_S = 3600.0
CAUSE = "Resting"


@dataclass(slots=True)
class _Rest:
    until: float
    times: int
    message: str


class Rests:
    """Actions that wait. Leadership never rests, and evictions only where there was no answer: core paces those."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._rests: dict[Hashable, _Rest] = {}

    def instead(self, action: Action) -> Outcome | None:
        """The outcome of an action that rests, None if it may be sent."""
        rest = self._rests.get(subject(action))
        if rest is None or self._monotonic() >= rest.until:
            return None
        return Outcome(verb=Verb.REFUSED, cause=CAUSE, message=f"not tried again yet: {rest.message}")

    def note(self, action: Action, outcome: Outcome) -> None:
        """Remember what was refused; forget it once it was not."""
        key = subject(action)
        limit_s = LIMITS_S.get(outcome.verb)
        exempt = isinstance(action, EvictPod) and outcome.verb is Verb.REFUSED
        if key is None or limit_s is None or exempt:
            self._rests.pop(key, None)
            return
        self._forget()
        times = self._rests[key].times + 1 if key in self._rests else 1
        rest_s = min(FIRST_S * 2 ** min(times - 1, 10), limit_s)
        self._rests[key] = _Rest(until=self._monotonic() + rest_s, times=times, message=outcome.message)

    def _forget(self) -> None:
        """What has not been tried again for an hour is no longer wanted."""
        oldest = self._monotonic() - FORGET_S
        self._rests = {key: rest for key, rest in self._rests.items() if rest.until > oldest}


def subject(action: Action) -> Hashable:
    """What an action is about; None for what never rests."""
    match action:
        case TakeLease() | RenewLease() | ScanNodes():
            return None
        case WriteNode():
            return (WriteNode, action.node, action.step)
    names = (getattr(action, name, "") for name in ("node", "namespace", "name", "policy"))
    return (type(action), *names)
