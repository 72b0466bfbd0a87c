"""From documents to desired nodes: layers, channels, provenance, and faults that show only with nodes."""

import pytest

from reconciler.core.fleet.documents import Mark
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import cluster_names, concerns, resolve
from reconciler.simulation.fleets import document, node_labels, tree
from schema.policy import Budget
from schema.target import Mode, Target, Vacate

RELEASES = (
    document("Release", "2.7.0", {"commit": "7" * 40}),
    document("Release", "2.8.0", {"commit": "8" * 40, "repository": "https://example.org/kmd.git"}),
)


def machine(name: str, **labels: str) -> Machine:
    return Machine(name=name, labels=node_labels(name, **labels))


def pool(name: str = "train", *, kmd=None, **spec):
    spec = spec or {"nodes": ["a", "b"]}
    return document("NodePool", name, {**spec, "kmd": kmd or {"mode": "container", "version": "2.7.0"}})


def nodes_of(*documents, cluster="", machines=("a", "b")):
    desired = resolve(tree("r", *documents, *RELEASES), cluster, [machine(name) for name in machines])
    assert not desired.problems, desired.problems
    return desired.nodes


def test_the_smallest_fleet_gives_its_nodes_a_pinned_version():
    node = nodes_of(pool())["a"]
    assert node.target == Target(
        mode=Mode.CONTAINER,
        version="2.7.0",
        repository="https://github.com/tenstorrent/tt-kmd.git",
        commit="7" * 40,
    )
    assert node.policy.budgets == (Budget(group="cluster", max_unavailable=1),)


def test_layers_replace_from_fleet_to_node_and_maps_merge_by_key():
    fleet = document("Fleet", "f", {"drain": {"timeoutSeconds": 60, "force": True}})
    cluster = document("Cluster", "c", {"drain": {"timeoutSeconds": 120}}, cluster="c")
    own = document("Node", "b", {"kmd": {"version": "2.8.0", "vacate": "Once"}})
    nodes = nodes_of(fleet, cluster, pool(), own, cluster="c")
    assert (nodes["a"].policy.drain.timeout_s, nodes["a"].policy.drain.force) == (120, True)
    assert (nodes["a"].target.version, nodes["a"].target.vacate) == ("2.7.0", Vacate.NEVER)
    assert (nodes["b"].target.version, nodes["b"].target.vacate) == ("2.8.0", Vacate.ONCE)
    assert nodes["b"].target.repository == "https://example.org/kmd.git"


def test_every_field_remembers_the_place_that_set_it():
    fleet = document("Fleet", "f", {"channels": {"stable": "2.7.0"}})
    cluster = document("Cluster", "c", {"channel": "stable"}, cluster="c")
    own = document("Node", "b", {"kmd": {"vacate": "Once"}})
    nodes = nodes_of(fleet, cluster, pool(kmd={"mode": "container"}), own, cluster="c")
    assert nodes["b"].why["version"] == Mark(file="fleet-f.yaml", line=8)
    assert nodes["b"].why["channel"] == Mark(file="clusters/c/cluster-c.yaml", line=7)
    assert nodes["b"].why["kmd.vacate"].file == "node-b.yaml"
    assert nodes["b"].why["kmd.mode"].file == "nodepool-train.yaml"


@pytest.mark.parametrize(
    ("pool_kmd", "node_kmd", "version"),
    [
        ({"channel": "stable"}, {"version": "2.8.0"}, "2.8.0"),
        ({"version": "2.8.0"}, {"channel": "stable"}, "2.7.0"),
        ({"version": "2.8.0"}, {"vacate": "Once"}, "2.8.0"),
        ({}, {"vacate": "Once"}, "2.8.0"),
    ],
)
def test_of_version_and_channel_the_more_specific_layer_wins(pool_kmd, node_kmd, version):
    fleet = document("Fleet", "f", {"channels": {"stable": "2.7.0", "canary": "2.8.0"}})
    cluster = document("Cluster", "c", {"channel": "canary"}, cluster="c")
    own = document("Node", "a", {"kmd": node_kmd})
    nodes = nodes_of(fleet, cluster, pool(kmd={"mode": "container", **pool_kmd}), own, cluster="c")
    assert nodes["a"].target.version == version


def test_a_clusters_channel_replaces_the_fleets_entry_of_that_name():
    fleet = document("Fleet", "f", {"channels": {"stable": "2.7.0"}})
    cluster = document("Cluster", "c", {"channel": "stable", "channels": {"stable": "2.8.0"}}, cluster="c")
    assert (
        nodes_of(fleet, cluster, pool(kmd={"mode": "container"}), cluster="c")["a"].target.version == "2.8.0"
    )


def test_budgets_of_cluster_and_pool_both_apply_and_percentages_are_floored_but_at_least_one():
    fleet = document("Fleet", "f", {"maxUnavailable": "50%"})
    first = pool("one", nodes=["a"], maxUnavailable="10%")
    second = pool("two", nodes=["b", "c", "d", "e"])
    nodes = nodes_of(fleet, first, second, machines="abcde")
    assert nodes["a"].policy.budgets == (
        Budget(group="cluster", max_unavailable=2),
        Budget(group="pool/one", max_unavailable=1),
    )
    assert nodes["b"].policy.budgets == (Budget(group="cluster", max_unavailable=2),)


def test_only_nodes_with_a_card_are_selected_by_label():
    documents = (pool(selector={"matchLabels": {"team": "x"}}), *RELEASES)
    with_card = machine("a", team="x")
    without = Machine(name="b", labels={"team": "x"})
    assert list(resolve(tree("r", *documents), "", [with_card, without]).nodes) == ["a"]


def test_a_node_that_two_pools_match_is_contested_alone():
    desired = resolve(
        tree("r", pool("one", nodes=["a", "b"]), pool("two", nodes=["b", "c"]), *RELEASES),
        "",
        [machine(name) for name in "abc"],
    )
    assert desired.contested == {"b": ("one", "two")}
    assert sorted(desired.nodes) == ["a", "c"]
    assert not desired.problems


def test_a_node_with_a_card_in_no_pool_is_unassigned():
    assert resolve(tree("r", pool(), *RELEASES), "", [machine("z")]).unassigned == ("z",)


@pytest.mark.parametrize(
    ("kmd", "code"),
    [
        ({"mode": "container"}, "TTF401"),
        ({"mode": "container", "version": "3.0.0"}, "TTF402"),
        ({"mode": "container", "channel": "nightly"}, "TTF403"),
    ],
)
def test_what_gives_no_target_is_a_problem_once_however_many_nodes_there_are(kmd, code):
    desired = resolve(tree("r", pool(kmd=kmd), *RELEASES), "", [machine("a"), machine("b")])
    assert code in [problem.code for problem in desired.problems]
    assert len(set(desired.problems)) == len(desired.problems)
    assert not desired.nodes


def test_two_nodes_that_share_a_hostname_label_are_a_problem():
    twin = Machine(name="b", labels=node_labels("a"))
    desired = resolve(tree("r", pool(), *RELEASES), "", [machine("a"), twin])
    assert [problem.code for problem in desired.problems] == ["TTF404"]


def test_a_hold_carries_its_reason_and_a_blocked_release_stops_starts():
    blocked = document("Release", "2.9.0", {"commit": "9" * 40, "blocked": "hangs on suspend"})
    own = document("Node", "a", {"hold": True, "reason": "RMA-4411"})
    nodes = nodes_of(pool(kmd={"mode": "container", "version": "2.9.0"}), own, blocked)
    assert (nodes["a"].hold, nodes["b"].hold) == ("RMA-4411", "")
    assert nodes["a"].stopped == "hangs on suspend"


def test_mode_host_needs_no_version():
    assert nodes_of(pool(kmd={"mode": "host"}))["a"].target == Target(mode=Mode.HOST)


def test_pools_of_another_cluster_are_not_seen():
    here = document("NodePool", "here", {"nodes": ["a"], "kmd": {"mode": "host"}}, cluster="here")
    there = document("NodePool", "there", {"nodes": ["b"], "kmd": {"mode": "host"}}, cluster="there")
    commit = tree("r", here, there)
    assert cluster_names(commit) == ("here", "there")
    assert list(resolve(commit, "here", [machine("a"), machine("b")]).nodes) == ["a"]


def test_a_problem_of_another_cluster_concerns_nobody_else():
    from reconciler.core.fleet.documents import Problem

    def problem(file):
        return Problem(mark=Mark(file=file), code="TTF000", message="")

    assert concerns(problem("fleet.yaml"), "a")
    assert concerns(problem("clusters/a/pool.yaml"), "a")
    assert not concerns(problem("clusters/b/pool.yaml"), "a")
    assert concerns(problem("clusters/b/pool.yaml"), "")
