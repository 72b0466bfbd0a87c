"""The demo's cast on a small fleet: started once, then every test here does something to it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from reconciler.sandbox import audit
from reconciler.sandbox.binaries import find_or_build
from reconciler.sandbox.demo.cast import HOLLOW, OPERATOR, RECONCILER, Cast, cast
from reconciler.sandbox.demo.play import CANARY, CHANNEL, NEW, OLD, Act, act, play
from schema.names import (
    ANNOTATION_CLAIM,
    ANNOTATION_CORDONED_BY,
    ANNOTATION_TXN,
    DEPLOY_GATE_CLOSED,
    DEPLOY_GATES,
    LABEL_KMD_VERSION,
    NAMESPACE_DEFAULT,
    SERVICE_ACCOUNT_OPERATOR,
)

NODES = 8
LEASE_S = 3  # a killed leader is succeeded after this; 15 s in production
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE_DEFAULT}:{SERVICE_ACCOUNT_OPERATOR}"


@dataclass(kw_only=True)
class Stage:
    """The cast, the loop it lives in, and one commit at a time.

    Attributes:
        begun: when the commit in hand was pushed, POSIX seconds.
        upgraded: the last commit moved the channel to NEW.
    """

    cast: Cast
    runner: asyncio.Runner
    budget: int = 0
    begun: float = 0.0
    upgraded: bool = False

    def upgrade(self, *meanwhile: Awaitable[object]) -> Act:
        """Move the channel to NEW while something else happens; the fleet must end there in good order.

        Also the second and the third time: what was taken back goes through the waves again (ADR 0003).
        """
        done = self._act(
            "upgrade", lambda: self.cast.repository.move_channel(CHANNEL, NEW, "Upgrade"), meanwhile
        )
        canaries = {row.node for row in done.after.values() if row.wave == CANARY}
        assert canaries == set(done.cordoned[: len(canaries)]), "the canary was not first"
        return done

    def revert(self, *meanwhile: Awaitable[object]) -> Act:
        """`git revert` while something else happens."""
        return self._act("revert", self.cast.repository.revert, meanwhile)

    def _act(self, title: str, commit: Callable[[], str], meanwhile: tuple[Awaitable[object], ...]) -> Act:
        self.begun = time.time()
        self.upgraded = title == "upgrade"

        async def together() -> Act:
            done, *_ = await asyncio.gather(
                act(self.cast, title, commit, lambda _title, _board: None), *meanwhile
            )
            return done

        done = self.runner.run(together())
        version = NEW if title == "upgrade" else OLD
        assert done.most_unavailable <= self.budget
        assert {node: host.loaded_version for node, host in self.cast.hosts.items()} == dict.fromkeys(
            self.cast.hosts, version
        )
        assert self.runner.run(self.left_behind()) == []
        assert self.trespasses() == []
        return done

    async def left_behind(self) -> list[str]:
        """What a finished rollout must not leave on any node."""
        answer = await self.cast.kube.list("/api/v1/nodes")
        found = []
        for node in answer.body["items"]:
            name, labels = node["metadata"]["name"], node["metadata"]["labels"]
            notes = node["metadata"]["annotations"]
            found += [
                f"{name}: {key}"
                for key in (ANNOTATION_TXN, ANNOTATION_CLAIM, ANNOTATION_CORDONED_BY)
                if key in notes
            ]
            found += [f"{name}: {gate}" for gate in DEPLOY_GATES if labels.get(gate) == DEPLOY_GATE_CLOSED]
            if node["spec"].get("unschedulable"):
                found.append(f"{name}: cordoned")
            if labels.get(LABEL_KMD_VERSION) != self.cast.hosts[name].loaded_version:
                found.append(f"{name}: labelled {labels.get(LABEL_KMD_VERSION)}")
        return found

    def cordons(self, node: str) -> list[audit.Cordon]:
        """Those that began since the commit in hand."""
        found = audit.cordons(self.cast.plane.audit_log).get(node, ())
        return [one for one in found if one.begin >= self.begun]

    def trespasses(self) -> list[str]:
        """Foreign cordons that the operator lifted (S2)."""
        found = audit.cordons(self.cast.plane.audit_log)
        return [
            f"{node}: {one.by}"
            for node, intervals in found.items()
            for one in intervals
            if one.by != OPERATOR_USER and one.ended_by == OPERATOR_USER
        ]


@pytest.fixture(scope="session")
def bare_stage(tmp_path_factory):
    """Everybody is there, neither operator nor reconciler has been started."""
    with asyncio.Runner() as runner:
        entering = cast(tmp_path_factory.mktemp("demo"), find_or_build(), nodes=NODES)
        players = runner.run(entering.__aenter__())
        try:
            for name in (OPERATOR, RECONCILER):
                players.commands[name] += ["--lease-seconds", str(LEASE_S)]
            yield Stage(cast=players, runner=runner)
        finally:
            runner.run(entering.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def verdict(bare_stage):
    """Of the demo itself, played from its first commit to its last."""
    verdict = bare_stage.runner.run(play(bare_stage.cast, lambda _title, _board: None))
    bare_stage.budget = verdict.budget
    return verdict


@pytest.fixture
def stage(bare_stage, verdict):
    """The fleet as the demo leaves it, everything at OLD; whatever the test before did to the processes."""
    running(bare_stage, verdict)
    if bare_stage.upgraded:
        bare_stage.revert()
    return bare_stage


@pytest.fixture
def upgraded_stage(bare_stage, verdict):
    """Everything at NEW."""
    running(bare_stage, verdict)
    if not bare_stage.upgraded:
        bare_stage.upgrade()
    return bare_stage


def running(stage, verdict):
    assert not verdict.broken
    for name in {HOLLOW, OPERATOR, RECONCILER} - stage.cast.running.keys():
        stage.cast.start(name)


@pytest.fixture
def dice(request):
    """Random, but the same in every run."""
    return random.Random(request.node.name)
