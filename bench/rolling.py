"""The reconciler's decision for a fleet: a commit that is applied, against a new one."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from fleets import commits
from pairs import Pair, Side

from reconciler.adapters.tree import load_tree
from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import resolve
from reconciler.core.rollout.guards import DOWNGRADE_COMMITS
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import FleetWorld
from reconciler.loop import tick
from reconciler.simulation.fleets import node_labels
from reconciler.simulation.rollouts import START_S, ModelCluster
from schema.target import Mode

POOLS = 5


def pairs(size: int) -> Iterator[Pair]:
    settled, small = _settled(size), _settled(max(POOLS, size // 10))
    settled = replace(settled, past=(settled.tree or _tree("2.7.0"),) * DOWNGRADE_COMMITS)
    upgrade = replace(settled, tree=_tree("2.8.0"), previous=settled.tree)
    revert = replace(settled, tree=_tree("2.6.0"), previous=settled.tree)
    assert sequence(upgrade, START_S).actions
    assert sequence(
        revert, START_S
    ).stall  # none of the 50 commits before had it: the most that can be looked at
    tree, machines = upgrade.tree, tuple(settled.machines.values())
    assert tree is not None
    yield Pair(
        name="sequence",
        a=Side(label=f"a new version for {size} nodes", run=lambda: sequence(upgrade, START_S)),
        b=Side(label="everything is applied", run=lambda: sequence(settled, START_S)),
    )
    yield Pair(
        name="sequence-size",
        a=Side(label=f"everything is applied, {len(machines)} nodes", run=lambda: sequence(settled, START_S)),
        b=Side(label=f"{len(small.machines)} nodes", run=lambda: sequence(small, START_S)),
    )
    yield Pair(
        name="downgrade",
        a=Side(label="an older version, against 50 commits", run=lambda: sequence(revert, START_S)),
        b=Side(label="a newer version", run=lambda: sequence(upgrade, START_S)),
    )
    yield Pair(
        name="resolve",
        a=Side(label="a new version, whole decision", run=lambda: sequence(upgrade, START_S)),
        b=Side(label="resolve alone", run=lambda: resolve(tree, "", machines)),
    )


def _tree(version: str) -> Tree:
    source = commits(pools=POOLS, version=version)
    tree = load_tree(source, source.revision())
    return replace(tree, revision=version)


def _settled(size: int) -> FleetWorld:
    """Pools that were adopted at their version; no wave is open, no write is due."""
    machines = {}
    for number in range(size):
        name = f"node-{number:05}"
        labels = node_labels(name, mode="container", version="2.7.0")
        labels["example.com/pool"] = f"pool-{number % POOLS}"
        machines[name] = Machine(name=name, labels=labels, mode=Mode.CONTAINER, version="2.7.0")
    cluster = ModelCluster(drive=tick, machines=machines, commits=[_tree("2.7.0")])

    async def settle() -> FleetWorld:
        await cluster.settle(batch=size)
        return await cluster.snapshot()

    world = asyncio.run(settle())
    assert not sequence(world, cluster.now).actions
    return world
