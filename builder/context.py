"""What a verb works with: settings, host, API, clock and log; and how it ends early."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from builder.api import NodeApi, ServerNode
from builder.host import Host
from builder.settings import Settings
from schema.states import Reason
from schema.transaction import Result


class Clock(Protocol):
    """Time as an argument."""

    def now(self) -> float:
        """POSIX seconds."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Stopped(Exception):  # noqa: N818  a verb's outcome, not a fault of the program
    """Ends a verb before it is done. Whoever raises it has left the host as it was."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        result: Result = Result.REFUSED,
        holders: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.result = result
        self.holders = holders


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything outside.

    Attributes:
        api: the own node; None outside a cluster.
        log: takes one line for people (`kubectl logs`).
        committed: called right before the claim: from then on a SIGTERM waits for the end.
    """

    settings: Settings
    host: Host
    api: NodeApi | None
    clock: Clock
    log: Callable[[str], None]
    committed: Callable[[], None] = _nothing

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        log: Callable[[str], None],
        committed: Callable[[], None] = _nothing,
    ) -> Self:
        """As a pod is started. `log` is the only output."""
        settings = Settings.from_environment(environ)
        api = None
        if settings.api_server and settings.node:
            api = ServerNode(
                server=settings.api_server, node=settings.node, service_account=settings.service_account
            )
        host = Host(settings.host_root, settings.host_bin, settings.proxies)
        return cls(settings=settings, host=host, api=api, clock=SystemClock(), log=log, committed=committed)
