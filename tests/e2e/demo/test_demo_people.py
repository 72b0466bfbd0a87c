"""People act in the middle of a rollout, with kubectl and with the power button; each act is judged by the rules.

Two tricks hold a node where somebody can act: a process of the host that has the device open keeps the builder from
claiming (for up to 20 s), and a slow insmod keeps it between claim and answer.
"""

import asyncio
import contextlib
import json
import subprocess
import time

import pytest

from reconciler.sandbox.binaries import find_or_build
from reconciler.sandbox.demo.board import POLICIES, look
from reconciler.sandbox.demo.cast import SYNC
from reconciler.sandbox.demo.play import NEW, OLD
from reconciler.sandbox.kubelet.control import HollowControl
from schema.clock import format_rfc3339
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_HISTORY,
    ANNOTATION_HOLD,
    ANNOTATION_RETRY,
    ANNOTATION_TXN,
    LABEL_SKIP,
    LEASE_OPERATOR,
    NAMESPACE_DEFAULT,
    SWAP_POD_PREFIX,
)
from schema.states import NodeState, Reason
from schema.transaction import ClaimState, Phase

pytestmark = pytest.mark.e2e
BOUND_S = 100
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE_DEFAULT}:ttfleet-operator"


class Person:
    """Somebody with kubectl and access to the machines."""

    def __init__(self, cast):
        self.cast = cast
        self.control = HollowControl(cast.hosts_directory)

    async def kubectl(self, *arguments):
        argv = [find_or_build().path("kubectl"), "--kubeconfig", self.cast.plane.kubeconfig, *arguments]
        done = await asyncio.to_thread(
            subprocess.run, argv, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    async def node(self, name):
        return (await self.cast.kube.get(f"/api/v1/nodes/{name}")).body

    async def note(self, name, key):
        """An annotation of ours, as JSON."""
        return json.loads((await self.node(name))["metadata"]["annotations"].get(key, "{}"))

    async def look(self):
        return await look(self.cast.kube, SYNC)

    async def wave(self, name):
        return [row.node for row in (await self.look()).rows if row.wave == name]

    async def shown(self, name):
        [row] = [row for row in (await self.look()).rows if row.node == name]
        return row.state, row.reason

    async def latest_reason(self, name):
        return (await self.note(name, ANNOTATION_HISTORY))["latest"]["reason"]

    def version(self, name):
        return self.cast.hosts[name].loaded_version

    async def policy_is_back(self):
        return (await self.cast.kube.get(f"{POLICIES}/train-rest")).ok

    async def permitted(self, name):
        async def seen():
            return (await self.note(name, ANNOTATION_TXN)).get("phase") == Phase.PERMITTED

        await until(seen, f"{name} is permitted")

    async def claimed(self, name):
        async def begun():
            return (await self.note(name, ANNOTATION_CLAIM)).get("state") == ClaimState.BEGUN

        await until(begun, f"{name} is claimed")

    async def released(self, name):
        async def free():
            return not await self.note(name, ANNOTATION_TXN)

        await until(free, f"{name} is released")

    async def runs(self, name, version):
        async def live():
            return self.version(name) == version and not await self.note(name, ANNOTATION_TXN)

        await until(live, f"{name} runs {version}")

    async def all_run(self, names, version):
        for name in names:
            await self.runs(name, version)

    async def retry(self, name):
        """`ttfleet retry`, as long as there is none: failures until now no longer count."""
        stamp = format_rfc3339(time.time() + 1)
        await self.kubectl("annotate", "--overwrite", "node", name, f"{ANNOTATION_RETRY}={stamp}")

    @contextlib.asynccontextmanager
    async def holding(self, name):
        """A process of the host has the device open: no claim."""
        host = self.cast.hosts[name]
        host.hold("person", 4242)
        try:
            yield
        finally:
            host.release("person")

    @contextlib.asynccontextmanager
    async def slow(self, name):
        """Loading a module takes two seconds."""
        tool = self.cast.hosts[name].bin / "insmod"
        text = tool.read_text()
        tool.write_text(text.replace("#!/bin/sh\n", "#!/bin/sh\nsleep 2\n"))
        try:
            yield
        finally:
            tool.write_text(text)


async def until(check, what):
    try:
        async with asyncio.timeout(BOUND_S):
            while not await check():  # noqa: ASYNC110  nobody tells us
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"not within {BOUND_S} s: {what}") from None


@pytest.fixture
def person(bare_stage):
    return Person(bare_stage.cast)


# --- acts during an upgrade ---------------------------------------------------------------------------


async def reboot_before_the_claim(person, node):
    async with person.holding(node):
        await person.permitted(node)
        await asyncio.to_thread(person.control.reboot, node)
        await person.released(node)
    assert await person.latest_reason(node) == Reason.REBOOTED
    await person.retry(node)


async def uncordon_before_the_claim(person, node):
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("uncordon", node)
        await person.released(node)
        assert person.version(node) == OLD
    assert await person.latest_reason(node) == Reason.HUMAN_UNCORDON
    await person.retry(node)


async def reboot_after_the_claim(person, node):
    async with person.slow(node):
        await person.claimed(node)
        await asyncio.to_thread(person.control.reboot, node)


async def delete_the_lease(person, during):
    await person.permitted(during)
    await person.kubectl("-n", NAMESPACE_DEFAULT, "delete", "lease", LEASE_OPERATOR)


async def skip_before_the_claim(person, node, others):
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("label", "node", node, f"{LABEL_SKIP}=")
        await person.released(node)
    await person.all_run(others, NEW)
    assert person.version(node) == OLD
    assert (await person.shown(node))[0] == NodeState.SKIPPED
    await person.kubectl("label", "node", node, f"{LABEL_SKIP}-")


async def delete_the_worker(person, node):
    async with person.holding(node):
        await person.permitted(node)
        record = await person.note(node, ANNOTATION_TXN)
        pod = ("-n", NAMESPACE_DEFAULT, f"pod/{SWAP_POD_PREFIX}{record['id']}-1")
        await person.kubectl("wait", "--for=create", "--timeout=20s", *pod)
        await person.kubectl("delete", "--wait=false", *pod)


async def uncordon_after_the_claim(person, node):
    async with person.slow(node):
        await person.claimed(node)
        await person.kubectl("uncordon", node)
        await person.runs(node, NEW)


async def delete_the_policy(person, node):
    """It is created again, and the wave is not taken for done meanwhile."""
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("delete", "ttdp", "train-rest", "--timeout=10s")
        board = await person.look()
        assert not board.ready, board.message
        await until(person.policy_is_back, "train-rest is created again")
        board = await person.look()
        assert not board.ready, board.message


async def cordon_from_the_beginning(person, node, others):
    await person.all_run(others, NEW)
    assert person.version(node) == OLD
    assert await person.shown(node) == (NodeState.BLOCKED, Reason.EXTERNAL_CORDON)
    await person.kubectl("uncordon", node)


def test_people_in_the_middle_of_an_upgrade(stage, person):
    waves = {name: stage.runner.run(person.wave(name)) for name in ("canary", "early", "rest")}
    [canary], [early, second], [skipped, worker, uncordoned, dropped, cordoned] = waves.values()
    stage.runner.run(person.kubectl("cordon", cordoned))
    done = stage.upgrade(
        reboot_before_the_claim(person, canary),
        uncordon_before_the_claim(person, early),
        delete_the_lease(person, early),
        reboot_after_the_claim(person, second),
        skip_before_the_claim(person, skipped, (worker, uncordoned, dropped)),
        delete_the_worker(person, worker),
        uncordon_after_the_claim(person, uncordoned),
        delete_the_policy(person, dropped),
        cordon_from_the_beginning(person, cordoned, (skipped, worker, uncordoned, dropped)),
    )
    assert len(stage.cordons(uncordoned)) == 1, "cordoned again after a human had uncordoned it"
    assert [one.by for one in stage.cordons(cordoned)] == [OPERATOR_USER]
    for node in (early, skipped, worker, uncordoned, dropped, cordoned):
        assert done.loads[node] == 1


# --- stops during a revert ----------------------------------------------------------------------------


async def pause_the_policy(person, node):
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("patch", "ttdp", "train-back", "--type=merge", "-p", '{"spec":{"paused":true}}')
        await person.released(node)
    await nothing_starts(person)
    assert await person.shown(node) == (NodeState.HELD, Reason.POLICY_PAUSED)
    await person.kubectl("patch", "ttdp", "train-back", "--type=merge", "-p", '{"spec":{"paused":false}}')


async def hold_the_node(person, node, others):
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("annotate", "node", node, f"{ANNOTATION_HOLD}=jo: looking at it")
        await person.released(node)
    await person.all_run(others, OLD)
    assert person.version(node) == NEW
    assert await person.shown(node) == (NodeState.HELD, Reason.HELD)
    await person.kubectl("annotate", "node", node, f"{ANNOTATION_HOLD}-")


async def let_a_kubelet_fall_silent(person, node, others):
    async with person.holding(node):
        await person.permitted(node)
        await asyncio.to_thread(person.control.vanish, node)
    await person.all_run(others, OLD)
    await asyncio.to_thread(person.control.come_back, node)


async def hold_the_fleet(person, node, *, silent):
    async with person.holding(node):
        await person.permitted(node)
        await person.kubectl("annotate", "fsync", SYNC, f"{ANNOTATION_HOLD}=jo: wait")
        await person.released(node)
    await nothing_starts(person, but=silent)
    await person.kubectl("annotate", "fsync", SYNC, f"{ANNOTATION_HOLD}-")


async def nothing_starts(person, *, but=""):
    """For two seconds no node has a record, unless its builder has claimed it."""
    for _ in range(20):
        for node in person.cast.hosts.keys() - {but}:
            record = await person.note(node, ANNOTATION_TXN)
            assert not record or await person.note(node, ANNOTATION_CLAIM), f"{node} started"
        await asyncio.sleep(0.1)


def test_people_stop_a_revert_and_let_it_go_on(upgraded_stage, person):
    paused, _, held, _, silent, sixth, seventh, last = sorted(upgraded_stage.cast.hosts)
    done = upgraded_stage.revert(
        pause_the_policy(person, paused),
        hold_the_node(person, held, (sixth, seventh)),
        let_a_kubelet_fall_silent(person, silent, (sixth, seventh)),
        hold_the_fleet(person, last, silent=silent),
    )
    assert set(done.loads.values()) == {1}
