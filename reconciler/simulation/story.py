"""Story: what happens in a simulation, one line an event, for people and for golden traces."""

from dataclasses import dataclass, field

from reconciler.core.actions import Step
from reconciler.core.world import CordonOwner, PodRole, PodView
from reconciler.simulation.machines import Machine, Run
from reconciler.simulation.server import OPERATOR, Change, Server
from schema.transaction import Attempt, ClaimState, Result


@dataclass(frozen=True, slots=True)
class Event:
    """At `time` (POSIX seconds) something happened on a node, or ("") to the whole."""

    time: float
    node: str
    who: str
    text: str

    def line(self, start: float) -> str:
        return f"{self.time - start:8.1f}s  {self.node:<8} {self.who:<9} {self.text}".rstrip()


@dataclass(slots=True)
class Story:
    """Listens to a server and its machines."""

    server: Server
    events: list[Event] = field(default_factory=list)
    start: float = 0.0

    def listen(self) -> None:
        self.start = self.server.agenda.now
        self.server.changed.append(self._changed)
        self.server.started.append(self._started)
        self.server.evicted.append(lambda pod, why: self.say(pod.node, OPERATOR, f"{why} {pod.name}"))

    def follow(self, machine: Machine) -> None:
        machine.unloading.append(self._unloading)

    def say(self, node: str, who: str, text: str) -> None:
        self.events.append(Event(self.server.agenda.now, node, who, text))

    def lines(self) -> list[str]:
        return [event.line(self.start) for event in self.events]

    def _started(self, pod: PodView) -> None:
        self.say(
            pod.node, OPERATOR, f"creates {'worker' if pod.role is PodRole.SWAP else 'stage'} pod {pod.name}"
        )

    def _unloading(self, machine: Machine, _: Run) -> None:
        self.say(
            machine.name, "builder", f"unloads {machine.loaded.version if machine.loaded else 'nothing'}"
        )

    def _changed(self, change: Change) -> None:
        if text := describe(change):
            self.say(change.after.name, change.who, text)


def describe(change: Change) -> str:
    """One write of a Node in words; "" where nothing of interest changed."""
    before, after = change.before, change.after
    if change.step is not None:
        return _operator(change, change.step)
    if before.claim != after.claim and after.claim is not None:
        claim = after.claim
        return "claims" if claim.state is ClaimState.BEGUN else f"done: {claim.result}{_why(claim.reason)}"
    if before.cordon is not after.cordon:
        return "uncordons" if after.cordon is CordonOwner.NOBODY else "cordons"
    if before.ready is not after.ready:
        return f"is {'Ready' if after.ready else 'NotReady'}"
    if before.facts != after.facts and after.facts is not None:
        loaded = after.facts.loaded
        return (
            f"reports {loaded.version if loaded else 'no module'}"
            if _module(before) != _module(after)
            else ""
        )
    return ""


def _module(node: object) -> str | None:
    facts = getattr(node, "facts", None)
    return facts.loaded.version if facts and facts.loaded else None


def _operator(change: Change, step: Step) -> str:
    after = change.after
    match step:
        case Step.RESERVE:
            record = after.record
            assert record is not None
            return f"reserves for {record.from_.version if record.from_ else 'none'} → {record.to.version}"
        case Step.CORDON:
            return "cordons"
        case Step.PERMIT:
            return "permits"
        case Step.REARM:
            return "goes back to Cordoned: rebooted under the claim"
        case Step.NOTE:
            return f"notes a failure{_latest(after.history.latest)}"
        case Step.RELEASE:
            return _release(change)


def _release(change: Change) -> str:
    before, after = change.before, change.after
    kept = "" if not after.unschedulable else ", leaves it cordoned"
    if before.record is None:
        return f"sweeps a cordon of ours{kept}"
    if before.history.latest == after.history.latest:
        return f"releases{_why(change.reason)}{kept}"
    return f"releases{_latest(after.history.latest)}{kept}"


def _latest(latest: Attempt | None) -> str:
    if latest is None:
        return ""
    if latest.result is Result.OK:
        return f": at {latest.to.version}"
    return f": {latest.result} ({latest.reason}, attempt {latest.attempts})"


def _why(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
