"""Status of a ttdp: counts, conditions and nodes, as upstream's readers know them; written only when it changed."""

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.actions import NodeReport, WriteStatus
from reconciler.core.node.scene import Scene
from reconciler.core.world import PolicyView
from schema.clock import format_rfc3339
from schema.names import ANNOTATION_HOLD, KEEPER_DAEMONSET
from schema.states import IN_PROGRESS, NodeState

NODES_LIMIT = 200  # of status.nodes[]; those that are not Done come first (H17)
_FAILED = frozenset({NodeState.FAILED, NodeState.UNLOAD_FAILED})
_MESSAGE_LIMIT = 4096
_AT_REST = frozenset({NodeState.DONE, NodeState.HOST_MANAGED, NodeState.SKIPPED})


def statuses(scene: Scene, reports: Iterable[NodeReport]) -> tuple[WriteStatus, ...]:
    """One write for each ttdp whose served status differs."""
    by_cr: dict[str, list[NodeReport]] = {}
    for report in reports:
        by_cr.setdefault(report.cr, []).append(report)
    found = []
    for policy in sorted(scene.world.policies.values(), key=lambda policy: policy.name):
        if policy.deleting:
            continue
        status = status_of(scene, policy, by_cr.get(policy.name, []))
        if status != policy.status:
            found.append(
                WriteStatus(policy=policy.name, resource_version=policy.resource_version, status=status)
            )
    return tuple(found)


def status_of(scene: Scene, policy: PolicyView, reports: list[NodeReport]) -> dict[str, Any]:
    """The whole status; times of what did not change are kept from the served one."""
    served = policy.status
    at = format_rfc3339(scene.now)
    conditions, nodes = _by(served.get("conditions"), "type"), _by(served.get("nodes"), "name")
    summary = _summary(scene, reports)
    return {
        "observedGeneration": policy.generation,
        "phase": "",
        "desiredVersion": policy.spec.version,
        "ready": f"{summary['ready']}/{summary['matched']}",
        "daemonSet": KEEPER_DAEMONSET,
        "summary": summary,
        "conditions": [
            _kept(conditions.get(condition["type"]), condition, ("status",), at)
            | {"observedGeneration": policy.generation}
            for condition in (_ready(policy, summary), _progressing(policy, reports))
        ],
        "nodes": [
            _kept(nodes.get(report.node), _node(report), ("state",), at)
            for report in sorted(reports, key=lambda r: (r.state in _AT_REST, r.node))[:NODES_LIMIT]
        ],
    }


def _summary(scene: Scene, reports: list[NodeReport]) -> dict[str, int]:
    states = [report.state for report in reports]
    nodes = [scene.world.nodes[report.node] for report in reports]
    done = sum(1 for state in states if state == NodeState.DONE)
    managed = sum(1 for state in states if state not in {NodeState.HOST_MANAGED, NodeState.SKIPPED})
    return {
        "matched": len(states),
        "desired": managed,
        "ready": done,
        "available": sum(1 for node in nodes if node.ready and not node.unschedulable),
        "failed": sum(1 for state in states if state in _FAILED),
        "blocked": sum(1 for state in states if state == NodeState.BLOCKED),
        "waiting": sum(1 for state in states if state == NodeState.WAITING),
        "upToDate": done,
        "inProgress": sum(1 for state in states if state in IN_PROGRESS),
    }


def _ready(policy: PolicyView, summary: Mapping[str, int]) -> dict[str, str]:
    if policy.spec_fault:
        return _condition("Ready", "False", "Installing", policy.spec_fault)
    if policy.spec.paused:
        return _condition("Ready", "False", "Paused", "spec.paused is true")
    if summary["matched"] == 0:
        return _condition("Ready", "False", "NoMatchingNodes", "no node with a card matches")
    ready, desired = summary["ready"], summary["desired"]
    if ready == desired:
        return _condition("Ready", "True", "AllReady", f"{ready} of {desired} nodes run the version")
    return _condition("Ready", "False", "Installing", f"{ready} of {desired} nodes run the version")


def _progressing(policy: PolicyView, reports: list[NodeReport]) -> dict[str, str]:
    if policy.spec.paused:
        return _condition("Progressing", "False", "Paused", "spec.paused is true")
    if ANNOTATION_HOLD in policy.annotations:
        return _condition("Progressing", "False", "Halted", policy.annotations[ANNOTATION_HOLD])
    busy = [report for report in reports if report.state in IN_PROGRESS or report.state == NodeState.STAGING]
    if busy:
        return _condition("Progressing", "True", "Rolling", f"{len(busy)} nodes are being worked on")
    failed = [report for report in reports if report.state == NodeState.FAILED]
    if failed:
        return _condition(
            "Progressing", "False", "Halted", f"{len(failed)} nodes failed, first {failed[0].node}"
        )
    return _condition("Progressing", "False", "Idle", "nothing to do")


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _node(report: NodeReport) -> dict[str, str]:
    pairs = {
        "name": report.node,
        "state": report.state,
        "reason": report.reason,
        "currentVersion": report.current_version,
        "message": report.message[:_MESSAGE_LIMIT],
    }
    return {key: value for key, value in pairs.items() if value or key in {"name", "state"}}


def _by(served: object, key: str) -> dict[object, Mapping[str, Any]]:
    """Served entries by what names them; of two with one name the first counts."""
    entries = served if isinstance(served, list | tuple) else ()
    return {entry.get(key): entry for entry in reversed(entries)}


def _kept(
    old: Mapping[str, Any] | None, entry: dict[str, str], same: tuple[str, ...], at: str
) -> dict[str, Any]:
    """The entry with the time of its last transition: the served one while the fields in `same` are unchanged."""
    if old is None or any(old.get(name, "") != entry.get(name, "") for name in same):
        return entry | {"lastTransitionTime": at}
    return entry | {"lastTransitionTime": old.get("lastTransitionTime", at)}
