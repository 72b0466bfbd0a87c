"""What a hollow kubelet reports: the phase of a pod as a function of its containers (the table of kubelet's getPhase)."""

import pytest

from reconciler.sandbox.kubelet.phases import PodRecord, covers, phase, pod_status
from reconciler.sandbox.kubelet.records import ContainerRecord, Running, Terminated, Waiting

POD = {"metadata": {"name": "p", "uid": "u"}, "spec": {"restartPolicy": "Never"}}


def ended(code):
    return Terminated(
        exit_code=code, reason="", message="", started_at=1.0, finished_at=2.0, container_id="hollow://x"
    )


def container(state, *, last=None, ready=False, name="c"):
    ran = not isinstance(state, Waiting) or last is not None
    return ContainerRecord(
        name=name, image="i", state=state, last=last, ready=ready, container_id="hollow://x" if ran else ""
    )


NEW = container(Waiting(reason="ContainerCreating"))
RUNS = container(Running(started_at=1.0), ready=True)
GOOD = container(ended(0))
BAD = container(ended(3))
CRASHING = container(Waiting(reason="CrashLoopBackOff"), last=ended(3))
PULLING = container(Waiting(reason="ImagePullBackOff"))


@pytest.mark.parametrize(
    ("policy", "init", "main", "final", "expected"),
    [
        ("Always", (), (NEW,), False, "Pending"),
        ("Always", (), (PULLING,), False, "Pending"),
        ("Always", (), (RUNS,), False, "Running"),
        ("Always", (), (RUNS, NEW), False, "Pending"),
        ("Always", (), (RUNS, BAD), False, "Running"),
        ("Always", (), (CRASHING,), False, "Running"),
        ("Always", (), (GOOD,), False, "Running"),
        ("OnFailure", (), (BAD,), False, "Running"),
        ("OnFailure", (), (GOOD,), False, "Succeeded"),
        ("Never", (), (GOOD,), False, "Succeeded"),
        ("Never", (), (GOOD, BAD), False, "Failed"),
        ("Never", (), (GOOD, RUNS), False, "Running"),
        ("Never", (RUNS,), (NEW,), False, "Pending"),
        ("Never", (GOOD,), (NEW,), False, "Pending"),
        ("Never", (BAD,), (NEW,), False, "Failed"),
        ("Always", (BAD,), (NEW,), False, "Pending"),
        ("Always", (RUNS,), (container(Running(started_at=1.0)),), False, "Running"),  # after a reboot
        ("Always", (), (GOOD,), True, "Succeeded"),  # told to end, ended well
        ("Always", (), (BAD,), True, "Failed"),
    ],
)
def test_phase(policy, init, main, final, expected):
    assert phase(PodRecord(init=init, main=main, sandbox=True, final=final), policy) == expected


def test_a_pod_that_ends_before_it_started_has_failed_and_says_that_its_containers_are_lost():
    record = PodRecord(init=(), main=(NEW,), final=True, ended=True)
    status = pod_status(POD, record, host_ip="h", pod_ip="p", now=5.0)
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


@pytest.mark.parametrize(
    ("served", "main", "expected"),
    [
        ("Running", (NEW,), "Running"),
        ("Succeeded", (RUNS,), "Succeeded"),
        ("Failed", (GOOD,), "Failed"),
        ("Pending", (RUNS,), "Running"),
    ],
)
def test_a_phase_never_goes_backward(served, main, expected):
    pod = {**POD, "status": {"phase": served}}
    assert (
        pod_status(pod, PodRecord(init=(), main=main), host_ip="h", pod_ip="p", now=5.0)["phase"] == expected
    )


def conditions(status):
    return {entry["type"]: entry for entry in status["conditions"]}


def test_ready_names_the_containers_that_are_not():
    record = PodRecord(init=(), main=(RUNS, container(Running(started_at=1.0), name="slow")), sandbox=True)
    found = conditions(pod_status(POD, record, host_ip="h", pod_ip="p", now=5.0))
    assert found["Ready"]["status"] == found["ContainersReady"]["status"] == "False"
    assert found["Ready"]["message"] == "containers with unready status: [slow]"
    assert found["Initialized"]["status"] == "True"


def test_a_completed_pod_is_not_ready_and_says_why():
    record = PodRecord(init=(), main=(GOOD,), sandbox=True, final=True)
    found = conditions(pod_status(POD, record, host_ip="h", pod_ip="p", now=5.0))
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "PodCompleted")


def test_a_condition_keeps_the_time_of_its_transition():
    record = PodRecord(init=(), main=(RUNS,), sandbox=True)
    first = pod_status(POD, record, host_ip="h", pod_ip="p", now=5.0)
    second = pod_status({**POD, "status": first}, record, host_ip="h", pod_ip="p", now=99.0)
    assert second == first


def test_covers_says_whether_the_server_needs_to_be_told():
    status = pod_status(POD, PodRecord(init=(), main=(RUNS,)), host_ip="h", pod_ip="p", now=5.0)
    foreign = {"type": "DisruptionTarget", "status": "True"}
    served = {**status, "qosClass": "Burstable", "conditions": [foreign, *status["conditions"]], "more": 1}
    assert covers(served, {**status, "qosClass": "Burstable"})
    unready = [
        {**entry, "status": "False"} if entry["type"] == "Ready" else entry for entry in served["conditions"]
    ]
    assert not covers({**served, "conditions": unready}, {**status, "qosClass": "Burstable"})
    assert not covers({}, status)


@pytest.mark.parametrize("state", [Waiting(reason="x", message="y"), Running(started_at=3.5), ended(7)])
def test_a_record_survives_the_disk(state):
    record = ContainerRecord(name="c", image="i", state=state, last=ended(1), restarts=2, ready=True)
    assert ContainerRecord.from_json(record.to_json()) == record
