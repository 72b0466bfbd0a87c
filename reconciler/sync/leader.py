"""One reconciler at a time, by a Lease of its own.

Two that write at once would undo each other while they see different commits; nothing would break, since every write
carries the resourceVersion it was decided from. So this needs no fence, only good manners.
"""

import asyncio
import logging
import time

from reconciler.adapters.kube import Kube
from reconciler.adapters.lease import COLLECTION, LeaseObserver, lease_body
from schema.names import LEASE_RECONCILER, MANAGER_RECONCILER

log = logging.getLogger("ttfleet.reconciler")


class Leader:
    """Holds the Lease for as long as `run` runs.

    Attributes:
        changed: set whenever leadership may have begun or ended.
    """

    def __init__(self, kube: Kube, namespace: str, identity: str, duration_s: float) -> None:
        self.changed = asyncio.Event()
        self._kube = kube
        self._collection = COLLECTION.format(namespace=namespace)
        self._identity = identity
        self._duration_s = duration_s
        self._observer = LeaseObserver()
        self._renewed_at = float("-inf")
        self._version = ""

    @property
    def leads(self) -> bool:
        """Renewed recently enough that nobody else can have taken over."""
        return time.monotonic() - self._renewed_at < self._duration_s * 2 / 3

    async def run(self, stopping: asyncio.Event) -> None:
        """Take and renew the Lease until `stopping`, then give it up."""
        while not stopping.is_set():
            led = self.leads
            problem = await self._try()
            if led != self.leads:
                log.info("%s the Lease %s", "holds" if self.leads else "waits for", LEASE_RECONCILER)
                self.changed.set()
            if problem:
                log.warning("Lease %s: %s", LEASE_RECONCILER, problem)
            try:
                await asyncio.wait_for(stopping.wait(), self._duration_s / 3 if self.leads else 1.0)
            except TimeoutError:
                continue
        if self.leads:
            await self._write("")

    async def _try(self) -> str:
        """One look and at most one write; what went wrong, "" for nothing."""
        served = await self._kube.get(f"{self._collection}/{LEASE_RECONCILER}")
        if served.code == 404:
            body = lease_body(
                LEASE_RECONCILER, self._identity, time.time(), duration_s=self._duration_s, acquire=True
            )
            began = time.monotonic()
            answer = await self._kube.create(self._collection, body, field_manager=MANAGER_RECONCILER)
            return self._took(began, answer.ok, "" if answer.ok or answer.code == 409 else answer.message)
        if not served.ok:
            return served.message
        view = self._observer.view(served.body, time.monotonic())
        if view.holder not in {"", self._identity} and view.unchanged_for_s < self._duration_s:
            return ""
        self._version = view.resource_version or ""
        return await self._write(self._identity, acquire=view.holder != self._identity)

    async def _write(self, holder: str, *, acquire: bool = False) -> str:
        body = lease_body(
            LEASE_RECONCILER,
            holder,
            time.time(),
            duration_s=self._duration_s,
            resource_version=self._version,
            acquire=acquire,
        )
        began = time.monotonic()
        path = f"{self._collection}/{LEASE_RECONCILER}"
        answer = await self._kube.patch(path, body, field_manager=MANAGER_RECONCILER)
        if answer.ok:
            self._version = answer.resource_version
        return self._took(
            began, answer.ok and bool(holder), "" if answer.ok or answer.code == 409 else answer.message
        )

    def _took(self, began: float, held: bool, problem: str) -> str:
        if held:
            self._renewed_at = began
        return problem
