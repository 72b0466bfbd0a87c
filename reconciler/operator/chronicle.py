"""Tells what was done: a log line for each act, metrics, and Events about nodes and policies."""

import logging
from collections.abc import Callable
from typing import Any

from reconciler.adapters.metrics import Metrics
from reconciler.core.actions import (
    Action,
    ApplyKeeper,
    CreatePod,
    DeletePod,
    EvictPod,
    Outcome,
    RenewLease,
    ScanNodes,
    Step,
    TakeLease,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.world import NodeView, PolicyView
from reconciler.operator.events import Note, Subject
from reconciler.operator.rests import CAUSE as RESTING
from reconciler.operator.writes import CAUSE_BUDGET
from schema.names import ANNOTATION_PLAN, DRIVER_API_VERSION, LABEL_WAVE, POLICY_KIND
from schema.transaction import History, Result

log = logging.getLogger("ttfleet.operator")

#: steps that people look for at the node, and the Event's reason
STEP_EVENTS = {Step.CORDON: "Cordoned", Step.RELEASE: "Released", Step.REARM: "Rebooted"}


class Chronicle:
    """Hears every act and its outcome."""

    def __init__(
        self,
        metrics: Metrics,
        note: Callable[[Note], None],
        node: Callable[[str], NodeView | None],
        policy: Callable[[str], PolicyView | None],
    ) -> None:
        self._metrics = metrics
        self._note = note
        self._node = node
        self._policy = policy

    def heard(self, action: Action, outcome: Outcome) -> None:
        self._metrics.acted(action, outcome)
        log.log(
            level(action, outcome), "%s", described(action), extra={"fields": self._fields(action, outcome)}
        )
        self._events(action, outcome)

    def _fields(self, action: Action, outcome: Outcome) -> dict[str, Any]:
        cr = getattr(action, "cr", "") or getattr(action, "policy", "")
        policy = self._policy(cr) if cr else None
        fields = {
            "node": getattr(action, "node", ""),
            "cr": cr,
            "plan": policy.annotations.get(ANNOTATION_PLAN, "") if policy else "",
            "wave": policy.labels.get(LABEL_WAVE, "") if policy else "",
            "phase": phase(action),
            "reason": getattr(action, "reason", ""),
            "outcome": str(outcome.verb),
            "code": outcome.code if outcome.verb is not Verb.DONE else 0,
            "cause": outcome.cause,
            "message": outcome.message,
        }
        return {key: value for key, value in fields.items() if value}

    def _events(self, action: Action, outcome: Outcome) -> None:
        match action:
            case WriteNode() if outcome.verb is Verb.DONE and action.step in STEP_EVENTS:
                self._node_event(action)
            case EvictPod() if outcome.verb is Verb.REFUSED and outcome.cause != RESTING:
                if subject := self._node_subject(action.node):
                    message = f"{action.namespace}/{action.name} cannot be evicted: {outcome.message}"
                    self._note(Note(subject, outcome.cause or "EvictionRefused", message, warning=True))
            case _:
                pass

    def _node_event(self, action: WriteNode) -> None:
        words, failed = _ending(action)
        if subject := self._node_subject(action.node):
            message = f"for ttdp {action.cr}{words}"
            self._note(Note(subject, STEP_EVENTS[action.step], message, warning=failed))
        policy = self._policy(action.cr)
        if policy is not None and action.step is Step.RELEASE:
            about = Subject(DRIVER_API_VERSION, POLICY_KIND, policy.name, policy.uid)
            self._note(Note(about, "NodeReleased", f"{action.node}{words}", warning=failed))

    def _node_subject(self, name: str) -> Subject | None:
        node = self._node(name)
        return Subject("v1", "Node", name, node.uid) if node else None


def _ending(action: WriteNode) -> tuple[str, bool]:
    """How the attempt ended, as history now says it; and whether that is a failure."""
    latest = action.history.latest if isinstance(action.history, History) else None
    if latest is None:
        return (f": {action.reason}" if action.reason else "", False)
    outage = f", {latest.outage_s:.1f} s without a module" if latest.outage_s is not None else ""
    reason = f" ({latest.reason})" if latest.reason else ""
    return f": {latest.to}: {latest.result}{reason}{outage}", latest.result is not Result.OK


def level(action: Action, outcome: Outcome) -> int:
    """Renewals, dry runs and statuses are routine; what went wrong is a warning; a conflict only costs a look.

    A PodDisruptionBudget that makes an eviction wait does what it is for.
    """
    if outcome.verb in {Verb.REFUSED, Verb.UNKNOWN}:
        if outcome.cause == RESTING or (isinstance(action, EvictPod) and action.dry_run):
            return logging.DEBUG
        return logging.INFO if outcome.cause == CAUSE_BUDGET else logging.WARNING
    if outcome.verb is Verb.CONFLICT or isinstance(action, RenewLease | WriteStatus | ScanNodes):
        return logging.DEBUG
    return logging.DEBUG if isinstance(action, EvictPod) and action.dry_run else logging.INFO


def phase(action: Action) -> str:
    match action:
        case WriteNode():
            return str(action.step)
        case EvictPod():
            return f"evict-pass{action.drain_pass}"
        case CreatePod():
            return str(action.role)
        case DeletePod():
            return "delete"
        case ApplyKeeper():
            return "keeper"
        case WriteStatus():
            return "status"
        case TakeLease() | RenewLease() | ScanNodes():
            return "lease"


def described(action: Action) -> str:
    """A few words for people; the fields say the rest."""
    match action:
        case WriteNode():
            return str(action.step)
        case EvictPod():
            return f"{'would evict' if action.dry_run else 'evict'} {action.namespace}/{action.name}"
        case CreatePod():
            return f"create {action.name}"
        case DeletePod():
            return f"delete {action.namespace}/{action.name}"
        case ApplyKeeper():
            return "apply DaemonSet"
        case WriteStatus():
            return f"status of {action.policy}"
        case TakeLease():
            return "take the Lease"
        case RenewLease():
            return "renew the Lease"
        case ScanNodes():
            return "list nodes after the take-over"
