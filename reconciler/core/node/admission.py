"""Admission: a node without a record. What keeps it from starting, and row 2 when nothing does."""

from collections.abc import Iterable
from dataclasses import replace

from reconciler.core.node import drain, retry, transaction
from reconciler.core.node.assignment import Assignment
from reconciler.core.node.budget import Slots, budgets_of
from reconciler.core.node.scene import Next, Scene
from reconciler.core.node.staging import Stagings, leftovers, stage
from reconciler.core.node.stops import node_stop, stop
from reconciler.core.node.targets import Change, change, current_facts, promoted, reached, removed, staged
from reconciler.core.world import NodeView, PodRole
from schema.facts import HostFacts, HostMode
from schema.names import ANNOTATION_CORDONED_BY
from schema.states import NodeState, Reason
from schema.target import Target, Vacate
from schema.transaction import Result


def look(scene: Scene, node: NodeView, stagings: Stagings) -> Next | None:
    """What a node without a record needs; None when no ttdp matches it and nothing of ours is left there."""
    assignment = scene.assignments.get(node.name)
    if node.faults:
        message = "; ".join(node.faults)
        return Next(state=NodeState.BLOCKED, reason=Reason.UNREADABLE_ANNOTATION, message=message)
    if _orphaned(node):
        return _swept(scene, node)
    if assignment is None:
        return None
    found = _standing(scene, node, assignment) or _towards(scene, node, assignment, stagings)
    if found.actions or not scene.world.term.leads:
        return found
    return replace(found, actions=leftovers(scene, node, assignment.target))


def _orphaned(node: NodeView) -> bool:
    """Our mark without a record: gates, and perhaps a cordon of ours, are left behind (S3)."""
    return node.annotations.get(ANNOTATION_CORDONED_BY, "").startswith("ttfleet/")


def _swept(scene: Scene, node: NodeView) -> Next:
    """What is left behind is removed; not under a worker whose record somebody took away: it ends first."""
    message = "our mark without a record"
    if node.ready and any(pod.role is PodRole.SWAP and not pod.finished for pod in scene.pods(node.name)):
        return Next(state=NodeState.UPGRADING, message=f"{message}, a worker is still there", wake_s=5.0)
    write = transaction.sweep(node, scene.world.settings)
    return Next(state=NodeState.UNCORDONING, message=message, actions=(write,))


def _standing(scene: Scene, node: NodeView, assignment: Assignment) -> Next | None:
    """States in which there is nothing to do, or nothing that may be done; None when the node wants a change."""
    if assignment.overlap:
        names = ", ".join(policy.name for policy in assignment.policies)
        return Next(state=NodeState.BLOCKED, reason=Reason.OVERLAP, message=names)
    facts = current_facts(node)
    if facts is None:
        return _unknown(scene, node)
    if facts.mode is HostMode.TRANSITIONING:
        message = f"{facts.open_verb or 'a verb'} is open on the host"
        return Next(state=NodeState.BLOCKED, reason=Reason.HOST_BUSY, message=message)
    if facts.mode is not HostMode.HOST and any(policy.spec.unmanage for policy in assignment.policies):
        message = "unmanage comes with a later version"
        return Next(state=NodeState.BLOCKED, reason=Reason.NOT_SUPPORTED, message=message)
    kind = change(facts, assignment.target)
    if kind is Change.NONE:
        return Next(state=NodeState.DONE)
    if kind is Change.HOST_MANAGED:
        return _host_managed(facts, assignment.target)
    if kind is Change.RESTORE or (kind is Change.VACATE and assignment.target.vacate is not Vacate.ONCE):
        return Next(
            state=NodeState.BLOCKED, reason=Reason.NOT_SUPPORTED, message=f"{kind} comes with a later version"
        )
    if kind is Change.VACATE:
        reason = Reason.DKMS_RETURNED if facts.vacated else Reason.NOT_SUPPORTED
        return Next(state=NodeState.BLOCKED, reason=reason, message="vacate comes with a later version")
    if halt := stop(scene.world, node, assignment):
        return Next(state=halt.state, reason=halt.reason, message=halt.message)
    return None


def _unknown(scene: Scene, node: NodeView) -> Next:
    """No facts of this boot: nothing is known, nothing starts."""
    if halt := node_stop(node):
        return Next(state=halt.state, reason=halt.reason, message=halt.message)
    return _absent(scene, node) or Next(state=NodeState.BLOCKED, reason=Reason.NO_FACTS)


def _absent(scene: Scene, node: NodeView) -> Next | None:
    if node.ready:
        return None
    left_s = node.ready_since + scene.world.settings.offline_after_s - scene.now
    state = NodeState.BLOCKED if left_s > 0 else NodeState.OFFLINE
    return Next(state=state, reason=Reason.NODE_NOT_READY, wake_s=left_s if left_s > 0 else float("inf"))


def _host_managed(facts: HostFacts, target: Target) -> Next:
    """S11: never a mutation. A version under `mode: host` is an expectation, which is reported."""
    loaded = facts.loaded.version if facts.loaded else "none"
    differs = target.version is not None and loaded != target.version
    message = f"loaded {loaded}, expected {target.version}" if differs else ""
    return Next(state=NodeState.HOST_MANAGED, reason=Reason.HOST_MANAGED_KMD, message=message)


def goal(facts: HostFacts, assignment: Assignment) -> Target | None:
    """What may be started now: under `waiting` only the promoted Target, on a machine without module and holders."""
    if not any(policy.spec.waiting for policy in assignment.policies):
        return assignment.target
    target = promoted(assignment.policy)
    return target if facts.loaded is None and target is not None and not reached(facts, target) else None


def _towards(scene: Scene, node: NodeView, assignment: Assignment, stagings: Stagings) -> Next:
    """The node wants a change and no stop applies: what is still missing before row 2."""
    facts = current_facts(node)
    assert facts is not None
    target = goal(facts, assignment)
    wanted = target or assignment.target
    if facts.problems:
        reason = next((known for known in Reason if known == facts.problems[0]), Reason.PREFLIGHT_FAILED)
        return Next(state=NodeState.BLOCKED, reason=reason, message=", ".join(facts.problems))
    if wanted.commit is None:
        return Next(
            state=NodeState.BLOCKED, reason=Reason.UNKNOWN_RELEASE, message=f"no pin for {wanted.version}"
        )
    if removed(facts, wanted) and not retry.retried(node):
        return Next(state=NodeState.BLOCKED, reason=Reason.MODULE_REMOVED)
    staging = None
    if staged(facts, wanted) is None:
        staging = _absent(scene, node) or stage(scene, node, assignment, wanted, stagings)
    if target is None:
        if staging and staging.state is NodeState.BLOCKED:
            return staging
        actions = staging.actions if staging else ()
        return Next(state=NodeState.WAITING, reason=Reason.WAVE_CLOSED, actions=actions)
    return staging or _failed_before(scene, node, target) or _closed(scene, node) or _ready(scene)


def _failed_before(scene: Scene, node: NodeView, target: Target) -> Next | None:
    """The latest attempt failed: its reason until the next one is due."""
    past = retry.failure(node, target)
    waits_s = retry.waits(past, scene.now)
    if past is None or waits_s <= 0:
        return None
    reason = next((known for known in Reason if known == past.reason), Reason.BACK_OFF)
    if past.result is Result.ROLLED_BACK:
        message = f"{reason}; the previous module is live"
        return Next(state=NodeState.FAILED, reason=Reason.ROLLED_BACK, message=message)
    if past.result is Result.REBOOT_REQUIRED:
        return Next(state=NodeState.FAILED, reason=Reason.REBOOT_REQUIRED, message=str(reason))
    message = f"attempt {past.attempts} failed, next not before {past.not_before}"
    return Next(state=NodeState.BLOCKED, reason=reason, message=message, wake_s=waits_s)


def _closed(scene: Scene, node: NodeView) -> Next | None:
    """Row 2's preconditions that lie outside: ready, schedulable."""
    if absent := _absent(scene, node):
        return absent
    if node.unschedulable:
        return Next(state=NodeState.BLOCKED, reason=Reason.EXTERNAL_CORDON)
    return None


def _ready(scene: Scene) -> Next:
    term = scene.world.term
    if not term.leads or not term.clean:
        return Next(state=NodeState.PENDING, reason=Reason.NOT_LEADER)
    return Next(state=NodeState.PENDING, reason=Reason.BUDGET, starts=True)


def admit(scene: Scene, waiting: Iterable[NodeView]) -> dict[str, Next]:
    """Row 2 for as many nodes as every budget has room for; a node whose preflight is open holds its place."""
    slots = Slots(scene.groups)
    found = {}
    own = scene.world.settings.own_node
    for node in sorted(waiting, key=lambda node: (node.name == own, _holds(node), node.name)):
        assignment = scene.assignments[node.name]
        names = tuple(b.group for p in assignment.policies for b in budgets_of(p.name, p.spec.budgets))
        if full := slots.taken(node.name, names):
            message = f"{len(full.unavailable)} of {full.limit} in {full.name} are unavailable"
            found[node.name] = Next(state=NodeState.PENDING, reason=Reason.BUDGET, message=message)
            continue
        found[node.name] = _preflight(scene, node, assignment)
        if found[node.name].state is not NodeState.BLOCKED:
            slots.take(node.name)
    return found


def _holds(node: NodeView) -> bool:
    """Machines without a module come first: nothing can be disturbed there."""
    return node.facts is None or node.facts.loaded is not None


def _preflight(scene: Scene, node: NodeView, assignment: Assignment) -> Next:
    """No reservation while a dry-run eviction is refused or something undrainable holds the device."""
    facts = current_facts(node)
    assert facts is not None
    target = goal(facts, assignment)
    assert target is not None
    seen = None
    if facts.loaded is not None:
        spec = assignment.policy.spec
        answers = scene.world.term.answers
        seen = drain.preflight(assignment.policy.name, scene.pods(node.name), spec.drain, answers, scene.now)
    if seen and seen.trouble:
        return Next(
            state=NodeState.BLOCKED,
            reason=seen.trouble.reason,
            message=seen.trouble.message,
            actions=seen.evictions,
            wake_s=drain.PREFLIGHT_AGAIN_S,
        )
    if seen and not seen.drained:
        return Next(
            state=NodeState.PENDING, message="asking who may be evicted", actions=seen.evictions, wake_s=5.0
        )
    write = transaction.reserve(node, assignment.policy, target, scene.now)
    return Next(state=NodeState.CORDONING, actions=(write,))
