"""`ttfleet operator run` on a real control plane, hollow nodes, the real builder: step 8 of the plan."""

import asyncio
import json
import random
import signal
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from reconciler.operator.server import NODES
from reconciler.sandbox.audit import most_unavailable
from reconciler.sandbox.processes import free_ports
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HISTORY,
    ANNOTATION_TXN,
    DEPLOY_GATE_TELEMETRY,
    LABEL_CR,
    LABEL_KMD_VERSION,
    NAMESPACE_DEFAULT,
    SERVICE_ACCOUNT_OPERATOR,
)

pytestmark = pytest.mark.e2e

VERSIONS = ("2.8.0", "2.7.0")
OPERATOR = f"system:serviceaccount:{NAMESPACE_DEFAULT}:{SERVICE_ACCOUNT_OPERATOR}"


def audited(plane):
    for line in plane.audit_log.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def writes_of_the_operator(plane):
    """(verb, resource, name) of everything but its Lease."""
    return [
        (event["verb"], event["objectRef"]["resource"], event["objectRef"].get("name", ""))
        for event in audited(plane)
        if event["user"]["username"] == OPERATOR
        and event["verb"] in {"create", "update", "patch", "delete"}
        and event["objectRef"]["resource"] != "leases"
    ]


def left_nothing(node):
    metadata = node["metadata"]
    annotations = metadata.get("annotations") or {}
    return (
        ANNOTATION_TXN not in annotations
        and ANNOTATION_CLAIM not in annotations
        and DEPLOY_GATE_TELEMETRY not in metadata["labels"]
        and not node["spec"].get("unschedulable")
    )


def test_one_policy_upgrades_one_node_and_back_and_then_there_is_silence(field, plane):
    async def scenario():
        async with field() as it:
            await it.nodes("one")
            await it.start_operator()
            await it.policy("by-hand", "2.7.0", ["one"])
            await it.done("by-hand", 1)
            before = (await it.kube.get(f"{NODES}/one")).body
            assert before["metadata"]["labels"][LABEL_KMD_VERSION] == "2.7.0"
            assert ANNOTATION_HISTORY not in before["metadata"]["annotations"], "adopting is no transaction"
            for version in ("2.8.0", "2.7.0"):
                await it.policy("by-hand", version, ["one"])
                await it.done("by-hand", 1)
                node = await it.until(f"{NODES}/one", left_nothing)
                assert node["metadata"]["labels"][LABEL_KMD_VERSION] == version
                assert it.hollow.node("one").machine.host.loaded_version == version
                latest = json.loads(node["metadata"]["annotations"][ANNOTATION_HISTORY])["latest"]
                assert (latest["result"], latest["to"]["version"]) == ("ok", version)
            pods = (
                await it.kube.list(
                    f"/api/v1/namespaces/{NAMESPACE_DEFAULT}/pods", labelSelector=f"{LABEL_CR}=by-hand"
                )
            ).body["items"]
            assert {pod["metadata"]["name"].split("-")[0] for pod in pods} == {"ttstage", "ttswap"}
            events = (await it.kube.list("/api/v1/namespaces/default/events")).body["items"]
            assert {"Cordoned", "Released"} <= {
                event["reason"] for event in events if event["involvedObject"]["name"] == "one"
            }
            await asyncio.sleep(3)  # whatever was still to be told (Events, status) has been
            before_silence = len(writes_of_the_operator(plane))
            await asyncio.sleep(8)
            assert writes_of_the_operator(plane)[before_silence:] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", [1, 2])
def test_two_operators_one_of_them_killed_again_and_again(field, plane, seed):
    """SIGKILL at random moments; budget 1 of 3 holds (by the audit log), every node ends Done, nothing of ours stays."""
    chance = random.Random(seed)
    names = [f"kill-{seed}-{number}" for number in range(3)]

    async def scenario():
        async with field() as it:
            await it.nodes(*names)
            since = time.time()
            await it.policy("killed", VERSIONS[0], names)
            operators = [await it.start_operator(), await it.start_operator()]
            for blow in range(6):
                await asyncio.sleep(chance.uniform(1.0, 4.0))
                await it.policy("killed", VERSIONS[blow % 2], names)  # there is always something to do
                await asyncio.sleep(chance.uniform(0.0, 1.5))
                victim = chance.randrange(2)
                operators[victim].send_signal(signal.SIGKILL)
                await operators[victim].wait()
                operators[victim] = await it.start_operator()
            await it.done("killed", 3)
            for name in names:
                node = await it.until(f"{NODES}/{name}", left_nothing)
                assert node["metadata"]["labels"][LABEL_KMD_VERSION] == VERSIONS[blow % 2]
            assert most_unavailable(plane.audit_log, since) == 1

    asyncio.run(scenario())


DENY = "deny-one-node"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@asynccontextmanager
async def denied(kube, node):
    """An admission policy of somebody else refuses every write of the operator to one node."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["nodes"],
        "resourceNames": [node],
    }
    policy = {
        "metadata": {"name": DENY},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {"expression": f"request.userInfo.username != '{OPERATOR}'", "reason": "Forbidden"}
            ],
        },
    }
    binding = {"metadata": {"name": DENY}, "spec": {"policyName": DENY, "validationActions": ["Deny"]}}
    paths = (f"{ADMISSION}/validatingadmissionpolicies", f"{ADMISSION}/validatingadmissionpolicybindings")
    try:
        for path, body in zip(paths, (policy, binding), strict=True):
            assert (await kube.create(path, body)).ok
        await asyncio.sleep(2)  # until it holds
        yield
    finally:
        for path in paths:
            await kube.delete(f"{path}/{DENY}")


def test_a_node_that_refuses_every_write_keeps_no_other_waiting(field, plane):
    """S9; and it is not asked twenty times a second."""

    async def scenario():
        async with field() as it:
            await it.nodes("bad", "good")
            async with denied(it.kube, "bad"):
                await it.start_operator()
                budget = [{"group": "both", "maxUnavailable": 2}]
                await it.policy("mixed", "2.8.0", ["bad", "good"], budgets=budget)
                good = await it.until(
                    f"{NODES}/good",
                    lambda node: (
                        left_nothing(node) and node["metadata"]["labels"].get(LABEL_KMD_VERSION) == "2.8.0"
                    ),
                    bound_s=60,
                )
                assert good["metadata"]["annotations"][ANNOTATION_HISTORY]
                refusals = [
                    e
                    for e in audited(plane)
                    if e["responseStatus"]["code"] == 403 and e["objectRef"].get("name") == "bad"
                ]
                assert 1 <= len(refusals) <= 12
            await it.done("mixed", 2)

    asyncio.run(scenario())


def test_an_operator_that_is_told_to_stop_gives_the_lease_up_and_says_0(field):
    async def scenario():
        async with field() as it:
            await it.nodes("stop")
            liveness, metrics = free_ports(2)
            first = await it.start_operator("--liveness-port", str(liveness), "--metrics-port", str(metrics))
            lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE_DEFAULT}/leases/ttfleet-operator"
            held = await it.until(lease, lambda found: found["spec"].get("holderIdentity"))
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{liveness}/healthz") as answer:
                    assert (answer.status, await answer.json()) == (200, {"ticking": "ok"})
                async with http.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
                    assert "ttfleet_tick_seconds_count" in await answer.text()
            second = await it.start_operator()
            await asyncio.sleep(2)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(first.wait(), 60) == 0
            mine = held["spec"]["holderIdentity"]
            await it.until(lease, lambda found: found["spec"].get("holderIdentity") not in {None, "", mine})
            second.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(second.wait(), 60) == 0

    asyncio.run(scenario())


def test_without_a_login_the_process_ends_with_an_error(field, plane):
    """kopf gives up then; a process that goes on without it would be neither alive nor dead."""

    async def scenario():
        async with field() as it:
            operator = await it.start_operator(account=plane.kubeconfig_for_token("nobody", "no-token"))
            assert await asyncio.wait_for(operator.wait(), 60) == 1
            log = (it.directory / "operator-1.log").read_text(encoding="utf-8")
            assert "ttfleet: kopf ended unasked: LoginError" in log

    asyncio.run(scenario())
