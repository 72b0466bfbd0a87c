"""Stories of the reconciler over a modelled cluster; each golden file's name is the sentence of its scenario.

`UPDATE_GOLDEN=1 pytest tests/golden/test_rollout_traces.py` writes them anew; read the difference before committing.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.core.fleet.documents import Mark, Problem
from reconciler.core.fleet.machines import Machine
from reconciler.core.rollout.syncworld import Stall
from reconciler.loop import tick
from reconciler.simulation.fleets import document, node_labels, tree
from reconciler.simulation.rollouts import ModelCluster
from schema.sync import SyncMode, SyncReason
from schema.target import Mode

GOLDEN = Path(__file__).parent / "rollouts"
WAVES = [{"name": "canary", "count": 1}, {"name": "early", "percent": 25}, {"name": "rest"}]
RELEASES = [
    document("Release", version, {"commit": version[2] * 40})
    for version in ("2.6.0", "2.7.0", "2.8.0", "2.9.0")
]
SCENARIOS: dict[str, Callable] = {}


def scenario(play):
    SCENARIOS[play.__name__.replace("_", " ")] = play
    return play


def node(
    number: int, version: str = "2.7.0", mode: Mode | None = Mode.CONTAINER, pool: str = "train"
) -> Machine:
    name = f"node-{number:02}"
    labels = node_labels(name, mode=str(mode or ""), version=version, pool=pool)
    return Machine(name=name, labels=labels, mode=mode, version=version)


def pool(name: str = "train", version: str | None = None, waves=WAVES, **kmd):
    said = {"mode": "container", **({"version": version} if version else {"channel": "stable"}), **kmd}
    return document(
        "NodePool", name, {"selector": {"matchLabels": {"pool": name}}, "kmd": said, "waves": waves}
    )


def commit(revision: str, stable: str, *documents, fleet=None):
    spec = {"channels": {"stable": stable}, "maxUnavailable": "25%", **(fleet or {})}
    return tree(revision, document("Fleet", "acme", spec), *(documents or (pool(),)), *RELEASES)


class Story(ModelCluster):
    """A cluster that is told commits by their sentence."""

    async def told(self, sentence: str, tree) -> None:
        self.trace.append(f"{tree.revision}: {sentence}")
        self.commits.append(tree)

    async def passes(self, count: int) -> None:
        for _ in range(count):
            await self.tick()
            self.operate(batch=3)


def story(count: int = 12, **more) -> Story:
    machines = {one.name: one for one in (node(number) for number in range(1, count + 1))}
    return Story(drive=tick, machines=machines, **more)


async def adopted(count: int = 12, **more) -> Story:
    """Commit c1 has been applied; the trace begins after it."""
    told = story(count, **more)
    told.commits.append(commit("c1", "2.7.0"))
    await told.settle()
    told.trace.clear()
    return told


@scenario
async def the_demo_adopts_upgrades_canary_first_and_reverts_in_one_wave():
    told = story()
    await told.told("what is there is adopted, nothing changes on any node", commit("c1", "2.7.0"))
    await told.settle(batch=3)
    await told.told("channel stable moves to 2.8.0", commit("c2", "2.8.0"))
    await told.settle(batch=3)
    await told.told("git revert", commit("c3", "2.7.0"))
    await told.settle(batch=3)
    return told


@scenario
async def a_version_tried_again_after_its_revert_goes_through_the_waves_like_the_first_time():
    told = await adopted(8)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.settle(batch=3)
    await told.told("git revert: 2.7.0 comes back in one wave", commit("c3", "2.7.0"))
    await told.settle(batch=3)
    told.trace.clear()
    await told.told("2.8.0 once more", commit("c4", "2.8.0"))
    await told.settle(batch=3)
    return told


@scenario
async def a_canary_that_is_put_on_hold_before_it_is_done_is_replaced_by_another():
    told = await adopted(6)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.tick()
    [canary] = told._members(told.policies["train-canary"])
    held = document("Node", canary, {"hold": True, "reason": "RMA"})
    await told.told(f"{canary}, the canary, is held", commit("c3", "2.8.0", pool(), held))
    await told.settle(batch=3)
    return told


@scenario
async def a_revert_while_the_canary_is_done_takes_back_the_canary_alone():
    told = await adopted()
    await told.told("channel stable moves to 2.8.0", commit("c2", "2.8.0"))
    await told.passes(2)
    await told.told("git revert, before the second wave has started", commit("c3", "2.7.0"))
    await told.settle(batch=3)
    return told


@scenario
async def reverting_only_the_second_of_two_commits_pushes_nobody_past_the_canary_of_the_first():
    told = await adopted(8)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    await told.told("2.9.0, while 2.8.0 is in its canary only", commit("c3", "2.9.0"))
    await told.passes(1)
    await told.told("revert of c3: 2.8.0 again", commit("c4", "2.8.0"))
    await told.settle(batch=3)
    return told


@scenario
async def a_failed_node_keeps_the_next_wave_closed_until_it_is_mended():
    told = await adopted(8)
    told.failing = {"node-01", "node-02", "node-03", "node-04", "node-05", "node-06", "node-07", "node-08"}
    await told.told("2.8.0, which loads nowhere", commit("c2", "2.8.0"))
    await told.passes(4)
    told.trace.append("the fault is mended")
    told.failing.clear()
    await told.settle(batch=3)
    return told


@scenario
async def a_node_that_joins_in_the_middle_of_a_plan_is_last():
    told = await adopted(8)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    told.trace.append("node-20 joins with 2.7.0, node-21 without a module")
    for number, version, mode in ((20, "2.7.0", Mode.CONTAINER), (21, "", None)):
        told.machines[f"node-{number}"] = node(number, version, mode)
    await told.settle(batch=3)
    return told


@scenario
async def waves_whose_policies_somebody_deletes_in_the_middle_still_open_in_order():
    told = await adopted(8)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    await told.tick()
    told.trace.append("kubectl delete ttdp train-early train-rest, once the canary is done")
    for name in ("train-early", "train-rest"):
        del told.policies[name]
    await told.settle(batch=3)
    return told


@scenario
async def a_broken_connection_after_any_write_ends_in_the_same_state():
    told = await adopted(6)
    await told.told("2.8.0; the connection breaks after each single write", commit("c2", "2.8.0"))
    for _ in range(40):
        told.writes_left = 1
        await told.tick()
        told.operate(batch=1)
    told.writes_left = None
    await told.settle()
    return told


@scenario
async def an_empty_directory_a_lost_repository_and_a_faulty_commit_change_nothing():
    told = await adopted(4)
    await told.told("every file is gone", tree("c2"))
    await told.passes(2)
    told.trace.append("the remote does not answer")
    told.fault = Stall(reason=SyncReason.SOURCE_UNAVAILABLE, message="git://fleet main: connection refused")
    await told.passes(2)
    told.fault = None
    problem = Problem(mark=Mark(file="fleet.yaml", line=3, column=5), code="TTF106", message="quote 2.10")
    await told.told("an unquoted version", replace(commit("c3", "2.8.0"), problems=(problem,)))
    await told.passes(2)
    await told.told("mended", commit("c4", "2.8.0"))
    await told.settle(batch=3)
    return told


@scenario
async def observe_plans_and_reports_and_writes_nothing():
    told = story(4, mode=SyncMode.OBSERVE)
    await told.told("2.8.0", commit("c1", "2.8.0"))
    await told.passes(3)
    told.trace.append("the chart sets Enforce")
    told.mode = SyncMode.ENFORCE
    await told.settle(batch=3)
    return told


@scenario
async def a_commit_that_drops_a_pool_or_moves_its_nodes_is_refused_until_it_says_so():
    told = await adopted(4)
    other = document(
        "NodePool", "infer", {"nodes": ["node-01"], "kmd": {"mode": "container", "channel": "stable"}}
    )
    left = document(
        "NodePool",
        "train",
        {"nodes": ["node-02", "node-03", "node-04"], "kmd": {"mode": "container", "channel": "stable"}},
    )
    await told.told(
        "node-04 is in no pool any more", commit("c2", "2.7.0", replace(left, data=_without(left)))
    )
    await told.passes(2)
    await told.told("node-01 changes its pool", commit("c3", "2.7.0", other, left))
    await told.passes(2)
    guards = {"guards": {"maxMoves": 1}}
    await told.told("the same with maxMoves: 1", commit("c4", "2.7.0", other, left, fleet=guards))
    await told.settle()
    return told


@scenario
async def another_wave_table_and_a_held_node_in_the_middle_of_a_plan():
    told = await adopted(8)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    table = [{"name": "canary", "count": 2}, {"name": "rest"}]
    hold = document("Node", "node-03", {"hold": True, "reason": "RMA-4411"})
    await told.told("a canary of two, node-03 is held", commit("c3", "2.8.0", pool(waves=table), hold))
    await told.settle(batch=3)
    await told.told("node-03 is free again", commit("c4", "2.8.0", pool(waves=table)))
    await told.settle(batch=3)
    return told


@scenario
async def a_blocked_release_stops_the_waves_that_have_not_started():
    told = await adopted(4)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    blocked = document("Release", "2.8.0", {"commit": "8" * 40, "blocked": "hangs on suspend"})
    stop = commit("c3", "2.8.0")
    others = tuple(one for one in stop.documents if (one.kind, one.name) != ("Release", "2.8.0"))
    await told.told("Release 2.8.0 is blocked", replace(stop, documents=(*others, blocked)))
    await told.passes(3)
    await told.told("git revert of all", commit("c4", "2.7.0"))
    await told.settle(batch=3)
    return told


@scenario
async def vacates_are_planned_and_rendered_but_the_operator_does_not_do_them_yet():
    told = Story(drive=tick, machines={one.name: one for one in (node(1, mode=Mode.HOST), node(2))})
    await told.told(
        "node-01 is managed by DKMS and may be vacated", commit("c1", "2.7.0", pool(vacate="Once"))
    )
    await told.passes(4)
    return told


@scenario
async def a_policy_deleted_by_hand_comes_back_and_the_plan_goes_on():
    told = await adopted(6)
    await told.told("2.8.0", commit("c2", "2.8.0"))
    await told.passes(1)
    told.trace.append("kubectl delete ttdp train-rest")
    del told.policies["train-rest"]
    await told.settle(batch=3)
    return told


def _without(left) -> dict:
    return {**left.data, "spec": {**left.spec, "nodes": ["node-01", "node-02", "node-03"]}}


@pytest.mark.parametrize("sentence", SCENARIOS)
def test_trace(sentence):
    told = asyncio.run(SCENARIOS[sentence]())
    text = "\n".join(told.trace) + "\n"
    file = GOLDEN / f"{sentence}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_golden_file_has_its_scenario():
    assert sorted(file.stem for file in GOLDEN.glob("*.txt")) == sorted(SCENARIOS)
