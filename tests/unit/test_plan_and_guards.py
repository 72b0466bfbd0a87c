"""Kinds, order, ids and what blocks; guards refuse what is too large to be meant."""

import pytest

from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import resolve
from reconciler.core.rollout.guards import Guard, refusals
from reconciler.core.rollout.plan import Kind, digest, draft, kind_of, version_key
from reconciler.simulation.fleets import document, node_labels, tree
from schema.states import Reason
from schema.target import Mode, Target, Vacate
from schema.transaction import Attempt, History, Result

OLD = Target(mode=Mode.CONTAINER, version="2.7.0")
NEW = Target(mode=Mode.CONTAINER, version="2.8.0", commit="8" * 40)
DKMS = Target(mode=Mode.HOST, version="2.7.0")


@pytest.mark.parametrize(
    ("current", "target", "kind"),
    [
        (None, NEW, Kind.INSTALL),
        (OLD, NEW, Kind.UPGRADE),
        (NEW, OLD, Kind.DOWNGRADE),
        (NEW, NEW, Kind.NONE),
        (Target(mode=Mode.CONTAINER, version="2.8.0"), NEW, Kind.NONE),
        (Target(mode=Mode.CONTAINER, version="2.8.0", commit="1" * 40), NEW, Kind.UPGRADE),
        (Target(mode=Mode.CONTAINER), NEW, Kind.INSTALL),
        (DKMS, NEW, Kind.NONE),
        (DKMS, Target(mode=Mode.CONTAINER, version="2.8.0", vacate=Vacate.ONCE), Kind.VACATE),
        (OLD, DKMS, Kind.RESTORE),
        (None, DKMS, Kind.NONE),
        (DKMS, Target(mode=Mode.HOST, version="9.9.9"), Kind.NONE),
    ],
)
def test_what_it_takes_from_one_target_to_another(current, target, kind):
    assert kind_of(current, target) is kind


def test_versions_are_compared_as_numbers():
    assert version_key("2.10.0") > version_key("2.9.0")


def machine(name, mode=Mode.CONTAINER, version="2.7.0", **more):
    labels = node_labels(name, mode=mode or "", version=version)
    return Machine(name=name, labels=labels, mode=mode, version=version, **more)


def desired(machines, *documents, version="2.8.0", fleet=None, waves=None, revision="r", **kmd):
    spec = {"nodes": [m.name for m in machines], "kmd": {"mode": "container", "version": version, **kmd}}
    pool = document("NodePool", "train", spec | ({"waves": waves} if waves else {}))
    releases = [document("Release", v, {"commit": v[2] * 40}) for v in ("2.6.0", "2.7.0", "2.8.0")]
    return resolve(
        tree(revision, pool, *releases, document("Fleet", "f", fleet or {}), *documents), "", machines
    )


def plan_of(wanted, **more):
    return draft(wanted, ids={pool.name: f"{pool.name}/1-x" for pool in wanted.pools}, **more)


def refused(wanted, plan=None, *, placed=None, past=None):
    found = refusals(wanted, plan or plan_of(wanted), placed=placed or {}, past=past or {})
    return [refusal.guard for refusal in found]


def test_a_plan_lists_deletes_downgrades_and_vacates_first():
    machines = [
        machine("a"),
        machine("b", Mode.HOST),
        machine("c", version="2.9.0"),
        machine("d", None, ""),
        machine("e", version="2.8.0"),
    ]
    plan = plan_of(desired(machines, vacate="Once"), dropped=[machine("z", Mode.HOST)])
    assert [(change.node, change.kind) for change in plan.changes] == [
        ("z", Kind.DELETE),
        ("c", Kind.DOWNGRADE),
        ("b", Kind.VACATE),
        ("a", Kind.UPGRADE),
        ("d", Kind.INSTALL),
        ("e", Kind.NONE),
    ]


def test_a_change_names_what_blocks_it():
    machines = [
        machine("a"),
        machine("b", obstacle=Reason.EXTERNAL_CORDON),
        machine("c", Mode.HOST),
        machine("d"),
    ]
    waves = [{"name": "one", "count": 1}, {"name": "rest"}]
    wanted = desired(machines, document("Node", "d", {"hold": True, "reason": "RMA"}), waves=waves)
    plan = plan_of(wanted)
    first = next(pool.waves[0].nodes[0] for pool in plan.pools)
    blocked = {change.node: change.blocked for change in plan.changes}
    assert blocked["b"] == "ExternalCordon"
    assert blocked["c"] == "HostManagedKMD"
    assert blocked["d"] == "Held RMA"
    assert blocked["a"] == ("" if first == "a" else "WaveClosed")


def test_vacates_and_restores_are_planned_but_not_supported_yet():
    plan = plan_of(desired([machine("a", Mode.HOST)], vacate="Once"))
    assert [(change.kind, change.blocked) for change in plan.changes] == [(Kind.VACATE, "NotSupported")]


def test_a_blocked_release_blocks_its_nodes():
    release = document("Release", "2.8.1", {"commit": "1" * 40, "blocked": "bad"})
    plan = plan_of(desired([machine("a")], release, version="2.8.1"))
    assert plan.changes[0].blocked == "release blocked: bad"


def test_the_estimate_counts_batches_of_the_smallest_budget_wave_by_wave():
    machines = [machine(name) for name in "abcde"]
    waves = [{"name": "one", "count": 1}, {"name": "rest"}]
    plan = plan_of(desired(machines, fleet={"maxUnavailable": 2}, waves=waves))
    assert plan.pools[0].estimate_s == (1 + 2) * 60


def test_the_digest_knows_targets_and_table_but_neither_commit_nor_nodes():
    one = desired([machine("a")], revision="r1").pools[0]
    two = desired([machine("a"), machine("b")], revision="r2").pools[0]
    other_version = desired([machine("a")], version="2.7.0").pools[0]
    other_table = desired([machine("a")], waves=[{"name": "x"}]).pools[0]
    exception = desired([machine("a")], document("Node", "a", {"kmd": {"version": "2.7.0"}})).pools[0]
    assert digest(one) == digest(two)
    assert len({digest(pool) for pool in (one, other_version, other_table, exception)}) == 4


def test_more_vacates_than_allowed_are_refused_and_a_larger_number_lets_them_pass():
    machines = [machine(name, Mode.HOST) for name in "ab"]
    assert refused(desired(machines, vacate="Once")) == [Guard.MAX_VACATES]
    assert refused(desired(machines, vacate="Once", fleet={"guards": {"maxVacates": 2}})) == []


def test_a_container_managed_node_that_a_commit_drops_is_refused_whatever_the_guard_says():
    wanted = desired([machine("a")], fleet={"guards": {"maxDeletes": 9}})
    assert refused(wanted, plan_of(wanted, dropped=[machine("z")])) == [Guard.NODE_DROPPED]


def test_host_managed_nodes_leave_within_max_deletes():
    gone = [machine("z", Mode.HOST)]
    tight, wide = desired([machine("a")]), desired([machine("a")], fleet={"guards": {"maxDeletes": 1}})
    assert refused(tight, plan_of(tight, dropped=gone)) == [Guard.MAX_DELETES]
    assert refused(wide, plan_of(wide, dropped=gone)) == []


def test_nodes_that_change_their_pool_count():
    wanted = desired([machine("a")])
    assert refused(wanted, placed={"a": frozenset({"other"})}) == [Guard.MAX_MOVES]
    assert refused(wanted, placed={"a": frozenset({"other", "train"})}) == []
    loose = desired([machine("a")], fleet={"guards": {"maxMoves": 1}})
    assert refused(loose, placed={"a": frozenset({"other"})}) == []


def test_a_downgrade_passes_if_the_pool_or_the_node_had_it_or_if_it_is_allowed():
    target = Target(mode=Mode.CONTAINER, version="2.7.0", commit="7" * 40)
    high = [machine("a", version="2.8.0")]
    wanted = desired(high, version="2.7.0")
    assert refused(wanted) == [Guard.DOWNGRADE]
    assert refused(wanted, past={"train": frozenset({target})}) == []
    assert refused(wanted, past={"other": frozenset({target})}) == [Guard.DOWNGRADE]
    assert refused(desired(high, version="2.7.0", fleet={"allowDowngrade": True})) == []
    entry = Attempt(at="2026-01-01T00:00:00Z", plan="", from_=OLD, to=NEW, result=Result.OK)
    remembers = [machine("a", version="2.8.0", history=History(reached=(entry,)))]
    assert refused(desired(remembers, version="2.7.0")) == []


def test_upgrades_that_travel_in_waves_are_never_counted():
    assert refused(desired([machine(f"n{number}") for number in range(300)])) == []


def test_a_refusal_says_how_to_go_on_and_lists_few_names():
    wanted = desired([machine(f"n{number}", Mode.HOST) for number in range(9)], vacate="Once")
    (refusal,) = refusals(wanted, plan_of(wanted), placed={}, past={})
    assert str(refusal) == (
        "MaxVacates: 9 nodes pass between host and container, more than guards.maxVacates 1: n0, n1, n2, n3, n4 and 4 "
        "more; raise it in the same commit if that is meant"
    )
