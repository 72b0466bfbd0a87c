"""The host lock: every verb that changes state holds `flock /var/lib/ttfleet/lock` (host.md, rule 1)."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from builder.host import Host
from schema.names import STATE_DIRECTORY

POLL_S = 0.2


class Busy(Exception):  # noqa: N818  a state, not a fault
    """Another verb holds the lock."""


@contextlib.contextmanager
def host_lock(host: Host, *, wait_s: float, sleep: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock; the kernel drops it when the process dies, however it dies.

    Commands inherit the descriptor: an rmmod that outlives a killed builder still keeps the next one out.

    Raises:
        Busy: still taken after `wait_s`.
    """
    path = host.path(f"{STATE_DIRECTORY}/lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    try:
        left = wait_s
        while not _try(descriptor):
            if left <= 0:
                raise Busy(str(path))
            sleep(POLL_S)
            left -= POLL_S
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
