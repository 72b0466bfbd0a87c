"""When a wave counts as done: the operator says so of the present spec, and the hosts say so too."""

import asyncio
from dataclasses import replace

import pytest

from reconciler.core.fleet.machines import Machine
from reconciler.loop import tick
from reconciler.simulation.fleets import document, node_labels, tree
from reconciler.simulation.rollouts import ModelCluster
from schema.states import NodeState, Reason
from schema.target import Mode

WAVES = [{"name": "canary", "count": 2}, {"name": "rest"}]


def commit(version: str):
    pool = document(
        "NodePool",
        "p",
        {"selector": {"matchLabels": {}}, "kmd": {"mode": "container", "version": version}, "waves": WAVES},
    )
    releases = [document("Release", v, {"commit": v[2] * 40}) for v in ("2.7.0", "2.8.0")]
    return tree(version, pool, *releases)


@pytest.fixture
def cluster():
    """Adopted at 2.7.0; the commit to 2.8.0 has just opened the canary wave."""
    machines = {}
    for name in ("a", "b", "c", "d"):
        labels = node_labels(name, mode="container", version="2.7.0")
        machines[name] = Machine(name=name, labels=labels, mode=Mode.CONTAINER, version="2.7.0")
    made = ModelCluster(drive=tick, machines=machines, commits=[commit("2.7.0")])
    asyncio.run(made.settle())
    made.commits.append(commit("2.8.0"))
    asyncio.run(made.tick())
    return made


def canary(cluster) -> list[str]:
    return cluster._members(cluster.policies["p-canary"])


def swapped(cluster, *names) -> None:
    for name in names:
        cluster.machines[name] = replace(cluster.machines[name], version="2.8.0", commit="8" * 40)


def reported(cluster, *states: str, behind: int = 0) -> None:
    policy = cluster.policies["p-canary"]
    nodes = [{"name": n, "state": s} for n, s in zip(canary(cluster), states, strict=True)]
    status = {"observedGeneration": policy.generation - behind, "nodes": nodes}
    cluster.policies["p-canary"] = replace(policy, status=status)


def opens_rest(cluster) -> bool:
    asyncio.run(cluster.tick())
    return not cluster.policies["p-rest"].spec.waiting


def test_all_done_opens_the_next_wave(cluster):
    swapped(cluster, *canary(cluster))
    reported(cluster, NodeState.DONE, NodeState.DONE)
    assert opens_rest(cluster)


def test_a_status_of_an_older_spec_counts_for_nothing(cluster):
    swapped(cluster, *canary(cluster))
    reported(cluster, NodeState.DONE, NodeState.DONE, behind=1)
    assert not opens_rest(cluster)


def test_done_that_the_host_contradicts_counts_for_nothing(cluster):
    swapped(cluster, canary(cluster)[0])
    reported(cluster, NodeState.DONE, NodeState.DONE)
    assert not opens_rest(cluster)


def test_a_node_that_the_status_does_not_list_is_not_done(cluster):
    swapped(cluster, *canary(cluster))
    policy = cluster.policies["p-canary"]
    entry = {"name": canary(cluster)[0], "state": NodeState.DONE}
    cluster.policies["p-canary"] = replace(
        policy, status={"observedGeneration": policy.generation, "nodes": [entry]}
    )
    assert not opens_rest(cluster)


@pytest.mark.parametrize(
    "state", [NodeState.SKIPPED, NodeState.HELD, NodeState.OFFLINE, NodeState.HOST_MANAGED]
)
def test_one_done_is_enough_beside_nodes_that_are_out_of_it(cluster, state):
    swapped(cluster, canary(cluster)[0])
    reported(cluster, NodeState.DONE, state)
    assert opens_rest(cluster)


def test_a_wave_in_which_nobody_is_done_proves_nothing(cluster):
    reported(cluster, NodeState.SKIPPED, NodeState.HELD)
    assert not opens_rest(cluster)


@pytest.mark.parametrize(
    "state", [NodeState.FAILED, NodeState.BLOCKED, NodeState.PENDING, NodeState.DRAINING, NodeState.WAITING]
)
def test_a_node_that_is_still_to_come_keeps_the_next_wave_closed(cluster, state):
    swapped(cluster, canary(cluster)[0])
    reported(cluster, NodeState.DONE, state)
    assert not opens_rest(cluster)


def test_what_was_promoted_stays_so_whatever_happens_to_a_node_later(cluster):
    swapped(cluster, *canary(cluster))
    reported(cluster, NodeState.DONE, NodeState.DONE)
    assert opens_rest(cluster)
    reported(cluster, NodeState.DONE, NodeState.FAILED)
    assert opens_rest(cluster)
    assert cluster.status["waves"][0]["state"] == "Done"
    assert cluster.status["waves"][0]["done"] == 1


def test_paused_by_people_is_never_reverted_and_writes_nothing(cluster):
    asyncio.run(cluster.settle())
    policy = cluster.policies["p-rest"]
    cluster.policies["p-rest"] = replace(policy, spec=replace(policy.spec, paused=True))
    assert not asyncio.run(cluster.tick()).actions


def test_a_hand_edited_policy_is_put_right(cluster):
    asyncio.run(cluster.settle())
    policy = cluster.policies["p-rest"]
    cluster.policies["p-rest"] = replace(policy, spec=replace(policy.spec, version="9.9.9", paused=True))
    asyncio.run(cluster.settle())
    assert cluster.policies["p-rest"].spec.version == "2.8.0"
    assert cluster.policies["p-rest"].spec.paused


def test_a_label_that_leaves_the_pool_takes_the_node_out_without_a_commit(cluster):
    asyncio.run(cluster.settle())
    name = cluster._members(cluster.policies["p-rest"])[0]
    labels = {k: v for k, v in cluster.machines[name].labels.items() if "pci" not in k}
    cluster.machines[name] = replace(cluster.machines[name], labels=labels, obstacle=Reason.NO_FACTS)
    decision = asyncio.run(cluster.settle())
    assert decision.stall is None
    assert all(
        name not in policy.spec.node_affinity.match_expressions[0].values
        for policy in cluster.policies.values()
    )
