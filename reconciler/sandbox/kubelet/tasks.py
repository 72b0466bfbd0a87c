"""Background tasks whose faults are seen: a kubelet that dies quietly would look like a slow one."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("ttfleet.hollow")
_running: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references


def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start `work`; an exception that ends it is logged with its traceback."""
    task = asyncio.create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.error("%s ended with %r", task.get_name(), error, exc_info=error)
