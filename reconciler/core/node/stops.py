"""Stops: everything that keeps work from starting. A stop never keeps a transaction from being released (S7)."""

from dataclasses import dataclass

from reconciler.core.node.assignment import Assignment
from reconciler.core.world import NodeView, World
from schema.names import (
    ANNOTATION_FIRMWARE_CORDON,
    ANNOTATION_HOLD,
    LABEL_FIRMWARE_STATE,
    LABEL_SKIP,
)
from schema.states import NodeState, Reason

_FIRMWARE_AT_REST = frozenset({"", "done", "idle", "upgrade-done"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why nothing starts on a node, and the state it is shown in."""

    state: NodeState
    reason: Reason
    message: str = ""


def stop(world: World, node: NodeView, assignment: Assignment) -> Stop | None:
    """The first stop that applies, widest first; a closed wave is not one of them (`waiting` may install)."""
    if world.settings.observe:
        return Stop(state=NodeState.HELD, reason=Reason.OBSERVE)
    if world.held:
        return Stop(state=NodeState.HELD, reason=Reason.HELD, message=world.held)
    if world.halted:
        return Stop(state=NodeState.BLOCKED, reason=Reason.STATE_ROLLED_BACK, message=world.halted)
    return _policy_stop(assignment) or node_stop(node)


def _policy_stop(assignment: Assignment) -> Stop | None:
    for policy in assignment.policies:
        if policy.spec.paused:
            return Stop(state=NodeState.HELD, reason=Reason.POLICY_PAUSED, message=f"ttdp {policy.name}")
        if ANNOTATION_HOLD in policy.annotations:
            hold = policy.annotations[ANNOTATION_HOLD]
            return Stop(state=NodeState.HELD, reason=Reason.HELD, message=f"ttdp {policy.name}: {hold}")
        if policy.spec.unmanage:
            message = "unmanage comes with a later version"
            return Stop(state=NodeState.BLOCKED, reason=Reason.NOT_SUPPORTED, message=message)
    return None


def node_stop(node: NodeView) -> Stop | None:
    """What the node itself carries: skip, hold, a firmware flash."""
    if LABEL_SKIP in node.labels:
        return Stop(state=NodeState.SKIPPED, reason=Reason.SKIP_LABEL)
    if ANNOTATION_HOLD in node.annotations:
        return Stop(state=NodeState.HELD, reason=Reason.HELD, message=node.annotations[ANNOTATION_HOLD])
    if firmware_owns(node):
        return Stop(state=NodeState.BLOCKED, reason=Reason.FIRMWARE_UPGRADE)
    return None


def firmware_owns(node: NodeView) -> bool:
    """Upstream's firmware policies mark a node that they flash."""
    state = node.labels.get(LABEL_FIRMWARE_STATE, "").lower()
    return ANNOTATION_FIRMWARE_CORDON in node.annotations or state not in _FIRMWARE_AT_REST
