"""The hollow process as a process: the command line, the control socket, SIGKILL in the middle of a build."""

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.adapters.manifests import worker_pod
from reconciler.core.actions import CreatePod
from reconciler.core.world import PodRole
from reconciler.sandbox import processes
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.kubelet import strays
from reconciler.sandbox.kubelet.control import HollowControl
from schema.target import Mode, Target

pytestmark = pytest.mark.e2e
TTFLEET = [sys.executable, "-c", "from reconciler.commands import main; main()"]
BOUND_S = 60
COMMIT = "a" * 40


@pytest.fixture
def start(plane, connect, tmp_path):
    """Start `ttfleet hollow` and wait until its nodes are Ready; ended after the test."""
    started = []

    def begin(*arguments):
        log = tmp_path / f"hollow-{len(started)}.log"
        argv = [*TTFLEET, "hollow", "--plane", plane.directory, "--hosts", tmp_path / "hosts", *arguments]
        child = processes.start("hollow", argv, log)
        started.append(child)
        processes.wait_until(
            lambda: "hollow nodes Ready" in processes.tail(log), "hollow", timeout_s=BOUND_S, children=[child]
        )
        return child

    yield begin
    processes.stop(started)

    async def clean():
        async with connect() as kube:
            for place in (tmp_path / "hosts").glob("*/node.json"):
                await kube.delete(f"/api/v1/nodes/{place.parent.name}")

    asyncio.run(clean())


def ttfleet(plane, tmp_path, *arguments):
    argv = [*TTFLEET, "hollow", "--plane", plane.directory, "--hosts", tmp_path / "hosts", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=BOUND_S, check=False)


@pytest.fixture
def silent_server():
    """The URL of a git server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"git://127.0.0.1:{server.getsockname()[1]}/kmd"


def test_sigkill_in_the_middle_of_a_build(
    start, plane, connect, pods, tmp_path, silent_server, system_namespace
):
    async def scenario():
        async with connect() as kube:
            child = await asyncio.to_thread(start, "--nodes", "1", "--prefix", "kill-")
            mine = pods(kube)
            await mine.create("stays", "kill-1")
            before = await mine.ready("stays")
            path = await stage(kube)
            running = await until(lambda: commands(child), lambda found: "git" in found.values())

            child.process.send_signal(signal.SIGKILL)
            child.process.wait(BOUND_S)
            builders = [pid for pid, name in running.items() if name != "git"]
            await until(lambda: [pid for pid in builders if alive(pid)], lambda left: not left)

            await asyncio.to_thread(start)
            assert not [pid for pid in running if alive(pid)]  # git too
            pod = await until_async(lambda: get(kube, path), lambda it: it["status"]["phase"] == "Failed")
            ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (137, "Error")
            after = await mine.ready("stays")
            assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
            await kube.delete(path)

    async def stage(kube):
        target = Target(mode=Mode.CONTAINER, version="2.8.0", repository=silent_server, commit=COMMIT)
        action = CreatePod(role=PodRole.STAGE, name="ttstage-hangs", node="kill-1", cr="any", target=target)
        body = worker_pod(
            action, namespace=system_namespace, default_image="ttfleet-builder:1", environment={}
        )
        path = f"/api/v1/namespaces/{system_namespace}/pods"
        assert (await kube.create(path, body)).ok
        return f"{path}/ttstage-hangs"

    async def get(kube, path):
        return (await kube.get(path)).body

    asyncio.run(scenario())


def test_deleting_a_pod_ends_all_that_its_process_started(
    start, connect, silent_server, system_namespace, plane
):
    async def scenario():
        async with connect() as kube:
            child = await asyncio.to_thread(start, "--nodes", "1", "--prefix", "tree-")
            target = Target(mode=Mode.CONTAINER, version="2.8.0", repository=silent_server, commit=COMMIT)
            action = CreatePod(
                role=PodRole.STAGE, name="ttstage-tree", node="tree-1", cr="any", target=target
            )
            body = worker_pod(
                action, namespace=system_namespace, default_image="ttfleet-builder:1", environment={}
            )
            path = f"/api/v1/namespaces/{system_namespace}/pods"
            assert (await kube.create(path, body)).ok
            running = await until(lambda: commands(child), lambda found: "git" in found.values())
            assert (await kube.delete(f"{path}/ttstage-tree", grace_s=1)).ok
            await until_async(lambda: kube.get(f"{path}/ttstage-tree"), lambda answer: answer.code == 404)
            await until(lambda: [pid for pid in running if alive(pid)], lambda left: not left)

    asyncio.run(scenario())


def test_the_command_line_tells_hollow_nodes_what_to_do(start, plane, connect, tmp_path):
    async def scenario():
        async with connect() as kube:
            await asyncio.to_thread(start, "--nodes", "2", "--prefix", "tell-", "--installed", "2.7.0")
            control = HollowControl(tmp_path / "hosts")
            assert control.nodes() == {"tell-1": True, "tell-2": True}
            host = control.host("tell-1")
            assert host.loaded_version == "2.7.0"
            before = host.boot_id
            assert ttfleet(plane, tmp_path, "hold", "tell-1", "stranger").returncode == 0
            assert (host.root / "sys/module/tenstorrent/refcnt").read_text().strip() == "1"
            assert ttfleet(plane, tmp_path, "reboot", "tell-1", "--down-s", "0").returncode == 0
            assert host.boot_id != before
            assert host.loaded_version is None  # no keeper here to load it
            node = (await kube.get("/api/v1/nodes/tell-1")).body
            assert node["status"]["nodeInfo"]["bootID"] == host.boot_id

            assert ttfleet(plane, tmp_path, "vanish", "tell-2").returncode == 0
            assert ttfleet(plane, tmp_path, "list").stdout == "tell-1  up\ntell-2  down\n"
            assert ttfleet(plane, tmp_path, "return", "tell-2").returncode == 0
            assert control.nodes()["tell-2"]

            unknown = ttfleet(plane, tmp_path, "reboot", "nobody")
            assert unknown.returncode == 2
            assert "tell-1, tell-2" in unknown.stderr
            second = ttfleet(plane, tmp_path)
            assert (second.returncode, "already" in second.stderr) == (2, True)

    asyncio.run(scenario())


def test_nobody_to_tell(tmp_path):
    with pytest.raises(SandboxError, match="no hollow nodes run in"):
        HollowControl(tmp_path).nodes()


def commands(child):
    """Process -> program, of all that the hollow process has started."""
    found = {}
    for pid in strays.descendants(child.process.pid, strays._processes()):
        with suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    return found


def alive(pid):
    return processes.Identity.of(pid) is not None


async def until(look, holds):
    async def looked():
        return look()

    return await until_async(looked, holds)


async def until_async(look, holds):
    async with asyncio.timeout(BOUND_S):
        while not holds(found := await look()):  # noqa: ASYNC110  bounded
            await asyncio.sleep(0.05)
        return found
