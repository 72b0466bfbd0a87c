"""No wave is skipped and no policy lost, whatever people and machines do in the middle of a plan."""

import asyncio
from dataclasses import replace

import pytest

from reconciler.core.fleet.machines import Machine
from reconciler.loop import tick
from reconciler.simulation.fleets import document, node_labels, tree
from reconciler.simulation.rollouts import ModelCluster
from schema.sync import SyncReason
from schema.target import Mode

WAVES = [{"name": "canary", "count": 1}, {"name": "early", "count": 1}, {"name": "rest"}]
RELEASES = tuple(document("Release", v, {"commit": v[2] * 40}) for v in ("2.7.0", "2.8.0"))


def pool(name: str, version: str, waves=WAVES, **labels):
    spec = {"selector": {"matchLabels": labels}, "kmd": {"mode": "container", "version": version}}
    return document("NodePool", name, spec | {"waves": waves})


def commit(revision: str, *documents):
    return tree(revision, *documents, *RELEASES)


def machine(name: str, **labels) -> Machine:
    said = node_labels(name, mode="container", version="2.7.0", **labels)
    return Machine(name=name, labels=said, mode=Mode.CONTAINER, version="2.7.0")


def adopted(machines, *documents) -> ModelCluster:
    made = ModelCluster(
        drive=tick, machines={m.name: m for m in machines}, commits=[commit("r1", *documents)]
    )
    asyncio.run(made.settle(batch=3))
    return made


def passes(cluster, count: int, batch: int = 3) -> None:
    for _ in range(count):
        asyncio.run(cluster.tick())
        cluster.operate(batch=batch)


def members(cluster, policy: str) -> list[str]:
    return cluster._members(cluster.policies[policy])


def upgraded(cluster) -> list[str]:
    return sorted(name for name, one in cluster.machines.items() if one.version == "2.8.0")


@pytest.fixture
def upgrading():
    """Eight nodes; the canary is done at 2.8.0, wave early has opened and its node has not started."""
    made = adopted([machine(f"n{number}") for number in range(8)], pool("p", "2.7.0"))
    made.commits.append(commit("r2", pool("p", "2.8.0")))
    passes(made, 1)
    asyncio.run(made.tick())
    assert not made.policies["p-early"].spec.waiting
    assert len(upgraded(made)) == 1
    return made


@pytest.mark.parametrize("how", ["deleted", "unlabelled"])
def test_a_wave_whose_only_node_goes_away_before_it_is_done_is_not_skipped(upgrading, how):
    [early] = members(upgrading, "p-early")
    lost = upgrading.machines.pop(early)
    if how == "unlabelled":
        upgrading.machines[early] = replace(lost, labels={})
    asyncio.run(upgrading.tick())
    asyncio.run(upgrading.tick())
    assert upgrading.policies["p-rest"].spec.waiting
    assert members(upgrading, "p-early")
    asyncio.run(upgrading.settle(batch=3))
    assert len(upgraded(upgrading)) == 7


def test_a_wave_that_somebody_opens_by_hand_is_closed_again(upgrading):
    rest = upgrading.policies["p-rest"]
    upgrading.policies["p-rest"] = replace(rest, spec=replace(rest.spec, waiting=False))
    asyncio.run(upgrading.tick())
    assert upgrading.policies["p-rest"].spec.waiting


def test_a_wave_that_another_table_makes_wait_never_takes_nodes_over_while_it_is_open(upgrading):
    table = [{"name": "canary", "count": 3}, {"name": "early", "count": 4}, {"name": "rest"}]
    upgrading.commits.append(commit("r3", pool("p", "2.8.0", table)))
    for _ in range(3):
        asyncio.run(upgrading.tick())
        assert upgrading.policies["p-early"].spec.waiting or len(members(upgrading, "p-early")) == 1
    asyncio.run(upgrading.settle(batch=3))
    assert len(upgraded(upgrading)) == 8


def test_a_node_that_two_pools_wanted_for_a_while_is_not_dropped_unseen():
    pools = pool("p", "2.7.0"), pool("q", "2.7.0", x="y")
    made = adopted([machine("a"), machine("b"), machine("c")], pools[0])
    made.machines["c"] = replace(made.machines["c"], labels={**made.machines["c"].labels, "x": "y"})
    made.commits.append(commit("r2", *pools))
    asyncio.run(made.settle())
    only = document("NodePool", "p", {"nodes": ["a", "b"], "kmd": {"mode": "container", "version": "2.7.0"}})
    made.commits.append(commit("r3", only))
    decision = asyncio.run(made.tick())
    assert decision.stall is not None
    assert decision.stall.reason is SyncReason.GUARD_REFUSED
    assert "NodeDropped" in decision.stall.message


def test_a_pool_whose_nodes_are_all_gone_for_a_while_keeps_its_policies_and_their_pause():
    pools = pool("p", "2.7.0", half="p"), pool("q", "2.7.0", half="q")
    made = adopted([machine(f"{half}{n}", half=half) for half in "pq" for n in range(3)], *pools)
    for name in ("q-canary", "q-early", "q-rest"):
        policy = made.policies[name]
        made.policies[name] = replace(policy, spec=replace(policy.spec, paused=True))
    away = {name: made.machines.pop(name) for name in ("q0", "q1", "q2")}
    asyncio.run(made.settle())
    made.machines |= away
    made.commits.append(commit("r2", pool("p", "2.8.0", half="p"), pool("q", "2.8.0", half="q")))
    asyncio.run(made.settle())
    assert upgraded(made) == ["p0", "p1", "p2"]


def test_a_commit_that_removes_a_pool_prunes_what_is_left_of_it():
    pools = pool("p", "2.7.0", half="p"), pool("q", "2.7.0", half="q")
    made = adopted([machine(f"{half}{n}", half=half) for half in "pq" for n in range(3)], *pools)
    for name in ("q0", "q1", "q2"):
        del made.machines[name]
    made.commits.append(commit("r2", pools[0]))
    asyncio.run(made.settle())
    assert not [name for name in made.policies if name.startswith("q-")]


@pytest.mark.parametrize("moved_to", ["eu2", "eu1-old"])
def test_a_cluster_whose_directory_is_moved_away_does_not_fall_back_to_what_all_share(moved_to):
    def fleet(revision, cluster):
        shared = document("Fleet", "f", {"channels": {"stable": "2.7.0", "edge": "2.8.0"}, "channel": "edge"})
        own = document("Cluster", cluster, {"channel": "stable"}, cluster=cluster)
        spec = {"selector": {"matchLabels": {}}, "kmd": {"mode": "container"}}
        return commit(revision, shared, own, document("NodePool", "p", spec))

    made = ModelCluster(drive=tick, machines={"a": machine("a")}, cluster="eu1", commits=[fleet("r1", "eu1")])
    asyncio.run(made.settle())
    made.commits.append(fleet("r2", moved_to))
    decision = asyncio.run(made.settle())
    assert decision.stall is not None
    assert decision.stall.reason is SyncReason.VALIDATION_FAILED
    assert upgraded(made) == []


def named(name: str, *nodes: str, version: str = "2.7.0"):
    return document("NodePool", name, {"nodes": nodes, "kmd": {"mode": "container", "version": version}})


def test_a_revert_of_a_commit_that_moved_nodes_needs_no_leave_to_move_them_back():
    made = adopted([machine(name) for name in "abcd"], named("p", *"abcd"))
    moves = document("Fleet", "f", {"guards": {"maxMoves": 1}})
    made.commits.append(commit("r2", moves, named("p", *"abc"), named("q", "d")))
    asyncio.run(made.settle())
    assert members(made, "q-all") == ["d"]
    made.commits.append(commit("r3", named("p", *"abcd")))
    assert asyncio.run(made.settle()).stall is None
    assert members(made, "p-all") == ["a", "b", "c", "d"]


def test_a_label_that_moves_a_node_is_no_revert_wherever_the_node_was_before():
    pools = pool("p", "2.7.0", half="p"), pool("q", "2.7.0", half="q")
    made = adopted([machine(f"{half}{n}", half=half) for half in "pq" for n in range(2)], *pools)
    made.commits.append(commit("r2", *pools))
    made.machines["p0"] = replace(made.machines["p0"], labels=node_labels("p0", half="q"))
    decision = asyncio.run(made.tick())
    assert decision.stall is not None
    assert "MaxMoves" in decision.stall.message


def test_a_newer_machine_that_joins_does_not_stop_a_commit_that_was_accepted(upgrading):
    upgrading.machines["x"] = replace(machine("x"), version="2.9.0")
    assert asyncio.run(upgrading.settle(batch=3)).stall is None
    assert len(upgraded(upgrading)) == 9
