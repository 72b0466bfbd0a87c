"""Staging: the target's module is built and verified on the node while work still runs. It takes no slot.

One bare pod a node and Target; the name makes it one. Its failures are remembered in the node's history (a NOTE) and
tried again after the back-off.
"""

import hashlib
from dataclasses import dataclass

from reconciler.core.actions import Action, CreatePod, DeletePod
from reconciler.core.node import retry, transaction
from reconciler.core.node.assignment import Assignment
from reconciler.core.node.scene import Next, Scene
from reconciler.core.node.targets import live
from reconciler.core.world import NodeView, PodRole, PodView
from schema.clock import seconds
from schema.names import ANNOTATION_PLAN, STAGE_POD_PREFIX
from schema.states import NodeState, Reason
from schema.target import Target
from schema.transaction import Result

FACTS_LAG_S = 60.0  # a stage that went well shows in the facts by then, or its cache has gone
STUCK_LIMIT_S = 300.0  # a pod that cannot start is deleted and made anew
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})


@dataclass(slots=True)
class Stagings:
    """How many more stage pods may run at once; counted down while one tick creates some."""

    left: int


def stage_pod_name(node: str, target: Target) -> str:
    """`ttstage-<node hash>-<target digest>`."""
    return f"{STAGE_POD_PREFIX}{hashlib.sha256(node.encode()).hexdigest()[:8]}-{target.digest}"


def running(scene: Scene) -> int:
    """Stage pods that have not ended, on all nodes."""
    pods = (pod for found in scene.world.pods.values() for pod in found)
    return sum(1 for pod in pods if pod.role is PodRole.STAGE and not pod.finished)


def stage(scene: Scene, node: NodeView, assignment: Assignment, target: Target, stagings: Stagings) -> Next:
    """The next step towards a staged Target; the caller knows that it is not staged."""
    pod = _pod(scene, node, target)
    if not scene.world.term.leads:
        return Next(state=NodeState.STAGING, reason=Reason.NOT_LEADER)
    if pod is None:
        return _create(scene, node, assignment, target, stagings)
    if not pod.finished:
        return _running(scene, pod)
    if pod.verdict is not None and pod.verdict.result is Result.OK:
        left_s = pod.finished_at + FACTS_LAG_S - scene.now
        actions = () if left_s > 0 else (_delete(pod, "staged, but the facts do not show it"),)
        return Next(
            state=NodeState.STAGING, message="staged, waiting for facts", actions=actions, wake_s=left_s
        )
    return _failed(scene, node, assignment, target, pod)


def _pod(scene: Scene, node: NodeView, target: Target) -> PodView | None:
    name = stage_pod_name(node.name, target)
    return next(
        (pod for pod in scene.pods(node.name) if pod.role is PodRole.STAGE and pod.name == name), None
    )


def _create(scene: Scene, node: NodeView, assignment: Assignment, target: Target, stagings: Stagings) -> Next:
    if stagings.left < 1:
        limit = scene.world.settings.max_staging
        return Next(state=NodeState.PENDING, message=f"{limit} nodes are staging already")
    stagings.left -= 1
    spec = assignment.policy.spec
    create = CreatePod(
        role=PodRole.STAGE,
        name=stage_pod_name(node.name, target),
        node=node.name,
        cr=assignment.policy.name,
        target=target,
        image=spec.image or scene.world.settings.image,
        image_pull_policy=spec.image_pull_policy,
    )
    return Next(state=NodeState.STAGING, actions=(create,))


def _running(scene: Scene, pod: PodView) -> Next:
    if not pod.stuck_reason:
        return Next(state=NodeState.STAGING)
    reason = Reason.BUILDER_IMAGE_PULL_FAILED if pod.stuck_reason in _IMAGE else Reason.BUILDER_CRASH_LOOP
    left_s = pod.started_at + STUCK_LIMIT_S - scene.now
    actions: tuple[Action, ...] = ()
    if left_s <= 0 and not pod.terminating:
        actions = (_delete(pod, pod.stuck_reason),)
    return Next(
        state=NodeState.BLOCKED,
        reason=reason,
        message=f"{pod.name}: {pod.stuck_reason}",
        actions=actions,
        wake_s=max(left_s, 5.0),
    )


def _failed(scene: Scene, node: NodeView, assignment: Assignment, target: Target, pod: PodView) -> Next:
    """Note the failure once; when its back-off is over (or a human says retry), make room for a new pod."""
    past = retry.failure(node, target)
    reason = (pod.verdict.reason if pod.verdict else None) or Reason.BUILDER_CRASH_LOOP
    message = pod.verdict.message if pod.verdict else f"{pod.name} ended without a verdict"
    shown = next((known for known in Reason if known == reason), Reason.BUILD_FAILED)
    latest = node.history.latest
    same = latest is not None and latest.result is not Result.OK and latest.to.same_module(target)
    if not same or latest is None or seconds(latest.at) < int(pod.finished_at):
        history = retry.failed(
            node,
            scene.world.settings,
            plan=assignment.policy.annotations.get(ANNOTATION_PLAN, ""),
            from_=live(node.facts),
            to=target,
            result=Result.FAILED,
            reason=reason,
            now=scene.now,
        )
        write = transaction.note(node, assignment.policy.name, history, reason)
        return Next(state=NodeState.BLOCKED, reason=shown, message=message, actions=(write,))
    waits_s = retry.waits(past, scene.now)
    if waits_s > 0:
        return Next(state=NodeState.BLOCKED, reason=shown, message=message, wake_s=waits_s)
    again = (_delete(pod, "tried again"),)
    return Next(state=NodeState.STAGING, reason=shown, message=message, actions=again)


def _delete(pod: PodView, reason: str) -> DeletePod:
    return DeletePod(namespace=pod.namespace, name=pod.name, uid=pod.uid, node=pod.node, reason=reason)


def leftovers(scene: Scene, node: NodeView, target: Target | None) -> tuple[DeletePod, ...]:
    """Stage and worker pods that a newer one of the same role has replaced; the last of each stays for its logs."""
    ours = [pod for pod in scene.pods(node.name) if pod.role in {PodRole.STAGE, PodRole.SWAP}]
    if len(ours) < 2:
        return ()
    kept = stage_pod_name(node.name, target) if target else ""
    found: list[DeletePod] = []
    for role in (PodRole.STAGE, PodRole.SWAP):
        pods = sorted(
            (pod for pod in ours if pod.role is role),
            key=lambda pod: (pod.name == kept, not pod.finished, pod.started_at, pod.attempt),
        )
        found += [
            _delete(pod, "replaced by a newer one")
            for pod in pods[:-1]
            if not pod.terminating and (pod.finished or role is PodRole.STAGE)
        ]
    return tuple(found)
