"""Properties of operate under a seeded adversary on 3 to 8 nodes: S1-S5, S7, S11 at every write, and every node ends."""

import asyncio
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.node.operate import operate
from reconciler.loop import tick
from reconciler.simulation.adversary import Adversary
from reconciler.simulation.faults import Faults
from reconciler.simulation.model import Violation
from reconciler.simulation.play import Play, policy
from reconciler.simulation.removed import REMOVED
from reconciler.simulation.workloads import Workload
from schema.policy import Budget, Drain

ROUGH_S, CALM_S = 1200.0, 7200.0


async def weather(seed, *, nodes, operators, budget, workloads=True, vanishing=False):
    """Twenty minutes of strikes, then calm until every node is done."""
    random = Random(seed)
    play = Play.of(tick=tick, decide=operate, seed=seed)
    names = tuple(f"n{index}" for index in range(nodes))
    for name in names:
        play.add_node(name, version=random.choice(("2.7.0", "2.7.0", "2.6.0", None)))
    if workloads:
        play.workloads.deploy(Workload(name="train", replicas=max(1, nodes - 2)))
        play.workloads.deploy(Workload(name="web", replicas=nodes, uses_device=False, max_unavailable=None))
        play.workloads.telemetry()
    for _ in range(operators):
        play.add_operator(Faults(random=Random(random.random())))
    half = nodes // 2 or 1
    variants = [
        [
            policy(name, version, nodes=part, budgets=(Budget(group="g", max_unavailable=budget),), **fields)
            for version, fields in (
                ("2.8.0", {"drain": Drain(timeout_s=300)}),
                ("2.7.0", {}),
                ("2.8.0", {"waiting": True}),
                ("2.8.0", {"paused": True}),
                ("2.9.0", {"drain": Drain(timeout_s=20)}),
            )
        ]
        for name, part in (("a", names[:half]), ("b", names[half:]))
    ]
    for forms in variants:
        play.server.apply(forms[0])
    adversary = Adversary(play, Random(random.random()), variants, vanishing=vanishing)
    adversary.begin()
    await play.run(ROUGH_S)
    adversary.calm()
    await ends(play, adversary)
    return play, adversary


async def ends(play, adversary):
    """Every node comes to rest with a reason; after reboots and retries, at the version."""

    def done():
        loaded = all(m.loaded and m.loaded.version == "2.8.0" for m in play.machines.values())
        return loaded and play.at_rest() and all(state == "Done" for state, _ in play.states().values())

    for _ in range(4):
        if await play.run(CALM_S, until=done):
            return
        for name, (state, reason) in play.states().items():
            assert state == "Done" or reason, (name, state)
            if reason == "RebootRequired":
                play.machines[name].reboot()
        adversary.retry()
    pytest.fail(f"no end: {play.states()} {[n.record for n in play.server.nodes.values()]}")


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    nodes=st.integers(3, 8),
    operators=st.integers(1, 2),
    budget=st.integers(1, 3),
)
def test_nothing_breaks_and_every_node_ends(seed, nodes, operators, budget):
    asyncio.run(weather(seed, nodes=nodes, operators=operators, budget=budget))


@pytest.mark.parametrize("seed", range(4))
def test_nodes_may_vanish_for_good(seed):
    asyncio.run(weather(seed, nodes=6, operators=2, budget=2, vanishing=True))


def test_the_adversary_strikes_in_every_way():
    strikes: dict[str, int] = {}
    for seed in range(2):
        _, adversary = asyncio.run(weather(seed, nodes=8, operators=2, budget=3))
        for name, count in adversary.strikes.items():
            strikes[name] = strikes.get(name, 0) + count
    assert len(strikes) == 13
    assert min(strikes.values()) >= 2


def test_the_watch_sees_what_breaks_without_a_guard():
    """The claim is not looked at before a release: sooner or later an unload has no permit."""
    sees = REMOVED["check of the claim at release (row 9)"].sees

    def blind(world, now):
        nodes = {name: sees(node) for name, node in world.nodes.items()}
        return operate(replace(world, nodes=nodes), now)

    async def held_after_the_claim():
        play = Play.of(tick=tick, decide=blind)
        play.add_node("n0")
        play.add_operator()
        play.server.apply(policy("all", "2.8.0"))
        await play.run(600, until=lambda: play.server.nodes["n0"].claim is not None)
        play.server.apply(policy("all", "2.8.0", paused=True))
        play.operators[0].wakes_at = play.agenda.now
        await play.run(60)

    with pytest.raises(Violation, match="S4"):
        asyncio.run(held_after_the_claim())
