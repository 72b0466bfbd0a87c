"""`kubectl logs` through the real API server, and who may ask a hollow kubelet without it."""

import asyncio
import os
import ssl

import aiohttp
import pytest

from reconciler.sandbox.binaries import find_or_build
from reconciler.sandbox.kubelet.behaviour import PREFIX

pytestmark = pytest.mark.e2e
BOUND_S = 60


@pytest.fixture
def kubectl(plane, namespace):
    """Start `kubectl ARGUMENTS` in the test's namespace."""
    binary = find_or_build().path("kubectl")

    async def start(*arguments):
        return await asyncio.create_subprocess_exec(
            str(binary),
            f"--kubeconfig={plane.kubeconfig}",
            f"--namespace={namespace}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(plane.directory)},
        )

    return start


async def said(process):
    out, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
    return out.decode()


def test_kubectl_logs(hollow, pods, kubectl):
    async def scenario():
        async with hollow("log-1") as (_, kube):
            mine = pods(kube)
            talks = {PREFIX + "log": "hello", PREFIX + "log-every-s": "0.2"}
            await mine.create("talks", "log-1", annotations=talks, labels={"app": "talks"})
            await mine.ready("talks")
            follower = await kubectl("logs", "-f", "talks")
            got = []
            async with asyncio.timeout(BOUND_S):
                while "tick 5\n" not in got:
                    got.append((await follower.stdout.readline()).decode())
            assert got[:2] == ["hello\n", "tick 0\n"]
            assert len((await said(await kubectl("logs", "talks", "--tail=2"))).splitlines()) == 2
            by_label = await said(await kubectl("logs", "-l", "app=talks", "--prefix", "--tail=1"))
            assert by_label.startswith("[pod/talks/main] tick ")
            stamped = await said(await kubectl("logs", "talks", "--timestamps", "--limit-bytes=40"))
            assert stamped[:4].isdigit()
            assert (await kube.delete(f"{mine.path}/talks")).ok
            await mine.gone("talks")
            await asyncio.wait_for(follower.communicate(), BOUND_S)  # a follower ends with the container
            assert follower.returncode == 0

    asyncio.run(scenario())


def test_kubectl_logs_of_what_has_ended_restarted_or_not_begun(hollow, pods, kubectl):
    async def scenario():
        async with hollow("log-2") as (_, kube):
            mine = pods(kube)
            crash = {PREFIX + "log": "ouch", PREFIX + "exit-after-s": "0.1", PREFIX + "exit-code": "1"}
            await mine.create("crash", "log-2", annotations=crash)
            await mine.create("once", "log-2", annotations=crash, restartPolicy="Never")
            await mine.create("none", "log-2", annotations={PREFIX + "pull": "fail"})
            await mine.phase("once", "Failed")
            assert await said(await kubectl("logs", "once")) == "ouch\n"
            await mine.until("crash", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] >= 1)
            assert await said(await kubectl("logs", "crash", "--previous")) == "ouch\n"
            missing = await said(await kubectl("logs", "once", "--previous"))
            assert "previous terminated container" in missing
            await mine.until("none", lambda pod: pod["status"].get("containerStatuses"))
            assert "waiting to start" in await said(await kubectl("logs", "none"))

    asyncio.run(scenario())


def test_a_hollow_kubelet_answers_the_api_server_only(hollow, plane):
    async def scenario():
        async with hollow("log-3") as (nodes, _):
            port = nodes.node("log-3").port
            context = ssl.create_default_context(cafile=str(plane.ca))
            url = f"https://127.0.0.1:{port}/healthz"
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(url, ssl=context)
                context.load_cert_chain(
                    plane.layout.certificate("kube-scheduler"), plane.layout.key("kube-scheduler")
                )
                async with session.get(url, ssl=context) as answer:
                    assert answer.status == 403
                context = ssl.create_default_context(cafile=str(plane.ca))
                context.load_cert_chain(
                    plane.layout.certificate("kubelet-client"), plane.layout.key("kubelet-client")
                )
                async with session.get(url, ssl=context) as answer:
                    assert answer.status == 200

    asyncio.run(scenario())
