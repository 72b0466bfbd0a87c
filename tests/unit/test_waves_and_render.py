"""Waves with exact counts, and the policies that are rendered from them."""

import pytest

from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.render import group, hostnames_of, manifest, name_clashes, read_target, target_of
from reconciler.core.fleet.resolve import resolve
from reconciler.core.fleet.waves import HELD, WaveSpec, assign, line_up, wave_table
from reconciler.core.rollout.plan import opening_waves
from reconciler.simulation.fleets import document, node_labels, tree
from schema.policy import PolicySpec

TABLE = wave_table([{"name": "canary", "count": 1}, {"name": "early", "percent": 10}, {"name": "rest"}])


def sizes(count: int, table=TABLE) -> dict[str, int]:
    waves = assign("p", [f"n{number}" for number in range(count)], table)
    return {spec.name: list(waves.values()).count(spec.name) for spec in table}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (100, {"canary": 1, "early": 10, "rest": 89}),
        (39, {"canary": 1, "early": 3, "rest": 35}),
        (5, {"canary": 1, "early": 1, "rest": 3}),
        (2, {"canary": 1, "early": 1, "rest": 0}),
        (1, {"canary": 1, "early": 0, "rest": 0}),
    ],
)
def test_counts_are_exact_and_percentages_floored_but_at_least_one(nodes, expected):
    assert sizes(nodes) == expected


def test_without_a_table_there_is_one_wave():
    assert sizes(3, wave_table([])) == {"all": 3}


def test_the_last_wave_takes_the_rest_whatever_its_number():
    assert sizes(10, wave_table([{"name": "a", "count": 2}, {"name": "b", "count": 1}])) == {"a": 2, "b": 8}


def test_a_wave_without_nodes_is_left_out_and_ranks_have_no_gaps():
    waves = line_up({"x": "rest", "y": "late"}, TABLE)
    assert [(wave.name, wave.rank) for wave in waves] == [("rest", 0), ("late", 1)]


def fleet(count: int, *documents, waves=None):
    nodes = [f"n{number:03}" for number in range(count)]
    pool = document(
        "NodePool",
        "train",
        {"nodes": nodes, "kmd": {"mode": "container", "version": "2.7.0"}}
        | ({"waves": waves} if waves else {}),
    )
    releases = [document("Release", v, {"commit": v[2] * 40}) for v in ("2.7.0", "2.8.0")]
    machines = [Machine(name=name, labels=node_labels(name)) for name in nodes]
    return resolve(tree("r", pool, *releases, *documents), "", machines).pools[0]


def groups(pool):
    return group(pool, line_up(opening_waves(pool), pool.waves))


def test_one_policy_a_wave_named_after_pool_and_wave():
    found = groups(fleet(5, waves=[{"name": "canary", "count": 1}, {"name": "rest"}]))
    assert [(part.name, part.rank, len(part.nodes)) for part in found] == [
        ("train-canary", 0, 1),
        ("train-rest", 1, 4),
    ]


def test_a_wave_of_more_than_200_nodes_is_cut_into_shards():
    found = groups(fleet(401))
    assert [(part.name, len(part.nodes)) for part in found] == [
        ("train-all", 200),
        ("train-all-2", 200),
        ("train-all-3", 1),
    ]


def test_only_the_exception_of_a_wave_with_two_targets_has_the_targets_digest_in_its_name():
    found = groups(fleet(3, document("Node", "n001", {"kmd": {"version": "2.8.0"}})))
    assert [part.nodes for part in found] == [("n000", "n002"), ("n001",)]
    assert found[0].name == "train-all"
    assert found[1].name == f"train-all-{found[1].target.digest[:6]}"


def test_held_nodes_stand_apart_and_never_open():
    held = document("Node", "n001", {"hold": True, "reason": "RMA"})
    found = groups(fleet(3, held, waves=[{"name": "canary", "count": 1}, {"name": "rest"}]))
    assert {part.name: len(part.nodes) for part in found} == {
        "train-canary": 1,
        "train-rest": 1,
        "train-held": 1,
    }
    assert found[-1].wave == HELD
    assert found[-1].held


def test_the_rendered_policy_selects_by_hostname_and_reads_back_equal():
    pool = fleet(3)
    part = groups(pool)[0]
    made = manifest(part, sync="fleet", spec=part.spec(waiting=True))
    body = made.to_json()
    assert body["metadata"] == {
        "name": "train-all",
        "labels": {
            "fleet.tenstorrent.com/pool": "train",
            "fleet.tenstorrent.com/sync": "fleet",
            "fleet.tenstorrent.com/wave": "all",
        },
        "annotations": {"fleet.tenstorrent.com/rank": "0"},
    }
    spec = PolicySpec.from_json(body["spec"])
    assert spec == made.spec
    assert hostnames_of(spec) == {"n000", "n001", "n002"}
    assert target_of(spec) == pool.target
    assert spec.waiting


def test_long_names_are_cut_to_57_characters_and_stay_different():
    pools = []
    for last in "ab":
        name = "p" * 39 + last
        pool = document(
            "NodePool", name, {"nodes": [last], "kmd": {"mode": "host"}, "waves": [{"name": "w" * 20}]}
        )
        pools.append(resolve(tree("r", pool), "", [Machine(name=last, labels=node_labels(last))]).pools[0])
    found = [groups(pool)[0].name for pool in pools]
    assert [len(name) for name in found] == [57, 57]
    assert found[0] != found[1]


def test_two_policies_of_one_name_are_a_problem():
    pool = fleet(1)
    part = groups(pool)[0]
    from dataclasses import replace

    other = replace(part, pool="train")
    assert [problem.code for problem in name_clashes([pool], [part, other])] == ["TTF405"]


@pytest.mark.parametrize("text", [None, "", "nonsense", "[]", "{}", '{"mode": "submarine"}'])
def test_an_annotation_that_is_no_target_counts_as_none(text):
    assert read_target(text) is None


def test_wave_sizes_are_never_zero():
    assert WaveSpec(name="x", percent=1).size(3) == 1
