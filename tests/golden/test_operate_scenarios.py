"""Every scenario is a sentence: the name of the function, and of the trace in tests/golden/operate/.

Each is played with seed 0 (the trace must be the golden one) and with seeds of chance (the ending must be the same);
S1-S5, S7 and S11 are judged at every write in all of them. `GOLDEN=write` records the traces anew.
"""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.core.node.operate import operate
from reconciler.core.world import CordonOwner
from reconciler.loop import tick
from reconciler.simulation.machines import module
from reconciler.simulation.play import Play, policy
from reconciler.simulation.server import HUMAN
from reconciler.simulation.workloads import Workload
from schema.clock import format_rfc3339
from schema.facts import HostMode
from schema.names import (
    ANNOTATION_HOLD,
    ANNOTATION_KEEP_CORDONED,
    ANNOTATION_PROMOTED,
    ANNOTATION_RETRY,
    LABEL_SKIP,
)
from schema.policy import Budget, Drain
from schema.states import Reason
from schema.target import Mode, Target
from schema.transaction import Phase, Result

GOLDEN = Path(__file__).parent / "operate"
SCENARIOS = {}


def scenario(play):
    SCENARIOS[play.__name__] = play
    return play


def cluster(seed, nodes=1, *, version="2.7.0", workload=None, **fields):
    play = Play.of(tick=tick, decide=operate, seed=seed)
    for index in range(nodes):
        play.add_node(f"n{index}", version=version, **fields)
    if workload:
        play.workloads.deploy(workload)
    play.add_operator()
    return play


def phase(play, node, wanted):
    record = play.server.nodes[node].record
    return record is not None and record.phase is wanted


def prestage(play, *nodes, version="2.8.0"):
    """Staging takes its time on each machine; without it they start in the order of their names."""
    commit = policy("", version).spec.source.commit
    for node in nodes:
        play.machines[node].staged[version, commit] = module(version, commit)
        play.machines[node].report()


def slow_pod(play, node, seconds):
    """A pod that goes, but takes its time."""
    pod = play.server.add(
        name=f"slow-{node}", node=node, owner="Job/x", uses_device=True, phase="Running", ready=True
    )
    play.server.terminate(pod.uid, seconds)


def claimed(play, node="n0"):
    return play.server.nodes[node].claim is not None


def loaded(play, node):
    module = play.machines[node].loaded
    return module.version if module else None


async def until(play, condition, seconds=7200):
    assert await play.run(seconds, until=condition), play.states()


async def until_done(play, version="2.8.0"):
    def done():
        loaded = all(m.loaded and m.loaded.version == version for m in play.machines.values())
        return loaded and play.at_rest() and all(state == "Done" for state, _ in play.states().values())

    await until(play, done)


def annotate(play, node, **changes):
    annotations = {**play.server.nodes[node].annotations, **changes}
    play.server.touch(node, HUMAN, annotations={k: v for k, v in annotations.items() if v is not None})


def label(play, node, key, value):
    play.server.touch(node, HUMAN, labels={**play.server.nodes[node].labels, key: value})


@scenario
async def one_commit_upgrades_three_nodes_within_a_budget_of_one(seed):
    play = cluster(seed, 3, workload=Workload(name="train", replicas=3))
    play.workloads.telemetry()
    play.server.apply(policy("all", "2.8.0"))
    await until_done(play)
    assert play.watch.most == 1
    assert all(node.history.reached[0].to.version == "2.8.0" for node in play.server.nodes.values())
    return play


@scenario
async def two_budgets_of_one_group_count_as_the_smaller_number(seed):
    play = cluster(seed, 4)
    for index in range(4):
        slow_pod(play, f"n{index}", 300.0)
    play.server.apply(
        policy("a", "2.8.0", nodes=("n0", "n1"), budgets=(Budget(group="fleet", max_unavailable=4),))
    )
    play.server.apply(
        policy("b", "2.8.0", nodes=("n2", "n3"), budgets=(Budget(group="fleet", max_unavailable=2),))
    )
    await until_done(play)
    assert play.watch.most == 2
    return play


@scenario
async def adoption_of_a_running_version_writes_no_node(seed):
    play = cluster(seed, 2)
    play.server.apply(policy("all", "2.7.0"))
    await play.run(600)
    assert play.states() == {"n0": ("Done", ""), "n1": ("Done", "")}
    assert play.writes() == []
    return play


@scenario
async def a_machine_without_a_module_gets_it_without_a_drain(seed):
    play = cluster(seed, 1, version=None)
    play.server.apply(policy("all", "2.8.0"))
    await until_done(play)
    reached = play.server.nodes["n0"].history.reached[0]
    assert reached.from_ is None
    assert reached.result is Result.OK
    return play


@scenario
async def a_closed_wave_stages_and_starts_nothing(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0", waiting=True))
    await play.run(600)
    assert play.states()["n0"] == ("Waiting", "WaveClosed")
    assert [s.version for s in play.machines["n0"].staged.values()] == ["2.8.0"]
    assert play.writes() == []
    play.server.apply(policy("all", "2.8.0"))
    await until_done(play)
    return play


@scenario
async def a_closed_wave_installs_the_promoted_version_on_an_empty_machine(seed):
    play = cluster(seed, 1, version=None)
    promoted = Target(
        mode=Mode.CONTAINER, version="2.7.0", repository="https://example.invalid/kmd.git", commit="7" * 40
    )
    annotations = {ANNOTATION_PROMOTED: json.dumps(promoted.to_json())}
    play.server.apply(policy("all", "2.8.0", waiting=True, annotations=annotations))
    await until(play, lambda: play.machines["n0"].loaded is not None and play.at_rest())
    await play.run(300)
    assert loaded(play, "n0") == "2.7.0"
    assert play.states()["n0"] == ("Waiting", "WaveClosed")
    return play


@scenario
async def a_stage_that_fails_is_tried_again_after_the_back_off(seed):
    play = cluster(seed)
    play.machines["n0"].faults["stage"] = Reason.BUILD_FAILED
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.states().get("n0") == ("Blocked", "BuildFailed"))
    latest = play.server.nodes["n0"].history.latest
    assert (latest.result, latest.attempts) == (Result.FAILED, 1)
    assert play.server.nodes["n0"].record is None
    await until_done(play)
    assert play.server.nodes["n0"].history.latest.attempts == 2
    return play


@scenario
async def a_disruption_budget_without_room_keeps_the_node_schedulable(seed):
    play = cluster(seed, 2, workload=Workload(name="train", replicas=2, max_unavailable=0))
    play.server.apply(policy("all", "2.8.0"))
    await play.run(900)
    assert set(play.states().values()) == {("Blocked", "PDBBlocked")}
    assert play.writes() == []
    play.workloads.deployments["ReplicaSet/train"].max_unavailable = 1
    await until_done(play)
    return play


@scenario
async def a_bare_pod_that_holds_the_device_blocks_its_node_alone(seed):
    play = cluster(seed, 2)
    pod = play.server.add(name="bare", node="n0", uses_device=True, phase="Running", ready=True)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: loaded(play, "n1") == "2.8.0" and play.at_rest())
    await play.run(60)
    assert play.states()["n0"] == ("Blocked", "UndrainableHolder")
    play.server.remove(pod.uid)
    await until_done(play)
    return play


@scenario
async def a_drain_that_times_out_releases_the_node_and_is_tried_again(seed):
    play = cluster(seed, 1)
    slow_pod(play, "n0", 1000.0)
    play.server.apply(policy("all", "2.8.0", drain=Drain(timeout_s=120)))
    await until(play, lambda: play.states().get("n0") == ("Blocked", "DrainTimeout"))
    node = play.server.nodes["n0"]
    assert (node.record, node.cordon) == (None, CordonOwner.NOBODY)
    await until_done(play)
    return play


@scenario
async def a_pod_that_comes_back_to_the_cordoned_node_is_reported_and_not_evicted_for_ever(seed):
    play = cluster(seed, 1)
    owner = "ReplicaSet/tolerant"

    def back(pod):
        if pod.owner == owner:
            play.agenda.after(0.0, tolerant)

    def tolerant():
        play.server.add(
            name="tolerant", node="n0", owner=owner, uses_device=True, phase="Running", ready=True
        )

    play.server.removed.append(back)
    tolerant()
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.states().get("n0") == ("Blocked", "PodRelanded"))
    assert play.server.nodes["n0"].cordon is CordonOwner.NOBODY
    assert sum(1 for event in play.story.events if event.text.startswith("evicts")) <= 3
    return play


@scenario
async def a_host_process_that_holds_the_device_is_never_unloaded_under(seed):
    play = cluster(seed, 1)
    play.machines["n0"].host_holders = 1
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.states().get("n0") == ("Blocked", "DeviceInUse"))
    assert play.server.nodes["n0"].cordon is CordonOwner.NOBODY
    play.machines["n0"].host_holders = 0
    await until_done(play)
    return play


@scenario
async def a_human_uncordon_before_the_claim_aborts(seed):
    play = cluster(seed, 1, workload=Workload(name="train", replicas=1))
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.CORDONED))
    play.server.uncordon("n0", HUMAN)
    await until(play, play.at_rest)
    await play.run(10)
    assert play.states()["n0"] == ("Blocked", "HumanUncordon")
    assert loaded(play, "n0") == "2.7.0"
    return play


@scenario
async def a_human_uncordon_after_the_claim_finishes_without_a_new_cordon(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: claimed(play))
    play.server.uncordon("n0", HUMAN)
    cordons = len([e for e in play.story.events if e.text == "cordons"])
    await until_done(play)
    assert len([e for e in play.story.events if e.text == "cordons"]) == cordons
    return play


@scenario
async def keep_cordoned_leaves_the_cordon_after_the_release(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.CORDONED) or phase(play, "n0", Phase.PERMITTED))
    annotate(play, "n0", **{ANNOTATION_KEEP_CORDONED: "me: RMA"})
    await until(play, lambda: play.server.nodes["n0"].record is None)
    await play.run(300)
    assert play.server.nodes["n0"].unschedulable
    assert play.states()["n0"] == ("Done", "")
    return play


@scenario
async def a_foreign_cordon_is_neither_acted_on_nor_removed_and_counts(seed):
    play = cluster(seed, 2)
    play.server.cordon("n0", HUMAN)
    play.server.apply(policy("all", "2.8.0"))
    await play.run(600)
    assert play.states()["n0"] == ("Blocked", "ExternalCordon")
    assert play.states()["n1"] == ("Pending", "Budget")
    assert play.writes() == []
    play.server.uncordon("n0", HUMAN)
    await until_done(play)
    return play


@scenario
async def a_reboot_before_the_claim_releases_the_node(seed):
    play = cluster(seed, 1)
    slow_pod(play, "n0", 30.0)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.PERMITTED))
    play.machines["n0"].reboot()
    await until(play, lambda: play.server.nodes["n0"].record is None)
    assert play.server.nodes["n0"].history.latest.reason in {"Rebooted", "VerdictLost"}
    await until_done(play)
    return play


@scenario
async def a_reboot_between_unload_and_load_is_finished_by_the_keeper(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.machines["n0"].journal is not None)
    play.machines["n0"].reboot()
    await until_done(play)
    assert play.server.nodes["n0"].history.reached[0].to.version == "2.8.0"
    assert any("rebooted under the claim" in event.text for event in play.story.events)
    return play


@scenario
async def a_worker_killed_after_the_claim_is_resumed_by_the_next(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: claimed(play))
    machine = play.machines["n0"]
    machine.kill(machine.runs[0])
    await until_done(play)
    workers = [e.text for e in play.story.events if e.text.startswith("creates worker")]
    assert [text[-1] for text in workers] == ["1", "2"]
    assert len({text[:-1] for text in workers}) == 1
    return play


@scenario
async def a_worker_that_starts_twice_unloads_once(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    machine = play.machines["n0"]
    await until(play, lambda: any(run.order.txn_id for run in machine.runs))
    run = next(run for run in machine.runs if run.order.txn_id)
    machine.begin(run.pod, run.order)
    await until_done(play)
    await play.run(60)
    assert sum(1 for event in play.story.events if event.text.startswith("unloads")) == 1
    return play


@scenario
async def a_module_that_does_not_load_is_rolled_back_and_waits_for_retry(seed):
    play = cluster(seed)
    play.machines["n0"].faults["insmod"] = Reason.LOAD_FAILED
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.states().get("n0") == ("Failed", "RolledBack"))
    await play.run(7200)
    assert play.states()["n0"] == ("Failed", "RolledBack")
    assert loaded(play, "n0") == "2.7.0"
    assert play.server.nodes["n0"].history.latest.reason == "LoadFailed"
    annotate(play, "n0", **{ANNOTATION_RETRY: format_rfc3339(play.agenda.now)})
    await until_done(play)
    return play


@scenario
async def when_no_module_loads_the_node_stays_cordoned_until_it_reboots(seed):
    play = cluster(seed)
    play.machines["n0"].faults |= {"insmod": Reason.LOAD_FAILED, "fallback": Reason.LOAD_FAILED}
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.states().get("n0") == ("Failed", "RebootRequired"))
    play.add_node("n1")
    await play.run(3600)
    assert play.server.nodes["n0"].cordon is CordonOwner.OURS
    assert play.states()["n1"] == ("Pending", "Budget")
    play.machines["n0"].reboot()
    await until(play, lambda: play.states().get("n0") == ("Failed", "RolledBack"))
    assert loaded(play, "n0") == "2.7.0"
    return play


@scenario
async def a_deleted_policy_releases_its_node_before_the_claim(seed):
    play = cluster(seed, 1, workload=Workload(name="train", replicas=1))
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.CORDONED))
    play.server.withdraw("all")
    await until(play, play.at_rest)
    assert loaded(play, "n0") == "2.7.0"
    assert play.server.nodes["n0"].history.latest is None
    return play


@scenario
async def a_policy_deleted_after_the_claim_finishes_its_node(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: claimed(play))
    play.server.withdraw("all")
    await until(play, play.at_rest)
    assert loaded(play, "n0") == "2.8.0"
    return play


@scenario
async def a_new_version_before_the_claim_starts_over_with_it(seed):
    play = cluster(seed, 1, workload=Workload(name="train", replicas=1))
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.CORDONED))
    play.server.apply(policy("all", "2.9.0"))
    await until_done(play, "2.9.0")
    assert [entry.to.version for entry in play.server.nodes["n0"].history.reached] == ["2.9.0"]
    return play


@scenario
async def a_revert_uses_new_ids_and_comes_back(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until_done(play, "2.8.0")
    play.server.apply(policy("all", "2.7.0"))
    await until_done(play, "2.7.0")
    play.server.apply(policy("all", "2.8.0"))
    await until_done(play, "2.8.0")
    ids = {write.record.id for write in play.writes() if write.step == "reserve"}
    assert len(ids) == 3
    assert [entry.to.version for entry in play.server.nodes["n0"].history.reached] == ["2.8.0", "2.7.0"]
    return play


@scenario
async def a_hold_releases_before_the_claim_and_finishes_after_it(seed):
    play = cluster(seed, 2)
    prestage(play, "n0", "n1")
    slow_pod(play, "n1", 600.0)
    play.server.apply(policy("all", "2.8.0", budgets=(Budget(group="g", max_unavailable=2),)))
    await until(play, lambda: claimed(play) and phase(play, "n1", Phase.CORDONED))
    play.server.apply(
        policy(
            "all",
            "2.8.0",
            budgets=(Budget(group="g", max_unavailable=2),),
            annotations={ANNOTATION_HOLD: "me: look first"},
        )
    )
    await until(play, play.at_rest)
    await play.run(60)
    assert loaded(play, "n0") == "2.8.0"
    assert loaded(play, "n1") == "2.7.0"
    assert play.states() == {"n0": ("Done", ""), "n1": ("Held", "Held")}
    return play


@scenario
async def a_skip_label_before_the_claim_releases_the_node(seed):
    play = cluster(seed, 1, workload=Workload(name="train", replicas=1))
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.CORDONED))
    label(play, "n0", LABEL_SKIP, "")
    await until(play, play.at_rest)
    await play.run(600)
    assert play.states()["n0"] == ("Skipped", "SkipLabel")
    assert loaded(play, "n0") == "2.7.0"
    return play


@scenario
async def two_policies_that_differ_start_nothing_where_they_overlap(seed):
    play = cluster(seed, 2)
    play.server.apply(policy("a", "2.8.0"))
    play.server.apply(policy("b", "2.9.0", nodes=("n0",)))
    await until(play, lambda: loaded(play, "n1") == "2.8.0" and play.at_rest())
    await play.run(600)
    assert play.states()["n0"] == ("Blocked", "Overlap")
    assert loaded(play, "n0") == "2.7.0"
    return play


@scenario
async def the_reservation_of_a_crashed_leader_is_cancelled_by_the_next(seed):
    play = cluster(seed, 2)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: phase(play, "n0", Phase.RESERVED))
    play.operators.clear()
    play.add_operator()
    await until_done(play)
    assert any(event.text == "releases (NotLeader)" for event in play.story.events)
    return play


@scenario
async def a_host_managed_machine_is_not_touched(seed):
    play = cluster(seed, 1, mode=HostMode.HOST)
    play.server.apply(policy("all", "2.8.0"))
    await play.run(600)
    assert play.states()["n0"] == ("HostManaged", "HostManagedKMD")
    assert play.writes() == []
    assert not [event for event in play.story.events if event.who == "operator"]
    return play


@scenario
async def a_version_without_a_pin_blocks(seed):
    play = cluster(seed)
    bare = policy("all", "2.8.0")
    play.server.apply(replace(bare, spec=replace(bare.spec, source=None)))
    await play.run(300)
    assert play.states()["n0"] == ("Blocked", "UnknownRelease")
    assert play.writes() == []
    return play


@scenario
async def pods_that_bound_the_old_devices_are_deleted_before_the_release(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: play.machines["n0"].journal is not None)
    play.server.add(
        name="plugin", node="n0", owner="DaemonSet/p", daemonset=True, uses_device=True, phase="Pending"
    )
    await until_done(play)
    assert [event.text for event in play.story.events if event.text.startswith("deletes")] == [
        "deletes plugin"
    ]
    return play


@scenario
async def a_module_that_somebody_unloads_is_not_loaded_again_unasked(seed):
    play = cluster(seed)
    play.server.apply(policy("all", "2.7.0"))
    await play.run(60)
    play.machines["n0"].loaded = None
    play.machines["n0"].report()
    await play.run(600)
    assert play.states()["n0"] == ("Blocked", "ModuleRemoved")
    assert play.writes() == []
    annotate(play, "n0", **{ANNOTATION_RETRY: format_rfc3339(play.agenda.now)})
    await until_done(play, "2.7.0")
    return play


@scenario
async def a_record_that_cannot_be_read_stops_its_node_and_counts(seed):
    play = cluster(seed, 2)
    play.server.touch("n0", HUMAN, faults=("fleet.tenstorrent.com/txn: not JSON",))
    annotate(play, "n0", **{"fleet.tenstorrent.com/txn": "{"})
    play.server.apply(policy("all", "2.8.0"))
    await play.run(600)
    assert play.states() == {"n0": ("Blocked", "UnreadableAnnotation"), "n1": ("Pending", "Budget")}
    assert play.writes() == []
    return play


@scenario
async def a_node_that_vanishes_under_its_record_gives_its_slot_back(seed):
    play = cluster(seed, 2)
    prestage(play, "n0")
    play.server.apply(policy("all", "2.8.0"))
    await until(play, lambda: claimed(play))
    play.vanish("n0")
    await until_done(play)
    return play


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_golden_trace(name):
    play = asyncio.run(SCENARIOS[name](0))
    file = GOLDEN / f"{name}.txt"
    lines = "".join(f"{line}\n" for line in play.story.lines())
    if os.environ.get("GOLDEN") == "write":
        file.write_text(lines)
    assert file.read_text() == lines, f"GOLDEN=write records {file.name} anew"


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_ending_in_any_order(name, seed):
    asyncio.run(SCENARIOS[name](seed))


def test_every_trace_has_its_scenario():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(SCENARIOS)


def test_one_source_is_one_srcversion():
    assert module("2.7.0", "a" * 40).srcversion != module("2.7.0", "b" * 40).srcversion
