"""Raw objects as values: what counts as ours, what holds a device, and that nothing a server may serve raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.lease import LeaseObserver, lease_body
from reconciler.adapters.views import cordon_owner, node_view, pod_view, policy_view, uses_device
from reconciler.core.world import CordonOwner, PodRole
from schema import names
from schema.target import Mode, Target
from schema.transaction import Claim, ClaimState, History, Phase, Record
from schema.verdict import Verdict

TARGET = Target(
    mode=Mode.CONTAINER, version="2.8.0", repository="https://example.com/kmd.git", commit="a" * 40
)


def managed(manager, *, operation="Update", path="f:spec"):
    return {"manager": manager, "operation": operation, "fieldsV1": {path: {"f:unschedulable": {}}}}


KUBELET = {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:metadata": {}}}


def node(*, unschedulable=None, fields=(KUBELET,), annotations=None, **status):
    spec = {} if unschedulable is None else {"unschedulable": unschedulable}
    metadata = {"name": "n", "uid": "u", "resourceVersion": "7", "managedFields": list(fields)}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("raw", "owner"),
    [
        (node(), CordonOwner.NOBODY),
        (node(unschedulable=False, fields=[managed("kubectl-cordon")]), CordonOwner.NOBODY),
        (node(unschedulable=True, fields=[managed(names.MANAGER_OPERATOR)]), CordonOwner.OURS),
        (node(unschedulable=True, fields=[managed("kubectl-cordon")]), CordonOwner.FOREIGN),
        (
            node(
                unschedulable=True,
                fields=[managed(names.MANAGER_OPERATOR), managed("argo", operation="Apply")],
            ),
            CordonOwner.FOREIGN,
        ),
        (node(unschedulable=True), CordonOwner.FOREIGN),  # unsure
        (
            node(unschedulable=True, fields=[managed(names.MANAGER_OPERATOR, path="f:status")]),
            CordonOwner.FOREIGN,
        ),
        (node(unschedulable=True, fields=[{"manager": names.MANAGER_OPERATOR}]), CordonOwner.FOREIGN),
    ],
)
def test_a_cordon_is_ours_only_while_nobody_else_holds_the_field(raw, owner):
    assert cordon_owner(raw) is owner


def test_a_node_with_everything():
    record = Record(
        id="0001abc", cr="c", plan="p/1-x", from_=None, to=TARGET, phase=Phase.PERMITTED, since="2026-01-01T00:00:00Z",
        reserved="2026-01-01T00:00:00Z", boot_id="b", initial=(("gate", None),),
    )  # fmt: skip
    claim = Claim(id="0001abc", state=ClaimState.BEGUN)
    view = node_view(
        node(
            annotations={
                names.ANNOTATION_TXN: json.dumps(record.to_json()),
                names.ANNOTATION_CLAIM: json.dumps(claim.to_json()),
                names.ANNOTATION_HISTORY: json.dumps(History(serial=4).to_json()),
                names.ANNOTATION_HOST_FACTS: "{}",
            },
            conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            nodeInfo={"bootID": "b"},
        )
    )
    assert (view.record, view.claim, view.history.serial) == (record, claim, 4)
    assert (view.ready, view.ready_since, view.boot_id) == (True, 1767225600.0, "b")
    assert view.facts is None
    assert len(view.faults) == 1
    assert names.ANNOTATION_HOST_FACTS in view.faults[0]


@given(
    st.sampled_from(
        [names.ANNOTATION_TXN, names.ANNOTATION_CLAIM, names.ANNOTATION_HISTORY, names.ANNOTATION_HOST_FACTS]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "to", "phase", "reached", "latest", "mode", "dkms"]), inner, max_size=4
            )
        ),
    ),
)
def test_no_annotation_makes_a_view_raise(name, value):
    view = node_view(node(annotations={name: json.dumps(value)}))
    assert view.faults or view.record or view.claim or view.history or view.facts


@given(st.text(max_size=20))
def test_no_text_in_an_annotation_makes_a_view_raise(text):
    view = node_view(node(annotations={names.ANNOTATION_TXN: text}))
    assert view.record is None
    assert view.faults


def test_a_node_without_managed_fields_is_not_touched_but_a_transaction_on_it_goes_on():
    assert node_view(node()).faults == ()
    assert "managedFields" in node_view(node(fields=())).faults[0]
    text = json.dumps(
        Record(
            id="1",
            cr="c",
            plan="",
            from_=None,
            to=TARGET,
            phase=Phase.CORDONED,
            since="2026-01-01T00:00:00Z",
            reserved="2026-01-01T00:00:00Z",
        ).to_json()
    )
    assert node_view(node(fields=(), annotations={names.ANNOTATION_TXN: text})).faults == ()


def pod(spec=None, *, labels=None, status=None, **metadata):
    meta = {
        "namespace": "n",
        "name": "p",
        "uid": "u",
        "resourceVersion": "3",
        "labels": labels or {},
        **metadata,
    }
    return {
        "metadata": meta,
        "spec": {"nodeName": "x", "containers": [{"name": "c"}], **(spec or {})},
        "status": status or {},
    }


def host_path(path):
    return {"volumes": [{"name": "v", "hostPath": {"path": path}}]}


@pytest.mark.parametrize(
    ("raw", "uses"),
    [
        (pod(), False),
        (pod(host_path("/dev/tenstorrent")), True),
        (pod(host_path("/dev/tenstorrent/0")), True),
        (pod(host_path("/dev/tenstorrent/")), True),
        (pod(host_path("/dev/tenstorrent-other")), False),
        (pod(host_path("/dev")), False),  # every node agent mounts it: such pods leave in pass 2
        (pod(host_path("/")), False),
        (pod(labels={names.LABEL_USES_DEVICE: "true"}), True),
        (pod(labels={names.LABEL_USES_DEVICE: "false"}), False),
        (
            pod({"containers": [{"name": "c", "resources": {"requests": {"tenstorrent.com/n300": "1"}}}]}),
            True,
        ),
        (
            pod({"initContainers": [{"name": "c", "resources": {"limits": {"tenstorrent.com/n300": "1"}}}]}),
            True,
        ),
        (pod({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}), False),
        (pod({"resourceClaims": [{"name": "card"}]}), True),
    ],
)
def test_who_may_hold_a_device(raw, uses):
    assert uses_device(raw) is uses


def test_a_finished_worker_brings_its_verdict():
    verdict = Verdict(verb="swap", result="ok", changed=True, id="t", outage_s=0.3)
    message = "log output before it\n" + verdict.to_line()
    terminated = {"finishedAt": "2026-01-01T00:00:10Z", "message": message}
    view = pod_view(
        pod(
            labels={names.LABEL_POD_ROLE: "swap"},
            annotations={
                names.ANNOTATION_POD_TXN: "t",
                names.ANNOTATION_POD_TARGET: json.dumps(TARGET.to_json()),
                names.ANNOTATION_POD_ATTEMPT: "2",
            },
            status={"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": terminated}}]},
        )
    )
    assert (view.role, view.txn_id, view.attempt, view.target_digest) == (PodRole.SWAP, "t", 2, TARGET.digest)
    assert view.verdict == verdict
    assert view.finished_at == 1767225610.0


@pytest.mark.parametrize("message", ["", "Killed", '{"verb": "swap"}', "[]", '{"result": "better"}', "null"])
def test_a_verdict_that_does_not_parse_is_lost(message):
    status = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"message": message}}}]}
    assert pod_view(pod(labels={names.LABEL_POD_ROLE: "swap"}, status=status)).verdict is None


def test_a_workload_cannot_pretend_to_a_verdict():
    message = Verdict(verb="swap", result="ok", changed=True).to_line()
    status = {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"message": message}}}]}
    assert pod_view(pod(status=status)).verdict is None


def test_what_a_drain_must_know_of_a_pod():
    owner = {"kind": "DaemonSet", "uid": "d", "controller": True}
    gate = {"matchExpressions": [{"key": "gate", "operator": "NotIn", "values": ["false"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [gate]}}
    }
    raw = pod(
        {"volumes": [{"name": "e", "emptyDir": {}}], "affinity": affinity},
        ownerReferences=[{"kind": "X", "uid": "x"}, owner],
        annotations={"kubernetes.io/config.mirror": "1"},
        deletionTimestamp="2026-01-01T00:00:00Z",
        status={
            "phase": "Running",
            "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
        },
    )
    view = pod_view(raw, gates=("gate",))
    assert (view.owner, view.daemonset, view.mirror, view.empty_dir) == ("DaemonSet/d", True, True, True)
    assert (view.terminating, view.stuck_reason, view.gated) == (True, "CrashLoopBackOff", True)
    assert not pod_view(raw).gated


def test_a_spec_that_cannot_be_read_is_a_fault_not_an_error():
    raw = {
        "metadata": {"name": "c", "uid": "u", "resourceVersion": "1"},
        "spec": {"version": "1.0.0", "mode": "both"},
    }
    assert "both" in policy_view(raw).spec_fault
    assert policy_view({**raw, "spec": {"version": "1.0.0", "budgets": [3]}}).spec_fault
    assert not policy_view({**raw, "spec": {"version": "1.0.0"}}).spec_fault


def test_the_age_of_a_lease_is_our_own_observation():
    observer = LeaseObserver()
    lease = {
        "metadata": {"resourceVersion": "5"},
        "spec": {"holderIdentity": "other", "renewTime": "1999-01-01T00:00:00Z"},
    }
    assert observer.view(None, 100.0).resource_version is None
    assert observer.view(lease, 200.0).unchanged_for_s == 0
    assert observer.view(lease, 214.0).unchanged_for_s == 14
    renewed = {**lease, "metadata": {"resourceVersion": "6"}}
    assert observer.view(renewed, 216.0).unchanged_for_s == 0
    assert observer.view(renewed, 217.0).holder == "other"
    assert observer.view(None, 300.0).unchanged_for_s == 0


def test_a_lease_is_created_by_name_and_renewed_by_version():
    created = lease_body("l", "me", 0.0, duration_s=15, acquire=True)
    assert created["metadata"] == {"name": "l"}
    assert created["spec"]["acquireTime"] == "1970-01-01T00:00:00.000000Z"
    renewed = lease_body("l", "me", 0.0, duration_s=15, resource_version="8")
    assert renewed["metadata"] == {"resourceVersion": "8"}
    assert "acquireTime" not in renewed["spec"]
