"""One decision at a time: World in, actions and reports out."""

from dataclasses import replace

import pytest

from reconciler.core.actions import (
    ApplyKeeper,
    CreatePod,
    EvictPod,
    RenewLease,
    ScanNodes,
    Step,
    TakeLease,
    WriteNode,
    WriteStatus,
)
from reconciler.core.node.operate import keeper_hash, operate
from reconciler.core.node.retry import back_off_s, failed
from reconciler.core.world import (
    CordonOwner,
    LeaseView,
    NodeView,
    PodRole,
    PodView,
    PolicyView,
    Reservation,
    Settings,
    Term,
    World,
)
from schema.clock import format_rfc3339, parse_rfc3339
from schema.facts import HostFacts, HostMode, Loaded, Staged
from schema.names import (
    ANNOTATION_CORDONED_BY,
    ANNOTATION_FIRMWARE_CORDON,
    ANNOTATION_HOLD,
    ANNOTATION_KEEP_CORDONED,
    ANNOTATION_RETRY,
    DEPLOY_GATE_TELEMETRY,
    LABEL_FIRMWARE_STATE,
    LABEL_HOSTNAME,
    LABEL_PRESENT,
    LABEL_SKIP,
)
from schema.policy import Budget, Drain, PolicySpec, Source
from schema.states import Reason
from schema.target import Mode, Target, Vacate
from schema.transaction import Claim, ClaimState, History, Phase, Record, Result
from schema.verdict import Verdict

NOW = 1_800_000_000.0
COMMIT = "8" * 40
TARGET = Target(mode=Mode.CONTAINER, version="2.8.0", repository="r", commit=COMMIT)
SETTINGS = Settings(namespace="ns", image="img", gates=(DEPLOY_GATE_TELEMETRY,))
LEADER = Term(identity="me", lease_version="5", clean=True, renewed_at=NOW)
STAGED = Staged(version="2.8.0", kernel="k", build_id="b", srcversion="s8", sha256="", commit=COMMIT)


def vouched(version, *, srcversion="x", commit=None):
    """The entry of active.json."""
    return Staged(version=version, kernel="k", build_id="b", srcversion=srcversion, sha256="", commit=commit)


def facts(version="2.7.0", **fields):
    """A machine of ours; what is loaded is what active.json names, of unknown source."""
    loaded = Loaded(version=version, srcversion="x") if version else None
    base = {"boot_id": "boot", "kernel": "k", "build_id": "b", "mode": HostMode.CONTAINER}
    base["active"] = vouched(version) if version else None
    return HostFacts(**{**base, "loaded": loaded, "staged": (STAGED,), **fields})


def node(name="n0", *, labels=None, **fields):
    base = {
        "name": name,
        "uid": f"uid-{name}",
        "resource_version": "7",
        "labels": {LABEL_PRESENT: "true", LABEL_HOSTNAME: name, **(labels or {})},
        "annotations": {},
        "cordon": CordonOwner.NOBODY,
        "ready": True,
        "ready_since": 0.0,
        "boot_id": "boot",
        "facts": facts(),
    }
    return NodeView(**{**base, **fields})


def policy(name="cr", *, annotations=None, deleting=False, spec_fault="", **spec):
    base = {"version": "2.8.0", "source": Source(repository="r", commit=COMMIT)}
    return PolicyView(
        name=name,
        uid=name,
        resource_version="3",
        generation=2,
        labels={},
        annotations=annotations or {},
        spec=PolicySpec(**{**base, **spec}),
        status={},
        deleting=deleting,
        spec_fault=spec_fault,
    )


def world(*nodes, policies=None, **fields):
    found = (policy(),) if policies is None else policies
    base = {
        "policies": {p.name: p for p in found},
        "nodes": {n.name: n for n in nodes or (node(),)},
        "pods": {},
        "lease": LeaseView(resource_version="5", holder="me", unchanged_for_s=0.0),
        "term": LEADER,
        "settings": SETTINGS,
        "keeper": keeper_hash(SETTINGS),
    }
    return World(**{**base, **fields})


def record(phase=Phase.CORDONED, **fields):
    base = {
        "id": "0001aaaaaaaaaaaa",
        "cr": "cr",
        "plan": "",
        "from_": Target(mode=Mode.CONTAINER, version="2.7.0"),
        "to": TARGET,
        "phase": phase,
        "since": format_rfc3339(NOW),
        "reserved": format_rfc3339(NOW),
        "boot_id": "boot" if phase is Phase.PERMITTED else None,
        "initial": ((DEPLOY_GATE_TELEMETRY, None),) if phase is not Phase.RESERVED else (),
    }
    return Record(**{**base, **fields})


def cordoned(phase=Phase.CORDONED, claim=None, **fields):
    return node(**{"record": record(phase), "cordon": CordonOwner.OURS, "claim": claim, **fields})


def pod(name="p", **fields):
    base = {
        "namespace": "work",
        "name": name,
        "uid": f"uid-{name}",
        "node": "n0",
        "role": PodRole.WORKLOAD,
        "labels": {},
        "owner": "ReplicaSet/r",
        "phase": "Running",
        "ready": True,
        "terminating": False,
        "uses_device": False,
        "daemonset": False,
        "mirror": False,
        "empty_dir": False,
        "started_at": NOW - 5000,
    }
    return PodView(**{**base, **fields})


def worker(attempt, *, verdict=None, phase="Failed", finished_at=NOW - 400):
    ended = {} if phase == "Running" else {"finished_at": finished_at, "verdict": verdict}
    name = f"ttswap-{record().id}-{attempt}"
    return pod(name, role=PodRole.SWAP, phase=phase, txn_id=record().id, attempt=attempt, **ended)


def refused(result=Result.REFUSED, reason=None):
    return Verdict(verb="swap", id=record().id, result=result, changed=False, reason=reason)


def acts(given, kind=WriteNode):
    return [action for action in operate(given, NOW).actions if isinstance(action, kind)]


def shown(given, name="n0"):
    [report] = [report for report in operate(given, NOW).reports if report.node == name]
    return report.state, report.reason


# --- who leads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "takes"),
    [
        (LeaseView(resource_version=None, holder="", unchanged_for_s=0), True),
        (LeaseView(resource_version="5", holder="", unchanged_for_s=0), True),
        (LeaseView(resource_version="5", holder="me", unchanged_for_s=0), True),
        (LeaseView(resource_version="5", holder="other", unchanged_for_s=14.9), False),
        (LeaseView(resource_version="5", holder="other", unchanged_for_s=15.0), True),
    ],
)
def test_the_lease_is_taken_only_from_a_silent_holder(lease, takes):
    given = world(lease=lease, term=Term(identity="me"))
    assert bool(acts(given, TakeLease)) is takes
    assert not acts(given)


def test_a_new_leader_cancels_and_lists_before_it_admits():
    dirty = replace(LEADER, clean=False)
    assert len(acts(world(term=dirty), ScanNodes)) == 1
    assert not acts(world(term=dirty))
    foreign = node(record=record(Phase.RESERVED))
    given = world(foreign, node("n1"), term=dirty)
    assert [(w.node, w.step, w.record) for w in acts(given)] == [("n0", Step.RELEASE, None)]
    assert not acts(given, ScanNodes)


def test_non_leaders_do_rows_5_to_10_and_nothing_else():
    other = Term(identity="me")
    lease = LeaseView(resource_version="5", holder="other", unchanged_for_s=0)
    assert [w.step for w in acts(world(cordoned(), term=other, lease=lease))] == [Step.PERMIT]
    assert not operate(world(node(record=record(Phase.RESERVED)), term=other, lease=lease), NOW).actions
    assert not operate(world(term=other, lease=lease), NOW).actions


def test_row_4_needs_row_3():
    own = Reservation(id=record().id, resource_version="6")
    reserved = node(record=record(Phase.RESERVED))
    waiting = world(reserved, term=replace(LEADER, reservations={"n0": own}))
    assert acts(waiting) == []
    assert acts(waiting, RenewLease)[0].covers == ("n0",)
    fenced = world(reserved, term=replace(LEADER, reservations={"n0": replace(own, fenced=True)}))
    [write] = acts(fenced)
    assert (write.step, write.resource_version, write.unschedulable) == (Step.CORDON, "6", True)
    assert write.labels == {DEPLOY_GATE_TELEMETRY: "false"}
    assert write.record.initial == ((DEPLOY_GATE_TELEMETRY, None),)


# --- what starts, and what does not -------------------------------------------------------------------------


def test_row_2_reserves_with_what_the_machine_has():
    [write] = acts(world())
    assert (write.step, write.resource_version, write.unschedulable.name) == (Step.RESERVE, "7", "UNSET")
    assert write.record.from_ == Target(mode=Mode.CONTAINER, version="2.7.0")
    assert write.history.serial == 1


def test_ids_go_beyond_what_the_host_has_closed():
    closed = node(facts=facts(last_id="0009bbbbbbbbbbbb"), history=History(serial=4))
    [write] = acts(world(closed))
    assert write.record.id.startswith("000a")
    assert write.history.serial == 10


STOPS = [
    ({"policies": (policy(paused=True),)}, ("Held", "PolicyPaused")),
    ({"policies": (policy(annotations={ANNOTATION_HOLD: "me: x"}),)}, ("Held", "Held")),
    ({"policies": (policy(waiting=True),)}, ("Waiting", "WaveClosed")),
    ({"policies": (policy(source=None),)}, ("Blocked", "UnknownRelease")),
    ({"policies": (policy(unmanage=True),)}, ("Blocked", "NotSupported")),
    ({"policies": (policy("a"), policy("b", version="2.9.0"))}, ("Blocked", "Overlap")),
    ({"policies": (policy("a"), policy("b", paused=True))}, ("Held", "PolicyPaused")),
    ({"held": "me: fleet"}, ("Held", "Held")),
    ({"halted": "restored etcd"}, ("Blocked", "StateRolledBack")),
    ({"settings": replace(SETTINGS, observe=True)}, ("Held", "Observe")),
    ({"node": {"labels": {LABEL_SKIP: ""}}}, ("Skipped", "SkipLabel")),
    ({"node": {"annotations": {ANNOTATION_HOLD: "me: x"}}}, ("Held", "Held")),
    ({"node": {"annotations": {ANNOTATION_FIRMWARE_CORDON: "f"}}}, ("Blocked", "FirmwareUpgrade")),
    ({"node": {"labels": {LABEL_FIRMWARE_STATE: "flashing"}}}, ("Blocked", "FirmwareUpgrade")),
    ({"node": {"cordon": CordonOwner.FOREIGN}}, ("Blocked", "ExternalCordon")),
    ({"node": {"ready": False, "ready_since": NOW - 10}}, ("Blocked", "NodeNotReady")),
    ({"node": {"ready": False, "ready_since": NOW - 601}}, ("Offline", "NodeNotReady")),
    ({"node": {"facts": None}}, ("Blocked", "NoFacts")),
    ({"node": {"boot_id": "another"}}, ("Blocked", "NoFacts")),
    ({"node": {"facts": facts(mode=HostMode.TRANSITIONING)}}, ("Blocked", "HostBusy")),
    ({"node": {"facts": facts(problems=("ModulesDisabled",))}}, ("Blocked", "ModulesDisabled")),
    ({"node": {"facts": facts(mode=HostMode.HOST)}}, ("HostManaged", "HostManagedKMD")),
    ({"node": {"facts": facts("2.8.0")}}, ("Done", "")),
    ({"node": {"faults": ("txn: not JSON",)}}, ("Blocked", "UnreadableAnnotation")),
    (
        {
            "node": {"facts": facts(mode=HostMode.HOST)},
            "policies": (policy(mode=Mode.CONTAINER, vacate=Vacate.ONCE),),
        },
        ("Blocked", "NotSupported"),
    ),
    (
        {
            "node": {"facts": facts(mode=HostMode.HOST, vacated=True)},
            "policies": (policy(mode=Mode.CONTAINER, vacate=Vacate.ONCE),),
        },
        ("Blocked", "DKMSReturned"),
    ),
    ({"policies": (policy(mode=Mode.HOST),)}, ("Blocked", "NotSupported")),
]


@pytest.mark.parametrize(
    ("given", "expected"), STOPS, ids=[f"{s}-{r}-{i}" for i, (_, (s, r)) in enumerate(STOPS)]
)
def test_nothing_starts_and_the_reason_shows(given, expected):
    fields = dict(given)
    seen = world(node(**fields.pop("node", {})), **fields)
    assert acts(seen) == []
    assert shown(seen) == expected


FIRMWARE_DONE = node(labels={LABEL_FIRMWARE_STATE: "done"})


def test_a_firmware_policy_at_rest_is_no_stop():
    assert [write.step for write in acts(world(FIRMWARE_DONE))] == [Step.RESERVE]


def test_under_observe_only_the_keeper_is_written_and_open_records_are_released():
    observing = replace(SETTINGS, observe=True)
    given = world(term=Term(identity="me"), settings=observing, keeper="")
    assert [type(action) for action in operate(given, NOW).actions] == [ApplyKeeper]
    for open_record in (cordoned(), node(record=record(Phase.RESERVED))):
        given = world(open_record, term=Term(identity="me"), settings=observing)
        assert [(w.step, w.record) for w in acts(given)] == [(Step.RELEASE, None)]


def test_a_ttdp_that_cannot_be_read_starts_nothing_and_says_so():
    given = world(policies=(policy(spec_fault="spec cannot be read"),))
    assert not acts(given)
    [status] = [a for a in operate(given, NOW).actions if isinstance(a, WriteStatus)]
    assert status.status["conditions"][0]["message"] == "spec cannot be read"


# --- budgets ------------------------------------------------------------------------------------------------


def reserved_of(given):
    return [write.node for write in acts(given) if write.step is Step.RESERVE]


def fleet(count, **budget):
    budgets = (Budget(group="g", max_unavailable=budget["limit"]),) if budget else ()
    return [node(f"n{i}") for i in range(count)], policy(budgets=budgets)


def test_a_batch_fills_the_budget_exactly():
    nodes, cr = fleet(5, limit=3)
    assert reserved_of(world(*nodes, policies=(cr,))) == ["n0", "n1", "n2"]
    alone, own = fleet(3)
    assert reserved_of(world(*alone, policies=(own,))) == ["n0"]


AWAY = [
    {"cordon": CordonOwner.FOREIGN},
    {"ready": False},
    {"record": record(), "cordon": CordonOwner.OURS},
    {"record": record(Phase.RESERVED)},
    {"facts": facts(mode=HostMode.HOST), "cordon": CordonOwner.FOREIGN},
    {"labels": {LABEL_SKIP: ""}, "ready": False},
]


@pytest.mark.parametrize("away", AWAY)
def test_nodes_away_for_any_reason_count(away):
    nodes, cr = fleet(3, limit=1)
    assert reserved_of(world(node("n9", **away), *nodes, policies=(cr,))) == []


def test_a_reservation_that_is_not_seen_yet_counts():
    nodes, cr = fleet(3, limit=1)
    mine = replace(LEADER, reservations={"n2": Reservation(id="x", resource_version="1")})
    assert reserved_of(world(*nodes, policies=(cr,), term=mine)) == ["n2"]
    two = replace(
        LEADER,
        reservations={
            "n2": Reservation(id="x", resource_version="1"),
            "gone": Reservation(id="y", resource_version="1"),
        },
    )
    assert reserved_of(world(*nodes, policies=(cr,), term=two)) == ["n2"]


def test_a_node_that_its_ttdp_no_longer_selects_counts_until_its_record_has_gone():
    left = node("n9", record=record(Phase.PERMITTED), cordon=CordonOwner.OURS, claim=BEGUN, labels={"x": "y"})
    away = replace(left, labels={})  # NFD has forgotten the card, or somebody edited the selector
    cr = policy(budgets=(Budget(group="g", max_unavailable=1),))
    assert reserved_of(world(node(), away, policies=(cr,))) == []
    other = policy("other", budgets=(Budget(group="g", max_unavailable=1),))
    assert reserved_of(world(node(), replace(away, record=record(cr="gone")), policies=(other,))) == ["n0"]


def test_the_own_node_comes_last_and_empty_machines_first():
    nodes, cr = fleet(3, limit=1)
    settings = replace(SETTINGS, own_node="n0")
    given = world(*nodes, policies=(cr,), settings=settings, keeper=keeper_hash(settings))
    assert reserved_of(given) == ["n1"]
    empty = node("n8", facts=facts(None))
    assert reserved_of(world(*nodes, empty, policies=(cr,))) == ["n8"]


# --- a record on the node -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "why",
    [
        {"policies": ()},
        {"policies": (policy(version="2.9.0"),)},
        {"policies": (policy(waiting=True),)},
        {"policies": (policy(paused=True),)},
        {"policies": (policy(deleting=True),)},
        {"held": "me: x"},
        {"halted": "restored"},
    ],
)
@pytest.mark.parametrize("phase", [Phase.CORDONED, Phase.PERMITTED])
def test_before_the_claim_whatever_is_unwanted_is_released_without_a_failure(why, phase):
    [write] = acts(world(cordoned(phase), **why))
    assert (write.step, write.record, write.unschedulable) == (Step.RELEASE, None, False)
    assert write.labels == {DEPLOY_GATE_TELEMETRY: None}
    assert write.history.name == "UNSET"


@pytest.mark.parametrize(
    ("cordon", "lifted"), [(CordonOwner.NOBODY, "UNSET"), (CordonOwner.FOREIGN, "UNSET")]
)
def test_a_cordon_that_is_not_ours_aborts_and_is_left_alone(cordon, lifted):
    [write] = acts(world(cordoned(Phase.PERMITTED, cordon=cordon)))
    assert (write.step, write.record, write.unschedulable.name) == (Step.RELEASE, None, lifted)


BEGUN = Claim(id=record().id, state=ClaimState.BEGUN)


@pytest.mark.parametrize(
    "whatever",
    [
        {"policies": ()},
        {"held": "me"},
        {"policies": (policy(paused=True),)},
        {"policies": (policy(version="2.9.0"),)},
    ],
)
def test_after_the_claim_nothing_releases_but_a_worker_goes_on(whatever):
    given = world(cordoned(Phase.PERMITTED, claim=BEGUN), **whatever)
    assert acts(given) == []
    assert [pod.name for pod in acts(given, CreatePod)] == [f"ttswap-{record().id}-1"]


def test_a_claim_of_another_boot_goes_back_to_cordoned():
    [write] = acts(world(cordoned(Phase.PERMITTED, claim=BEGUN, boot_id="next")))
    assert (write.step, write.record.phase, write.record.boot_id, write.claim) == (
        Step.REARM,
        Phase.CORDONED,
        None,
        None,
    )


def test_a_done_claim_releases_and_remembers():
    done = Claim(id=record().id, state=ClaimState.DONE, result=Result.OK, outage_s=1.5)
    ready = cordoned(Phase.PERMITTED, claim=done, facts=facts("2.8.0"))
    [write] = acts(world(ready))
    assert (write.record, write.claim, write.unschedulable) == (None, None, False)
    [reached] = write.history.reached
    assert (reached.to, reached.outage_s, reached.result) == (TARGET, 1.5, Result.OK)


def test_done_waits_for_facts_that_agree_and_for_those_of_a_new_boot_without_limit():
    done = Claim(id=record().id, state=ClaimState.DONE, result=Result.OK)
    lagging = world(cordoned(Phase.PERMITTED, claim=done))
    assert (acts(lagging), shown(lagging)[0]) == ([], "Validating")
    rebooted = world(cordoned(Phase.PERMITTED, claim=done, boot_id="next"))
    assert [a for a in operate(rebooted, NOW + 86_400).actions if isinstance(a, WriteNode)] == []


UNVOUCHED = {
    "a swap stands in the middle": {"mode": HostMode.TRANSITIONING},
    "active.json names another source": {"active": vouched("2.7.0", srcversion="s7")},
    "loaded by hand, nothing keeps it": {"mode": HostMode.ABSENT, "active": None},
    "of another commit": {"active": vouched("2.8.0", commit="9" * 40)},
}


@pytest.mark.parametrize("fields", UNVOUCHED.values(), ids=UNVOUCHED)
def test_a_version_that_is_live_and_not_vouched_for_is_not_done(fields):
    seen = facts("2.8.0", **fields)
    assert shown(world(node(facts=seen)))[0] != "Done"
    rebooted = world(cordoned(facts=seen))
    assert [(w.step, w.record.phase) for w in acts(rebooted)] == [(Step.PERMIT, Phase.PERMITTED)]
    done = Claim(id=record().id, state=ClaimState.DONE, result=Result.OK)
    claimed = world(cordoned(Phase.PERMITTED, claim=done, facts=seen))
    assert (acts(claimed), shown(claimed)[0]) == ([], "Validating")


def test_an_adopted_module_of_unknown_source_is_done():
    adopted = facts("2.8.0", active=vouched("2.8.0", commit=None))
    assert shown(world(node(facts=adopted))) == ("Done", "")


def test_reboot_required_stays():
    broken = Claim(id=record().id, state=ClaimState.DONE, result=Result.REBOOT_REQUIRED)
    given = world(cordoned(Phase.PERMITTED, claim=broken))
    assert (acts(given), shown(given)) == ([], ("Failed", "RebootRequired"))


def test_a_release_leaves_what_a_human_wants_to_stay():
    kept = cordoned(annotations={ANNOTATION_KEEP_CORDONED: "me"})
    [write] = acts(world(kept, policies=()))
    assert write.unschedulable.name == "UNSET"
    assert write.annotations[ANNOTATION_CORDONED_BY] is None


def test_a_cordon_of_ours_without_a_record_is_swept():
    orphan = node(cordon=CordonOwner.OURS, annotations={ANNOTATION_CORDONED_BY: "ttfleet/cr"})
    [write] = acts(world(orphan, policies=()))
    assert (write.step, write.unschedulable) == (Step.RELEASE, False)


def test_nothing_is_swept_under_a_worker_whose_record_somebody_removed():
    orphan = node(cordon=CordonOwner.OURS, annotations={ANNOTATION_CORDONED_BY: "ttfleet/cr"})
    assert not acts(world(orphan, policies=(), pods={"n0": (worker(1, phase="Running"),)}))
    lost = replace(orphan, ready=False)  # nobody knows when that worker ends: a cordon is never left for ever
    for over in (
        world(orphan, policies=(), pods={"n0": (worker(1),)}),
        world(lost, policies=(), pods={"n0": (worker(1, phase="Running"),)}),
    ):
        [write] = acts(over)
        assert (write.step, write.unschedulable) == (Step.RELEASE, False)


@pytest.mark.parametrize("cordon", [CordonOwner.NOBODY, CordonOwner.FOREIGN])
def test_gates_without_a_record_are_opened_whoever_cordons(cordon):
    left = node(
        cordon=cordon,
        annotations={ANNOTATION_CORDONED_BY: "ttfleet/cr"},
        labels={DEPLOY_GATE_TELEMETRY: "false"},
    )
    [write] = acts(world(left, policies=()))
    assert (write.unschedulable.name, write.labels) == ("UNSET", {DEPLOY_GATE_TELEMETRY: None})
    assert write.annotations[ANNOTATION_CORDONED_BY] is None


def test_one_write_a_node_a_tick():
    nodes = [cordoned(name="n0", uid="n0"), *(node(f"n{i}") for i in range(1, 5))]
    writes = acts(world(*nodes, policies=(policy(budgets=(Budget(group="g", max_unavailable=9),)),)))
    assert len({write.node for write in writes}) == len(writes) == 5


def test_a_drain_evicts_nobody_where_no_module_is_loaded():
    given = world(cordoned(facts=facts(None)), policies=(policy(drain=Drain()),))
    assert [write.step for write in acts(given)] == [Step.PERMIT]
    assert not acts(given, EvictPod)


def test_a_permit_on_an_empty_machine_evicts_nobody_either():
    permitted = cordoned(Phase.PERMITTED, facts=facts(None))
    for held in (False, True):
        given = world(
            permitted, pods={"n0": (pod(uses_device=held), pod("bare", owner="", uses_device=held))}
        )
        assert not acts(given, EvictPod)
        assert not acts(given)
        assert len(acts(given, CreatePod)) == 1


def test_with_drain_off_a_busy_device_is_waited_for_as_long_as_the_drain_may_take():
    old = {"since": format_rfc3339(NOW - 400), "reserved": format_rfc3339(NOW - 400)}
    permitted = cordoned(Phase.PERMITTED, record=record(Phase.PERMITTED, **old))
    busy = worker(1, verdict=refused(reason="DeviceInUse"))
    pods = {"n0": (busy, worker(2, phase="Running"))}
    waiting = policy(drain=Drain(enable=False, timeout_s=3600))
    assert acts(world(permitted, pods=pods, policies=(waiting,))) == []
    over = policy(drain=Drain(enable=False, timeout_s=300))
    [write] = acts(world(permitted, pods=pods, policies=(over,)))
    assert write.history.latest.reason == "DeviceInUse"
    [write] = acts(world(permitted, pods=pods))
    assert (write.step, write.history.latest.result) == (Step.RELEASE, Result.REFUSED)


def test_a_verdict_replayed_before_a_reboot_is_no_refusal():
    replayed = worker(1, verdict=refused(Result.ROLLED_BACK, "LoadFailed"))
    given = world(cordoned(Phase.PERMITTED), pods={"n0": (replayed,)})
    assert acts(given) == []
    assert [made.attempt for made in acts(given, CreatePod)] == [2]


# --- memory of failures -------------------------------------------------------------------------------------


def test_back_off_doubles_up_to_the_limit():
    assert [back_off_s(SETTINGS, n) for n in (1, 2, 3, 8, 60)] == [30, 60, 120, 3600, 3600]


def test_a_failure_waits_and_a_retry_does_not():
    past = failed(
        node(),
        SETTINGS,
        plan="",
        from_=None,
        to=TARGET,
        result=Result.REFUSED,
        reason=Reason.DRAIN_TIMEOUT,
        now=NOW - 5,
    )
    assert parse_rfc3339(past.latest.not_before) == NOW + 26
    assert shown(world(node(history=past))) == ("Blocked", "DrainTimeout")
    assert acts(world(node(history=past))) == []
    asked = node(history=past, annotations={ANNOTATION_RETRY: format_rfc3339(NOW)})
    assert [write.step for write in acts(world(asked))] == [Step.RESERVE]
    other = world(node(history=past), policies=(policy(version="2.9.0"),))
    assert shown(other)[0] == "Staging"


@pytest.mark.parametrize("result", [Result.ROLLED_BACK, Result.REBOOT_REQUIRED])
def test_what_failed_after_the_claim_waits_for_a_human(result):
    past = failed(
        node(),
        SETTINGS,
        plan="",
        from_=None,
        to=TARGET,
        result=result,
        reason=Reason.LOAD_FAILED,
        now=NOW - 90_000,
    )
    given = world(node(history=past))
    assert (acts(given), shown(given)[0]) == ([], "Failed")


# --- status -------------------------------------------------------------------------------------------------


def test_status_counts_and_keeps_times():
    nodes = [
        node("n0", facts=facts("2.8.0")),
        node("n1", cordon=CordonOwner.FOREIGN),
        node("n2", labels={LABEL_SKIP: ""}),
    ]
    given = world(*nodes)
    [write] = [a for a in operate(given, NOW).actions if isinstance(a, WriteStatus)]
    status = write.status
    assert status["ready"] == "1/3"
    assert status["summary"] == {
        "matched": 3,
        "desired": 2,
        "ready": 1,
        "available": 2,
        "failed": 0,
        "blocked": 1,
        "waiting": 0,
        "upToDate": 1,
        "inProgress": 0,
    }
    assert [entry["name"] for entry in status["nodes"]] == ["n1", "n0", "n2"]
    served = replace(given, policies={"cr": replace(given.policies["cr"], status=status)})
    assert not [a for a in operate(served, NOW + 100).actions if isinstance(a, WriteStatus)]
    changed = replace(served, nodes={**served.nodes, "n1": node("n1", facts=facts("2.8.0"))})
    [again] = [a for a in operate(changed, NOW + 100).actions if isinstance(a, WriteStatus)]
    times = {entry["name"]: entry["lastTransitionTime"] for entry in again.status["nodes"]}
    assert times["n0"] == format_rfc3339(NOW)
    assert times["n1"] == format_rfc3339(NOW + 100)
