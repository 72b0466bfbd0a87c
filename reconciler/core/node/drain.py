"""Drain: level-triggered, in two passes through the eviction API; who can be moved, who cannot, who is left.

Pass 1 evicts pods that hold the device, pass 2 (`fullNode`) the rest of the node. Done = none of those pods is left on
the node; that the refcount is 0 is the builder's check (row 7). Never evicted: DaemonSet pods, static pods, finished
pods, our own, bare pods unless `force`, pods with an emptyDir unless `deleteEmptyDir`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.actions import EvictPod
from reconciler.core.world import Answer, PodRole, PodView
from schema.policy import Drain
from schema.states import Reason

EVICT_AGAIN_S = 5.0  # a refused or unanswered eviction is asked again
DRY_RUN_VALID_S = 30.0  # how long an allowed dry run opens the door to a reservation
PREFLIGHT_AGAIN_S = 15.0  # a refused dry run is asked again, each time twice as late
PREFLIGHT_DOUBLINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a node cannot be drained, in words that name the pod."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a draining node.

    Attributes:
        drained: nobody is left who had to go.
        evictions: to be asked now.
        waiting: whom the drain waits for, and why, if a time-out came now.
        trouble: what no waiting will mend.
    """

    drained: bool
    evictions: tuple[EvictPod, ...] = ()
    waiting: Trouble | None = None
    trouble: Trouble | None = None


def holders(pods: Iterable[PodView]) -> list[PodView]:
    """Workload pods that use the device and have not ended."""
    return [pod for pod in pods if pod.role is PodRole.WORKLOAD and pod.uses_device and not pod.finished]


def movable(pod: PodView, drain: Drain) -> bool:
    """The eviction API may move this pod."""
    if pod.role is not PodRole.WORKLOAD or pod.finished or pod.daemonset or pod.mirror:
        return False
    return (bool(pod.owner) or drain.force) and (drain.delete_empty_dir or not pod.empty_dir)


def undrainable(pods: Iterable[PodView], drain: Drain) -> Trouble | None:
    """A holder that neither an eviction nor a gate takes away: nothing must start on this node."""
    for pod in holders(pods):
        leaves = movable(pod, drain) or (pod.daemonset and pod.gated) or pod.terminating
        waits = (
            not drain.enable and not pod.daemonset and not pod.mirror
        )  # with drain off, people end their pods
        if not leaves and not waits:
            return Trouble(reason=Reason.UNDRAINABLE_HOLDER, message=f"{_named(pod)} holds the device")
    return None


def passes(pods: Iterable[PodView], drain: Drain) -> tuple[list[PodView], list[PodView]]:
    """The pods to evict: device holders first, then (fullNode) the others, narrowed by podSelectorLabel."""
    if not drain.enable:
        return [], []
    able = [pod for pod in pods if movable(pod, drain)]
    first = [pod for pod in able if pod.uses_device]
    rest = [pod for pod in able if not pod.uses_device and _selected(pod, drain.pod_selector_label)]
    return first, rest if drain.full_node else []


def progress(
    cr: str,
    pods: Iterable[PodView],
    drain: Drain,
    answers: Mapping[str, Answer],
    *,
    cordoned_at: float,
    now: float,
) -> Look:
    """What to ask now on a cordoned node, and whether it is drained."""
    pods = tuple(pods)
    first, second = passes(pods, drain)
    left = [*holders(pods), *second]
    if not left:
        return Look(drained=True)
    turn, number = (first, 1) if holders(pods) else (second, 2)
    trouble = undrainable(pods, drain) or _refused_for_ever(turn, answers, cordoned_at)
    if trouble:
        return Look(drained=False, trouble=trouble)
    due = [pod for pod in turn if not pod.terminating and _due(answers.get(pod.uid), now)]
    evictions = tuple(
        _evict(cr, pod, number, dry_run=False, late=pod.started_at > cordoned_at + 1) for pod in due
    )
    return Look(drained=False, evictions=evictions, waiting=_waiting(left, answers))


def preflight(
    cr: str, pods: Iterable[PodView], drain: Drain, answers: Mapping[str, Answer], now: float
) -> Look:
    """Before any reservation: would every eviction be allowed? Asked by dry runs, which consume nothing.

    Returns:
        drained: every pod may go; evictions: dry runs still to be asked; trouble: one was refused.
    """
    pods = tuple(pods)
    if trouble := undrainable(pods, drain):
        return Look(drained=False, trouble=trouble)
    first, second = passes(pods, drain)
    asks = []
    trouble = None
    for number, turn in ((1, first), (2, second)):
        for pod in (pod for pod in turn if not pod.terminating):
            answer = answers.get(pod.uid)
            age = now - answer.at if answer else float("inf")
            if answer and not answer.allowed and age < _again_s(answer):
                trouble = trouble or _refusal(pod, answer)
            elif not answer or not answer.allowed or age >= DRY_RUN_VALID_S:
                asks.append(_evict(cr, pod, number, dry_run=True, late=False))
    return Look(drained=not asks and trouble is None, evictions=tuple(asks), trouble=trouble)


def _evict(cr: str, pod: PodView, number: int, *, dry_run: bool, late: bool) -> EvictPod:
    return EvictPod(
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.uid,
        node=pod.node,
        cr=cr,
        drain_pass=number,
        dry_run=dry_run,
        owner=pod.owner,
        late=late,
    )


def _refused_for_ever(
    turn: list[PodView], answers: Mapping[str, Answer], cordoned_at: float
) -> Trouble | None:
    relanded = {(a.node, a.owner) for a in answers.values() if a.late and a.allowed and a.owner}
    for pod in turn:
        answer = answers.get(pod.uid)
        if answer and answer.cause == "Misconfigured" and answer.at >= cordoned_at:
            return _refusal(pod, answer)
        if answer is None and (pod.node, pod.owner) in relanded and pod.started_at > cordoned_at + 1:
            return Trouble(
                reason=Reason.POD_RELANDED, message=f"{_named(pod)} came back to the cordoned node"
            )
    return None


def _refusal(pod: PodView, answer: Answer) -> Trouble:
    reason = Reason.PDB_MISCONFIGURED if answer.cause == "Misconfigured" else Reason.PDB_BLOCKED
    return Trouble(reason=reason, message=f"{_named(pod)}: {answer.message or 'eviction refused'}")


def _waiting(left: list[PodView], answers: Mapping[str, Answer]) -> Trouble:
    for pod in left:
        answer = answers.get(pod.uid)
        if answer and not answer.allowed and answer.cause == "DisruptionBudget":
            return _refusal(pod, answer)
    return Trouble(
        reason=Reason.DRAIN_TIMEOUT, message=f"waiting for {len(left)} pods, first {_named(left[0])}"
    )


def _again_s(answer: Answer) -> float:
    """Seconds until a refused dry run is asked again."""
    doubled: float = PREFLIGHT_AGAIN_S * 2.0 ** min(answer.refusals - 1, PREFLIGHT_DOUBLINGS)
    return doubled


def _due(answer: Answer | None, now: float) -> bool:
    return answer is None or answer.dry_run or now - answer.at >= EVICT_AGAIN_S


def _selected(pod: PodView, label: str) -> bool:
    key, equals, value = label.partition("=")
    return not label or (pod.labels.get(key) == value if equals else key in pod.labels)


def _named(pod: PodView) -> str:
    return f"{pod.namespace}/{pod.name}"
