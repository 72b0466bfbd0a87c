"""No annotation that a person, a broken builder or another release may leave on one node stops the operator (S9)."""

import json
from typing import Any

import pytest

from reconciler.adapters.shapes import misfit
from reconciler.adapters.views import node_view, pod_view
from reconciler.core.node.operate import operate
from reconciler.core.world import CordonOwner, LeaseView, PodRole, PolicyView, Settings, Term, World
from schema import names
from schema.clock import format_rfc3339
from schema.facts import HostFacts, HostMode, Loaded, Staged
from schema.policy import PolicySpec, Source
from schema.target import Mode, Target
from schema.transaction import Attempt, Claim, ClaimState, History, Phase, Record, Result
from schema.verdict import Verdict

NOW = 1_800_000_000.0
AT = format_rfc3339(NOW - 60)
COMMIT = "8" * 40
TO = Target(mode=Mode.CONTAINER, version="2.8.0", repository="r", commit=COMMIT)
OLD = Staged(version="2.7.0", kernel="k", build_id="b", srcversion="s7", sha256="")
NEW = Staged(version="2.8.0", kernel="k", build_id="b", srcversion="s8", sha256="", commit=COMMIT)
RECORD = Record(
    id="0001aaaaaaaaaaaa",
    cr="cr",
    plan="",
    from_=TO,
    to=TO,
    phase=Phase.PERMITTED,
    since=AT,
    reserved=AT,
    boot_id="boot",
    initial=(("gate", None),),
)
CLAIM = Claim(id=RECORD.id, state=ClaimState.DONE, result=Result.ROLLED_BACK, reason="LoadFailed", outage_s=2)
LATEST = Attempt(
    at=AT,
    plan="p",
    from_=TO,
    to=TO,
    result=Result.FAILED,
    attempts=2,
    not_before=AT,
    reason="x",
    outage_s=1.5,
)
HISTORY = History(reached=(LATEST,), latest=LATEST, serial=3)
FACTS = HostFacts(
    boot_id="boot",
    kernel="k",
    build_id="b",
    mode=HostMode.CONTAINER,
    loaded=Loaded(version="2.7.0", srcversion="s7"),
    active=OLD,
    staged=(OLD, NEW),
    last_id=RECORD.id,
    last_at=AT,
    problems=(),
)
WHOLE = {
    names.ANNOTATION_TXN: RECORD.to_json(),
    names.ANNOTATION_CLAIM: CLAIM.to_json(),
    names.ANNOTATION_HISTORY: HISTORY.to_json(),
    names.ANNOTATION_HOST_FACTS: FACTS.to_json(),
}
BEFORE = {name: WHOLE[name] for name in (names.ANNOTATION_HISTORY, names.ANNOTATION_HOST_FACTS)}
ODD: tuple[Any, ...] = (5, -1.5, True, "", "x", None, [], ["x"], {}, {"x": 1})


def paths(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*at, key))


def changed(value, path, odd):
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], odd)
    return copy


def seen(annotations):
    owner = {"manager": names.MANAGER_OPERATOR, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}
    cordoned = names.ANNOTATION_TXN in annotations
    return node_view(
        {
            "metadata": {
                "name": "n",
                "uid": "u",
                "resourceVersion": "7",
                "managedFields": [owner],
                "labels": {names.LABEL_PRESENT: "true"},
                "annotations": {name: json.dumps(value) for name, value in annotations.items()},
            },
            "spec": {"unschedulable": cordoned},
            "status": {
                "nodeInfo": {"bootID": "boot"},
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": AT}],
            },
        }
    )


def decided(view):
    spec = PolicySpec(version="2.8.0", source=Source(repository="r", commit=COMMIT))
    cr = PolicyView(
        name="cr", uid="", resource_version="1", generation=1, labels={}, annotations={}, spec=spec, status={}
    )
    world = World(
        policies={"cr": cr},
        nodes={"n": view},
        pods={},
        lease=LeaseView(resource_version="5", holder="me", unchanged_for_s=0),
        term=Term(identity="me", lease_version="5", clean=True, renewed_at=NOW),
        settings=Settings(namespace="ns", image="img", gates=("gate",)),
    )
    return operate(world, NOW)


@pytest.mark.parametrize("whole", [WHOLE, BEFORE], ids=["with a record", "without"])
def test_no_value_of_another_type_stops_the_operator(whole):
    intact = seen(whole)
    assert not intact.faults
    assert any(True for _ in decided(intact).actions)
    for name, value in whole.items():
        for path in paths(value):
            for odd in ODD:
                view = seen({**whole, name: changed(value, path, odd)})
                decided(view)
                for part in (view.record, view.claim, view.history, view.facts):
                    assert part is None or misfit(part, type(part)) == "", (name, path, odd)


def test_a_value_says_what_does_not_fit():
    assert misfit(RECORD, Record) == ""
    wrong = json.loads(json.dumps(HISTORY.to_json()))
    wrong["latest"]["attempts"] = "2"
    assert misfit(History.from_json(wrong), History) == "latest.attempts: '2'"
    assert seen({names.ANNOTATION_HISTORY: wrong}).faults[0].endswith("latest.attempts: '2'")
    assert seen({names.ANNOTATION_HISTORY: wrong}).cordon is CordonOwner.NOBODY


def worker(namespace, message):
    status = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"message": message}}}]}
    return {
        "metadata": {
            "namespace": namespace,
            "name": "p",
            "uid": "u",
            "resourceVersion": "3",
            "labels": {names.LABEL_POD_ROLE: "swap"},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": status,
    }


def test_a_verdict_of_another_type_is_lost():
    verdict = Verdict(verb="swap", result=Result.REFUSED, changed=False, reason="PermitVoid").to_json()
    assert pod_view(worker("ns", json.dumps(verdict))).verdict is not None
    for name in verdict:
        assert pod_view(worker("ns", json.dumps({**verdict, name: 5}))).verdict is None, name


def test_only_pods_of_our_namespace_are_ours():
    """Elsewhere anybody may write the label: such a pod is a workload, which is drained and says nothing."""
    line = Verdict(verb="swap", result=Result.REFUSED, changed=False).to_line()
    ours = pod_view(worker("ns", line), namespace="ns")
    theirs = pod_view(worker("team", line), namespace="ns")
    assert (ours.role, theirs.role, theirs.verdict) == (PodRole.SWAP, PodRole.WORKLOAD, None)
