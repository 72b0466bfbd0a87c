"""Operate: what the operator does now. Pure, and the same in the simulation, in the proof and on a real server."""

import hashlib
import json
from collections.abc import Iterable
from math import inf

from reconciler.core.actions import Action, ApplyKeeper, Decision, WriteNode
from reconciler.core.node import admission, fence, progress
from reconciler.core.node.scene import Next, Scene
from reconciler.core.node.staging import Stagings, running
from reconciler.core.node.status import statuses
from reconciler.core.world import NodeView, Settings, World
from schema.version import __version__

RESYNC_S = 30.0
SOON_S = 0.05  # after a write of the protocol the next one follows at once


def operate(world: World, now: float) -> Decision:
    """Everything that is due on the Lease, the keeper, every node and every status; at most one write a node.

    Args:
        world: one consistent look, in which our own writes are visible.
        now: POSIX seconds.
    """
    scene = Scene(world=world, now=now)
    lease = () if world.settings.observe else fence.fence(world, now)
    found = _nodes(scene)
    reports = tuple(
        step.report(world.nodes[name], _cr(scene, name))
        for name, step in sorted(found.items())
        if _cr(scene, name)
    )
    work = tuple(action for _, step in sorted(found.items()) for action in step.actions)
    if world.settings.observe:
        return Decision(
            actions=(*work, *_keeper(world)), reports=reports, wake_after_s=_wake(world, now, found, work)
        )
    leads = world.term.leads
    rest: tuple[Action, ...] = (*_keeper(world), *statuses(scene, reports)) if leads else ()
    wake_s = _wake(world, now, found, (*lease, *work))
    return Decision(actions=(*lease, *work, *rest), reports=reports, wake_after_s=wake_s)


def _nodes(scene: Scene) -> dict[str, Next]:
    """The next step of every node: with a record, without one, and those that may start now."""
    stagings = Stagings(left=scene.world.settings.max_staging - running(scene))
    found: dict[str, Next] = {}
    waiting: list[NodeView] = []
    for node in sorted(scene.world.nodes.values(), key=lambda node: node.name):
        if node.record is not None:
            found[node.name] = progress.work(scene, node, node.record)
            continue
        step = admission.look(scene, node, stagings)
        if step is None:
            continue
        found[node.name] = step
        if step.starts:
            waiting.append(node)
    return found | admission.admit(scene, waiting)


def _cr(scene: Scene, node: str) -> str:
    """The ttdp that reports the node: of its record, otherwise the one that speaks for it; "" for none."""
    record = scene.world.nodes[node].record
    if record is not None and record.cr in scene.world.policies:
        return record.cr
    assignment = scene.assignments.get(node)
    return assignment.policy.name if assignment else ""


def keeper_hash(settings: Settings) -> str:
    """Identity of the keeper's template: what it is rendered from. No version of a driver is in it (H2)."""
    text = json.dumps([settings.namespace, settings.image, __version__])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _keeper(world: World) -> tuple[Action, ...]:
    template_hash = keeper_hash(world.settings)
    if world.keeper == template_hash:
        return ()
    return (ApplyKeeper(image=world.settings.image, template_hash=template_hash),)


def _wake(world: World, now: float, found: dict[str, Next], actions: Iterable[Action]) -> float:
    if any(not isinstance(action, WriteNode) or action.step != "note" for action in actions):
        return SOON_S
    steps = min((step.wake_s for step in found.values()), default=inf)
    lease = inf if world.settings.observe else fence.wake_s(world, now)
    return max(SOON_S, min(RESYNC_S, steps, lease))
