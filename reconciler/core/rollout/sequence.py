"""The reconciler's decision: from a commit and the cluster to the writes that are due now. Pure.

Every tick decides from what is served, so a crash or a lost write costs nothing but time. The order within a tick:
policies grow before they shrink (a tick of its own while nodes move between policies); then every policy gets its new
list, Target, policy and wave gate, last the first wave of a plan, whose write begins the plan; policies that no node
needs go when nothing else is left to write; the status comes last. An action is only done after the one before it.
"""

from collections.abc import Iterator, Mapping, Sequence

from reconciler.core.fleet.documents import Severity, Tree
from reconciler.core.fleet.render import name_clashes
from reconciler.core.fleet.resolve import cluster_names, concerns, resolve
from reconciler.core.rollout.course import Course, chart
from reconciler.core.rollout.guards import Refusal, refusals
from reconciler.core.rollout.plan import Kind
from reconciler.core.rollout.syncstatus import sync_status
from reconciler.core.rollout.syncworld import FleetWorld, Stall, SyncDecision, WriteSync
from reconciler.core.rollout.writes import due_writes
from schema.names import LABEL_SYNC
from schema.sync import SyncMode, SyncReason
from schema.target import Target


def sequence(world: FleetWorld, now: float) -> SyncDecision:
    """What to write now.

    Args:
        world: one look at repository and cluster.
        now: POSIX seconds, for the times in the status only.
    """
    stall = _stalled(world)
    if stall is not None or world.tree is None:
        return _idle(world, now, stall)
    course = chart(world, world.tree)
    stall, refused = _unsafe(world, course)
    if stall is not None:
        return _idle(world, now, stall, course, refused)
    if world.sync.spec.mode is not SyncMode.ENFORCE or _suspended(world):
        return _idle(world, now, None, course)
    writes = due_writes(course, sync=world.sync.name, prune=world.sync.spec.prune)
    status = sync_status(world, now, course.rollouts, course.progress, applied=not writes)
    return SyncDecision(
        actions=(*writes, *_status_write(world, status)),
        plan=course.plan,
        policies=tuple(sorted(course.groups)),
        settled=not writes and all(rollout.complete for rollout in course.rollouts),
    )


def _stalled(world: FleetWorld) -> Stall | None:
    """Faults that show before anything is resolved."""
    if world.sync.rival:
        message = f"FleetSync {world.sync.rival} is older and counts; there is one in a cluster"
        return Stall(reason=SyncReason.CONFLICT, message=message)
    if world.fault is not None or world.tree is None:
        return world.fault or Stall(reason=SyncReason.SOURCE_UNAVAILABLE, message="nothing was fetched yet")
    if not world.tree.documents and not world.tree.problems:
        message = f"{world.tree.revision} holds no fleet documents: an error, not an empty fleet"
        return Stall(reason=SyncReason.SOURCE_EMPTY, message=message)
    cluster = world.sync.spec.cluster
    return (
        _unknown_cluster(world.tree, cluster)
        or _invalid(world.tree, cluster)
        or _wrong_cluster(world, world.tree, cluster)
    )


def _unknown_cluster(tree: Tree, cluster: str) -> Stall | None:
    """Without its own documents a cluster would get the shared ones alone: a moved directory, not a decision."""
    names = cluster_names(tree)
    if not names or cluster in names:
        return None
    message = f"spec.cluster {cluster!r} is none of this repository's clusters: {', '.join(names)}"
    return Stall(reason=SyncReason.VALIDATION_FAILED, message=message)


def _invalid(tree: Tree, cluster: str) -> Stall | None:
    problems = [problem for problem in tree.problems if concerns(problem, cluster)]
    errors = sorted(problem for problem in problems if problem.severity is Severity.ERROR)
    return _first(errors)


def _first(errors: Sequence[object]) -> Stall | None:
    if not errors:
        return None
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Stall(reason=SyncReason.VALIDATION_FAILED, message=f"{errors[0]}{more}")


def _wrong_cluster(world: FleetWorld, tree: Tree, cluster: str) -> Stall | None:
    for document in tree.of_kind("Cluster", cluster):
        uid = document.spec.get("uid")
        if uid and uid != world.cluster_uid:
            said = f"{document.mark_at('spec', 'uid')} says {uid}, this cluster is {world.cluster_uid or 'unknown'}"
            return Stall(reason=SyncReason.CLUSTER_UID_MISMATCH, message=said)
    return None


def _unsafe(world: FleetWorld, course: Course) -> tuple[Stall | None, tuple[Refusal, ...]]:
    """Faults that show only with nodes: an empty fleet, a clash, a guard."""
    pools = course.desired.pools
    every_group = [part for rollout in course.rollouts for part in rollout.groups]
    faults = _first((*course.desired.problems, *name_clashes(pools, every_group)))
    if faults:
        return faults, ()
    if not course.desired.nodes:
        message = f"no node of the cluster is in a pool ({len(pools)} pools, {len(world.machines)} nodes)"
        return Stall(reason=SyncReason.NO_MATCHING_NODES, message=message), ()
    taken = _taken(world, course)
    if taken:
        return taken, ()
    placed: dict[str, frozenset[str]] = {}
    for one in course.live.values():
        placed |= {node: placed.get(node, frozenset()) | {one.pool} for node in one.nodes}
    downgrades = any(change.kind is Kind.DOWNGRADE for change in course.plan.changes)
    past = _past_targets(world, course) if downgrades else {}
    returning = _returning(world, course, placed)
    refused = refusals(course.desired, course.plan, placed=placed, past=past, returning=returning)
    if refused:
        message = "; ".join(str(refusal) for refusal in refused)
        return Stall(reason=SyncReason.GUARD_REFUSED, message=message), refused
    return None, ()


def _returning(world: FleetWorld, course: Course, placed: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Nodes that go back, by commit and not by label, to a pool in which one of the last commits had them."""
    pools = {
        name: node.pool
        for name, node in course.desired.nodes.items()
        if placed.get(name) and node.pool not in placed[name]
    }
    if world.previous is None or not pools:
        return frozenset()

    def had(tree: Tree) -> frozenset[str]:
        there = resolve(tree, world.sync.spec.cluster, [world.machines[name] for name in pools]).nodes
        return frozenset(name for name, node in there.items() if node.pool == pools[name])

    by_commit = pools.keys() - had(world.previous)
    return frozenset(by_commit & frozenset[str]().union(*map(had, world.past))) if by_commit else frozenset()


def _past_targets(world: FleetWorld, course: Course) -> dict[str, frozenset[Target]]:
    """Targets of the pools themselves in earlier commits, and now where the plan was let pass already."""
    under_way = {one.plan for one in course.live.values()}
    past = {
        rollout.pool.name: frozenset({rollout.pool.target})
        for rollout in course.rollouts
        if rollout.pool.target and rollout.id in under_way
    }
    for tree in world.past:
        for pool in resolve(tree, world.sync.spec.cluster, ()).pools:
            past[pool.name] = past.get(pool.name, frozenset()) | ({pool.target} if pool.target else set())
    return past


def _taken(world: FleetWorld, course: Course) -> Stall | None:
    """A policy of somebody else has a name that we would render."""
    taken = sorted(course.groups.keys() & (world.policies.keys() - course.live.keys()))
    if not taken:
        return None
    message = (
        f"TenstorrentDriverPolicy {taken[0]} is there and not of this FleetSync: delete it, or hand it over"
    )
    return Stall(
        reason=SyncReason.NAME_TAKEN, message=f"{message} with label {LABEL_SYNC}={world.sync.name}"
    )  # fmt: skip


def _suspended(world: FleetWorld) -> bool:
    return world.sync.spec.suspend or bool(world.sync.hold)


def _idle(
    world: FleetWorld,
    now: float,
    stall: Stall | None,
    course: Course | None = None,
    refused: tuple[Refusal, ...] = (),
) -> SyncDecision:
    """Nothing but the status."""
    rollouts = course.rollouts if course else ()
    steps = course.progress if course else {}
    status = sync_status(world, now, rollouts, steps, applied=False, stall=stall)
    return SyncDecision(
        actions=tuple(_status_write(world, status)),
        plan=course.plan if course else None,
        refused=refused,
        stall=stall,
    )


def _status_write(world: FleetWorld, status: Mapping[str, object]) -> Iterator[WriteSync]:
    if status != world.sync.status:
        yield WriteSync(name=world.sync.name, resource_version=world.sync.resource_version, status=status)
