"""apply and run against a real API server and a real git daemon; the operator is played by the test."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.sandbox.gitserver import serve
from reconciler.simulation.fleets import node_labels
from schema.names import NAMESPACE_DEFAULT, SERVICE_ACCOUNT_RECONCILER

pytestmark = pytest.mark.e2e

TTFLEET = Path(sys.executable).with_name("ttfleet")
TTDP = "/apis/driver.tenstorrent.com/v1alpha1/tenstorrentdriverpolicies"
FSYNC = "/apis/fleet.tenstorrent.com/v1alpha1/fleetsyncs"
RELEASE = "apiVersion: fleet.tenstorrent.com/v1alpha1\nkind: Release\nmetadata: {{name: '{0}'}}\nspec: {{commit: '{1}'}}\n"
FLEET = """apiVersion: fleet.tenstorrent.com/v1alpha1
kind: Fleet
metadata: {{name: e2e}}
spec:
  channels: {{stable: "{version}"}}
  maxUnavailable: 2
  waves: [{{name: canary, count: 1}}, {{name: rest}}]
---
apiVersion: fleet.tenstorrent.com/v1alpha1
kind: NodePool
metadata: {{name: train}}
spec:
  selector: {{matchLabels: {{e2e: "{label}"}}}}
  kmd: {{mode: container, channel: stable}}
"""
IDENTITY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} | {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))
}


def write_fleet(directory: Path, label: str, version: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "fleet.yaml").write_text(FLEET.format(version=version, label=label))
    for release in ("2.7.0", "2.8.0"):
        (directory / f"{release}.yaml").write_text(RELEASE.format(release, release[2] * 40))


def git(repository: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], **IDENTITY}
    return subprocess.run(
        ["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True, env=env
    ).stdout.strip()


def ttfleet(*arguments: object, code: int = 0) -> str:
    answer = subprocess.run(
        [TTFLEET, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == code, (answer.returncode, answer.stdout, answer.stderr)
    return answer.stdout


@asynccontextmanager
async def nodes(kube, label: str, count: int = 4):
    """Nodes at 2.7.0 in container mode; they and every policy and FleetSync go afterwards."""
    names = [f"{label}-{number}" for number in range(count)]
    for name in names:
        labels = node_labels(name, mode="container", version="2.7.0", e2e=label)
        answer = await kube.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        assert answer.ok, answer
    try:
        yield names
    finally:
        for path in (TTDP, FSYNC, "/api/v1/nodes"):
            for item in (await kube.list(path)).body["items"]:
                await kube.delete(f"{path}/{item['metadata']['name']}")


class Operator:
    """Swaps one node at a time towards open policies, and reports as the operator does."""

    def __init__(self, kube) -> None:
        self.kube = kube
        self.swaps: list[tuple[str, str]] = []

    async def run(self) -> None:
        while True:
            await self.turn()
            await asyncio.sleep(0.05)

    async def turn(self) -> None:
        policies = (await self.kube.list(TTDP)).body["items"]
        versions = {
            node["metadata"]["name"]: node["metadata"]["labels"].get("driver.tenstorrent.com/kmd-version")
            for node in (await self.kube.list("/api/v1/nodes")).body["items"]
        }
        wanted: dict[str, set[str]] = {}
        for policy in policies:
            for name in self.members(policy):
                wanted.setdefault(name, set()).add(policy["spec"]["version"])
        for policy in policies:
            if not policy["spec"].get("waiting"):
                await self.swap_one(policy, versions, wanted)
        for policy in policies:
            await self.report(policy, versions)

    async def swap_one(self, policy, versions, wanted) -> None:
        version = policy["spec"]["version"]
        for name in self.members(policy):
            if versions.get(name) not in {None, version} and wanted[name] == {version}:
                labels = {"driver.tenstorrent.com/kmd-version": version}
                entry = {
                    "at": "2026-01-01T00:00:00Z",
                    "plan": policy["metadata"]["annotations"]["fleet.tenstorrent.com/plan"],
                }
                old = {"mode": "container", "version": versions[name]}
                entry |= {"from": old, "to": {"mode": "container", "version": version}, "result": "ok"}
                history = json.dumps({"reached": [entry], "latest": entry})
                metadata = {"labels": labels, "annotations": {"fleet.tenstorrent.com/history": history}}
                assert (await self.kube.patch(f"/api/v1/nodes/{name}", {"metadata": metadata})).ok
                versions[name] = version
                self.swaps.append((name, version))
                return

    async def report(self, policy, versions) -> None:
        states = [
            {"name": name, "state": "Done" if versions[name] == policy["spec"]["version"] else "Pending"}
            for name in self.members(policy)
            if name in versions
        ]
        status = {"observedGeneration": policy["metadata"]["generation"], "nodes": states}
        if policy.get("status") != status:
            body = {"metadata": {"resourceVersion": policy["metadata"]["resourceVersion"]}, "status": status}
            await self.kube.patch(f"{TTDP}/{policy['metadata']['name']}/status", body)

    @staticmethod
    def members(policy) -> list[str]:
        return policy["spec"]["nodeAffinity"]["matchExpressions"][0]["values"]


@asynccontextmanager
async def operator(kube):
    playing = Operator(kube)
    task = asyncio.create_task(playing.run())
    try:
        yield playing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(check, bound_s: float = 60.0):
    async with asyncio.timeout(bound_s):
        while not (found := await check()):  # noqa: ASYNC110  bounded, and nobody tells us
            await asyncio.sleep(0.05)
        return found


async def policies(kube) -> dict[str, dict]:
    return {item["metadata"]["name"]: item for item in (await kube.list(TTDP)).body["items"]}


def apply(plane, path, *more, code=0):
    return ttfleet("apply", "--kubeconfig", plane.kubeconfig, "--path", path, *more, code=code)


def test_apply_says_what_became_of_every_policy_and_changes_nothing_the_second_time(plane, connect, tmp_path):
    write_fleet(tmp_path, "apply", "2.7.0")

    async def story():
        async with connect() as kube, nodes(kube, "apply"):
            assert "created" in apply(plane, tmp_path, "--dry-run=client")
            assert "created" in apply(plane, tmp_path, "--dry-run=server")
            assert await policies(kube) == {}
            first = apply(plane, tmp_path, "-o", "json")
            assert {p["name"]: p["result"] for p in json.loads(first)["policies"]} == {
                "train-canary": "created",
                "train-rest": "created",
            }
            served = await policies(kube)
            assert "waiting" not in served["train-canary"]["spec"]
            assert served["train-rest"]["spec"]["waiting"] is True
            second = json.loads(apply(plane, tmp_path, "-o", "json"))
            assert {p["result"] for p in second["policies"]} == {"unchanged"}
            assert await policies(kube) == served
            await Operator(kube).turn()
            third = json.loads(apply(plane, tmp_path, "-o", "json"))
            assert {p["result"] for p in third["policies"]} == {"configured"}
            assert "waiting" not in (await policies(kube))["train-rest"]["spec"]

    asyncio.run(story())


def test_apply_refuses_faults_guards_and_empty_directories_and_touches_nothing(plane, connect, tmp_path):
    write_fleet(tmp_path / "good", "guard", "2.7.0")
    write_fleet(tmp_path / "other", "nobody", "2.7.0")
    (tmp_path / "empty").mkdir()
    write_fleet(tmp_path / "bad", "guard", "2.7.0")
    (tmp_path / "bad" / "fleet.yaml").write_text(
        FLEET.format(version="2.7.0", label="guard").replace('"2.7.0"', "2.10")
    )
    write_fleet(tmp_path / "low", "guard", "2.7.0")
    (tmp_path / "low" / "2.6.0.yaml").write_text(RELEASE.format("2.6.0", "6" * 40))
    (tmp_path / "low" / "fleet.yaml").write_text(FLEET.format(version="2.6.0", label="guard"))

    async def story():
        async with connect() as kube, nodes(kube, "guard"):
            apply(plane, tmp_path / "good")
            served = await policies(kube)
            apply(plane, tmp_path / "empty", code=1)
            apply(plane, tmp_path / "bad", code=1)
            apply(plane, tmp_path / "other", code=2)
            apply(plane, tmp_path / "low", code=3)
            assert await policies(kube) == served

    asyncio.run(story())


def test_apply_leaves_a_policy_of_somebody_else_alone(plane, connect, tmp_path):
    write_fleet(tmp_path, "taken", "2.7.0")
    body = {
        "apiVersion": "driver.tenstorrent.com/v1alpha1",
        "kind": "TenstorrentDriverPolicy",
        "metadata": {"name": "train-rest"},
        "spec": {"version": "2.6.0", "nodeAffinity": {"matchLabels": {"a": "b"}}},
    }

    async def story():
        async with connect() as kube, nodes(kube, "taken"):
            assert (await kube.create(TTDP, body)).ok
            served = await policies(kube)
            apply(plane, tmp_path, code=2)
            assert await policies(kube) == served

    asyncio.run(story())


class Reconciler:
    """`ttfleet run` as a process, with the service account that the chart gives it."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        self.command = [
            TTFLEET,
            "run",
            "--kubeconfig",
            kubeconfig,
            "--cache",
            directory / "cache",
            "--lease-seconds",
            "2",
        ]
        self.log = directory / "run.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([str(part) for part in self.command], stderr=log)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@asynccontextmanager
async def reconciler(plane, directory: Path):
    config = await plane.kubeconfig_for_service_account(NAMESPACE_DEFAULT, SERVICE_ACCOUNT_RECONCILER)
    running = Reconciler(config, directory)
    running.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


def fleet_sync(url: str, mode: str = "Enforce") -> dict:
    return {
        "apiVersion": "fleet.tenstorrent.com/v1alpha1",
        "kind": "FleetSync",
        "metadata": {"name": "fleet"},
        "spec": {"url": url, "ref": "main", "mode": mode, "interval": "1s"},
    }


def test_run_adopts_upgrades_in_waves_and_reverts_through_kill_and_restart(plane, connect, tmp_path):
    repository = tmp_path / "served" / "fleet"
    write_fleet(repository, "run", "2.7.0")
    git(repository, "init", "-q", "-b", "main")

    def commit(version: str) -> str:
        write_fleet(repository, "run", version)
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", version)
        return git(repository, "rev-parse", "HEAD")

    async def story():
        async with connect() as kube, nodes(kube, "run") as names, operator(kube) as playing:

            async def ready(revision: str):
                status = (await kube.get(f"{FSYNC}/fleet")).body.get("status", {})
                said = {c["type"]: c for c in status.get("conditions", ())}
                done = said.get("Ready", {}).get("reason") == "Applied" and "Reconciling" not in said
                return status if done and status.get("lastAppliedRevision") == revision else None

            with serve(repository.parent, tmp_path / "daemon.log") as server:
                assert (await kube.create(FSYNC, fleet_sync(server.url("fleet"), "Observe"))).ok
                first = commit("2.7.0")
                async with reconciler(plane, tmp_path) as process:

                    async def observing():
                        status = (await kube.get(f"{FSYNC}/fleet")).body.get("status", {})
                        return [c for c in status.get("conditions", ()) if c["reason"] == "Observing"]

                    await until(observing)
                    assert await policies(kube) == {}
                    assert (await kube.patch(f"{FSYNC}/fleet", {"spec": {"mode": "Enforce"}})).ok
                    status = await until(lambda: ready(first))
                    assert playing.swaps == [], "adoption changes nothing"
                    assert [(w["name"], w["state"]) for w in status["waves"]] == [
                        ("canary", "Done"),
                        ("rest", "Done"),
                    ]

                    settled = await policies(kube)
                    git(repository, "commit", "-q", "--allow-empty", "-m", "only words")
                    await until(lambda: ready(git(repository, "rev-parse", "HEAD")))
                    assert await policies(kube) == settled, "a commit that changes nothing writes no policy"

                    canary = Operator.members(settled["train-canary"])
                    second = commit("2.8.0")

                    async def begun():
                        return playing.swaps

                    await until(begun)
                    assert process.end(signal.SIGKILL) == -signal.SIGKILL
                    process.start()
                    await until(lambda: ready(second))
                    assert playing.swaps[0] == (canary[0], "2.8.0")
                    assert sorted(name for name, _ in playing.swaps) == sorted(names)

                    playing.swaps.clear()
                    git(repository, "revert", "--no-edit", "HEAD")
                    back = await until(lambda: ready(git(repository, "rev-parse", "HEAD")))
                    assert sorted(playing.swaps) == [(name, "2.7.0") for name in sorted(names)]
                    numbers = [plan["number"] for plan in back["plans"]]
                    assert numbers == [3, 2, 1]

                    async def tidy():
                        return (await policies(kube)).keys() == {"train-canary", "train-rest"}

                    await until(tidy)
                    assert process.end(signal.SIGTERM) == 0

    asyncio.run(story())


def test_run_changes_nothing_when_the_repository_empties_breaks_or_vanishes(plane, connect, tmp_path):
    repository = tmp_path / "served" / "fleet"
    write_fleet(repository, "gone", "2.7.0")
    git(repository, "init", "-q", "-b", "main")

    def commit(message: str) -> None:
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", message)

    async def story():
        async with connect() as kube, nodes(kube, "gone"), operator(kube):

            async def condition(kind: str, reason: str):
                status = (await kube.get(f"{FSYNC}/fleet")).body.get("status", {})
                return [c for c in status.get("conditions", ()) if (c["type"], c["reason"]) == (kind, reason)]

            with serve(repository.parent, tmp_path / "daemon.log") as server:
                commit("first")
                assert (await kube.create(FSYNC, fleet_sync(server.url("fleet")))).ok
                async with reconciler(plane, tmp_path):
                    await until(lambda: condition("Ready", "Applied"))
                    served = await policies(kube)

                    for name in ("fleet.yaml", "2.7.0.yaml", "2.8.0.yaml"):
                        (repository / name).unlink()
                    (repository / "README").write_text("nothing here")
                    commit("everything is gone")
                    await until(lambda: condition("Stalled", "ValidationFailed"))

                    write_fleet(repository, "gone", "2.7.0")
                    (repository / "link.yaml").symlink_to("/etc/passwd")
                    commit("a symbolic link")
                    await until(lambda: condition("Stalled", "SourceRefused"))

                    git(repository, "reset", "-q", "--hard", "HEAD~2")
                    git(repository, "commit", "-q", "--amend", "-m", "another history")
                    await until(lambda: condition("Stalled", "NotFastForward"))

                    shutil.rmtree(repository)
                    await until(lambda: condition("Stalled", "SourceUnavailable"))
                    assert await policies(kube) == served

    asyncio.run(story())


def test_run_follows_a_directory_at_once_and_a_second_process_takes_over(plane, connect, tmp_path):
    fleet = tmp_path / "fleet"
    write_fleet(fleet, "watch", "2.7.0")
    sync = fleet_sync("unused")
    sync["spec"] = {"path": str(fleet), "mode": "Enforce", "interval": "10m"}

    async def story():
        async with connect() as kube, nodes(kube, "watch"), operator(kube) as playing:

            async def applied():
                status = (await kube.get(f"{FSYNC}/fleet")).body.get("status", {})
                return [c for c in status.get("conditions", ()) if c["reason"] == "Applied"]

            assert (await kube.create(FSYNC, sync)).ok
            async with reconciler(plane, tmp_path) as one:
                await until(applied)
                (tmp_path / "two").mkdir()
                async with reconciler(plane, tmp_path / "two") as two:

                    async def waits():
                        return "waits" in two.log.read_text() or two.log.stat().st_size == 0

                    await until(waits)
                    write_fleet(fleet, "watch", "2.8.0")

                    async def swapped():
                        return len(playing.swaps) == 4 and await applied()

                    await until(swapped)
                    assert "configure" not in two.log.read_text(), "only the leader writes"
                    assert one.end(signal.SIGKILL) == -signal.SIGKILL
                    write_fleet(fleet, "watch", "2.7.0")

                    async def back():
                        return len(playing.swaps) == 8 and await applied()

                    await until(back)
                    assert two.end(signal.SIGINT) == 0
            text = ttfleet("status", "--kubeconfig", plane.kubeconfig)
            assert "Applied: every node is as the repository says" in text
            assert "train  canary  1/1   –    done" in text

    asyncio.run(story())


def test_a_second_fleet_sync_is_in_conflict(plane, connect, tmp_path):
    write_fleet(tmp_path / "fleet", "twin", "2.7.0")
    first, second = fleet_sync("unused"), fleet_sync("unused")
    for sync, name in ((first, "fleet"), (second, "later")):
        sync["metadata"] = {"name": name}
        sync["spec"] = {"path": str(tmp_path / "fleet"), "mode": "Enforce"}

    async def story():
        async with connect() as kube, nodes(kube, "twin"), operator(kube):
            assert (await kube.create(FSYNC, first)).ok
            await asyncio.sleep(1.1)  # creationTimestamp counts whole seconds
            assert (await kube.create(FSYNC, second)).ok
            async with reconciler(plane, tmp_path):

                async def conflict():
                    status = (await kube.get(f"{FSYNC}/later")).body.get("status", {})
                    return [
                        c
                        for c in status.get("conditions", ())
                        if (c["type"], c["reason"]) == ("Stalled", "Conflict")
                    ]

                await until(conflict)
                served = await until(lambda: policies(kube))
                labels = {
                    item["metadata"]["labels"]["fleet.tenstorrent.com/sync"] for item in served.values()
                }
                assert labels == {"fleet"}

    asyncio.run(story())
