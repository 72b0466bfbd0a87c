"""Course: all that follows from a commit and the cluster where nothing is at fault."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import Group
from reconciler.core.fleet.resolve import Desired, resolve
from reconciler.core.rollout.plan import Plan, draft
from reconciler.core.rollout.rollout import Live, Progress, Rollout, progress, read_live, roll_out
from reconciler.core.rollout.syncworld import FleetWorld
from schema.sync import WaveState


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """All that follows from a world without a fault: what is wanted, where it lies, how far it is."""

    desired: Desired
    live: Mapping[str, Live]
    rollouts: tuple[Rollout, ...]
    progress: Mapping[str, tuple[Progress, ...]]  # by pool, in rank order
    plan: Plan
    dropped: frozenset[str]  # nodes that this commit takes out of every pool

    @property
    def groups(self) -> dict[str, Group]:
        return {part.name: part for rollout in self.rollouts for part in rollout.groups}


def chart(world: FleetWorld, tree: Tree) -> Course:
    """Resolve the tree and find every pool's plan in the cluster."""
    machines, status = world.machines, world.sync.status
    desired = resolve(tree, world.sync.spec.cluster, machines.values())
    live = read_live(world.policies.values(), world.sync.name, machines)
    rollouts = tuple(roll_out(pool, live, status, machines.values()) for pool in desired.pools)
    how_far = {
        rollout.pool.name: tuple(progress(rollout, wave, live, machines) for wave in rollout.waves)
        for rollout in rollouts
    }
    dropped = _dropped(world, desired, live)
    return Course(
        desired=desired,
        live=live,
        rollouts=rollouts,
        progress=how_far,
        plan=draft(
            desired,
            ids={rollout.pool.name: str(rollout.id) for rollout in rollouts},
            layouts={rollout.pool.name: rollout.waves for rollout in rollouts},
            opened={pool: _opened_rank(steps) for pool, steps in how_far.items()},
            dropped=dropped,
        ),
        dropped=frozenset(machine.name for machine in dropped),
    )


def _dropped(world: FleetWorld, desired: Desired, live: Mapping[str, Live]) -> list[Machine]:
    """Nodes that the commit applied last had in a pool (or in two), and this one has not.

    Where that commit is not known, the nodes that our policies name stand for it.
    """
    if world.previous is not None and world.previous.revision == desired.revision:
        return []
    if world.previous is not None:
        last = resolve(world.previous, world.sync.spec.cluster, world.machines.values())
        before = {*last.nodes, *last.contested}
    else:
        before = {node for one in live.values() for node in one.nodes}
    gone = before - desired.nodes.keys() - desired.contested.keys()
    return [world.machines[name] for name in sorted(gone)]


def _opened_rank(steps: Iterable[Progress]) -> int:
    return max((step.wave.rank for step in steps if step.state is not WaveState.CLOSED), default=0)
