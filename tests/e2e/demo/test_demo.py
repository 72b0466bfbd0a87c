"""The demo keeps its promises, also when its processes are killed at any moment, doubled, or frozen."""

import asyncio
import signal

import pytest

from reconciler.sandbox.demo.cast import HOLLOW, OPERATOR, RECONCILER
from schema.names import LEASE_OPERATOR, NAMESPACE_DEFAULT

pytestmark = pytest.mark.e2e
SECOND = "operator-2"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE_DEFAULT}/leases/{LEASE_OPERATOR}"


def test_the_demo_keeps_every_promise(verdict):
    assert verdict.broken == ()
    adopt, upgrade, revert = verdict.acts
    assert adopt.loads == {}
    assert set(upgrade.loads.values()) == set(revert.loads.values()) == {1}
    assert all(row.outage_s is not None for row in revert.after.values())


async def strike(cast, dice, victims):
    """Kill each victim at a random moment, and start it again after a random pause."""
    for name in victims:
        await asyncio.sleep(dice.uniform(0.3, 3.0))
        cast.kill(name)
        await asyncio.sleep(dice.uniform(0.0, 2.0))
        cast.start(name)


def test_killed_at_any_moment_ends_in_the_same_state(stage, dice):
    victims = [OPERATOR, OPERATOR, OPERATOR, RECONCILER, RECONCILER]
    dice.shuffle(victims)
    done = stage.upgrade(strike(stage.cast, dice, victims))
    assert set(done.loads.values()) == {1}, "a node was swapped more often than needed"
    dice.shuffle(victims)
    done = stage.revert(strike(stage.cast, dice, [OPERATOR, HOLLOW, *victims[:3]]))
    assert set(done.loads.values()) == {1}


@pytest.fixture
def two_operators(stage):
    stage.cast.commands[SECOND] = stage.cast.commands[OPERATOR]
    stage.cast.start(SECOND)
    yield
    stage.cast.kill(SECOND)
    if OPERATOR not in stage.cast.running:
        stage.cast.start(OPERATOR)


@pytest.mark.usefixtures("two_operators")
def test_two_operators_one_of_them_killed(stage, dice):
    async def kill_the_leader():
        await asyncio.sleep(dice.uniform(2.0, 5.0))
        stage.cast.kill(await leader(stage.cast))

    done = stage.upgrade(kill_the_leader())
    assert set(done.loads.values()) == {1}
    for name in (OPERATOR, SECOND):
        if name not in stage.cast.running:
            stage.cast.start(name)
    done = stage.revert()
    assert set(done.loads.values()) == {1}


@pytest.mark.usefixtures("two_operators")
def test_a_frozen_leader_wakes_up_after_another_took_over(stage, dice):
    async def freeze():
        await asyncio.sleep(dice.uniform(2.0, 5.0))
        name = await leader(stage.cast)
        process = stage.cast.running[name].process
        process.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                while await leader(stage.cast) == name:  # noqa: ASYNC110  nobody tells us
                    await asyncio.sleep(0.2)
            await asyncio.sleep(dice.uniform(0.0, 1.0))
        finally:
            process.send_signal(signal.SIGCONT)

    for play in (stage.upgrade, stage.revert):
        done = play(freeze())
        assert set(done.loads.values()) == {1}


async def leader(cast):
    """The operator process that holds the Lease."""
    answer = await cast.kube.get(LEASE)
    holder = answer.body["spec"]["holderIdentity"]
    [name] = [
        name
        for name in (OPERATOR, SECOND)
        if f"operator {holder} " in (cast.directory / "logs" / f"{name}.log").read_text()
    ]
    return name
