"""Ticks for as long as the process should live: woken by what changes, paced by what goes wrong."""

import asyncio
import logging
import time
from collections.abc import Callable

from reconciler.adapters.metrics import Metrics
from reconciler.core.actions import Action, Decision, EvictPod, Outcome, Verb, WriteStatus
from reconciler.core.world import World
from reconciler.loop import first, tick
from reconciler.operator.server import Server

log = logging.getLogger("ttfleet.operator")

AT_ONCE = 20  # nodes that are written at the same time
SPACING_S = 0.05  # between two ticks, however much changes
SETBACK_LIMIT_S = 1.0  # what was refused rests by itself; the ticks only must not spin
IDLE_SHARE = 3.0  # after a decision the processor is left alone for so many times as long
ALIVE_S = 90.0  # three resyncs


class Driver:
    """Runs `decide` over a server.

    Attributes:
        wake: set to be looked at again; setting it too often costs nothing.
    """

    def __init__(self, server: Server, decide: Callable[[World, float], Decision], metrics: Metrics) -> None:
        self.wake = asyncio.Event()
        self._server = server
        self._decide = decide
        self._metrics = metrics
        self._born = self._ticked_at = time.monotonic()
        self._setbacks = 0
        self._set_back = self._moved = False
        self._decided_s = 0.0

    def heard(self, action: Action, outcome: Outcome) -> None:
        """Refusals slow the ticks down, but only while nothing else moves.

        A node that refuses every write keeps no other waiting (S9): rows 2, 3 and 4 must follow each other faster than
        kubelets write their status, or row 4 conflicts for ever.
        """
        expected = isinstance(action, EvictPod) and outcome.verb is Verb.REFUSED
        if outcome.verb in {Verb.REFUSED, Verb.UNKNOWN} and not expected:
            self._set_back = True
        if outcome.verb is Verb.DONE and not isinstance(action, WriteStatus):
            self._moved = True

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; a tick that has begun is finished."""
        await first(self._server.synced(), stopping.wait())
        log.info("informers are in sync")
        while not stopping.is_set():
            self.wake.clear()
            self._set_back = self._moved = False
            decision = await self._tick()
            self._setbacks = self._setbacks + 1 if self._set_back and not self._moved else 0
            least_s = min(SPACING_S * 2 ** min(self._setbacks, 10), SETBACK_LIMIT_S)
            least_s = max(least_s, IDLE_SHARE * self._decided_s)
            await first(asyncio.sleep(least_s), stopping.wait())
            await first(asyncio.sleep(decision.wake_after_s - least_s), self.wake.wait(), stopping.wait())

    @property
    def alive(self) -> bool:
        """Ticks end, and the server is heard of."""
        now = time.monotonic()
        heard_at = min(informer.heard_at for informer in self._server.informers)
        return now - self._ticked_at < ALIVE_S and now - max(heard_at, self._born) < ALIVE_S

    def _timed(self, world: World, now: float) -> Decision:
        started = time.monotonic()
        decision = self._decide(world, now)
        self._decided_s = time.monotonic() - started
        return decision

    async def _tick(self) -> Decision:
        started = time.monotonic()
        decision = await tick(self._server, self._timed, time.time(), at_once=AT_ONCE)
        self._ticked_at = time.monotonic()
        self._metrics.tick_s.observe(self._ticked_at - started)
        versions = {policy.name: policy.spec.version for policy in self._server.policies.store}
        self._metrics.observe(versions, self._server.nodes.store, decision.reports, time.time())
        return decision
