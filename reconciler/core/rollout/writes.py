"""Writes on policies that are due now, in order: grow, then set, then prune, one of them a tick.

The write of a pool's first wave, the last of its kind, begins a plan. Until then everything is laid out anew; from then
on the lists of the plan's policies are the record of who is in which wave.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.core.fleet.render import Group, Manifest, dump_target, manifest
from reconciler.core.rollout.course import Course
from reconciler.core.rollout.rollout import Live, Rollout
from reconciler.core.rollout.syncworld import ApplyPolicy, DeletePolicy
from schema.names import (
    ANNOTATION_COMMIT,
    ANNOTATION_PLAN,
    ANNOTATION_PROMOTED,
    ANNOTATION_PROMOTED_PLAN,
    ANNOTATION_RANK,
    LABEL_POOL,
    LABEL_SYNC,
    LABEL_WAVE,
)
from schema.policy import PolicySpec
from schema.sync import WaveState

OWN_LABELS = (LABEL_SYNC, LABEL_POOL, LABEL_WAVE)
OWN_ANNOTATIONS = (
    ANNOTATION_RANK,
    ANNOTATION_PLAN,
    ANNOTATION_PROMOTED,
    ANNOTATION_PROMOTED_PLAN,
    ANNOTATION_COMMIT,
)


def due_writes(course: Course, *, sync: str, prune: bool) -> tuple[ApplyPolicy | DeletePolicy, ...]:
    """What is to be written now; empty: the cluster is as this commit, at this point of its plan, wants it."""
    growing = tuple(_growing(course, sync))
    setting = growing or tuple(_setting(course, sync))
    return setting or (tuple(_pruning(course)) if prune else ())


def _growing(course: Course, sync: str) -> Iterator[ApplyPolicy]:
    """Nodes that move between policies enter the new one before they leave the old one."""
    placed = {node for one in course.live.values() for node in one.nodes}
    for rollout in course.rollouts:
        gates = _gates(course, rollout)
        for part in rollout.groups:
            one = course.live.get(part.name)
            if (placed & set(part.nodes)) - (one.nodes if one else frozenset()):
                yield (
                    _grown(part, one, opened=gates[part.name])
                    if one
                    else _created(course, rollout, part, sync)
                )


def _created(course: Course, rollout: Rollout, part: Group, sync: str) -> ApplyPolicy:
    """A new policy that takes nodes over: it belongs to no plan yet, unless the plan is over and this only tidies up."""
    made = _manifest(course, rollout, part, sync, waiting=part.held or not rollout.complete)
    if not rollout.complete:
        kept = {key: value for key, value in made.annotations.items() if key != ANNOTATION_PLAN}
        made = replace(made, annotations=kept)
    return ApplyPolicy(manifest=made, resource_version=None, why="takes nodes over")


def _grown(part: Group, one: Live, *, opened: bool) -> ApplyPolicy:
    """The policy as it is, with the new nodes; its wave closes where it or its Target is about to change."""
    wider = part.spec(waiting=False, hostnames=one.hostnames | frozenset(part.hostnames)).node_affinity
    closing = one.view.spec.waiting or one.target != part.target or not opened
    spec = replace(one.view.spec, paused=False, node_affinity=wider, waiting=closing)
    made = Manifest(name=part.name, labels=_labels(one), annotations=_annotations(one), spec=spec)
    return ApplyPolicy(manifest=made, resource_version=one.view.resource_version, why="takes nodes over")


def _setting(course: Course, sync: str) -> Iterator[ApplyPolicy]:
    """Every policy that differs from what it shall be now.

    A plan begins with its first wave written last; later, what promotes a wave is written before what opens the next.
    """
    for rollout in course.rollouts:
        gates = _gates(course, rollout)
        for part in rollout.groups if rollout.begun else reversed(rollout.groups):
            one = course.live.get(part.name)
            made = _manifest(course, rollout, part, sync, waiting=not gates[part.name])
            why = _difference(one, made)
            if why:
                version = one.view.resource_version if one else None
                yield ApplyPolicy(manifest=made, resource_version=version, why=why)


def _gates(course: Course, rollout: Rollout) -> dict[str, bool]:
    """Policy -> open. A wave is open while all before it are done for this plan, whoever opened it before."""
    gates: dict[str, bool] = {}
    passed = True
    for step in course.progress[rollout.pool.name]:
        for part in rollout.of_wave(step.wave):
            gates[part.name] = passed and not part.held and not part.stopped
        passed = passed and step.passed
    return gates


def _manifest(course: Course, rollout: Rollout, part: Group, sync: str, *, waiting: bool) -> Manifest:
    step = next(step for step in course.progress[rollout.pool.name] if step.wave.name == part.wave)
    promotion = (
        {ANNOTATION_PROMOTED: dump_target(part.target), ANNOTATION_PROMOTED_PLAN: str(rollout.id)}
        if step.state is WaveState.DONE
        else _last_promotion(course, rollout, part)
    )
    return manifest(
        part,
        sync=sync,
        spec=part.spec(waiting=waiting),
        annotations={
            ANNOTATION_PLAN: str(rollout.id),
            ANNOTATION_COMMIT: course.desired.revision,
            **promotion,
        },
    )


def _last_promotion(course: Course, rollout: Rollout, part: Group) -> dict[str, str]:
    """What was promoted last for these nodes: the policy's own, else that of the policy they come from.

    Never another wave's promotion in the plan under way: a policy that somebody deleted would come back as done.
    """
    one = course.live.get(part.name)
    if one is None:
        others = [
            other
            for other in course.live.values()
            if other.pool == part.pool and other.promoted and other.promoted_plan != rollout.id
        ]
        before = [other for other in others if part.nodes[0] in other.nodes] or others
        one = min(before, key=lambda other: (other.rank, other.view.name), default=None)
    kept = _annotations(one) if one else {}
    return {key: kept[key] for key in (ANNOTATION_PROMOTED, ANNOTATION_PROMOTED_PLAN) if key in kept}


def _difference(one: Live | None, made: Manifest) -> str:
    """Why a policy has to be written, "" for no reason: a new commit alone is none, and `paused` is for people."""
    if one is None:
        return "new"
    served, wanted = _without_people(one.view.spec), _without_people(made.spec)
    if served != wanted:
        return "opens" if replace(served, waiting=False) == wanted else "changes"
    if _labels(one) != dict(made.labels):
        return "labels"
    before, after = _said(_annotations(one)), _said(made.annotations)
    if before == after:
        return ""
    promoted = before.get(ANNOTATION_PROMOTED_PLAN) != after.get(ANNOTATION_PROMOTED_PLAN)
    return "promoted" if promoted else "annotations"


def _without_people(spec: PolicySpec) -> PolicySpec:
    return replace(spec, paused=False)


def _said(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key != ANNOTATION_COMMIT}


def _labels(one: Live) -> dict[str, str]:
    return {key: one.view.labels[key] for key in OWN_LABELS if key in one.view.labels}


def _annotations(one: Live) -> dict[str, str]:
    return {key: one.view.annotations[key] for key in OWN_ANNOTATIONS if key in one.view.annotations}


def _pruning(course: Course) -> Iterator[DeletePolicy]:
    """Policies that are rendered no more. One whose nodes left every pool without a commit stays as it is.

    So does one whose pool has not a single node just now: they may come back, and people may have paused it.
    """
    groups, desired = course.groups, course.desired.nodes
    deserted = {pool.name for pool in course.desired.pools if not pool.nodes}
    for name, one in sorted(course.live.items()):
        left = one.nodes - desired.keys() - course.dropped
        away = not one.nodes and one.pool in deserted
        if name not in groups and not left and not away and not one.view.deleting:
            yield DeletePolicy(name=name, uid=one.view.uid, resource_version=one.view.resource_version)
