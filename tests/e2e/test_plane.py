"""A plane is usable, ends with its owner whatever happens to that, and `ttfleet cluster` behaves as a user expects."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.sandbox.audit import cordons, node_writes
from reconciler.sandbox.binaries import find
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.plane import Plane
from reconciler.sandbox.processes import Identity

pytestmark = pytest.mark.e2e
BOUND_S = 180


def eventually(check, bound_s=30):
    deadline = time.monotonic() + bound_s
    while not check():
        assert time.monotonic() < deadline, "not within the bound"
        time.sleep(0.05)


def ttfleet(*arguments, code=0):
    answer = subprocess.run(
        [Path(sys.executable).with_name("ttfleet"), *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert answer.returncode == code, (answer.returncode, answer.stdout, answer.stderr)
    return answer.stdout


def kubectl(line, *arguments):
    """As a user after `eval "$(ttfleet cluster up)"`."""
    environment = os.environ | {"KUBECONFIG": line.strip().partition("=")[2]}
    command = [find().path("kubectl"), *arguments]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def identities(directory):
    plane = Plane.open(directory)
    return [plane.owner, *plane.identities.values()]


def test_a_pod_can_be_created_and_is_scheduled(connect, namespace):
    async def main():
        async with connect() as kube:
            assert (await kube.create("/api/v1/nodes", {"metadata": {"name": "plane-node"}})).ok
            ready = {
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"pods": "9"}}
            }
            assert (await kube.patch("/api/v1/nodes/plane-node/status", ready)).ok
            pod = {
                "metadata": {"name": "p"},
                "spec": {
                    "containers": [{"name": "c", "image": "i"}],
                    "tolerations": [{"operator": "Exists"}],
                },
            }
            path = f"/api/v1/namespaces/{namespace}/pods"
            created = await kube.create(path, pod)
            assert created.ok, created
            async with asyncio.timeout(60):
                while not (await kube.get(f"{path}/p")).body["spec"].get("nodeName"):  # noqa: ASYNC110  bounded
                    await asyncio.sleep(0.05)
            await kube.delete(f"{path}/p", grace_s=0)
            assert (await kube.delete("/api/v1/nodes/plane-node")).ok

    asyncio.run(main())


def test_the_audit_log_tells_who_cordoned_and_no_secrets(plane, connect, system_namespace):
    async def main():
        await plane.kubeconfig_for_service_account(system_namespace, "ttfleet-operator")
        carol = plane.kubeconfig_for_user("carol", ("system:masters",))
        async with connect() as kube, connect(carol) as other:
            path = "/api/v1/nodes/audit-node"
            assert (await kube.create("/api/v1/nodes", {"metadata": {"name": "audit-node"}})).ok
            cordon = {"spec": {"unschedulable": True}}
            assert (await other.patch(path, cordon, field_manager="hand")).ok
            assert (await kube.patch(path, {"spec": {"unschedulable": None}})).ok
            assert (await kube.patch(path + "?dryRun=All", cordon)).ok
            assert (await kube.delete(path)).ok

    asyncio.run(main())
    [cordon] = cordons(plane.audit_log)["audit-node"]
    assert (cordon.by, cordon.ended_by) == ("carol", "ttfleet-admin")
    mine = [write for write in node_writes(plane.audit_log) if write.node == "audit-node"]
    assert (mine[0].verb, mine[-1].verb) == ("create", "delete")
    assert "hand" in {write.manager for write in mine}
    assert b"/serviceaccounts/ttfleet-operator/token" in plane.audit_log.read_bytes()
    assert b'"token":"' not in plane.audit_log.read_bytes()


def test_a_second_plane_in_the_same_directory_is_refused(plane):
    with pytest.raises(SandboxError, match="a control plane runs in"):
        Plane.start(plane.directory)


OWNER = """
import pathlib, sys, time
from reconciler.sandbox.plane import Plane
with Plane.start(pathlib.Path(sys.argv[1])):
    print("usable", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_owner(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path / "p"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout.readline() == "usable\n"
        everything = identities(tmp_path / "p")
        assert len(everything) == 5
        assert all(identity.alive for identity in everything)
        owner.send_signal(number)
        owner.wait(60)
    eventually(lambda: not any(identity.alive for identity in everything))


def test_cluster_up_down_status_as_a_user(tmp_path):
    place = ("--directory", str(tmp_path / "c"))
    assert "no control plane" in ttfleet("cluster", "status", *place, code=1)
    line = ttfleet("cluster", "up", *place)
    try:
        assert line == f"export KUBECONFIG={tmp_path / 'c' / 'kubeconfig'}\n"
        assert ttfleet("cluster", "up", "--install", *place) == line
        before = json.loads(ttfleet("cluster", "status", *place, "-o", "json"))
        assert before["state"] == "running"
        names = [part["name"] for part in before["components"]]
        assert names == ["supervisor", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
        everything = identities(tmp_path / "c")
        assert [part["pid"] for part in before["components"]] == [identity.pid for identity in everything]
        text = ttfleet("cluster", "status", *place)
        assert all(
            str(part["pid"]) in text and str(part["port"] or "-") in text for part in before["components"]
        )

        assert "ttdp" in kubectl(line, "api-resources", "--api-group=driver.tenstorrent.com")
        assert "ttfleet-builder" in kubectl(line, "get", "validatingadmissionpolicies", "-o", "name")

        os.kill(everything[0].pid, signal.SIGKILL)
        eventually(lambda: not any(identity.alive for identity in everything))
        assert "ended without" in ttfleet("cluster", "status", *place, code=1)
        assert ttfleet("cluster", "up", *place) == line
        everything += identities(tmp_path / "c")
        assert "ttfleet-builder" in kubectl(
            line, "get", "validatingadmissionpolicies", "-o", "name"
        )  # data is kept

        os.kill(
            everything[-1].pid, signal.SIGKILL
        )  # a component dies: its supervisor says so and ends the rest
        eventually(lambda: not any(identity.alive for identity in everything))
        assert "kube-scheduler ended with signal SIGKILL" in (tmp_path / "c/logs/supervisor.log").read_text()
    finally:
        ttfleet("cluster", "down", *place)
    assert not (tmp_path / "c").exists()
    assert not any(identity.alive for identity in everything)
    ttfleet("cluster", "down", *place)


def test_down_does_not_kill_the_stranger_that_got_the_id(tmp_path):
    place = tmp_path / "c"
    ttfleet("cluster", "up", "--directory", str(place))
    everything = identities(place)
    os.kill(everything[0].pid, signal.SIGKILL)
    eventually(lambda: not any(identity.alive for identity in everything))
    with subprocess.Popen(["sleep", "600"]) as stranger:
        me = Identity.of(stranger.pid)
        for state in (
            place / "plane.json",
            place / "supervisor.json",
        ):  # as if the ids had been handed out again
            text = state.read_text()
            for identity in everything:
                text = text.replace(f'"pid": {identity.pid},', f'"pid": {me.pid},')
            state.write_text(text)
        status = json.loads(ttfleet("cluster", "status", "--directory", str(place), "-o", "json", code=1))
        assert {part["state"] for part in status["components"]} == {"ended"}
        ttfleet("cluster", "down", "--directory", str(place))
        assert me.alive
        stranger.kill()


def test_a_directory_of_somebody_else_is_neither_used_nor_removed(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for verb in ("up", "down"):
        ttfleet("cluster", verb, "--directory", str(tmp_path), code=2)
    assert (tmp_path / "thesis.txt").exists()
