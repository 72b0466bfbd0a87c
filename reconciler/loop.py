"""The only driver: snapshot → decide → act → absorb, the same over the real server and over the simulation.

Level-triggered: a tick looks at what is, never at what changed, so a lost event costs time and nothing else.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Protocol, TypeVar

World_co = TypeVar("World_co", covariant=True)
Action_contra = TypeVar("Action_contra", contravariant=True)
Outcome = TypeVar("Outcome")


class Cluster(Protocol[World_co, Action_contra, Outcome]):
    """What a tick needs of a cluster; `reconciler.core.actions.Cluster` is the operator's."""

    async def snapshot(self) -> World_co: ...

    async def act(self, action: Action_contra) -> Outcome: ...

    def absorb(self, action: Action_contra, outcome: Outcome, now: float) -> None: ...


class Decision(Protocol):
    @property
    def actions(self) -> Sequence[Any]: ...


World = TypeVar("World")
Act = TypeVar("Act")
Decided = TypeVar("Decided", bound=Decision)


async def tick(
    cluster: Cluster[World, Act, Outcome],
    decide: Callable[[World, float], Decided],
    now: float,
    *,
    at_once: int = 1,
) -> Decided:
    """One look at the cluster, and all that follows from it.

    Args:
        cluster: the port; each act's outcome is absorbed before the next act of its group begins.
        decide: a pure function of world and time.
        now: POSIX seconds.
        at_once: groups (one for each node, one for the Lease) that act at the same time. 1: strictly in the order of
            the decision, as the simulation needs it.

    Returns:
        The decision, carried out.
    """
    decision = decide(await cluster.snapshot(), now)
    if at_once == 1:
        await _carry_out(cluster, decision.actions, now)
        return decision
    turns = asyncio.Semaphore(at_once)

    async def take_turn(actions: Sequence[Act]) -> None:
        async with turns:
            await _carry_out(cluster, actions, now)

    async with asyncio.TaskGroup() as tasks:
        for actions in _groups(decision.actions):
            tasks.create_task(take_turn(actions))
    return decision


async def _carry_out(cluster: Cluster[World, Act, Outcome], actions: Sequence[Act], now: float) -> None:
    for action in actions:
        cluster.absorb(action, await cluster.act(action), now)


def _groups(actions: Sequence[Act]) -> list[list[Act]]:
    """Actions that must keep their order: those on one node, on one policy, and the rest (Lease and keeper)."""
    groups: dict[Hashable, list[Act]] = {}
    for action in actions:
        key = ("node", getattr(action, "node", "")), ("policy", getattr(action, "policy", ""))
        groups.setdefault(key, []).append(action)
    return list(groups.values())


async def first(*awaited: Coroutine[Any, Any, Any]) -> None:
    """Until one of them ends; the others are cancelled. What the first raises is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in awaited]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
