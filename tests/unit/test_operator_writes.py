"""What goes over the wire, and what the answers mean."""

import asyncio
import json
import logging

import pytest
from prometheus_client import generate_latest

from reconciler.adapters import manifests
from reconciler.adapters.kube import Response
from reconciler.adapters.metrics import Metrics
from reconciler.core.actions import (
    CreatePod,
    EvictPod,
    NodeReport,
    Outcome,
    RenewLease,
    Step,
    Verb,
    WriteNode,
    WriteStatus,
)
from reconciler.core.world import CordonOwner, NodeView, PodRole
from reconciler.loop import tick
from reconciler.operator.chronicle import Chronicle
from reconciler.operator.rests import Rests
from reconciler.operator.writes import (
    creation_outcome,
    deletion_outcome,
    eviction,
    eviction_outcome,
    node_patch,
    outcome_of,
)
from reconciler.report.logs import JsonFormatter, TextFormatter
from schema import names
from schema.states import NodeState
from schema.target import Mode, Target
from schema.transaction import Attempt, History, Result

TARGET = Target(
    mode=Mode.CONTAINER, version="2.8.0", repository="https://example.com/kmd.git", commit="a" * 40
)


def write(**changes):
    return WriteNode(**{"node": "n", "resource_version": "7", "step": Step.RELEASE, "cr": "c", **changes})


def test_a_write_is_one_patch_that_carries_its_precondition():
    patch = node_patch(
        write(record=None, claim=None, unschedulable=False, labels={"gate": None}, annotations={"x": "y"})
    )
    assert patch == {
        "metadata": {
            "resourceVersion": "7",
            "annotations": {"x": "y", names.ANNOTATION_TXN: None, names.ANNOTATION_CLAIM: None},
            "labels": {"gate": None},
        },
        "spec": {"unschedulable": None},
    }


def test_what_is_unset_is_left_alone():
    assert node_patch(write()) == {"metadata": {"resourceVersion": "7"}}
    assert node_patch(write(unschedulable=True))["spec"] == {"unschedulable": True}
    assert (
        json.loads(
            node_patch(write(history=History(serial=2)))["metadata"]["annotations"][names.ANNOTATION_HISTORY]
        )["serial"]
        == 2
    )


@pytest.mark.parametrize(
    ("code", "verb"),
    [(200, Verb.DONE), (201, Verb.DONE), (404, Verb.GONE), (409, Verb.CONFLICT), (0, Verb.UNKNOWN), (500, Verb.UNKNOWN), (504, Verb.UNKNOWN), (403, Verb.REFUSED), (422, Verb.REFUSED), (429, Verb.REFUSED)],
)  # fmt: skip
def test_codes(code, verb):
    assert outcome_of(Response(code, {"message": "m"})).verb is verb


BUDGET = {
    "message": "Cannot evict",
    "details": {"causes": [{"reason": "DisruptionBudget", "message": "pdb"}]},
}
TWO = {
    "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
}


@pytest.mark.parametrize(
    ("response", "verb", "cause"),
    [
        (Response(201, {}), Verb.DONE, ""),
        (Response(429, BUDGET), Verb.REFUSED, "DisruptionBudget"),
        (Response(429, {"message": "wait", "details": {"retryAfterSeconds": 10}}), Verb.REFUSED, ""),
        (Response(500, TWO), Verb.REFUSED, "Misconfigured"),
        (Response(500, {"message": "etcd"}), Verb.UNKNOWN, ""),
        (Response(404, {}), Verb.GONE, ""),
        (Response(409, {"message": "uid"}), Verb.GONE, ""),
        (Response(0, {}), Verb.UNKNOWN, ""),
    ],
)
def test_answers_to_an_eviction(response, verb, cause):
    outcome = eviction_outcome(response)
    assert (outcome.verb, outcome.cause) == (verb, cause)


def test_a_pod_that_is_there_already_and_one_that_has_gone_are_done():
    assert creation_outcome(Response(409, {"reason": "AlreadyExists"})).verb is Verb.DONE
    assert deletion_outcome(Response(404, {})).verb is Verb.DONE
    assert deletion_outcome(Response(409, {})).verb is Verb.DONE
    assert deletion_outcome(Response(403, {})).verb is Verb.REFUSED


def test_an_eviction_names_the_uid_and_may_only_ask():
    action = EvictPod(namespace="a", name="p", uid="u", node="n", cr="c", drain_pass=1, dry_run=True)
    assert eviction(action)["deleteOptions"] == {"preconditions": {"uid": "u"}, "dryRun": ["All"]}


def worker(**changes):
    fields = {
        "role": PodRole.SWAP,
        "name": "ttswap-1-1",
        "node": "n",
        "cr": "c",
        "target": TARGET,
        "txn_id": "t",
        "boot_id": "b",
    }
    return manifests.worker_pod(
        CreatePod(**(fields | changes)),
        namespace="ns",
        default_image="builder:1",
        environment={"HTTPS_PROXY": "http://p", "no_proxy": "x", "SECRET": "s"},
    )


def test_a_worker_is_a_bare_pod_that_tolerates_everything():
    pod = worker()
    spec, labels = pod["spec"], pod["metadata"]["labels"]
    assert (spec["nodeName"], spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == (
        "n",
        "Never",
        600,
    )
    assert (spec["priorityClassName"], spec["hostPID"], spec["tolerations"]) == (
        "system-node-critical",
        True,
        [{"operator": "Exists"}],
    )
    assert labels[names.LABEL_CR] == "c"
    assert labels[names.LABEL_APP] == "tt-kmd-installer"
    assert spec["containers"][0]["args"] == ["swap"]
    assert "ownerReferences" not in pod["metadata"]


def test_a_worker_has_the_contract_and_the_proxies_in_both_cases_and_nothing_else():
    env = {entry["name"]: entry["value"] for entry in worker()["spec"]["containers"][0]["env"]}
    assert env == {
        "NODE_NAME": "n",
        "TTFLEET_HOST_ROOT": "/host",
        "TT_KMD_VERSION": "2.8.0",
        "TTFLEET_REPOSITORY": TARGET.repository,
        "TTFLEET_COMMIT": "a" * 40,
        "TTFLEET_TXN_ID": "t",
        "TTFLEET_BOOT_ID": "b",
        "HTTPS_PROXY": "http://p",
        "https_proxy": "http://p",
        "NO_PROXY": "x",
        "no_proxy": "x",
    }


def test_staging_is_bounded_and_asks_for_nothing():
    container = worker(role=PodRole.STAGE, txn_id="", boot_id="")["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "0"}, "limits": {"cpu": "2"}}


def test_the_keeper_knows_no_version_and_changes_only_when_its_template_does():
    first = manifests.keeper("builder:1", "h", namespace="ns", environment={})
    assert "TT_KMD_VERSION" not in json.dumps(first)
    assert first["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert first == manifests.keeper("builder:1", "h", namespace="ns", environment={"PATH": "/bin"})
    assert manifests.keeper_hash(first, namespace="ns", environment={}) == "h"
    assert manifests.keeper_hash(first, namespace="ns", environment={"HTTP_PROXY": "p"}) == "stale"
    assert manifests.keeper_hash(None, namespace="ns", environment={}) == ""


def report(node, state, cr="c"):
    return NodeReport(node=node, cr=cr, state=state)


def node(name, version):
    labels = {
        names.LABEL_PRESENT: "true",
        names.LABEL_KMD_VERSION: version,
        names.LABEL_INSTALL_MODE: "container",
    }
    return NodeView(
        name=name, uid=name, resource_version="1", labels=labels, annotations={}, cordon=CordonOwner.NOBODY, ready=True, ready_since=0, boot_id="b"
    )  # fmt: skip


def series(metrics):
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_upstreams_metrics_with_zeros_and_without_the_dead():
    metrics = Metrics()
    metrics.observe(
        {"c": "2.8.0", "d": "2.7.0"},
        [node("a", "2.7.0"), node("b", "2.8.0")],
        [report("b", NodeState.DONE)],
        5.0,
    )
    metrics.acted(
        EvictPod(namespace="x", name="p", uid="u", node="n", cr="c", drain_pass=2), Outcome(verb=Verb.DONE)
    )
    found = series(metrics)
    assert found['ttdriver_policy_nodes{cr="c",state="Done"}'] == 1
    assert found['ttdriver_policy_nodes{cr="d",state="Done"}'] == 0
    assert found['ttdriver_nodes_by_kmd_version{install_mode="container",version="2.7.0"}'] == 1
    assert found['ttdriver_policy_desired_version{cr="c",version="2.8.0"}'] == 1
    assert found['ttdriver_pods_evicted_total{cr="c",pass="pass2"}'] == 1
    assert found['ttdriver_drain_blocked_total{cr="c",pass="pass1"}'] == 0
    assert found['ttdriver_last_successful_reconcile_timestamp_seconds{cr="c"}'] == 5
    metrics.observe({"d": "2.8.0"}, [node("b", "2.8.0")], [], 6.0)
    left = series(metrics)
    assert not [name for name in left if 'cr="c"' in name]
    assert 'ttdriver_policy_desired_version{cr="d",version="2.7.0"}' not in left
    assert 'ttdriver_nodes_by_kmd_version{install_mode="container",version="2.7.0"}' not in left


UPSTREAM = {
    "ttdriver_nodes_by_kmd_version": {"version", "install_mode"},
    "ttdriver_policy_nodes": {"cr", "state"},
    "ttdriver_policy_desired_version": {"cr", "version"},
    "ttdriver_daemonset_operations": {"cr", "operation", "result"},
    "ttdriver_pods_evicted": {"cr", "pass"},
    "ttdriver_drain_blocked": {"cr", "pass"},
    "ttdriver_errors": {"cr", "stage"},
    "ttdriver_last_successful_reconcile_timestamp_seconds": {"cr"},
}


def test_the_names_and_labels_are_upstreams():
    metrics = Metrics()
    found = {
        metric._name: set(metric._labelnames)
        for metric in metrics.registry._collector_to_names
        if metric._name.startswith("ttdriver_")
    }
    assert found == UPSTREAM


class Recorded:
    """A cluster that writes down the order of things; `pause` lets other groups overtake."""

    def __init__(self):
        self.calls = []

    async def snapshot(self):
        return "world"

    async def act(self, action):
        self.calls.append(("begin", action.name))
        await asyncio.sleep(0)
        self.calls.append(("end", action.name))
        return f"outcome of {action.name}"

    def absorb(self, action, outcome, now):
        self.calls.append(("absorb", outcome, now))


class Decided:
    def __init__(self, actions):
        self.actions = actions


def pod(name, node):
    return EvictPod(namespace="x", name=name, uid=name, node=node, cr="c", drain_pass=1)


def test_what_was_refused_rests_longer_each_time_and_nothing_else_does():
    clock = [100.0]
    rests = Rests(lambda: clock[0])
    refused, status = (
        Outcome(verb=Verb.REFUSED, code=403, message="no"),
        WriteStatus(policy="c", resource_version="1", status={}),
    )
    assert rests.instead(status) is None
    for pause_s in (0.5, 1.0, 2.0):
        rests.note(status, refused)
        clock[0] += pause_s - 0.01
        assert rests.instead(status).cause == "Resting"
        clock[0] += 0.01
        assert rests.instead(status) is None
    rests.note(status, refused)
    assert rests.instead(WriteStatus(policy="d", resource_version="1", status={})) is None
    rests.note(status, Outcome(verb=Verb.DONE))
    assert rests.instead(status) is None


def test_leadership_never_rests_and_a_refused_eviction_is_paced_by_core():
    rests = Rests(lambda: 0.0)
    lease, eviction_ = RenewLease(resource_version="1", holder="me"), pod("a", "n")
    for action in (lease, eviction_):
        rests.note(action, Outcome(verb=Verb.REFUSED, code=403))
        assert rests.instead(action) is None
    rests.note(eviction_, Outcome(verb=Verb.UNKNOWN))
    assert rests.instead(eviction_) is not None


def test_the_loop_acts_in_order_and_absorbs_each_outcome_before_the_next_act():
    cluster = Recorded()
    actions = (pod("a", "n1"), pod("b", "n2"))
    asyncio.run(tick(cluster, lambda world, now: Decided(actions), 7.0))
    assert cluster.calls == [
        ("begin", "a"), ("end", "a"), ("absorb", "outcome of a", 7.0), ("begin", "b"), ("end", "b"), ("absorb", "outcome of b", 7.0),
    ]  # fmt: skip


def test_nodes_act_side_by_side_but_each_in_order():
    cluster = Recorded()
    actions = (pod("a1", "n1"), pod("b1", "n2"), pod("a2", "n1"))
    asyncio.run(tick(cluster, lambda world, now: Decided(actions), 7.0, at_once=20))
    order = [call[:2] for call in cluster.calls]
    assert order[:2] == [("begin", "a1"), ("begin", "b1")]
    assert order.index(("absorb", "outcome of a1")) < order.index(("begin", "a2"))


def test_no_more_groups_at_once_than_asked_for():
    cluster = Recorded()
    actions = tuple(pod(f"p{i}", f"n{i}") for i in range(6))
    asyncio.run(tick(cluster, lambda world, now: Decided(actions), 7.0, at_once=2))
    running = most = 0
    for call in cluster.calls:
        running += {"begin": 1, "end": -1}.get(call[0], 0)
        most = max(most, running)
    assert most == 2


def test_what_was_done_is_logged_and_noted(caplog):
    notes = []
    chronicle = Chronicle(Metrics(), notes.append, lambda name: node(name, "2.8.0"), lambda name: None)
    ended = Attempt(
        at="2026-01-01T00:00:00Z", plan="", from_=None, to=TARGET, result=Result.OK, outage_s=0.42
    )
    with caplog.at_level(logging.DEBUG, "ttfleet.operator"):
        chronicle.heard(write(history=History(latest=ended)), Outcome(verb=Verb.DONE))
        chronicle.heard(
            WriteStatus(policy="c", resource_version="1", status={}),
            Outcome(verb=Verb.REFUSED, code=422, message="a b"),
        )
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert TextFormatter().format(caplog.records[0]).endswith("INFO release node=n cr=c")
    assert json.loads(JsonFormatter().format(caplog.records[1]))["message"] == "a b"
    assert [(note.reason, note.warning) for note in notes] == [("Released", False)]
    assert notes[0].message == "for ttdp c: 2.8.0 container: ok, 0.4 s without a module"
